//! The methods of the admin port, and what each takes.

use std::time::Duration;

use super::role::Role;

/// Time for an answer that comes whole.
const ANSWER: Duration = Duration::from_secs(10);
const CLIENT_STATUS: &str = "envoy.service.status.v3.ClientStatusDiscoveryService";

/// A method of the admin port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Who may call it. `None`: anyone, without saying who.
    pub role: Option<Role>,
    /// Whether it lasts, in one direction or both.
    pub streams: bool,
    /// Whether it changes what is stored or hands out all of it, so that each call is audited.
    pub audited: bool,
}

impl Method {
    /// By the path of its HTTP/2 request. What is not known takes the highest role.
    pub fn of(path: &str) -> Self {
        let (service, name) = path.trim_start_matches('/').split_once('/').unwrap_or(("", path));
        let read = Self { role: Some(Role::Viewer), streams: false, audited: false };
        let stream = Self { streams: true, ..read };
        let change = Self { role: Some(Role::Editor), audited: true, ..read };
        let whole = Self { role: Some(Role::Operator), audited: true, streams: true };
        match (service, name) {
            ("grpc.health.v1.Health", "Check") => Self { role: None, ..read },
            ("grpc.health.v1.Health", _) => Self { role: None, ..stream },
            ("segue.admin.v1.ConfigService", "List" | "ListRevisions")
            | ("segue.admin.v1.StatusService", "ListSidecars")
            | (CLIENT_STATUS, "FetchClientStatus") => read,
            ("segue.admin.v1.ConfigService", "Watch")
            | ("segue.admin.v1.StatusService", "WaitActivated")
            | ("grpc.reflection.v1.ServerReflection" | CLIENT_STATUS, _) => stream,
            ("segue.admin.v1.ConfigService", "Apply" | "Delete") => change,
            ("segue.admin.v1.ConfigService", "Undo") => {
                Self { role: Some(Role::Operator), ..change }
            }
            ("segue.admin.v1.CertificateService", "GetAuthority") => read,
            ("segue.admin.v1.TokenService" | "segue.admin.v1.CertificateService", _) => {
                Self { streams: false, ..whole }
            }
            _ => whole,
        }
    }

    /// Time until the answer; `None` where it lasts.
    pub fn deadline(self) -> Option<Duration> {
        (!self.streams).then_some(ANSWER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every method of our own API, with the role that its documentation names.
    #[test]
    fn roles_of_methods() {
        for (path, role, streams, audited) in [
            ("segue.admin.v1.ConfigService/List", Role::Viewer, false, false),
            ("segue.admin.v1.ConfigService/ListRevisions", Role::Viewer, false, false),
            ("segue.admin.v1.ConfigService/Watch", Role::Viewer, true, false),
            ("segue.admin.v1.ConfigService/Apply", Role::Editor, false, true),
            ("segue.admin.v1.ConfigService/Delete", Role::Editor, false, true),
            ("segue.admin.v1.ConfigService/Undo", Role::Operator, false, true),
            ("segue.admin.v1.StatusService/ListSidecars", Role::Viewer, false, false),
            ("segue.admin.v1.StatusService/WaitActivated", Role::Viewer, true, false),
            ("segue.admin.v1.BackupService/Backup", Role::Operator, true, true),
            ("segue.admin.v1.BackupService/Restore", Role::Operator, true, true),
            ("segue.admin.v1.TokenService/CreateToken", Role::Operator, false, true),
            ("segue.admin.v1.TokenService/ListTokens", Role::Operator, false, true),
            ("segue.admin.v1.TokenService/RevokeToken", Role::Operator, false, true),
            ("segue.admin.v1.CertificateService/GetAuthority", Role::Viewer, false, false),
            ("segue.admin.v1.CertificateService/RotateRoot", Role::Operator, false, true),
            ("segue.admin.v1.CertificateService/AbortRotation", Role::Operator, false, true),
            ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Role::Viewer, true, false),
            ("made.up.Service/Method", Role::Operator, true, true),
            ("", Role::Operator, true, true),
        ] {
            let method = Method::of(&format!("/{path}"));
            assert_eq!(method, Method { role: Some(role), streams, audited }, "{path}");
        }
        assert_eq!(Method::of("/grpc.health.v1.Health/Check").role, None);
    }
}
