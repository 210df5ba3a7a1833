//! A caller behind a sidecar reaches services by name, whatever it speaks.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use segue_tests::fetch::Fetch;
use segue_tests::load::Protocol;
use segue_tests::mesh::Mesh;
use segue_tests::wait;
use segue_tests::written::{service, service_of, split};

use crate::alone;

#[test]
fn services_are_reached_by_name_over_both_protocols() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let (v1, v2) = (mesh.echo("v1").unwrap(), mesh.echo("v2").unwrap());
    let sidecar = mesh.sidecar("caller-1").unwrap();
    let chat = service("chat", &[("v1", vec![v1.address]), ("v2", vec![v2.address])]);
    let fast = service_of("http2", "fast", &[("v1", vec![v2.address])]);
    mesh.apply(&(chat + &split("chat", &[("v1", 0), ("v2", 100)]) + &fast)).unwrap();

    for protocol in [Protocol::Http1, Protocol::Http2] {
        let ask = |host: &str, path: &str| {
            Fetch::get(sidecar.outbound, path).host(host).protocol(protocol).send().unwrap()
        };
        for host in ["chat", "chat:80", "chat.default", "CHAT"] {
            let answer = ask(host, "/");
            assert_eq!(
                (answer.status, answer.version.as_str()),
                (200, "v2"),
                "{protocol:?} {host}"
            );
        }
        assert_eq!(ask("fast", "/").version, "v2", "an HTTP/2 upstream, {protocol:?}");
        assert_eq!(ask("chat", "/status/503").status, 503);
        assert_eq!(ask("nobody", "/").status, 404);
        assert_eq!(ask("chat", "/bytes?n=5000000").body.len(), 5_000_000);
        let body = vec![b'b'; 3_000_000];
        let echoed = Fetch::get(sidecar.outbound, "/upload")
            .host("chat")
            .protocol(protocol)
            .body(body.clone())
            .send()
            .unwrap();
        assert!(echoed.body == body, "the body came back changed over {protocol:?}");
    }

    // As an explicit proxy, by the absolute form.
    let proxied = Fetch::get(sidecar.outbound, "http://chat/").host("chat").send().unwrap();
    assert_eq!((proxied.status, proxied.version.as_str()), (200, "v2"));
}

#[test]
fn services_that_speak_no_http_are_reached_through_the_proxy() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let (v1, v2) = (greeter("v1"), greeter("v2"));
    let sidecar = mesh.sidecar("caller-1").unwrap();
    let versions = [("v1", vec![v1]), ("v2", vec![v2])];
    let service =
        service_of("tcp", "database", &versions).replace("spec:\n", "spec:\n  port: 5432\n");
    let weighted = |v1, v2| {
        split("database", &[("v1", v1), ("v2", v2)]).replace("{header: x-user-id}", "{random: {}}")
    };
    mesh.apply(&(service + &weighted(50, 50))).unwrap();
    let seen: BTreeSet<String> = (0..60).map(|_| connected(sidecar.outbound)).collect();
    assert_eq!(seen, BTreeSet::from(["v1".to_owned(), "v2".to_owned()]));
    mesh.apply(&weighted(0, 100)).unwrap();
    for _ in 0..20 {
        assert_eq!(connected(sidecar.outbound), "v2");
    }
}

/// A server that speaks first, as those of mail and of many databases do. Ends with the test.
fn greeter(greeting: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for caller in listener.incoming() {
            let _gone = caller.unwrap().write_all(greeting.as_bytes());
        }
    });
    address
}

/// What `database:5432` says first.
fn connected(outbound: SocketAddr) -> String {
    let mut caller = TcpStream::connect(outbound).unwrap();
    caller.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    caller.write_all(b"CONNECT database:5432 HTTP/1.1\r\nHost: database:5432\r\n\r\n").unwrap();
    let mut all = String::new();
    caller.read_to_string(&mut all).unwrap();
    let (head, greeting) = all.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    greeting.to_owned()
}

#[test]
fn requests_from_outside_reach_the_local_application() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let app = mesh.echo("v7").unwrap();
    let address = app.address.to_string();
    let flags = [("--app-address", address.as_str())];
    let sidecar = mesh.sidecar_with("chat-v7-1", &flags).unwrap();
    mesh.apply(&service("chat", &[("v7", vec![sidecar.inbound])])).unwrap();
    sidecar.wait_ready().unwrap();
    // Out through the sidecar, and back in through it.
    let answer = Fetch::get(sidecar.outbound, "/").host("chat").send().unwrap();
    assert_eq!((answer.status, answer.version.as_str()), (200, "v7"));
}

#[test]
fn a_version_without_a_listening_endpoint_answers_503_and_the_others_serve_on() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let app = mesh.echo("v1").unwrap();
    let mut gone = mesh.echo("v2").unwrap();
    gone.process.kill9().unwrap();
    let sidecar = mesh.sidecar("caller-1").unwrap();
    let dead = service("dead", &[("v1", vec![gone.address])]);
    mesh.apply(&(service("chat", &[("v1", vec![app.address])]) + &dead)).unwrap();
    let ask = |host: &str| {
        let fetch = Fetch::get(sidecar.outbound, "/").host(host).timeout(Duration::from_secs(20));
        fetch.send().unwrap().status
    };
    assert_eq!(ask("dead"), 503);
    assert_eq!(ask("chat"), 200);
}

#[test]
fn callers_beyond_the_cap_are_turned_away_and_places_come_free() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let sidecar = mesh.sidecar_with("caller-1", &[("--max-connections", "2")]).unwrap();
    let connect = || {
        let connection = TcpStream::connect(sidecar.outbound).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        connection
    };
    // An answer shows that the connection was let in, its end that it was not.
    let is_let_in = |connection: &mut TcpStream| {
        let _refused_early = connection.write_all(b"GET / HTTP/1.1\r\nhost: nobody\r\n\r\n");
        matches!(connection.read(&mut [0; 16]), Ok(1..))
    };
    let mut first = connect();
    let mut second = connect();
    assert!(is_let_in(&mut first) && is_let_in(&mut second));
    assert!(!is_let_in(&mut connect()));
    let metrics = sidecar.metrics().unwrap();
    assert!(metrics.contains("\nsegue_downstream_connections 2\n"), "{metrics}");
    assert!(metrics.contains("\nsegue_downstream_connections_refused_total 1\n"), "{metrics}");
    drop(first);
    let limit = Duration::from_secs(10);
    wait::until("a place comes free", limit, || is_let_in(&mut connect()).then_some(())).unwrap();
}
