use std::io;
use std::sync::Mutex;

use segue_control_plane_core::config::mesh::{Protocol, Service, Version};
use segue_shared::ids::Revision;

use super::super::dns::Lookup;
use super::*;

/// Answers as told, and fails where it was told nothing.
#[derive(Default)]
struct Book(Mutex<BTreeMap<String, Vec<SocketAddr>>>);

impl Book {
    fn write(&self, host: &str, ports: &[u16]) {
        let addresses = ports.iter().map(|&port| at(port)).collect();
        self.0.lock().unwrap().insert(host.to_owned(), addresses);
    }

    fn tear(&self) {
        self.0.lock().unwrap().clear();
    }
}

impl Resolver for Book {
    fn lookup(&self, host: &str, _port: u16) -> Lookup {
        let known = self.0.lock().unwrap().get(host).cloned();
        Box::pin(async move { known.ok_or_else(|| io::Error::other("no such host")) })
    }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// `chat` whose v1 names a host.
fn mesh(host: &str) -> MeshConfig {
    let version = Version {
        label: "v1".parse().unwrap(),
        endpoints: Vec::new(),
        dns: Some((host.to_owned(), 80)),
    };
    let service = Service {
        name: "chat".parse().unwrap(),
        protocol: Protocol::Http,
        hosts: Vec::new(),
        port: 80,
        default_version: version.label.clone(),
        versions: vec![version],
        depends_on: None,
    };
    let services = [(service.name.clone(), service)].into_iter().collect();
    MeshConfig { revision: Revision(1), services, ..MeshConfig::default() }
}

fn addresses(discovery: &mut Discovery) -> Vec<SocketAddr> {
    discovery.endpoints().0.get("default/chat/v1").cloned().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn names_are_asked_again_and_the_last_good_answer_outlives_failures() {
    let book = Arc::new(Book::default());
    book.write("one", &[2, 1, 2]);
    let resolver: Arc<dyn Resolver> = book.clone();
    let mut discovery = Discovery::with_resolver(Settings::default(), resolver);
    discovery.follow(&mesh("one"));
    discovery.asked().await;
    assert_eq!(addresses(&mut discovery), [at(1), at(2)]);

    book.write("one", &[3]);
    discovery.changed().await;
    assert_eq!(addresses(&mut discovery), [at(3)]);

    book.tear();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(addresses(&mut discovery), [at(3)]);
}

#[tokio::test(start_paused = true)]
async fn another_host_is_another_question() {
    let book = Arc::new(Book::default());
    book.write("one", &[1]);
    let resolver: Arc<dyn Resolver> = book.clone();
    let mut discovery = Discovery::with_resolver(Settings::default(), resolver);
    discovery.follow(&mesh("one"));
    discovery.asked().await;
    assert_eq!(addresses(&mut discovery), [at(1)]);
    discovery.follow(&mesh("unknown"));
    discovery.asked().await;
    assert_eq!(addresses(&mut discovery), [], "the answer for one is none for the other");
    discovery.follow(&MeshConfig::default());
    discovery.asked().await;
    assert!(discovery.endpoints().0.is_empty());
}
