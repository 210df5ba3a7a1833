//! A mesh of a dozen services with routes that use everything which both proxies understand.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::draws::Draws;

/// Besides `chat`, which has no routes of its own.
const SERVICES: usize = 13;
const VERSIONS: [&str; 3] = ["v1", "v2", "v3"];
/// The header of answers that names the rule which decided.
pub const RULE: &str = "x-rule";

const PATHS: [&str; 12] = [
    "/api",
    "/api/v1",
    "/api/v1/users",
    "/a",
    "/a/b",
    "/a/b/c",
    "/shop/cart",
    "/Shop",
    "/files.d/x.y",
    "/caf%C3%A9",
    "/t~i-l_d.e",
    "/p=v,w",
];
/// Expressions, each with paths that it matches.
const EXPRESSIONS: [(&str, [&str; 2]); 6] = [
    (r"/api/[a-z]+/\d+", ["/api/users/7", "/api/x/12345"]),
    (r"/files/.*\.json", ["/files/a.json", "/files/a/b/c.json"]),
    ("/(a|b)+/x", ["/a/x", "/abba/x"]),
    (r"/v\d+/users/?", ["/v1/users", "/v22/users/"]),
    ("/api/(?i:admin)(/.*)?", ["/api/ADMIN", "/api/admin/x"]),
    ("/[^/]+/exact", ["/api/exact", "/caf%C3%A9/exact"]),
];
/// Conditions on values, each with values that meet it.
const VALUES: [Pattern; 6] = [
    Pattern { kind: "Exact", value: "beta", good: ["beta", "beta"] },
    Pattern { kind: "Exact", value: "a,b", good: ["a,b", "a,b"] },
    Pattern { kind: "RegularExpression", value: "eu-.*", good: ["eu-", "eu-west-1"] },
    Pattern { kind: "RegularExpression", value: "[a-z]+", good: ["abc", "z"] },
    Pattern { kind: "RegularExpression", value: r"\d{1,3}", good: ["7", "999"] },
    // What is there, whatever it is.
    Pattern { kind: "RegularExpression", value: ".*", good: ["anything at all", "~"] },
];
const METHODS: [&str; 4] = ["GET", "POST", "DELETE", "PURGE"];

pub struct World {
    pub services: Vec<Service>,
}

pub struct Service {
    pub name: String,
    /// Names of one label, and of several; wildcards begin with a star.
    pub domains: Vec<String>,
    pub versions: Vec<&'static str>,
    pub split_by: SplitBy,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitBy {
    Random,
    Header(&'static str),
    Cookie(&'static str),
}

pub struct Rule {
    pub name: String,
    pub path: Path,
    pub method: Option<&'static str>,
    pub headers: Vec<Condition>,
    pub query: Vec<Condition>,
    pub action: Action,
    filters: Vec<Value>,
    weights: Vec<(&'static str, u32)>,
}

#[derive(Clone, Copy, Debug)]
pub enum Path {
    Any,
    Exact(&'static str),
    Prefix(&'static str),
    Expression(&'static str, [&'static str; 2]),
}

#[derive(Clone, Copy, Debug)]
pub struct Condition {
    pub name: &'static str,
    pub pattern: Pattern,
}

#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    kind: &'static str,
    value: &'static str,
    pub good: [&'static str; 2],
}

/// What a rule does, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Forward,
    Split,
    PrefixRewrite,
    FullRewrite,
    HostRewrite,
    Redirect,
}

impl World {
    pub fn of(seed: u64) -> Self {
        let mut draws = Draws::of(seed, u64::MAX);
        let plain = Service {
            name: "chat".into(),
            domains: vec!["chat".into(), "chat.default".into()],
            versions: vec!["v1"],
            split_by: SplitBy::Random,
            rules: Vec::new(),
        };
        let others = (0..SERVICES).map(|i| Service::drawn(&mut draws, i));
        Self { services: std::iter::once(plain).chain(others.collect::<Vec<_>>()).collect() }
    }

    /// What is applied; `address` gives the endpoint of `SERVICE/VERSION`.
    pub fn yaml(&self, mut address: impl FnMut(&str) -> SocketAddr) -> String {
        let mut documents = Vec::new();
        for service in &self.services {
            documents.push(service.declared(&mut address));
            documents.extend((!service.rules.is_empty()).then(|| service.route()));
        }
        documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
    }

    /// The rule of this name and its service.
    pub fn rule(&self, name: &str) -> Option<(&Service, &Rule)> {
        self.services.iter().find_map(|service| {
            service.rules.iter().find(|rule| rule.name == name).map(|rule| (service, rule))
        })
    }
}

impl Service {
    fn drawn(draws: &mut Draws, number: usize) -> Self {
        let name = format!("s{number}");
        let mut domains = vec![name.clone(), format!("{name}.default")];
        match number % 4 {
            0 => domains.push(format!("{name}.example.com")),
            1 => domains.push(format!("*.{name}.example.com")),
            // An exact name below another one's wildcard, and a wildcard below a wildcard.
            2 => domains.push(format!("deep.s{}.example.com", number - 1)),
            _ => domains.push(format!("*.deep.s{}.example.com", number - 2)),
        }
        let versions = VERSIONS[..2 + draws.below(2)].to_vec();
        let split_by = match number % 3 {
            0 => SplitBy::Header("x-user-id"),
            1 => SplitBy::Cookie("sid"),
            _ => SplitBy::Random,
        };
        let count = 5 + draws.below(6);
        let rules = (0..count).map(|i| {
            // Each kind of action comes in each run, whatever the seed.
            let action = Action::ALL[(number + i) % Action::ALL.len()];
            Rule::drawn(draws, format!("{name}-{i}"), action, &versions)
        });
        let rules = rules.collect();
        Self { name, domains, versions, split_by, rules }
    }

    fn declared(&self, address: &mut impl FnMut(&str) -> SocketAddr) -> Value {
        let versions: Vec<Value> = self
            .versions
            .iter()
            .map(|version| {
                let address = address(&format!("{}/{version}", self.name));
                json!({"name": version, "endpoints": [address.to_string()]})
            })
            .collect();
        json!({
            "apiVersion": "segue.dev/v1alpha1",
            "kind": "Service",
            "metadata": {"name": self.name},
            "spec": {"protocol": "http", "hosts": self.domains[2..], "versions": versions},
        })
    }

    fn route(&self) -> Value {
        let split_by = match self.split_by {
            SplitBy::Random => json!({"random": {}}),
            SplitBy::Header(name) => json!({"header": name}),
            SplitBy::Cookie(name) => json!({"cookie": name}),
        };
        let rules: Vec<Value> = self.rules.iter().map(|rule| rule.declared(&self.name)).collect();
        json!({
            "apiVersion": "segue.dev/v1alpha1",
            "kind": "Route",
            "metadata": {"name": self.name},
            "spec": {"targetRef": {"name": self.name}, "splitBy": split_by, "rules": rules},
        })
    }
}

impl Rule {
    fn drawn(draws: &mut Draws, name: String, action: Action, versions: &[&'static str]) -> Self {
        let mut path = match draws.below(10) {
            0 => Path::Any,
            1..=3 => Path::Exact(draws.pick(&PATHS)),
            4..=7 => Path::Prefix(draws.pick(&PATHS)),
            _ => {
                let (expression, good) = draws.pick(&EXPRESSIONS);
                Path::Expression(expression, good)
            }
        };
        if action == Action::PrefixRewrite {
            path = Path::Prefix(draws.pick(&PATHS));
        }
        let conditions = |draws: &mut Draws, names: &[&'static str], percent| {
            let mut drawn = Vec::new();
            for name in names {
                if draws.chance(percent) {
                    drawn.push(Condition { name, pattern: draws.pick(&VALUES) });
                }
            }
            drawn
        };
        let headers = conditions(draws, &["x-tenant", "x-zone", "accept-language"], 15);
        let query = conditions(draws, &["v", "lang"], 15);
        let method = draws.chance(25).then(|| draws.pick(&METHODS));
        let filters = filters(draws, &name, action);
        let mut weights = vec![(draws.pick(versions), 100)];
        if action == Action::Split {
            let first = 10 + draws.below(81) as u32;
            weights = vec![(versions[0], first), (versions[1], 100 - first)];
        }
        if action == Action::Redirect {
            weights.clear();
        }
        Self { name, path, method, headers, query, action, filters, weights }
    }

    /// Whether several versions share its requests.
    pub fn splits(&self) -> bool {
        self.weights.len() > 1
    }

    pub fn serves(&self, version: &str) -> bool {
        self.weights.iter().any(|(name, _)| *name == version)
    }

    /// The first of its versions, and that version's share from 0 to 1.
    pub fn first_share(&self) -> Option<(&'static str, f64)> {
        self.weights.first().map(|(version, weight)| (*version, f64::from(*weight) / 100.0))
    }

    fn declared(&self, service: &str) -> Value {
        let path = match self.path {
            Path::Any => json!({"type": "PathPrefix", "value": "/"}),
            Path::Exact(path) => json!({"type": "Exact", "value": path}),
            Path::Prefix(path) => json!({"type": "PathPrefix", "value": path}),
            Path::Expression(path, _) => json!({"type": "RegularExpression", "value": path}),
        };
        let conditions = |conditions: &[Condition]| -> Vec<Value> {
            let value = |Condition { name, pattern }: &Condition| json!({"type": pattern.kind, "name": name, "value": pattern.value});
            conditions.iter().map(value).collect()
        };
        let mut matched = json!({
            "path": path,
            "headers": conditions(&self.headers),
            "queryParams": conditions(&self.query),
        });
        if let Some(method) = self.method {
            matched["method"] = json!(method);
        }
        let backends: Vec<Value> = self
            .weights
            .iter()
            .map(|(version, weight)| json!({"name": service, "version": version, "weight": weight}))
            .collect();
        json!({
            "name": self.name,
            "matches": [matched],
            "filters": self.filters,
            "backendRefs": backends,
            // Longer than any answer takes, so that none of them fires.
            "timeouts": {"request": "30s"},
        })
    }
}

impl Action {
    pub const ALL: [Self; 6] = [
        Self::Forward,
        Self::Split,
        Self::PrefixRewrite,
        Self::FullRewrite,
        Self::HostRewrite,
        Self::Redirect,
    ];
}

fn filters(draws: &mut Draws, rule: &str, action: Action) -> Vec<Value> {
    let mut filters = Vec::new();
    let request = draws.chance(60);
    if request && action != Action::Redirect {
        let edits = json!({
            "set": [{"name": "X-Set", "value": "100% \"new\""}, {"name": "x-empty", "value": ""}],
            "add": [{"name": "X-Many", "value": "added"}, {"name": "x-only-added", "value": "%"}],
            "remove": ["X-Gone", "cache-control"],
        });
        filters.push(json!({"type": "RequestHeaderModifier", "requestHeaderModifier": edits}));
    }
    let mut edits = json!({"set": [{"name": RULE, "value": rule}]});
    if draws.chance(60) {
        edits["set"] = json!([{"name": RULE, "value": rule}, {"name": "X-Old", "value": "new"}]);
        edits["add"] = json!([{"name": "X-Many", "value": "3"}, {"name": "vary", "value": "%"}]);
        edits["remove"] = json!(["Cache-Control", "x-not-there"]);
    }
    filters.push(json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": edits}));
    let full = |draws: &mut Draws| {
        let to = draws.pick(&["/", "/new", "/new/path/", "/n%20w"]);
        json!({"type": "ReplaceFullPath", "replaceFullPath": to})
    };
    let prefix = |draws: &mut Draws| {
        let to = draws.pick(&["/", "/new", "/new/path/", "/n.w"]);
        json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": to})
    };
    let rewrite = match action {
        Action::PrefixRewrite => Some(json!({"path": prefix(draws)})),
        Action::FullRewrite => Some(json!({"path": full(draws)})),
        Action::HostRewrite => Some(json!({"hostname": "Other.internal"})),
        _ => None,
    };
    filters.extend(rewrite.map(|to| json!({"type": "URLRewrite", "urlRewrite": to})));
    if action == Action::Redirect {
        let mut to = json!({"statusCode": draws.pick(&[301, 302, 303, 307, 308])});
        if draws.chance(40) {
            to["scheme"] = json!(draws.pick(&["http", "https"]));
        }
        if draws.chance(50) {
            to["hostname"] = json!("moved.example.com");
        }
        if draws.chance(40) {
            to["port"] = json!(draws.pick(&[80, 443, 8443]));
        }
        if draws.chance(50) {
            to["path"] = full(draws);
        }
        filters.push(json!({"type": "RequestRedirect", "requestRedirect": to}));
    }
    filters
}
