//! Where Envoy and our sidecar differ, each difference with its reason. What is not in this list is
//! a fault of one of them.

use super::outcome::{Outcome, Seen};
use super::request::{Request, without_parameters};
use super::wire::Fields;
use super::world::{Path, World};

/// A known difference.
pub struct Difference {
    pub name: &'static str,
    pub reason: &'static str,
    /// The requests that it concerns, as few as can be.
    pub concerns: fn(&Request) -> bool,
    /// Makes Envoy's outcome ours in what the difference explains, and in nothing else.
    pub explain: fn(&World, &Request, &mut Outcome, &Outcome),
}

pub const KNOWN: &[Difference] = &[
    Difference {
        name: "TRACE",
        reason: "ours refuses it: the answer would show the caller what the mesh has added",
        concerns: |request| request.method == "TRACE",
        explain: |_, _, theirs, ours| refused_by_us(405, theirs, ours),
    },
    Difference {
        name: "methods that Envoy does not know",
        reason: "Envoy takes others than the registered ones only by a setting that it calls work \
                 in progress; ours lets applications have their own",
        concerns: |request| request.method == "BREW",
        explain: |_, _, theirs, ours| {
            if theirs.is_refusal(400) {
                theirs.clone_from(ours);
            }
        },
    },
    Difference {
        name: "broken escapes",
        reason: "ours refuses a percent sign without two digits, which upstreams read in different \
                 ways; Envoy passes it on",
        concerns: |request| has_broken_escape(request.path()),
        explain: |_, _, theirs, ours| refused_by_us(400, theirs, ours),
    },
    Difference {
        name: "characters of no target",
        reason: "our codec refuses a few that must not stand in targets and escapes the others; \
                 Envoy escapes all of them",
        concerns: |request| request.path().contains(['<', '>', '`']),
        explain: |_, _, theirs, ours| refused_by_us(400, theirs, ours),
    },
    Difference {
        name: "dots behind an empty segment",
        reason: "ours merges slashes before it resolves dots, as file systems and nginx do; Envoy \
                 resolves dots first, and `..` takes the empty segment",
        concerns: |request| has_empty_segment_before_dots(request.path()),
        explain: |_, _, theirs, ours| theirs.clone_from(ours),
    },
    Difference {
        name: "answer to a refused target",
        reason: "both refuse `%2F`, `%5C`, `%00` and `#`; Envoy has looked for a rule before, and makes \
                 the rule's changes to the refusal",
        concerns: |request| {
            let path = request.path().to_ascii_lowercase();
            ["%2f", "%5c", "%00", "#"].iter().any(|part| path.contains(part))
        },
        explain: |_, _, theirs, ours| {
            if theirs.status == 400 && theirs.seen.is_none() {
                refused_by_us(400, theirs, ours);
            }
        },
    },
    Difference {
        name: "second value of what has one",
        reason: "ours refuses two lines of a header that has one value; Envoy joins them by a comma \
                 or passes both on",
        concerns: |request| {
            let single = ["authorization", "origin", "proxy-authorization", "user-agent"];
            single.iter().any(|name| request.repeats(name))
        },
        explain: |_, _, theirs, ours| refused_by_us(400, theirs, ours),
    },
    Difference {
        name: "version of a split",
        reason: "Envoy hashes in its own way and draws its own numbers, so that users meet other \
                 versions; the version must be one of the rule's",
        concerns: |_| true,
        explain: |world, _, theirs, ours| {
            let Some((_, rule)) = ours.rule.as_deref().and_then(|name| world.rule(name)) else {
                return;
            };
            let (Some(their), Some(our)) = (&mut theirs.seen, &ours.seen) else { return };
            let known = |told: &str| told.split_once('/').is_some_and(|(_, it)| rule.serves(it));
            if rule.splits() && known(&their.version) && known(&our.version) {
                their.version.clone_from(&our.version);
            }
        },
    },
    Difference {
        name: "digits of escapes",
        reason: "ours writes them in upper case before it looks at the path, as RFC 3986 section \
                 6.2.2.1 says they are equal; Envoy leaves them",
        concerns: |request| upper_escapes(request.path()) != request.path(),
        explain: |world, _, theirs, ours| {
            let rule = ours.rule.as_deref().and_then(|name| world.rule(name));
            let spells_escapes = rule.is_some_and(|(_, rule)| match rule.path {
                Path::Exact(path) | Path::Prefix(path) => path.contains('%'),
                Path::Any | Path::Expression(..) => false,
            });
            if theirs.rule != ours.rule && spells_escapes {
                theirs.clone_from(ours);
            }
            seen(theirs, ours, |their, _| their.target = upper_escapes(&their.target));
            theirs.location = theirs.location.as_deref().map(upper_escapes);
        },
    },
    Difference {
        name: "nothing but slashes",
        reason: "Envoy merges slashes between segments, and there are none; ours makes it the root",
        concerns: |request| without_parameters(request.path()).contains("//"),
        explain: |_, _, theirs, ours| {
            seen(theirs, ours, |their, _| their.target = rooted(&their.target));
            theirs.location = theirs.location.take().map(|location| {
                let after_scheme = location.find("://").map_or(0, |at| at + 3);
                match location[after_scheme..].find('/') {
                    Some(at) => {
                        let (before, target) = location.split_at(after_scheme + at);
                        format!("{before}{}", rooted(target))
                    }
                    None => location,
                }
            });
        },
    },
    Difference {
        name: "spelling of hosts",
        reason: "ours passes hosts on in lower case and without the default port, which is how it \
                 looks at them; Envoy looks at them likewise and passes on what was written",
        concerns: |request| {
            request.host.ends_with(":80") || request.host.bytes().any(|b| b.is_ascii_uppercase())
        },
        explain: |_, request, theirs, ours| {
            let plain = request.host.to_ascii_lowercase();
            let plain = plain.strip_suffix(":80").unwrap_or(&plain);
            seen(theirs, ours, |their, our| {
                if their.host == request.host && our.host == plain {
                    their.host.clone_from(&our.host);
                }
            });
            let plainly = |location: String| {
                location.replacen(&format!("://{}/", request.host), &format!("://{plain}/"), 1)
            };
            theirs.location = theirs.location.take().map(plainly);
            let upper = request.host.trim_end_matches(":80");
            let portless = |location: String| location.replacen(upper, plain, 1);
            if theirs.location != ours.location {
                theirs.location = theirs.location.take().map(portless);
            }
        },
    },
    Difference {
        name: "port of a redirect to another scheme",
        reason: "the Gateway API asks for the scheme's own port; Envoy keeps that of the request",
        concerns: |request| request.host.ends_with(":8080"),
        explain: |_, _, theirs, ours| {
            if !ours.location.as_ref().is_some_and(|location| location.contains(":8080/")) {
                let without = |location: String| location.replacen(":8080/", "/", 1);
                theirs.location = theirs.location.take().map(without);
            }
        },
    },
    Difference {
        name: "scheme of a redirect",
        reason: "ours goes by the connection; Envoy believes the `X-Forwarded-Proto` of whoever \
                 calls it",
        concerns: |request| request.has("x-forwarded-proto"),
        explain: |_, _, theirs, ours| {
            let is_plain = |location: &String| location.starts_with("http://");
            if ours.location.as_ref().is_some_and(is_plain) {
                let plain = |location: String| location.replacen("https://", "http://", 1);
                theirs.location = theirs.location.take().map(plain);
            }
        },
    },
    Difference {
        name: "several lines of a list",
        reason: "Envoy joins lines of the names that it knows by a comma; ours leaves lines, which \
                 mean the same (RFC 9110 section 5.3)",
        concerns: |request| LISTS.iter().any(|name| request.repeats(name)),
        explain: |_, _, theirs, ours| {
            seen(theirs, ours, |their, our| {
                for name in LISTS {
                    equal_if(&mut their.lines, &our.lines, name, |it| it.join(","));
                }
            });
        },
    },
    Difference {
        name: "cookies in several lines",
        reason: "ours makes one line of them, as upstreams expect; Envoy does so for HTTP/2 alone",
        concerns: |request| request.repeats("cookie"),
        explain: |_, _, theirs, ours| {
            seen(theirs, ours, |their, our| {
                equal_if(&mut their.lines, &our.lines, "cookie", |it| it.join("; "));
            });
        },
    },
    Difference {
        name: "TE",
        reason: "it concerns one connection (RFC 9110 section 10.1.4), and ours sends it to HTTP/2 \
                 upstreams alone, where gRPC wants it; Envoy passes `trailers` on everywhere",
        concerns: |request| request.has("te"),
        explain: |_, _, theirs, ours| only_theirs(theirs, ours, |name| name == "te"),
    },
    Difference {
        name: "lines that only the mesh may say",
        reason: "ours takes `x-segue-*` off at the first hop; Envoy knows nothing of them",
        concerns: |request| request.has("x-segue-session"),
        explain: |_, _, theirs, ours| only_theirs(theirs, ours, |name| name == "x-segue-session"),
    },
    Difference {
        name: "lines that only Envoy may say",
        reason: "ours takes all `x-envoy-*` of callers off; Envoy those that it obeys itself",
        concerns: |request| request.has("x-envoy-original-path"),
        explain: |_, _, theirs, ours| {
            only_theirs(theirs, ours, |name| name == "x-envoy-original-path");
        },
    },
    Difference {
        name: "credentials for proxies",
        reason: "ours is the proxy that they are for (RFC 9110 section 11.7.2); Envoy passes them on",
        concerns: |request| request.has("proxy-authorization"),
        explain: |_, _, theirs, ours| {
            only_theirs(theirs, ours, |name| name == "proxy-authorization");
        },
    },
    Difference {
        name: "parameters of segments",
        reason: "our rules see paths without `;parameters`, which the upstream gets; Envoy could \
                 only cut off all that follows the first one, which would hide segments behind it \
                 from rules. Envoy is asked without them here",
        concerns: |request| request.path().contains(';'),
        explain: |_, _, theirs, ours| {
            seen(theirs, ours, |their, our| {
                if their.target == without_parameters(&our.target) {
                    their.target.clone_from(&our.target);
                }
            });
            if theirs.location == ours.location.as_deref().map(without_parameters) {
                theirs.location.clone_from(&ours.location);
            }
        },
    },
];

/// Names of lists whose lines Envoy joins.
const LISTS: [&str; 5] =
    ["accept", "cache-control", "x-forwarded-for", "x-forwarded-proto", "x-request-id"];

/// Takes away what is known and gives the names of what it was.
pub fn explain(
    world: &World,
    request: &Request,
    theirs: &mut Outcome,
    ours: &Outcome,
) -> Vec<&'static str> {
    let mut names = Vec::new();
    for known in KNOWN.iter().filter(|known| (known.concerns)(request)) {
        if theirs == ours {
            break;
        }
        let before = theirs.clone();
        (known.explain)(world, request, theirs, ours);
        if *theirs != before {
            names.push(known.name);
        }
    }
    names
}

fn refused_by_us(status: u16, theirs: &mut Outcome, ours: &Outcome) {
    if ours.is_refusal(status) {
        theirs.clone_from(ours);
    }
}

fn seen(theirs: &mut Outcome, ours: &Outcome, explain: impl FnOnce(&mut Seen, &Seen)) {
    if let (Some(their), Some(our)) = (&mut theirs.seen, &ours.seen) {
        explain(their, our);
    }
}

/// Takes off lines that reached the upstream through Envoy alone.
fn only_theirs(theirs: &mut Outcome, ours: &Outcome, is_meant: impl Fn(&str) -> bool) {
    seen(theirs, ours, |their, our| {
        their.lines.retain(|name, _| !is_meant(name) || our.lines.contains_key(name));
    });
}

fn equal_if(theirs: &mut Fields, ours: &Fields, name: &str, join: impl Fn(&[String]) -> String) {
    if let (Some(their), Some(our)) = (theirs.get_mut(name), ours.get(name))
        && join(their) == join(our)
    {
        their.clone_from(our);
    }
}

fn has_broken_escape(path: &str) -> bool {
    let mut pieces = path.split('%').skip(1);
    pieces.any(|after| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() < 2)
}

fn has_empty_segment_before_dots(path: &str) -> bool {
    let path = without_parameters(path);
    path.find("//").is_some_and(|at| path[at..].contains("/.."))
}

/// The root, where a target is more slashes than one.
fn rooted(target: &str) -> String {
    match target.trim_start_matches('/') {
        query if query.is_empty() || query.starts_with('?') => format!("/{query}"),
        _ => target.to_owned(),
    }
}

/// Escapes of the path in upper case, the query as it is.
fn upper_escapes(target: &str) -> String {
    let (path, query) = match target.find('?') {
        Some(at) => target.split_at(at),
        None => (target, ""),
    };
    let mut pieces = path.split('%');
    let mut all = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.len().min(2);
        all.push('%');
        all += &piece[..digits].to_ascii_uppercase();
        all += &piece[digits..];
    }
    all + query
}
