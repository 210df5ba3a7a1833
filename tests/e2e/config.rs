//! Configuration that changes at random in every way that must hurt nobody.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use segue_tests::admin::Admin;
use segue_tests::draws::Draws;
use segue_tests::written::{USER_HEADER, service, service_of, split};

pub const VERSIONS: [&str; 3] = ["v1", "v2", "v3"];
/// Where nobody listens (`discard`).
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
/// A service that nobody calls.
const GHOST: &str = "ghost";

/// Policies of `chat`; none of them refuses or ejects anything that is well.
pub const POLICIES: [&str; 8] = [
    "loadBalancer: {algorithm: RoundRobin}",
    "loadBalancer: {algorithm: LeastRequest, slowStart: 2s}",
    "loadBalancer: {algorithm: PeakEwma}\n  connectionPool: {maxAge: 1s}",
    "loadBalancer: {algorithm: RingHash, hashBy: {header: x-user-id}}",
    "loadBalancer: {algorithm: Maglev, hashBy: {header: x-user-id}}",
    "healthCheck: {http: {path: /}, interval: 1s, timeout: 1s}",
    "healthCheck: {tcp: {}, interval: 500ms, timeout: 500ms}\n  outlierDetection: {consecutiveErrors: 5}",
    "connectionPool: {maxConnections: 500, idleTimeout: 100ms}\n  retryBudget: {percent: 50%}",
];

/// Rules before the one that splits; none of them changes what callers get.
const RULES: [&str; 4] = [
    "    - matches: [{path: {type: PathPrefix, value: /bytes}}]\n      \
     backendRefs: [{name: chat, version: V}]\n      timeouts: {request: 25s}\n",
    "    - matches: [{headers: [{name: upgrade, value: websocket}]}]\n      \
     backendRefs: [{name: chat, version: V}]\n",
    "    - matches: [{path: {type: Exact, value: /upload}, method: POST}]\n      \
     backendRefs: [{name: chat, version: V}]\n      filters:\n        \
     - type: RequestHeaderModifier\n          \
     requestHeaderModifier: {set: [{name: x-seen, value: \"1\"}]}\n",
    "    - matches: [{path: {type: PathPrefix, value: /sse}}]\n      \
     backendRefs: [{name: chat, version: V}]\n      filters:\n        \
     - type: ResponseHeaderModifier\n          \
     responseHeaderModifier: {add: [{name: x-rule, value: sse}]}\n      \
     retry: {attempts: 2, codes: [502, 503]}\n",
];

/// What is configured for `chat`, for `calls`, which has the same instances and is called by gRPC, and
/// for the ghost.
#[derive(Clone, Debug)]
pub struct State {
    /// Percent of each version.
    pub weights: [u32; 3],
    /// Which of a version's two endpoints are named.
    pub endpoints: [[bool; 2]; 3],
    /// The version that has one more endpoint, which nobody listens at: not yet, or no more.
    pub dead: Option<usize>,
    /// Versions that the service has.
    pub versions: [bool; 3],
    /// Of [`RULES`], and the version that it leads to.
    pub rule: Option<(usize, usize)>,
    /// Of [`POLICIES`].
    pub policy: Option<usize>,
    pub ghost: bool,
    /// Whether requests that broke are sent again where that is safe.
    pub retries: bool,
}

/// Makes the next configuration of the one before, and gives its revision. What is gone is told by
/// what is deleted, all else by what is applied.
pub fn push(admin: &mut Admin, before: &State, next: &State, addresses: &[Vec<SocketAddr>]) -> u64 {
    let mut gone = Vec::new();
    if before.ghost && !next.ghost {
        gone.extend([("Route", GHOST), ("TrafficPolicy", GHOST), ("Service", GHOST)]);
    }
    if before.policy.is_some() && next.policy.is_none() {
        gone.push(("TrafficPolicy", "chat"));
    }
    if !gone.is_empty() {
        admin.delete(&gone).unwrap();
    }
    admin.apply(next.yaml(addresses)).unwrap()
}

impl Default for State {
    fn default() -> Self {
        Self {
            weights: [60, 40, 0],
            endpoints: [[true, true]; 3],
            dead: None,
            versions: [true; 3],
            rule: None,
            policy: None,
            ghost: false,
            retries: false,
        }
    }
}

impl State {
    /// Another configuration, one change away.
    pub fn changed(&self, draws: &mut Draws) -> Self {
        let mut next = self.clone();
        match draws.below(9) {
            0 => {
                let first = *draws.one_of(&[0, 1, 50, 99, 100]);
                next.weights = [first, 100 - first, 0];
                next.weights.rotate_left(draws.below(3) as usize);
            }
            1 | 2 => {
                let version = draws.below(3) as usize;
                let choices = [[true, false], [false, true], [true, true]];
                next.endpoints[version] = *draws.one_of(&choices);
            }
            3 => {
                // One that is not there any more, or is there again.
                let version = draws.below(3) as usize;
                next.versions[version] = !next.versions[version];
            }
            4 => {
                let rule = draws.below(1 + RULES.len() as u32) as usize;
                next.rule = (rule < RULES.len()).then_some((rule, draws.below(3) as usize));
            }
            5 | 6 => {
                let policy = draws.below(1 + POLICIES.len() as u32) as usize;
                next.policy = (policy < POLICIES.len()).then_some(policy);
            }
            7 => {
                let version = draws.below(4) as usize;
                next.dead = (version < VERSIONS.len()).then_some(version);
            }
            _ => next.ghost = !next.ghost,
        }
        // Nobody is sent to what is not there.
        if next.versions == [false; 3] {
            next.versions[draws.below(3) as usize] = true;
        }
        let stays = (0..3).find(|version| next.versions[*version]).unwrap_or_default();
        for version in 0..3 {
            if !next.versions[version] {
                next.weights[stays] += std::mem::take(&mut next.weights[version]);
            }
        }
        next.rule = next.rule.filter(|(_, version)| next.versions[*version]);
        next
    }

    /// Whether the configuration has an endpoint of a version.
    pub fn names(&self, version: usize, place: usize) -> bool {
        self.versions[version] && self.endpoints[version][place]
    }

    /// As people write it, with the addresses of each version.
    pub fn yaml(&self, addresses: &[Vec<SocketAddr>]) -> String {
        let versions: Vec<(&str, Vec<SocketAddr>)> = (0..3)
            .filter(|version| self.versions[*version])
            .map(|version| {
                let named = (0..2).filter(|place| self.names(version, *place));
                let living = named.map(|place| addresses[version][place]);
                let dead = self.dead.filter(|dead| *dead == version).map(|_| NOBODY);
                (VERSIONS[version], dead.into_iter().chain(living).collect())
            })
            .collect();
        let mut yaml = service("chat", &versions) + &service_of("grpc", "calls", &versions);
        yaml += &(self.route("chat") + &self.route("calls"));
        if let Some(policy) = self.policy {
            let _ = write!(
                yaml,
                "apiVersion: segue.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: chat}}\n\
                 spec:\n  targetRef: {{name: chat}}\n  {}\n---\n",
                POLICIES[policy]
            );
        }
        if self.ghost {
            yaml.push_str(&service(GHOST, &[("v1", addresses[0].clone())]));
            yaml.push_str(&split(GHOST, &[("v1", 100)]));
            let _ = write!(
                yaml,
                "apiVersion: segue.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {GHOST}}}\n\
                 spec:\n  targetRef: {{name: {GHOST}}}\n  {}\n---\n",
                POLICIES[5]
            );
        }
        yaml
    }

    fn route(&self, service: &str) -> String {
        let mut yaml = format!(
            "apiVersion: segue.dev/v1alpha1\nkind: Route\nmetadata: {{name: {service}}}\nspec:\n  \
             targetRef: {{name: {service}}}\n  splitBy: {{header: {USER_HEADER}}}\n  rules:\n"
        );
        if let Some((rule, version)) = self.rule.filter(|_| service == "chat") {
            yaml.push_str(
                &RULES[rule].replace("version: V", &format!("version: {}", VERSIONS[version])),
            );
        }
        yaml.push_str("    - backendRefs:\n");
        for (version, weight) in VERSIONS.iter().zip(self.weights) {
            if weight > 0 {
                let _ = writeln!(
                    yaml,
                    "        - {{name: {service}, version: {version}, weight: {weight}}}"
                );
            }
        }
        if self.retries {
            yaml.push_str("      retry: {attempts: 4, codes: [502, 503]}\n");
        }
        yaml.push_str("---\n");
        yaml
    }
}
