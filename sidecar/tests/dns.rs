//! Clusters whose endpoints are host names, with a DNS server that the test plays by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail so")]

mod plane;
#[path = "../src/xds/sample.rs"]
mod sample;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use segue_shared::ids::Revision;
use segue_shared::xds_names::type_urls::{CLUSTER, LISTENER, ROUTE};
use segue_sidecar::dns::{DnsSettings, Lookup as _, Resolver};
use segue_sidecar::xds::XdsSettings;
use segue_sidecar_core::dns::{Family, Query};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use plane::{Delta, PATIENCE, Sidecar, control_plane, opened, settings, sidecar_with};
use sample::{dns_cluster, listener, routes};

/// What the server says of every name.
#[derive(Clone)]
enum Says {
    Addresses(Vec<&'static str>, u32),
    Code(ResponseCode),
    Nothing,
}

struct Dns {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Dns {
    async fn saying(says: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (says, asked) = (Arc::new(Mutex::new(says)), Arc::new(Mutex::new(Vec::new())));
        let (its, heard) = (Arc::clone(&says), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1500];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..length]).unwrap();
                heard.lock().unwrap().push(question.queries[0].name().to_string());
                let said = its.lock().unwrap().clone();
                if let Some(answer) = answer(&question, said) {
                    socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
                }
            }
        });
        Self { address, says, asked, _task: AbortOnDropHandle::new(task) }
    }

    fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn settings(&self) -> DnsSettings {
        let timeout = std::time::Duration::from_millis(200);
        DnsSettings { servers: vec![self.address], timeout }
    }
}

fn answer(question: &Message, says: Says) -> Option<Message> {
    let query = question.queries[0].clone();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    match says {
        Says::Nothing => return None,
        Says::Code(code) => answer.metadata.response_code = code,
        Says::Addresses(addresses, ttl) => {
            for address in addresses {
                let data = match address.parse().unwrap() {
                    IpAddr::V4(v4) if query.query_type() == RecordType::A => RData::A(v4.into()),
                    IpAddr::V6(v6) if query.query_type() == RecordType::AAAA => {
                        RData::AAAA(v6.into())
                    }
                    _ => continue,
                };
                answer.add_answer(Record::from_rdata(query.name().clone(), ttl, data));
            }
        }
    }
    answer.add_query(query);
    Some(answer)
}

fn query(family: Family) -> Query {
    Query { host: "chat.test".into(), family }
}

#[tokio::test]
async fn an_answer_tells_addresses_of_the_family_and_how_long_they_hold() {
    let dns = Dns::saying(Says::Addresses(vec!["10.0.0.2", "::2", "10.0.0.1"], 7)).await;
    let resolver = Resolver::new(&dns.settings());
    for (family, addresses) in [
        (Family::Auto, "::2"),
        (Family::V4Only, "10.0.0.1 10.0.0.2"),
        (Family::All, "::2 10.0.0.1 10.0.0.2"),
    ] {
        let answer = resolver.lookup(&query(family)).await.unwrap();
        let found: Vec<String> = answer.addresses.iter().map(ToString::to_string).collect();
        assert_eq!((found.join(" ").as_str(), answer.ttl.as_secs()), (addresses, 7), "{family:?}");
    }
    assert!(dns.asked.lock().unwrap().iter().all(|name| name == "chat.test."));
}

#[tokio::test]
async fn a_name_that_is_not_there_is_no_failure_and_a_broken_or_silent_server_is() {
    let dns = Dns::saying(Says::Code(ResponseCode::NXDomain)).await;
    let resolver = Resolver::new(&dns.settings());
    assert!(resolver.lookup(&query(Family::Auto)).await.unwrap().addresses.is_empty());
    dns.say(Says::Addresses(vec!["10.0.0.1"], 7));
    assert!(resolver.lookup(&query(Family::V6Only)).await.unwrap().addresses.is_empty());
    for broken in
        [Says::Code(ResponseCode::ServFail), Says::Code(ResponseCode::Refused), Says::Nothing]
    {
        dns.say(broken);
        resolver.lookup(&query(Family::Auto)).await.unwrap_err();
    }
}

async fn sends_named(stream: &Delta, revision: u64) {
    stream.send(CLUSTER, vec![("a", "1", dns_cluster("a", "chat.test", 80))]).await;
    stream.send(LISTENER, vec![("outbound", "1", listener())]).await;
    stream.send(ROUTE, vec![("outbound", "1", routes("a"))]).await;
    stream.send_mark(revision).await;
}

async fn serves(sidecar: &Sidecar, addresses: &str) {
    let endpoints = || {
        let snapshot = sidecar.handle.load();
        let cluster = snapshot.clusters.get(snapshot.clusters.index_of("a")?)?;
        let told: Vec<String> = cluster.endpoints.iter().map(|it| it.address.to_string()).collect();
        Some(told.join(" "))
    };
    let mut swaps = sidecar.handle.swaps();
    let reached = async {
        while endpoints().as_deref() != Some(addresses) {
            swaps.changed().await.unwrap();
        }
    };
    let reached = timeout(PATIENCE, reached).await;
    assert!(reached.is_ok(), "{addresses} wanted, these serve: {:?}", endpoints());
}

#[tokio::test]
async fn endpoints_follow_their_name_and_outlive_a_server_that_breaks() {
    let dns = Dns::saying(Says::Addresses(vec!["10.0.0.1"], 60)).await;
    let dir = tempfile::tempdir().unwrap();
    let mut plane = control_plane().await;
    let with = XdsSettings {
        dns: dns.settings(),
        data_dir: Some(dir.path().to_owned()),
        ..settings(&format!("http://{}", plane.address))
    };
    let mut sidecar = sidecar_with(with.clone()).await;
    let stream = opened(&mut plane.delta).await;
    sends_named(&stream, 1).await;
    sidecar.delivery(|state| state.activated_revision == Revision(1)).await;
    serves(&sidecar, "10.0.0.1:80").await;

    dns.say(Says::Addresses(vec!["10.0.0.3", "10.0.0.2"], 60));
    serves(&sidecar, "10.0.0.2:80 10.0.0.3:80").await;
    assert_eq!(sidecar.client.revision(), Revision(1), "no push was needed");
    dns.say(Says::Code(ResponseCode::ServFail));
    let failures = sidecar.client.status.borrow().dns.failures;
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(50));
    let failed = async {
        while sidecar.client.status.borrow().dns.failures == failures {
            ticks.tick().await;
        }
    };
    timeout(PATIENCE, failed).await.unwrap();
    serves(&sidecar, "10.0.0.2:80 10.0.0.3:80").await;
    dns.say(Says::Code(ResponseCode::NXDomain));
    serves(&sidecar, "").await;
    sidecar.stop().await;
    drop(stream);

    dns.say(Says::Addresses(vec!["10.0.0.7"], 60));
    let again = sidecar_with(with).await;
    serves(&again, "10.0.0.7:80").await;
    assert_eq!(again.client.revision(), Revision(1), "from the disk, with the addresses of now");
    again.stop().await;
}
