//! What callers have to show.

use http::StatusCode;
use segue_sidecar::http::Door;
use segue_sidecar::settings::AppProtocol;
use segue_sidecar::tls::Mesh;
use segue_sidecar_core::snapshot::{HttpVersion, InboundMtls};

use crate::authority::Authority;
use crate::hops::{called, calling, refusals, strict};
use crate::support::{Caller, Chat, raw, until, upstream};

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: chat\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn strict_takes_no_plain_text_and_permissive_does() {
    let authority = Authority::new();
    let app = upstream(HttpVersion::Http1).await;
    for (asked, plain) in
        [(InboundMtls::Strict, false), (InboundMtls::Permissive, true), (InboundMtls::Off, true)]
    {
        let chat = authority.member("chat");
        let door = Door { mtls: Some(asked), ..Door::default() };
        let server = called(chat.clone(), (app.address, AppProtocol::Auto), door);
        let inbound = server.inbound.unwrap();
        let answer = raw(inbound, REQUEST).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200"), plain, "{asked:?}: {answer}");
        assert_eq!(answer.is_empty(), !plain, "{asked:?}: {answer}");
        assert_eq!(refusals(&chat, "plain_text"), u64::from(!plain));
        if asked != InboundMtls::Off {
            let client = calling(authority.member("web"), HttpVersion::Http2, inbound);
            let mut caller = Caller::connect(HttpVersion::Http1, client.outbound).await;
            assert_eq!(caller.get("/").await.0, StatusCode::OK, "{asked:?}");
        }
    }
}

/// What the control plane says goes before the sidecar's own settings, from the next connection on.
#[tokio::test]
async fn the_mode_changes_with_the_configuration() {
    let authority = Authority::new();
    let app = upstream(HttpVersion::Http1).await;
    let server = called(authority.member("chat"), (app.address, AppProtocol::Auto), strict());
    let mut generation = 1;
    for (said, plain) in [
        (None, false),
        (Some(InboundMtls::Permissive), true),
        (Some(InboundMtls::Strict), false),
        (Some(InboundMtls::Off), true),
    ] {
        generation += 1;
        let mut snapshot = Chat::http1(app.address).snapshot(generation);
        snapshot.inbound_mtls = said;
        server.snapshots.publish(snapshot);
        let answer = raw(server.inbound.unwrap(), REQUEST).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200"), plain, "{said:?}: {answer}");
    }
}

/// A sidecar that has nothing to show asks for nothing: a policy must not cut off a service that is
/// not in the mesh yet.
#[tokio::test]
async fn without_an_identity_of_its_own_a_sidecar_asks_for_none() {
    let app = upstream(HttpVersion::Http1).await;
    let server = called(Mesh::default(), (app.address, AppProtocol::Auto), Door::default());
    let mut snapshot = Chat::http1(app.address).snapshot(2);
    snapshot.inbound_mtls = Some(InboundMtls::Strict);
    server.snapshots.publish(snapshot);
    assert!(raw(server.inbound.unwrap(), REQUEST).await.starts_with("HTTP/1.1 200"));
}

/// Its identity is on its way: until then nobody is let in, and nobody is called.
#[tokio::test]
async fn before_its_first_certificate_a_sidecar_meets_nobody() {
    let authority = Authority::new();
    let app = upstream(HttpVersion::Http1).await;
    let chat = Mesh::default();
    let server = called(chat.clone(), (app.address, AppProtocol::Auto), strict());
    let web = Mesh::default();
    let client = calling(web.clone(), HttpVersion::Http2, server.inbound.unwrap());
    let mut caller = Caller::connect(HttpVersion::Http1, client.outbound).await;
    assert_eq!(caller.get("/").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refusals(&web, "no_identity") > 0);
    web.become_known_as(authority.identity("web"));
    assert_eq!(caller.get("/").await.0, StatusCode::SERVICE_UNAVAILABLE);
    until("the server told why", || refusals(&chat, "no_identity") > 0).await;
    chat.become_known_as(authority.identity("chat"));
    assert_eq!(caller.get("/").await.0, StatusCode::OK);
}
