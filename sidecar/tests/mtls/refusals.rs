//! Peers that are not believed: each is refused in the handshake, and counted by its reason.

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use rustls::ClientConfig;
use segue_sidecar::settings::AppProtocol;
use segue_sidecar_core::snapshot::HttpVersion;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::authority::{Authority, Change, careless};
use crate::hops::{called, calling, refusals, strict};
use crate::support::{Caller, until, upstream};

fn named(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

/// What a caller gets that shows this.
async fn answer(config: ClientConfig, inbound: SocketAddr) -> std::io::Result<String> {
    let stream = TcpStream::connect(inbound).await?;
    let name = "chat.default".try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: chat\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn callers_that_are_no_workload_of_the_mesh_reach_nobody() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let app = upstream(HttpVersion::Http1).await;
    let chat = authority.member("chat");
    let server = called(chat.clone(), (app.address, AppProtocol::Auto), strict());
    let inbound = server.inbound.unwrap();
    let good = careless(Some(authority.leaf("web", &|_| {})), "http/1.1");
    assert!(answer(good, inbound).await.unwrap().starts_with("HTTP/1.1 200"));
    let served = app.requests();
    let changes: [(&str, &str, Change<'_>); 12] = [
        ("expired", "expired", &|it| it.not_after = date_time_ymd(2021, 1, 1)),
        ("not yet valid", "not_yet_valid", &|it| it.not_before = date_time_ymd(2080, 1, 1)),
        ("no name", "san", &|it| it.subject_alt_names.clear()),
        ("a common name alone", "san", &|it: &mut CertificateParams| {
            it.subject_alt_names.clear();
            it.distinguished_name.push(DnType::CommonName, "spiffe://mesh.test/ns/default/sa/web");
        }),
        ("a wildcard", "san", &|it| it.subject_alt_names = vec![named("spiffe://mesh.test/*")]),
        ("two names", "san", &|it| it.subject_alt_names.push(named("spiffe://mesh.test/root"))),
        ("no SPIFFE ID", "san", &|it| {
            it.subject_alt_names = vec![SanType::DnsName("web.test".try_into().unwrap())];
        }),
        ("another trust domain", "trust_domain", &|it| {
            it.subject_alt_names = vec![named("spiffe://other.test/ns/default/sa/web")];
        }),
        ("an authority", "usage", &|it| it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ("may sign", "usage", &|it| it.key_usages.push(KeyUsagePurpose::KeyCertSign)),
        ("no client", "usage", &|it| {
            it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }),
        ("no usage", "usage", &|it| it.key_usages.clear()),
    ];
    for (what, reason, change) in changes {
        let before = refusals(&chat, reason);
        let shown = careless(Some(authority.leaf("web", change)), "http/1.1");
        assert!(answer(shown, inbound).await.is_err(), "{what}");
        until(what, || refusals(&chat, reason) == before + 1).await;
    }
    let wrong = careless(Some(stranger.leaf("web", &|_| {})), "http/1.1");
    assert!(answer(wrong, inbound).await.is_err());
    until("another authority", || refusals(&chat, "unknown_authority") == 1).await;
    assert!(answer(careless(None, "http/1.1"), inbound).await.is_err());
    until("no certificate", || refusals(&chat, "no_certificate") == 1).await;
    let mut old = careless(Some(authority.leaf("web", &|_| {})), "http/1.1");
    old = only_tls12(old, authority.leaf("web", &|_| {}));
    assert!(answer(old, inbound).await.is_err());
    until("TLS 1.2", || refusals(&chat, "incompatible") == 1).await;
    let other = careless(Some(authority.leaf("web", &|_| {})), "spdy/3");
    assert!(answer(other, inbound).await.is_err());
    until("another protocol", || refusals(&chat, "application_protocol") == 1).await;
    assert_eq!(app.requests(), served, "none of them reached the application");
}

fn only_tls12(like: ClientConfig, leaf: crate::authority::Leaf) -> ClientConfig {
    let provider = Arc::clone(like.crypto_provider());
    let roots = rustls::RootCertStore::empty();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(leaf.chain, leaf.key)
        .unwrap();
    config.alpn_protocols = like.alpn_protocols;
    config
}

/// The sidecar that calls judges as well, and sends nothing to those that are not who was called.
#[tokio::test]
async fn upstreams_that_are_not_who_was_called_are_sent_nothing() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let app = upstream(HttpVersion::Http1).await;
    for (server, reason) in [
        (authority.member("cart"), "other_identity"),
        (stranger.member("chat"), "unknown_authority"),
    ] {
        let server = called(server, (app.address, AppProtocol::Auto), strict());
        let web = authority.member("web");
        let client = calling(web.clone(), HttpVersion::Http2, server.inbound.unwrap());
        let mut caller = Caller::connect(HttpVersion::Http1, client.outbound).await;
        let (status, body) = caller.get("/").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
        assert!(refusals(&web, reason) > 0, "{reason}: {:?}", web.handshakes.refusals());
    }
    // One that speaks no TLS at all.
    let web = authority.member("web");
    let client = calling(web.clone(), HttpVersion::Http2, app.address);
    let mut caller = Caller::connect(HttpVersion::Http1, client.outbound).await;
    assert_eq!(caller.get("/").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refusals(&web, "plain_text") > 0, "{:?}", web.handshakes.refusals());
    assert_eq!(app.requests(), 0);
}
