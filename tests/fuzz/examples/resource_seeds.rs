//! Writes the seeds of the target `resources`, which are messages that nobody writes by hand:
//! `cargo run -p segue-fuzz --example resource_seeds`.

use std::fs;
use std::path::Path;

use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, RouteConfiguration};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use prost::Message;
use segue_proto::extension::v1::SnapshotMark;

#[path = "../../../sidecar/core/tests/sample/mod.rs"]
mod sample;

/// The bytes for types, as `resources` reads them.
const LISTENER: u8 = 0;
const ROUTE: u8 = 1;
const VIRTUAL_HOST: u8 = 2;
const CLUSTER: u8 = 3;
const ENDPOINT: u8 = 4;
const MARK: u8 = 5;
const REMOVED: u8 = 0x80;

/// Whether the small mesh is there before.
const ALONE: u8 = 0;
const IN_A_MESH: u8 = 1;

fn main() -> std::io::Result<()> {
    let regex = "^/(a+)+$".to_owned();
    let seeds = [
        (
            "listener",
            seed(ALONE, &[(LISTENER, sample::listener("outbound", "routes", &[]).encode_to_vec())]),
        ),
        (
            "unknown_filters",
            seed(
                IN_A_MESH,
                &[
                    (LISTENER, sample::listener("l", "outbound", &[("x", true)]).encode_to_vec()),
                    (LISTENER, sample::listener("m", "outbound", &[("x", false)]).encode_to_vec()),
                ],
            ),
        ),
        (
            "routes",
            seed(
                IN_A_MESH,
                &[(ROUTE, sample::routes(&[("chat", "a"), ("shop", "b")]).encode_to_vec())],
            ),
        ),
        (
            "same_domain_twice",
            seed(
                ALONE,
                &[(ROUTE, sample::routes(&[("chat", "a"), ("chat", "b")]).encode_to_vec())],
            ),
        ),
        (
            "weights",
            seed(
                IN_A_MESH,
                &[(ROUTE, sample::weighted("chat", &[("a", 9), ("b", 1)]).encode_to_vec())],
            ),
        ),
        (
            "weights_overflow",
            seed(
                ALONE,
                &[(
                    ROUTE,
                    sample::weighted("chat", &[("a", u32::MAX), ("b", u32::MAX)]).encode_to_vec(),
                )],
            ),
        ),
        (
            "weights_of_nothing",
            seed(ALONE, &[(ROUTE, sample::weighted("chat", &[("a", 0)]).encode_to_vec())]),
        ),
        ("split", seed(IN_A_MESH, &[(ROUTE, split(&[("a", 9_500), ("b", 500)]).encode_to_vec())])),
        ("split_too_short", seed(ALONE, &[(ROUTE, split(&[("a", 9_999)]).encode_to_vec())])),
        (
            "regex",
            seed(
                ALONE,
                &[(
                    ROUTE,
                    on_path(PathSpecifier::SafeRegex(expression(regex.clone()))).encode_to_vec(),
                )],
            ),
        ),
        (
            "regex_too_big",
            seed(
                ALONE,
                &[(
                    ROUTE,
                    on_path(PathSpecifier::SafeRegex(expression(r"\pL{1000}{50}".to_owned())))
                        .encode_to_vec(),
                )],
            ),
        ),
        ("regex_on_header", seed(ALONE, &[(ROUTE, on_header(regex).encode_to_vec())])),
        (
            "hosts_apart",
            seed(
                IN_A_MESH,
                &[
                    (ROUTE, sample::vhds().encode_to_vec()),
                    (
                        VIRTUAL_HOST,
                        sample::virtual_host("outbound/chat", &["chat", "*.chat"], "a")
                            .encode_to_vec(),
                    ),
                    (
                        VIRTUAL_HOST,
                        sample::virtual_host("outbound/thief", &["CHAT"], "a").encode_to_vec(),
                    ),
                    (
                        VIRTUAL_HOST | REMOVED,
                        sample::virtual_host("outbound/chat", &["chat"], "a").encode_to_vec(),
                    ),
                ],
            ),
        ),
        (
            "cluster",
            seed(
                IN_A_MESH,
                &[
                    (CLUSTER, sample::cluster("default/chat/v2", true).encode_to_vec()),
                    (
                        ENDPOINT,
                        sample::assignment("default/chat/v2", &["[::1]:1", "127.0.0.1:65535"])
                            .encode_to_vec(),
                    ),
                ],
            ),
        ),
        (
            "cluster_gone",
            seed(IN_A_MESH, &[(CLUSTER | REMOVED, sample::cluster("a", false).encode_to_vec())]),
        ),
        (
            "no_address",
            seed(
                IN_A_MESH,
                &[(ENDPOINT, sample::assignment("a", &["localhost:1"]).encode_to_vec())],
            ),
        ),
        (
            "mark",
            seed(IN_A_MESH, &[(MARK, SnapshotMark { revision: 7, digest: 9 }.encode_to_vec())]),
        ),
        // A message in a message in a message: CVE-2020-35858.
        (
            "deep",
            seed(
                ALONE,
                &[(LISTENER, b"\x1a\xfe\x01".repeat(1200)), (CLUSTER, b"\x0b".repeat(3000))],
            ),
        ),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/resources");
    fs::create_dir_all(&folder)?;
    for (name, bytes) in seeds {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

fn seed(begin: u8, resources: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![begin];
    for (kind, value) in resources {
        bytes.push(*kind);
        bytes.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(value);
    }
    bytes
}

fn expression(regex: String) -> RegexMatcher {
    RegexMatcher { regex, ..RegexMatcher::default() }
}

fn on_path(path: PathSpecifier) -> RouteConfiguration {
    let mut config = sample::routes(&[("chat", "a")]);
    let route = &mut config.virtual_hosts[0].routes[0];
    route.r#match.as_mut().unwrap().path_specifier = Some(path);
    config
}

fn on_header(regex: String) -> RouteConfiguration {
    let mut config = sample::routes(&[("chat", "a")]);
    let route = &mut config.virtual_hosts[0].routes[0];
    let pattern = MatchPattern::SafeRegex(expression(regex));
    let text = StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() };
    route.r#match.as_mut().unwrap().headers.push(HeaderMatcher {
        name: "x-user".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(text)),
        ..HeaderMatcher::default()
    });
    config
}

fn split(ranges: &[(&str, u32)]) -> RouteConfiguration {
    let mut config = sample::routes(&[("chat", "a")]);
    let route = &mut config.virtual_hosts[0].routes[0];
    let split = sample::split("salt", "x-user", ranges);
    route.typed_per_filter_config.insert("segue.split".to_owned(), split);
    config
}
