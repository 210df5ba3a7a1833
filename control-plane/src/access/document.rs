//! The access file: who may call the admin API, as people write it.
//!
//! ```yaml
//! apiVersion: segue.dev/v1alpha1
//! kind: AccessList
//! callers:
//!   - name: ops                       # the author of what it commits
//!     tokenFile: ops.token            # beside this file; its first token
//!     role: operator
//!   - name: shop-ci
//!     tokenSha256: 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8
//!     role: editor
//!     namespaces: [shop]
//!   - name: dashboards
//!     certificate: {uri: spiffe://mesh.example/dashboards}   # or {dns: NAME}
//!     role: viewer
//!     namespaces: "*"
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use segue_shared::secret::Secret;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};
use thiserror::Error;

use super::caller::Caller;
use super::list::{self, AccessList, Credential};
use super::role::{Namespaces, Role};
use super::token::TokenDigest;

/// Largest access file.
const MOST_BYTES: usize = 1 << 20;
/// Every call with a token is compared with them all.
const MOST_CALLERS: usize = 1_000;
/// Names stand in the history and in the audit log.
const MOST_NAME_BYTES: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: Spanned<String>,
    kind: Spanned<String>,
    callers: Vec<Spanned<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    token_sha256: Option<Spanned<String>>,
    token_file: Option<Spanned<PathBuf>>,
    certificate: Option<Spanned<CertificateName>>,
    role: Spanned<String>,
    namespaces: Option<Spanned<Names>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CertificateName {
    uri: Option<String>,
    dns: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Many(Vec<String>),
}

/// All that is wrong with an access file, a line each. Never holds a token.
#[derive(Debug, Error)]
pub struct DocumentError(Vec<String>);

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// The list that an access file holds, and the files that it was read from.
pub struct Read {
    pub list: AccessList,
    pub sources: Vec<PathBuf>,
}

/// Reads an access file and the token files that it names.
pub fn read(file: &Path) -> Result<Read, DocumentError> {
    let whole = |reason: String| DocumentError(vec![format!("{}: {reason}", file.display())]);
    let text = fs::read_to_string(file).map_err(|error| whole(error.to_string()))?;
    if text.len() > MOST_BYTES {
        return Err(whole(format!("larger than {MOST_BYTES} bytes")));
    }
    let document: Document = serde_saphyr::from_str(&text).map_err(|error| {
        let place = error.location().map_or_else(String::new, |at| format!("{}:", at.line()));
        // The first line only: what follows is a piece of the file, which may hold a secret.
        let reason = error.without_snippet().to_string();
        let reason = reason.lines().next().unwrap_or_default().to_owned();
        DocumentError(vec![format!("{}:{place} {reason}", file.display())])
    })?;
    let mut reader = Reader { file, faults: Vec::new(), sources: vec![file.to_owned()] };
    let list = reader.list(document);
    if reader.faults.is_empty() {
        Ok(Read { list, sources: reader.sources })
    } else {
        Err(DocumentError(reader.faults))
    }
}

struct Reader<'a> {
    file: &'a Path,
    faults: Vec<String>,
    sources: Vec<PathBuf>,
}

impl Reader<'_> {
    fn fault(&mut self, at: &Location, field: &str, reason: impl fmt::Display) {
        let file = self.file.display();
        self.faults.push(format!("{file}:{}: {field}: {reason}", at.line()));
    }

    fn list(&mut self, document: Document) -> AccessList {
        if document.api_version.value != segue_proto::API_VERSION {
            let expected = format!("expected {}", segue_proto::API_VERSION);
            self.fault(&document.api_version.referenced, "apiVersion", expected);
        }
        if document.kind.value != "AccessList" {
            self.fault(&document.kind.referenced, "kind", "expected AccessList");
        }
        let count = document.callers.len();
        if count > MOST_CALLERS {
            let reason = format!("{count} callers, at most {MOST_CALLERS}");
            self.fault(&Location::UNKNOWN, "callers", reason);
        }
        let mut seen = BTreeMap::new();
        let mut list = AccessList::default();
        for (i, entry) in document.callers.into_iter().enumerate() {
            let at = entry.referenced;
            let name = entry.value.name.value.clone();
            if let Some(line) = seen.insert(name.clone(), at.line()) {
                let reason = format!("{name:?} is the caller of line {line} already");
                self.fault(&at, &format!("callers[{i}].name"), reason);
            }
            let Some((credential, caller)) = self.entry(i, at, entry.value) else { continue };
            if list.knows(&credential) {
                let reason = "another caller has the same token or certificate";
                self.fault(&at, &format!("callers[{i}]"), reason);
            }
            list.push(list::Entry { credential, caller: Arc::new(caller) });
        }
        list
    }

    fn entry(&mut self, i: usize, at: Location, entry: Entry) -> Option<(Credential, Caller)> {
        let field = |name: &str| format!("callers[{i}].{name}");
        let before = self.faults.len();
        let name = entry.name.value;
        if name.is_empty()
            || name.len() > MOST_NAME_BYTES
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b))
        {
            let reason =
                format!("a name has 1 to {MOST_NAME_BYTES} letters, digits, and any of -_.@");
            self.fault(&entry.name.referenced, &field("name"), reason);
        }
        let role = entry.role.value.parse::<Role>().ok();
        if role.is_none() {
            let reason = "expected viewer, editor or operator";
            self.fault(&entry.role.referenced, &field("role"), reason);
        }
        let given = entry.namespaces.is_some();
        let namespaces = match entry.namespaces {
            Some(names) => self.namespaces(&field("namespaces"), names),
            None if role == Some(Role::Operator) => Namespaces::All,
            None => {
                let reason = "missing: list them, or say \"*\" for all";
                self.fault(&at, &field("namespaces"), reason);
                Namespaces::All
            }
        };
        if role == Some(Role::Operator) && given && namespaces != Namespaces::All {
            let reason = "an operator acts on the whole configuration: say \"*\" or nothing";
            self.fault(&at, &field("namespaces"), reason);
        }
        let credential = match (entry.token_sha256, entry.token_file, entry.certificate) {
            (Some(hex), None, None) => {
                let digest = TokenDigest::from_hex(&hex.value);
                if digest.is_none() {
                    let reason = "expected 64 hexadecimal digits, as sha256sum prints them";
                    self.fault(&hex.referenced, &field("tokenSha256"), reason);
                }
                digest.map(Credential::Token)
            }
            (None, Some(file), None) => self.token_file(&field("tokenFile"), &file),
            (None, None, Some(name)) => match (name.value.uri, name.value.dns) {
                (Some(uri), None) if !uri.is_empty() => Some(Credential::Uri(uri)),
                (None, Some(dns)) if !dns.is_empty() => Some(Credential::Dns(dns)),
                _ => {
                    let reason = "expected one name: {uri: …} or {dns: …}";
                    self.fault(&name.referenced, &field("certificate"), reason);
                    None
                }
            },
            _ => {
                let reason = "expected exactly one of tokenSha256, tokenFile and certificate";
                self.fault(&at, &format!("callers[{i}]"), reason);
                None
            }
        };
        let good = self.faults.len() == before;
        let (credential, role) = (credential?, role?);
        good.then_some((credential, Caller { name, role, namespaces }))
    }

    fn namespaces(&mut self, field: &str, names: Spanned<Names>) -> Namespaces {
        let names = match names.value {
            Names::One(all) if all == "*" => return Namespaces::All,
            Names::One(_) => {
                let reason = "expected a list of namespaces, or \"*\" for all";
                self.fault(&names.referenced, field, reason);
                return Namespaces::All;
            }
            Names::Many(names) => names,
        };
        if names.is_empty() || names.iter().any(|name| name.is_empty() || name == "*") {
            let reason = "expected names of namespaces; \"*\" stands alone, without a list";
            self.fault(&Location::UNKNOWN, field, reason);
        }
        Namespaces::Only(names.into_iter().collect::<BTreeSet<_>>())
    }

    fn token_file(&mut self, field: &str, file: &Spanned<PathBuf>) -> Option<Credential> {
        let beside = self.file.parent().unwrap_or(Path::new("."));
        let path = beside.join(&file.value);
        self.sources.push(path.clone());
        match Secret::read(&path) {
            Ok(token) => Some(Credential::Token(TokenDigest::of(token.expose().as_bytes()))),
            Err(error) => {
                self.fault(&file.referenced, field, error);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
