//! What a client has that takes all that it is sent.

use std::collections::BTreeMap;

use segue_control_plane_core::xds::Holding;

/// Names and versions.
pub type Versions = BTreeMap<String, String>;

/// By type.
#[derive(Debug, Default)]
pub struct Held(BTreeMap<String, Versions>);

impl Held {
    pub fn of(&self, type_url: &str) -> Versions {
        self.0.get(type_url).cloned().unwrap_or_default()
    }

    /// What the client had before this stream.
    pub fn bring(&mut self, type_url: &str, brought: Versions) {
        self.0.entry(type_url.to_owned()).or_default().extend(brought);
    }

    /// A client keeps nothing that it no longer wants.
    pub fn keep_what_is_wanted(&mut self, wanted: &Holding) {
        for held in &wanted.types {
            let is_wanted = |name: &str| held.wildcard || held.names.contains(name);
            if let Some(versions) = self.0.get_mut(&*held.type_url) {
                versions.retain(|name, _| is_wanted(name));
            }
        }
    }

    /// New and changed resources; all that there are where the response is `whole`.
    pub fn take(&mut self, type_url: &str, new: Versions, gone: &[String], whole: bool) {
        let versions = self.0.entry(type_url.to_owned()).or_default();
        if whole {
            versions.clear();
        }
        for name in gone {
            versions.remove(name);
        }
        versions.extend(new);
    }
}
