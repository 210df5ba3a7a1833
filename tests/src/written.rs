//! Configuration as people write it, for tests that vary one part of it.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// Header that splits users among versions in tests.
pub const USER_HEADER: &str = "x-user-id";

/// A service of `http` with these versions, the oldest first.
pub fn service(name: &str, versions: &[(&str, Vec<SocketAddr>)]) -> String {
    service_of("http", name, versions)
}

/// A service with these versions, the oldest first.
pub fn service_of(protocol: &str, name: &str, versions: &[(&str, Vec<SocketAddr>)]) -> String {
    let mut yaml = format!(
        "apiVersion: segue.dev/v1alpha1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  \
         protocol: {protocol}\n  versions:\n"
    );
    for (version, endpoints) in versions {
        let endpoints: Vec<String> = endpoints.iter().map(|a| format!("\"{a}\"")).collect();
        let endpoints = endpoints.join(", ");
        let _ = writeln!(yaml, "    - {{name: {version}, endpoints: [{endpoints}]}}");
    }
    yaml.push_str("---\n");
    yaml
}

/// A route of one rule that splits users by [`USER_HEADER`].
pub fn split(service: &str, weights: &[(&str, u32)]) -> String {
    route(service, &[Rule { path: None, weights: weights.to_vec() }])
}

/// One rule of a route.
#[derive(Clone, Debug)]
pub struct Rule<'a> {
    /// Prefix of the path; `None`: any path.
    pub path: Option<&'a str>,
    /// Version and weight; the weights sum to 100 or 10,000.
    pub weights: Vec<(&'a str, u32)>,
}

/// A route that splits users by [`USER_HEADER`].
pub fn route(service: &str, rules: &[Rule<'_>]) -> String {
    let mut yaml = format!(
        "apiVersion: segue.dev/v1alpha1\nkind: Route\nmetadata: {{name: {service}}}\nspec:\n  \
         targetRef: {{name: {service}}}\n  splitBy: {{header: {USER_HEADER}}}\n  rules:\n"
    );
    for rule in rules {
        yaml.push_str("    - backendRefs:\n");
        for (version, weight) in &rule.weights {
            let _ = writeln!(
                yaml,
                "        - {{name: {service}, version: {version}, weight: {weight}}}"
            );
        }
        if let Some(path) = rule.path {
            let _ =
                writeln!(yaml, "      matches: [{{path: {{type: PathPrefix, value: {path}}}}}]");
        }
    }
    yaml.push_str("---\n");
    yaml
}
