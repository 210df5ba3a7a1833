//! Who calls the admin API, as its services see it.

use std::sync::{Arc, Mutex, PoisonError};

use http::Extensions;
use segue_control_plane_core::config::ResourceKey;
use thiserror::Error;
use tonic::Status;

use super::role::{Namespaces, Role};

/// Resources that a refusal names.
const MOST_NAMED: usize = 20;
/// Resources that a line of the audit log names.
const MOST_NOTED: usize = 100;
/// Bytes that a client may say of its author.
const MOST_SAID_BYTES: usize = 128;

/// Somebody with a name and rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Empty where callers are not authenticated.
    pub name: String,
    pub role: Role,
    pub namespaces: Namespaces,
}

impl Caller {
    /// Whoever calls where callers are not authenticated (`--insecure-dev`).
    pub fn anyone() -> Self {
        Self { name: String::new(), role: Role::Operator, namespaces: Namespaces::All }
    }

    /// Nobody: may read nothing.
    pub fn nobody() -> Self {
        let namespaces = Namespaces::Only([].into());
        Self { name: "nobody".to_owned(), role: Role::Viewer, namespaces }
    }

    pub fn sees(&self, namespace: &str) -> bool {
        self.namespaces.holds(namespace)
    }

    /// The author of what this caller commits. What the client says is taken at its word only
    /// where callers are not authenticated; else it stands behind the name, as what was said.
    pub fn author(&self, said: &str) -> String {
        let said: String = said.chars().filter(|character| !character.is_control()).collect();
        if self.name.is_empty() {
            said
        } else if said.is_empty() || said == self.name {
            self.name.clone()
        } else {
            let end = said.floor_char_boundary(MOST_SAID_BYTES);
            format!("{} (as {})", self.name, &said[..end])
        }
    }
}

/// One call: who makes it, and what is learned of it on the way, for the audit log.
#[derive(Clone, Debug)]
pub struct Call {
    pub caller: Arc<Caller>,
    noted: Arc<Mutex<Noted>>,
}

/// What a call touched.
#[derive(Clone, Debug, Default)]
pub struct Noted {
    /// The first of them, in the order of the request.
    pub resources: Vec<ResourceKey>,
    /// All of them.
    pub count: usize,
    /// The revision that the call led to.
    pub revision: Option<u64>,
    pub dry_run: bool,
    /// The kind of backup that is restored.
    pub backup: Option<&'static str>,
}

/// A change of what is not the caller's.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Foreign(String);

impl From<Foreign> for Status {
    fn from(foreign: Foreign) -> Self {
        Self::permission_denied(foreign.0)
    }
}

impl Call {
    pub fn new(caller: Arc<Caller>) -> Self {
        Self { caller, noted: Arc::default() }
    }

    /// The call of a request. One that came past the gate may nothing.
    pub fn of(extensions: &Extensions) -> Self {
        let known = extensions.get::<Self>().cloned();
        known.unwrap_or_else(|| Self::new(Arc::new(Caller::nobody())))
    }

    /// Notes what the call would change in place of what was noted before, and refuses it whole
    /// where any of it is not the caller's.
    pub fn touch<'a>(
        &self,
        keys: impl Iterator<Item = &'a ResourceKey>,
        dry_run: bool,
    ) -> Result<(), Foreign> {
        let mut foreign = Vec::new();
        let mut others = 0_usize;
        self.note(|noted| {
            *noted = Noted { dry_run, ..Noted::default() };
            for key in keys {
                noted.count += 1;
                if noted.resources.len() < MOST_NOTED {
                    noted.resources.push(key.clone());
                }
                if self.caller.sees(&key.namespace) {
                    continue;
                }
                if foreign.len() < MOST_NAMED {
                    foreign.push(key.to_string());
                } else {
                    others += 1;
                }
            }
        });
        if foreign.is_empty() {
            return Ok(());
        }
        let more = if others > 0 { format!(" and {others} more") } else { String::new() };
        Err(Foreign(format!(
            "{} may change resources of {} only, so nothing was changed: {}{more}",
            self.caller.name,
            self.caller.namespaces,
            foreign.join(", ")
        )))
    }

    /// Notes that the call restores a backup, and how many resources that changes. There may be as
    /// many as a configuration holds, so they are not named.
    pub fn restores(&self, backup: &'static str, count: usize) {
        self.note(|noted| *noted = Noted { backup: Some(backup), count, ..Noted::default() });
    }

    /// Notes the revision that the call led to.
    pub fn committed(&self, revision: u64) {
        self.note(|noted| noted.revision = Some(revision));
    }

    pub fn noted(&self) -> Noted {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, note: impl FnOnce(&mut Noted)) {
        note(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segue_control_plane_core::config::Kind;

    fn editor(namespaces: &[&str]) -> Call {
        let names = namespaces.iter().map(|name| (*name).to_owned()).collect();
        Call::new(Arc::new(Caller {
            name: "ci".to_owned(),
            role: Role::Editor,
            namespaces: Namespaces::Only(names),
        }))
    }

    fn service(namespace: &str, name: &str) -> ResourceKey {
        ResourceKey { kind: Kind::Service, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn one_resource_of_another_namespace_refuses_the_batch_and_is_named() {
        let keys = [service("shop", "cart"), service("bank", "ledger")];
        let call = editor(&["shop"]);
        let refused = call.touch(keys.iter(), false).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "ci may change resources of namespace shop only, so nothing was changed: \
             Service bank/ledger"
        );
        assert_eq!(call.noted().count, 2);
        assert!(editor(&["shop", "bank"]).touch(keys.iter(), false).is_ok());
    }

    #[test]
    fn the_author_is_who_was_authenticated() {
        let call = editor(&[]);
        assert_eq!(call.caller.author(""), "ci");
        assert_eq!(call.caller.author("ci"), "ci");
        assert_eq!(call.caller.author("ada"), "ci (as ada)");
        assert_eq!(call.caller.author("ada\n2026 root"), "ci (as ada2026 root)");
        assert_eq!(call.caller.author(&"é".repeat(100)), format!("ci (as {})", "é".repeat(64)));
        assert_eq!(Caller::anyone().author("ada"), "ada");
    }

    #[test]
    fn a_call_that_came_past_the_gate_may_nothing() {
        let call = Call::of(&Extensions::new());
        assert!(!call.caller.sees("default"));
        assert!(call.touch([service("default", "chat")].iter(), false).is_err());
    }
}
