//! 2b row 21: who says who called.

use segue_sidecar::http::Door;
use segue_sidecar_core::canonical::ForwardedHeaders;

use crate::judge::{Expected, Row, forwarded, judge, refused, row};

const SPOOFED: &str = "GET /a HTTP/1.1\r\nHost: chat\r\nX-Forwarded-For: 6.6.6.6\r\n\
    X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\n\
    X-Real-IP: 6.6.6.6\r\nX-Original-URL: /admin\r\nX-Envoy-Internal: true\r\n\
    X-Forwarded-Client-Cert: URI=spiffe://evil\r\nX-Segue-Session: v2\r\nX-User: 7\r\n\r\n";

fn at_the_edge(name: &'static str, sent: &str, expected: Expected) -> Row {
    Row { inbound: true, ..row(name, sent, expected) }
}

fn trusting() -> Door {
    Door { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..Door::default() }
}

#[tokio::test]
async fn only_who_is_trusted_says_who_called() {
    let both = ForwardedHeaders { x_forwarded: true, forwarded: true };
    judge(
        vec![
            at_the_edge(
                "21 a stranger's words are replaced",
                SPOOFED,
                forwarded("GET /a HTTP/1.1\nhost: chat\nx-user: 7\nx-forwarded-for: 127.0.0.1\nx-forwarded-proto: http"),
            ),
            Row {
                door: Door { tells: both, ..Door::default() },
                ..at_the_edge(
                    "21 in the words of RFC 7239 as well",
                    "GET /a HTTP/1.1\r\nHost: chat\r\n\r\n",
                    forwarded("GET /a HTTP/1.1\nhost: chat\nx-forwarded-for: 127.0.0.1\nx-forwarded-proto: http\nforwarded: for=127.0.0.1;proto=http"),
                )
            },
            Row {
                door: trusting(),
                ..at_the_edge(
                    "21 a trusted proxy is believed and added to",
                    "GET /a HTTP/1.1\r\nHost: chat\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\r\n",
                    forwarded("GET /a HTTP/1.1\nhost: chat\nx-forwarded-for: 1.2.3.4, 127.0.0.1\nx-forwarded-proto: https"),
                )
            },
            Row {
                door: trusting(),
                ..at_the_edge(
                    "21 not even a trusted proxy speaks for the mesh",
                    "GET /a HTTP/1.1\r\nHost: chat\r\nX-Segue-Session: v2\r\n\r\n",
                    forwarded("GET /a HTTP/1.1\nhost: chat\nx-forwarded-for: 127.0.0.1\nx-forwarded-proto: http"),
                )
            },
            row(
                "21 the application tells of its callers, and not who it is",
                SPOOFED,
                forwarded("GET /a HTTP/1.1\nhost: chat\nx-forwarded-for: 6.6.6.6\nx-forwarded-proto: https\nx-forwarded-host: evil\nforwarded: for=6.6.6.6\nx-real-ip: 6.6.6.6\nx-original-url: /admin\nx-user: 7"),
            ),
            Row {
                door: Door { via: Some("segue".to_owned()), ..Door::default() },
                ..row("21 Via where it is wanted", "GET /a HTTP/1.1\r\nHost: chat\r\nVia: 1.0 before\r\n\r\n", forwarded("GET /a HTTP/1.1\nhost: chat\nvia: 1.0 before\nvia: 1.1 segue"))
            },
            at_the_edge("21 X_Segue_Session", "GET /a HTTP/1.1\r\nHost: chat\r\nX_Segue_Session: v2\r\n\r\n", refused(400)),
            at_the_edge("21 X-Forwarded_For", "GET /a HTTP/1.1\r\nHost: chat\r\nX-Forwarded_For: 6.6.6.6\r\n\r\n", refused(400)),
        ],
        &[],
    )
    .await;
}
