//! What the inbox takes from one response, and what it refuses.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use segue_shared::xds_names::type_urls;
use segue_sidecar_core::compile::{Compiled, HostResource, compile};
use segue_sidecar_core::reject::Reject;

use super::{Inbox, Incoming, Marks, NAMED_TYPES, Refused, Stored, TYPES, WILDCARD, covers};
use crate::activate::Rejection;

impl Inbox {
    /// Takes the resources of one response; gives those that were refused. Good ones are taken all
    /// the same, and the last good version of a refused one stays.
    pub fn receive(
        &mut self,
        type_url: &str,
        resources: Vec<Incoming>,
        removed: &[String],
    ) -> Vec<Reject> {
        let Some(type_url) = TYPES.into_iter().find(|known| *known == type_url) else {
            return vec![refusal(type_url, "", "this type was not asked for")];
        };
        for name in removed {
            self.forget(type_url, name);
        }
        if type_url == type_urls::VIRTUAL_HOST {
            self.linker.hosts_told();
        }
        let wanted = self.wanted(type_url);
        let mut rejects = Vec::new();
        let mut hosts = Vec::new();
        let mut seen = HashSet::new();
        for incoming in resources {
            // An answer that crossed our unsubscription.
            let unasked = |name: &String| {
                wanted.as_ref().is_some_and(|wanted| !covers(type_url, wanted, name))
            };
            if incoming.name.as_ref().is_some_and(unasked) {
                continue;
            }
            let taken = match self.open(type_url, incoming, &mut seen) {
                Ok(Some((Compiled::Host(host), stored))) => {
                    hosts.push((*host, stored));
                    Ok(())
                }
                Ok(Some((compiled, stored))) => self.keep(type_url, compiled, stored),
                Ok(None) => Ok(()),
                Err(reject) => Err(reject),
            };
            rejects.extend(taken.err());
        }
        rejects.extend(self.keep_hosts(hosts, &seen));
        for reject in &rejects {
            let rejection = Rejection { reject: reject.clone(), revision: None };
            let refused = Refused { rejection, at: self.now };
            self.rejected.insert((type_url, reject.resource.clone()), refused);
        }
        if matches!(type_url, type_urls::CLUSTER | type_urls::LISTENER | type_urls::ROUTE) {
            self.prune();
        }
        rejects
    }

    /// Compiles a resource, unless it is the good one that is here already.
    pub(super) fn open(
        &mut self,
        type_url: &'static str,
        incoming: Incoming,
        seen: &mut HashSet<String>,
    ) -> Result<Option<(Compiled, Stored)>, Reject> {
        let Incoming { name, version, resource } = incoming;
        let told = name.as_deref();
        if resource.type_url != type_url {
            let reason = format!("is of type {:?}", resource.type_url);
            return Err(refusal(type_url, told.unwrap_or_default(), &reason));
        }
        let compiled = compile(type_url, told, &resource.value)?;
        let name = compiled.name().to_owned();
        if !seen.insert(name.clone()) {
            return Err(refusal(type_url, &name, "comes twice in one response"));
        }
        let before =
            self.stored.get_mut(type_url).and_then(|of_type| of_type.get_mut(name.as_str()));
        if let Some(before) = before
            && *before.bytes == *resource.value
        {
            before.version = version.into();
            self.contested.remove(&name);
            self.rejected.remove(&(type_url, name));
            return Ok(None);
        }
        let bytes = resource.value.into();
        let came = Some(self.now);
        Ok(Some((compiled, Stored { version: version.into(), bytes, came })))
    }

    pub(super) fn keep(
        &mut self,
        type_url: &'static str,
        compiled: Compiled,
        stored: Stored,
    ) -> Result<(), Reject> {
        let name = compiled.name().to_owned();
        if let Compiled::Authorities(authorities) = compiled {
            // They wait for no mark: whoever is late with them refuses those who are not.
            self.authorities = Some(authorities.pem);
            self.rejected.remove(&(type_url, name.clone()));
            self.stored.entry(type_url).or_default().insert(name.into(), stored);
            return Ok(());
        }
        let mark = match &compiled {
            Compiled::Mark(mark) => Some(*mark),
            _ => None,
        };
        if let Some(mark) = mark
            && !self.lower.takes(mark.revision, self.linked_revision, self.control_planes)
        {
            self.leave_unmarked();
            return Ok(());
        }
        self.linker.put(compiled)?;
        self.kept(type_url, name, stored);
        if let Some(mark) = mark {
            self.mark = Some(mark);
            self.marks = Marks::Sent;
            self.mark_pending = true;
            for refused in self.rejected.values_mut() {
                refused.rejection.revision.get_or_insert(mark.revision);
            }
        }
        Ok(())
    }

    /// What came is lower than what runs, and is not to be linked. Whoever is asked next tells its
    /// mark, whichever that is.
    fn leave_unmarked(&mut self) {
        self.marks = Marks::Sent;
        self.mark_pending = false;
        self.stored.remove(type_urls::SNAPSHOT_MARK);
    }

    /// Takes the virtual hosts of one response, and those before that waited for a domain which is
    /// free now; gives those of this response (`seen`) that are refused.
    pub(super) fn keep_hosts(
        &mut self,
        hosts: Vec<(HostResource, Stored)>,
        seen: &HashSet<String>,
    ) -> Vec<Reject> {
        let waited = std::mem::take(&mut self.contested);
        let waited = waited.into_iter().filter(|(name, _)| !seen.contains(name));
        let mut all: Vec<HostResource> = Vec::new();
        let mut bytes: BTreeMap<String, Stored> = BTreeMap::new();
        let mut news: BTreeSet<String> = BTreeSet::new();
        for (name, stored) in waited {
            let compiled = compile(type_urls::VIRTUAL_HOST, Some(&name), &stored.bytes);
            if let Ok(Compiled::Host(host)) = compiled {
                all.push(*host);
                bytes.insert(name, stored);
            }
        }
        for (host, stored) in hosts {
            news.insert(host.name.to_string());
            bytes.insert(host.name.to_string(), stored);
            all.push(host);
        }
        if all.is_empty() {
            return Vec::new();
        }
        let mut rejects = self.linker.put_hosts(all);
        for reject in &rejects {
            if let Some(stored) = bytes.remove(&reject.resource) {
                self.contested.insert(reject.resource.clone(), stored);
            }
        }
        for (name, stored) in bytes {
            self.kept(type_urls::VIRTUAL_HOST, name, stored);
        }
        rejects.retain(|reject| news.contains(&reject.resource));
        rejects
    }

    fn kept(&mut self, type_url: &'static str, name: String, stored: Stored) {
        self.rejected.remove(&(type_url, name.clone()));
        self.stored.entry(type_url).or_default().insert(name.into(), stored);
        self.changed = true;
    }

    fn forget(&mut self, type_url: &'static str, name: &str) {
        self.rejected.remove(&(type_url, name.to_owned()));
        if type_url == type_urls::VIRTUAL_HOST {
            self.contested.remove(name);
        }
        if type_url == type_urls::SECRET {
            // Who was believed still is: nobody could be called otherwise.
            return;
        }
        let stored = self.stored.get_mut(type_url).and_then(|of_type| of_type.remove(name));
        if stored.is_some() {
            self.linker.remove(type_url, name);
            self.changed = true;
        }
    }

    /// Drops what nothing names any more, where its removal is implied.
    pub fn prune(&mut self) {
        for type_url in NAMED_TYPES {
            let wanted = match type_url {
                type_urls::ENDPOINT if self.implied_removal => self.linker.wanted_assignments(),
                _ => self.wanted(type_url).unwrap_or_default(),
            };
            if wanted.contains(WILDCARD) {
                continue;
            }
            for name in self.names(type_url) {
                if !covers(type_url, &wanted, &name) {
                    self.forget(type_url, &name);
                }
            }
        }
    }
}

fn refusal(type_url: &str, resource: &str, reason: &str) -> Reject {
    Reject {
        type_url: type_url.to_owned(),
        resource: resource.to_owned(),
        field_path: String::new(),
        reason: reason.to_owned(),
    }
}
