//! No connection outlives the certificates that it was made with.

use std::time::Duration;

use http::StatusCode;
use segue_sidecar::settings::AppProtocol;
use segue_sidecar::tls::{End, Mesh};
use segue_sidecar_core::snapshot::HttpVersion;
use tokio::time::{Instant, timeout};

use crate::authority::{Authority, ends_in};
use crate::hops::{called, calling, handshakes, strict};
use crate::support::{Caller, upstream};

/// While a new certificate is there in time, requests go on over new connections.
#[tokio::test]
async fn connections_are_replaced_before_their_certificates_end() {
    let authority = Authority::new();
    let app = upstream(HttpVersion::Http1).await;
    let (chat, web) = (authority.member("chat"), Mesh::default());
    web.become_known_as(authority.identity_with("web", &|it| ends_in(it, Duration::from_secs(4))));
    let server = called(chat.clone(), (app.address, AppProtocol::Auto), strict());
    let clients = [HttpVersion::Http1, HttpVersion::Http2]
        .map(|http| calling(web.clone(), http, server.inbound.unwrap()));
    let mut callers = Vec::new();
    for client in &clients {
        callers.push(Caller::connect(HttpVersion::Http1, client.outbound).await);
    }
    let begun = Instant::now();
    let mut renewed = false;
    while begun.elapsed() < Duration::from_secs(6) {
        for caller in &mut callers {
            assert_eq!(caller.get("/").await.0, StatusCode::OK, "after {:?}", begun.elapsed());
        }
        if begun.elapsed() > Duration::from_secs(2) && !renewed {
            renewed = true;
            web.become_known_as(authority.identity("web"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(handshakes(&chat, End::Server, "full") >= 4, "each connection was replaced");
}

/// What still runs at the end of a certificate ends with it.
#[tokio::test]
async fn a_stream_does_not_outlive_the_certificate_of_its_connection() {
    let authority = Authority::new();
    let app = upstream(HttpVersion::Http1).await;
    let web = Mesh::default();
    web.become_known_as(authority.identity_with("web", &|it| ends_in(it, Duration::from_secs(3))));
    let server = called(authority.member("chat"), (app.address, AppProtocol::Auto), strict());
    let client = calling(web, HttpVersion::Http2, server.inbound.unwrap());
    let mut caller = Caller::connect(HttpVersion::Http1, client.outbound).await;
    let begun = Instant::now();
    let stalled = caller.send("GET", "/stalls", crate::support::empty()).await;
    assert_eq!(stalled.status(), StatusCode::OK);
    let body = http_body_util::BodyExt::collect(stalled.into_body());
    let ended = timeout(Duration::from_secs(10), body).await.expect("it is cut");
    assert!(ended.is_err(), "and not in order");
    let took = begun.elapsed();
    assert!((Duration::from_millis(1500)..Duration::from_secs(6)).contains(&took), "{took:?}");
}
