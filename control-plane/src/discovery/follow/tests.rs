use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;

use segue_control_plane_core::config::mesh::{Protocol, Version};
use segue_shared::ids::Revision;
use tokio::time::Instant;

use super::super::dns::Lookup;
use super::*;

/// Answers as told, fails where it was told nothing, and is silent for ever about hosts that begin
/// with `slow`.
#[derive(Default)]
struct Book {
    addresses: Mutex<BTreeMap<String, Vec<SocketAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Book {
    fn write(&self, host: &str, ports: &[u16]) {
        let addresses = ports.iter().map(|&port| at(port)).collect();
        self.addresses.lock().unwrap().insert(host.to_owned(), addresses);
    }

    fn tear(&self) {
        self.addresses.lock().unwrap().clear();
    }

    fn asked(&self, host: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == host).count()
    }
}

impl Resolver for Book {
    fn lookup(&self, host: &str, _port: u16) -> Lookup {
        self.asked.lock().unwrap().push(host.to_owned());
        let known = self.addresses.lock().unwrap().get(host).cloned();
        let is_slow = host.starts_with("slow");
        Box::pin(async move {
            if is_slow {
                std::future::pending::<()>().await;
            }
            known.ok_or_else(|| io::Error::other("no such host"))
        })
    }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Services whose v1 name hosts.
fn mesh<'a>(hosts: impl IntoIterator<Item = (&'a str, &'a str)>) -> MeshConfig {
    let mut mesh = MeshConfig { revision: Revision(1), ..MeshConfig::default() };
    for (service, host) in hosts {
        let version = Version {
            label: "v1".parse().unwrap(),
            endpoints: Vec::new(),
            localities: Vec::new(),
            dns: Some((host.to_owned(), 80)),
        };
        let service = Service {
            name: service.parse().unwrap(),
            protocol: Protocol::Http,
            hosts: Vec::new(),
            port: 80,
            default_version: version.label.clone(),
            versions: vec![version],
            depends_on: None,
        };
        mesh.services.insert(service.name.clone(), Arc::new(service));
    }
    mesh
}

fn discovery(book: &Arc<Book>) -> Discovery {
    let resolver: Arc<dyn Resolver> = book.clone();
    Discovery::with_resolver(Settings::default(), resolver)
}

fn addresses(discovery: &mut Discovery, service: &str) -> Vec<SocketAddr> {
    let known = discovery.endpoints();
    known.0.get(format!("default/{service}/v1").as_str()).map(|it| it.to_vec()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn names_are_asked_again_and_the_last_good_answer_outlives_failures() {
    let book = Arc::new(Book::default());
    book.write("one", &[2, 1, 2]);
    let mut discovery = discovery(&book);
    discovery.follow(&mesh([("chat", "one")]));
    discovery.asked().await;
    assert_eq!(addresses(&mut discovery, "chat"), [at(1), at(2)]);

    book.write("one", &[3]);
    discovery.changed().await;
    assert_eq!(addresses(&mut discovery, "chat"), [at(3)]);

    book.tear();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(addresses(&mut discovery, "chat"), [at(3)]);
}

#[tokio::test(start_paused = true)]
async fn another_host_is_another_question() {
    let book = Arc::new(Book::default());
    book.write("one", &[1]);
    let mut discovery = discovery(&book);
    discovery.follow(&mesh([("chat", "one")]));
    discovery.asked().await;
    assert_eq!(addresses(&mut discovery, "chat"), [at(1)]);
    discovery.follow(&mesh([("chat", "unknown")]));
    discovery.asked().await;
    assert_eq!(addresses(&mut discovery, "chat"), [], "the answer for one is none for the other");
    discovery.follow(&MeshConfig::default());
    discovery.asked().await;
    assert!(discovery.endpoints().0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_host_of_two_services_is_one_question() {
    let book = Arc::new(Book::default());
    book.write("one", &[1]);
    let mut discovery = discovery(&book);
    discovery.follow(&mesh([("chat", "one")]));
    discovery.asked().await;
    discovery.follow(&mesh([("chat", "one"), ("cart", "one")]));
    discovery.asked().await;
    assert_eq!(addresses(&mut discovery, "cart"), [at(1)]);
    assert_eq!(book.asked("one"), 1);
    discovery.follow(&mesh([("cart", "one")]));
    discovery.asked().await;
    assert_eq!(addresses(&mut discovery, "cart"), [at(1)]);
    assert_eq!(addresses(&mut discovery, "chat"), []);
}

#[tokio::test(start_paused = true)]
async fn a_new_name_does_not_wait_for_slow_ones() {
    let book = Arc::new(Book::default());
    let mut discovery = discovery(&book);
    let hosts: Vec<String> = (0..20).map(|i| format!("slow-{i}")).collect();
    let mut all: Vec<(&str, &str)> =
        hosts.iter().map(|host| (host.as_str(), host.as_str())).collect();
    discovery.follow(&mesh(all.clone()));
    let begin = Instant::now();
    discovery.asked().await;
    assert_eq!(begin.elapsed(), Settings::default().dns_timeout);

    // In the midst of rounds that never end.
    tokio::time::sleep(Duration::from_secs(61)).await;
    book.write("quick", &[7]);
    all.push(("chat", "quick"));
    discovery.follow(&mesh(all));
    let begin = Instant::now();
    discovery.asked().await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(addresses(&mut discovery, "chat"), [at(7)]);
    assert_eq!(book.asked("slow-3"), 1, "nobody is asked again while being asked");
}

#[tokio::test(start_paused = true)]
async fn lookups_that_hang_are_few_and_keep_nobody_else_waiting() {
    let book = Arc::new(Book::default());
    book.write("quick", &[7]);
    let mut discovery = discovery(&book);
    discovery.follow(&mesh([("chat", "quick")]));
    discovery.asked().await;
    let hosts: Vec<String> = (0..500).map(|i| format!("slow-{i}")).collect();
    let slow = || hosts.iter().map(|host| (host.as_str(), host.as_str()));
    discovery.follow(&mesh(slow().chain([("chat", "quick")])));
    let begin = Instant::now();
    discovery.asked().await;
    assert_eq!(begin.elapsed(), Settings::default().dns_timeout);
    assert_eq!(addresses(&mut discovery, "chat"), [at(7)]);

    book.write("quick", &[8]);
    discovery.changed().await;
    assert_eq!(addresses(&mut discovery, "chat"), [at(8)], "who is known is asked again");
    book.write("new", &[9]);
    discovery.follow(&mesh(slow().chain([("chat", "quick"), ("cart", "new")])));
    let begin = Instant::now();
    discovery.asked().await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(addresses(&mut discovery, "cart"), [at(9)], "who is new is asked at once");
    let hanging = hosts.iter().map(|host| book.asked(host)).sum::<usize>();
    assert!(hanging <= 64, "{hanging}");
}
