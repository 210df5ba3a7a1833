//! Requests that mostly fall under some rule, and are a little off as often as callers are.

use std::fmt::Write as _;

use super::draws::Draws;
use super::upstream::WANTED_STATUS;
use super::world::{Condition, Path, Rule, Service, SplitBy, World};

const METHODS: [&str; 7] = ["GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"];
/// Methods that few callers use.
const RARE_METHODS: [&str; 5] = ["PURGE", "PATCH", "REPORT", "TRACE", "BREW"];
/// What is done to a path.
const PATH_CHANGES: [fn(&mut Draws, &mut String); 22] = [
    |draws, path| insert(draws, path, "/"),
    |draws, path| insert(draws, path, "/."),
    |draws, path| insert(draws, path, "/x/.."),
    |draws, path| insert(draws, path, ";p=1"),
    |_, path| path.push('/'),
    |_, path| path.push_str("/more"),
    |_, path| path.push_str("/more/of/it.txt"),
    |_, path| path.push('x'),
    |_, path| path.push_str("/.."),
    |_, path| path.push_str("/../../.."),
    |_, path| path.push_str(";p=1"),
    |_, path| path.push_str("/a%20b%2Bc"),
    |_, path| path.push_str("/caf%c3%a9"),
    |_, path| path.push_str("/!$&'()*+,=:@"),
    |_, path| path.push_str("/\"^{|}"),
    |draws, path| path.push_str(draws.pick(&["/<x", "/>", "/`x`"])),
    |draws, path| path.push_str(draws.pick(&["/a%2Fb", "/a%2fb", "/a%5Cb"])),
    |draws, path| path.push_str(draws.pick(&["/%zz", "/%", "/%00", "/#part", "/a%3Bb"])),
    |_, path| *path = path.replacen('/', "\\", 2).replacen('\\', "/", 1),
    escape,
    |_, path| *path = path.replace("%C3%A9", "%c3%a9"),
    |draws, path| {
        let cut = path.rfind('/').unwrap_or(0).max(1);
        path.truncate(if draws.chance(50) { cut } else { 1 });
    },
];
const QUERIES: [&str; 8] =
    ["a=1", "v", "v=", "=v", "&&", "path=/../x//y", "q=%41%zz;x?y", "lang=%65u-west"];
/// Lines that callers add; what several lines of one name, or lines of one connection, become.
const NOISE: [(&str, &str); 31] = [
    ("X-Gone", "here"),
    ("x-gone", "twice"),
    ("X-Set", "old"),
    ("x-many", "1"),
    ("X-Many", "2, 3"),
    ("accept", "text/html"),
    ("Accept", "*/*;q=0.1"),
    ("User-Agent", "test/1.0"),
    ("cookie", "a=1; b=2"),
    ("Cookie", "c=3"),
    ("authorization", "Bearer x.y.z"),
    ("x-forwarded-for", "10.1.1.1"),
    ("x-segue-session", "forged"),
    ("x_tenant", "beta"),
    ("x-tenant", "other"),
    ("x-zone", "eu-east"),
    ("te", "trailers"),
    ("connection", "keep-alive, x-hop"),
    ("x-hop", "for one connection"),
    ("Keep-Alive", "timeout=5"),
    ("x-latin", "caf\u{e9} \u{20ac}"),
    ("x-blank", "  inner  blanks "),
    ("x-nothing", ""),
    ("cache-control", "no-cache"),
    ("x-request-id", "the-caller's-own"),
    ("x-forwarded-proto", "https"),
    ("x-envoy-retry-on", "5xx"),
    ("x-envoy-original-path", "/forged"),
    ("proxy-authorization", "Basic eDp5"),
    ("origin", "https://app.example.com"),
    ("connection", "x-gone"),
];

/// One request, as it is written to both.
#[derive(Clone, Debug)]
pub struct Request {
    pub number: u64,
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    pub host: String,
    /// Whether the host stands in the target, where it goes before `Host`.
    pub absolute: bool,
    /// Without `Host` and framing.
    pub lines: Vec<(String, String)>,
    pub body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    None,
    Length(usize),
    Chunked(usize),
}

impl Request {
    /// The request of this number.
    pub fn drawn(world: &World, seed: u64, number: u64) -> Self {
        let draws = &mut Draws::of(seed, number);
        let service = &world.services[draws.below(world.services.len())];
        let rules = &service.rules;
        let rule = (!rules.is_empty()).then(|| &rules[draws.below(rules.len())]);
        let mut lines = Vec::new();
        let mut query = Vec::new();
        for Condition { name, pattern } in rule.iter().flat_map(|rule| &rule.headers) {
            if draws.chance(93) {
                lines.push((spelled(draws, name), draws.pick(&pattern.good).to_owned()));
            }
        }
        for Condition { name, pattern } in rule.iter().flat_map(|rule| &rule.query) {
            if draws.chance(93) {
                let good = draws.pick(&pattern.good).replace(' ', "+");
                query.push(format!("{name}={good}"));
            }
        }
        split_key(draws, service, &mut lines);
        if draws.chance(40) {
            for _ in 0..=draws.below(4) {
                let (name, value) = draws.pick(&NOISE);
                lines.insert(draws.below(lines.len() + 1), (name.into(), value.into()));
            }
        }
        if draws.chance(8) {
            let status = draws.pick(&["404", "500", "302", "201"]);
            lines.push((WANTED_STATUS.into(), status.into()));
        }
        lines.push(("x-case".into(), number.to_string()));
        if draws.chance(20) {
            query.insert(draws.below(query.len() + 1), draws.pick(&QUERIES).to_owned());
        }
        let method = rule.and_then(|rule| rule.method).filter(|_| draws.chance(93));
        let methods: &[&str] = if draws.chance(4) { &RARE_METHODS } else { &METHODS };
        let method = method.unwrap_or_else(|| draws.pick(methods));
        let target = target(draws, rule, &query);
        let body = match (method, draws.below(3)) {
            ("POST" | "PUT", 1) => Body::Length(draws.below(300)),
            ("POST" | "PUT", 2) => Body::Chunked(1 + draws.below(300)),
            _ => Body::None,
        };
        let (host, absolute) = (host(draws, service), draws.chance(3));
        Self { number, method, target, host, absolute, lines, body }
    }

    /// As it goes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let Self { method, target, host, .. } = self;
        let mut head = if self.absolute {
            format!("{method} http://{host}{target} HTTP/1.1\r\nHost: other.example.com\r\n")
        } else {
            format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n")
        };
        for (name, value) in &self.lines {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        match self.body {
            Body::None => head += "\r\n",
            Body::Length(length) => {
                let body = "b".repeat(length);
                let _ = write!(head, "Content-Length: {length}\r\n\r\n{body}");
            }
            Body::Chunked(length) => {
                let body = "c".repeat(length);
                head += "Transfer-Encoding: chunked\r\n\r\n";
                let _ = write!(head, "1\r\nc\r\n{length:x};x=y\r\n{body}\r\n0\r\n\r\n");
            }
        }
        head.into_bytes()
    }

    /// The request without parameters of segments, where it has any: what our rules see.
    pub fn bare(&self) -> Option<Self> {
        let has = self.path().contains(';');
        has.then(|| Self { target: without_parameters(&self.target), ..self.clone() })
    }

    /// The path as it was written, without query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Values of all lines of a name.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.lines.iter().filter(move |(given, _)| given.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// Whether several lines have one name.
    pub fn repeats(&self, name: &str) -> bool {
        self.values(name).nth(1).is_some()
    }

    /// What a service splits by, where the request says it exactly once.
    pub fn split_key(&self, by: SplitBy) -> Option<&str> {
        let values: Vec<&str> = match by {
            SplitBy::Random => Vec::new(),
            SplitBy::Header(name) => self.values(name).collect(),
            SplitBy::Cookie(name) => {
                let pairs = self.values("cookie").flat_map(|line| line.split(';'));
                let pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
                pairs.filter(|(given, _)| *given == name).map(|(_, value)| value).collect()
            }
        };
        match values.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}

/// A target or a whole URL without parameters of segments; the query stays.
pub fn without_parameters(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let bare = path.split(['/', '\\']).map(|segment| segment.split(';').next().unwrap_or_default());
    bare.collect::<Vec<_>>().join("/") + query
}

fn split_key(draws: &mut Draws, service: &Service, lines: &mut Vec<(String, String)>) {
    let user = format!("user-{}", draws.below(200));
    match service.split_by {
        _ if draws.chance(20) => {}
        SplitBy::Random => {}
        SplitBy::Header(name) => lines.push((name.into(), user)),
        SplitBy::Cookie(name) => lines.push(("cookie".into(), format!("z=1; {name}={user}"))),
    }
}

fn spelled(draws: &mut Draws, name: &str) -> String {
    if draws.chance(30) { name.to_ascii_uppercase() } else { name.to_owned() }
}

fn target(draws: &mut Draws, rule: Option<&Rule>, query: &[String]) -> String {
    let mut path = match rule.map_or(Path::Any, |rule| rule.path) {
        Path::Any => draws.pick(&["/", "/any", "/any/thing"]).to_owned(),
        Path::Exact(path) => path.to_owned(),
        Path::Prefix(path) => format!("{path}{}", draws.pick(&["", "/", "/x", "/y/z.html"])),
        Path::Expression(_, good) => draws.pick(&good).to_owned(),
    };
    if draws.chance(25) {
        for _ in 0..=draws.below(2) {
            draws.pick(&PATH_CHANGES)(draws, &mut path);
        }
    }
    if !query.is_empty() {
        path.push('?');
        path.push_str(&query.join("&"));
    }
    path
}

fn host(draws: &mut Draws, service: &Service) -> String {
    let domain = &service.domains[draws.below(service.domains.len())];
    let mut host = match domain.strip_prefix('*') {
        Some(end) => format!("{}{end}", draws.pick(&["www", "a.b", "x-1", "deep"])),
        None => domain.clone(),
    };
    if !draws.chance(15) {
        return host;
    }
    match draws.below(9) {
        0 => host.make_ascii_uppercase(),
        1 => host += ":80",
        2 => host += ":8080",
        3 => host.push('.'),
        4 => host += ".:8080",
        5 => host = "unknown.example.org".into(),
        6 => host.insert_str(0, "below."),
        7 => host.push('x'),
        _ => host = draws.pick(&["10.1.2.3", "[::1]:80", "[::1]"]).into(),
    }
    host
}

/// Before one of the slashes, or at the end.
fn insert(draws: &mut Draws, path: &mut String, text: &str) {
    let places: Vec<usize> =
        path.match_indices('/').map(|(at, _)| at).chain([path.len()]).collect();
    // A path that does not begin with a slash is another matter.
    let place = usize::from(!text.starts_with('/'));
    let place = places[(place + draws.below(places.len())).min(places.len() - 1)];
    path.insert_str(place, text);
}

/// One letter as an escape.
fn escape(draws: &mut Draws, path: &mut String) {
    let letters = path.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric());
    let letters: Vec<(usize, char)> = letters.collect();
    if path.contains('%') || letters.is_empty() {
        return;
    }
    let (at, letter) = draws.pick(&letters);
    path.replace_range(at..=at, &format!("%{:02x}", u32::from(letter)));
}
