//! Both gRPC ports over TLS, with certificates of an authority of the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use segue_control_plane::access::AccessSettings;
use segue_control_plane::assembly::{ControlPlane, start};
use segue_control_plane::settings::Settings;
use segue_proto::admin::v1::config_service_client::ConfigServiceClient;
use segue_proto::admin::v1::{ListRequest, ListRevisionsRequest, WatchRequest, WatchResponse};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, Streaming};

use crate::ports::get;
use crate::support::{file, service};

const DASHBOARDS: &str = "spiffe://mesh.example/dashboards";

/// An authority and what it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Signed {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn sign(&self, names: Vec<SanType>, usage: ExtendedKeyUsagePurpose) -> Signed {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Signed { certificate, key: key.serialize_pem() }
    }

    fn server(&self) -> Signed {
        let name = SanType::IpAddress([127, 0, 0, 1].into());
        self.sign(vec![name], ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate that counts for so long from now on.
    fn client_for(&self, time: Duration) -> Signed {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(DASHBOARDS.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + time;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Signed { certificate, key: key.serialize_pem() }
    }

    fn client(&self, uris: &[&str]) -> Signed {
        let names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        self.sign(names, ExtendedKeyUsagePurpose::ClientAuth)
    }
}

struct World {
    running: ControlPlane,
    authority: Authority,
    directory: TempDir,
}

fn write(directory: &Path, name: &str, content: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    path
}

/// A control plane with one authority for everything, and an access file.
async fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = authority.server();
    let at = directory.path();
    write(at, "ops.token", "segue-op-of-ops-0123456789");
    let access = format!(
        "apiVersion: segue.dev/v1alpha1\nkind: AccessList\ncallers:\n\
         \x20 - {{name: ops, tokenFile: ops.token, role: operator}}\n\
         \x20 - {{name: eyes, certificate: {{uri: '{DASHBOARDS}'}}, role: viewer, \
         namespaces: '*'}}\n"
    );
    let certificate = Some(write(at, "tls.crt", &server.certificate));
    let key = Some(write(at, "tls.key", &server.key));
    let client_ca = Some(write(at, "ca.crt", &authority.pem()));
    let access = AccessSettings {
        access_file: Some(write(at, "access.yaml", &access)),
        join_token_file: Some(write(
            at,
            "join",
            "segue-join-0123456789\nsegue-join-old-0123456789",
        )),
        admin_tls_cert: certificate.clone(),
        admin_tls_key: key.clone(),
        admin_client_ca: client_ca.clone(),
        xds_tls_cert: certificate,
        xds_tls_key: key,
        xds_client_ca: client_ca,
        audit_log: None,
    };
    let settings = Settings { insecure_dev: false, access, ..Settings::local(at.join("data")) };
    let running = start(settings).await.unwrap();
    World { running, authority, directory }
}

impl World {
    fn endpoint(port: u16, ca: &Authority, identity: Option<&Signed>) -> Endpoint {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca.pem()));
        if let Some(Signed { certificate, key }) = identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let url = format!("https://127.0.0.1:{port}");
        Channel::from_shared(url).unwrap().tls_config(tls).unwrap()
    }

    async fn admin(&self, identity: Option<&Signed>) -> ConfigServiceClient<Channel> {
        let port = self.running.admin_address.port();
        let endpoint = Self::endpoint(port, &self.authority, identity);
        ConfigServiceClient::new(endpoint.connect().await.unwrap())
    }

    /// What the xDS port answers to a node with this token and certificate.
    async fn join(&self, token: Option<&str>, identity: Option<&Signed>) -> Result<(), Status> {
        let port = self.running.xds_address.port();
        let channel = Self::endpoint(port, &self.authority, identity).connect().await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        let first = DeltaDiscoveryRequest {
            node: Some(Node { id: "a".to_owned(), ..Node::default() }),
            type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        let requests = tokio_stream::iter([first]);
        let mut request = Request::new(requests);
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        client.delta_aggregated_resources(request).await.map(drop)
    }

    async fn metrics(&self) -> String {
        get(self.running.http_address, "/metrics").await.1
    }
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

#[tokio::test]
async fn callers_are_known_by_token_or_by_certificate() {
    let world = world().await;
    let mut nobody = world.admin(None).await;
    let list = ListRequest::default;
    assert_eq!(nobody.list(list()).await.unwrap_err().code(), Code::Unauthenticated);
    nobody.list(with_token(list(), "segue-op-of-ops-0123456789")).await.unwrap();

    let eyes = world.authority.client(&[DASHBOARDS]);
    let mut eyes = world.admin(Some(&eyes)).await;
    eyes.list(list()).await.unwrap();
    let apply = eyes.apply(file("x.yaml", &service("chat"))).await.unwrap_err();
    assert_eq!(apply.code(), Code::PermissionDenied);
    assert!(apply.message().contains("eyes has the role viewer"), "{apply}");

    // A second URI, another one, and none at all say nothing.
    for uris in [&[DASHBOARDS, "spiffe://mesh.example/x"][..], &["spiffe://mesh.example/x"], &[]] {
        let stranger = world.authority.client(uris);
        let refused = world.admin(Some(&stranger)).await.list(list()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{uris:?}");
    }
    // A wrong token is not made good by a good certificate.
    let wrong = with_token(list(), "segue-op-wrong-0123456789");
    assert_eq!(eyes.list(wrong).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn certificates_of_another_authority_do_not_pass_the_handshake() {
    let world = world().await;
    let stranger = Authority::new().client(&[DASHBOARDS]);
    let port = world.running.admin_address.port();
    let endpoint = World::endpoint(port, &world.authority, Some(&stranger));
    // TLS 1.3 lets the client finish first: the refusal arrives with the first call.
    if let Ok(channel) = endpoint.connect().await {
        let refused = ConfigServiceClient::new(channel).list(ListRequest::default()).await;
        assert_ne!(refused.unwrap_err().code(), Code::Unauthenticated);
    }
    let metrics = world.metrics().await;
    let line = "refused_connections_total{port=\"admin\",reason=\"handshake\"}";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn plain_text_to_a_port_with_tls_is_told_apart() {
    let world = world().await;
    for port in [world.running.admin_address.port(), world.running.xds_address.port()] {
        let url = format!("http://127.0.0.1:{port}");
        if let Ok(channel) = Channel::from_shared(url).unwrap().connect().await {
            let refused = ConfigServiceClient::new(channel).list(ListRequest::default()).await;
            refused.unwrap_err();
        }
    }
    let metrics = world.metrics().await;
    for port in ["admin", "xds"] {
        let line = format!("refused_connections_total{{port=\"{port}\",reason=\"plain_text\"}}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn nodes_join_with_a_valid_token_or_a_certificate() {
    let world = world().await;
    world.join(Some("segue-join-0123456789"), None).await.unwrap();
    world.join(Some("segue-join-old-0123456789"), None).await.unwrap();
    let node = world.authority.client(&["spiffe://mesh.example/node"]);
    world.join(None, Some(&node)).await.unwrap();
    for token in [None, Some("segue-join-wrong-0123456789"), Some("segue-op-of-ops-0123456789")] {
        let refused = world.join(token, None).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{token:?}");
        assert!(refused.message().contains("--join-token-file"), "{refused}");
    }
    let metrics = world.metrics().await;
    for (reason, count) in [("no_credential", 1), ("wrong_token", 2)] {
        let line = format!("refused_calls_total{{port=\"xds\",reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_without_a_restart() {
    let world = world().await;
    let next = Authority::new();
    let server = next.server();
    // One file after the other: a pair that does not fit changes nothing.
    write(world.directory.path(), "tls.crt", &server.certificate);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    world.admin(None).await;
    write(world.directory.path(), "tls.key", &server.key);
    let port = world.running.admin_address.port();
    let shown = async {
        while World::endpoint(port, &next, None).connect().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), shown).await.unwrap();
}

/// A watch of a configuration that does not change.
async fn watch(client: &mut ConfigServiceClient<Channel>, token: Option<&str>) -> Watch {
    let request = match token {
        Some(token) => with_token(WatchRequest::default(), token),
        None => Request::new(WatchRequest::default()),
    };
    let mut watch = client.watch(request).await.unwrap().into_inner();
    watch.message().await.unwrap();
    watch
}

type Watch = Streaming<WatchResponse>;

async fn ends(mut watch: Watch, within: Duration) -> bool {
    matches!(tokio::time::timeout(within, watch.message()).await, Ok(Err(_) | Ok(None)))
}

async fn ended(world: &World, reason: &str) -> bool {
    let line = format!("ended_connections_total{{port=\"admin\",reason=\"{reason}\"}} 1\n");
    world.metrics().await.contains(&line)
}

#[tokio::test]
async fn a_connection_does_not_outlive_its_certificate() {
    let world = world().await;
    let short = world.authority.client_for(Duration::from_secs(4));
    let watch = watch(&mut world.admin(Some(&short)).await, None).await;
    assert!(ends(watch, Duration::from_secs(20)).await);
    assert!(ended(&world, "expired").await);
}

#[tokio::test]
async fn a_connection_does_not_outlive_the_belief_in_its_authority() {
    let world = world().await;
    let token = Some("segue-op-of-ops-0123456789");
    let eyes = world.authority.client(&[DASHBOARDS]);
    let (mut eyes, mut ops) = (world.admin(Some(&eyes)).await, world.admin(None).await);
    let (eyes, ops) = (watch(&mut eyes, None).await, watch(&mut ops, token).await);
    let next = Authority::new();
    // Another one as well changes nothing for those who are believed.
    write(world.directory.path(), "ca.crt", &format!("{}{}", world.authority.pem(), next.pem()));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!ended(&world, "disbelieved").await);
    write(world.directory.path(), "ca.crt", &next.pem());
    assert!(ends(eyes, Duration::from_secs(20)).await);
    assert!(ended(&world, "disbelieved").await);
    assert!(!ends(ops, Duration::from_millis(100)).await, "a token needs no authority");
}

#[tokio::test]
async fn the_audit_log_tells_who_did_what_from_where() {
    let world = world().await;
    let mut config = world.admin(None).await;
    let token = "segue-op-of-ops-0123456789";
    let list = ListRequest::default();
    config.list(list.clone()).await.unwrap_err();
    config.list(with_token(list, token)).await.unwrap();
    config.apply(with_token(file("x.yaml", &service("chat")), token)).await.unwrap();
    config.apply(with_token(file("x.yaml", "kind: Nonsense"), token)).await.unwrap_err();
    let history = with_token(ListRevisionsRequest::default(), token);
    let history = config.list_revisions(history).await.unwrap().into_inner();
    assert_eq!(history.revisions[0].author, "ops");
    world.running.shutdown().await;

    let text = fs::read_to_string(world.directory.path().join("data/audit.log")).unwrap();
    assert!(!text.contains(token), "{text}");
    let told: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let words = |field: &str| -> Vec<String> {
        told.iter().map(|line| line[field].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(words("result"), ["Unauthenticated", "Ok", "InvalidArgument"]);
    assert_eq!(words("caller"), ["", "ops", "ops"]);
    let apply = "segue.admin.v1.ConfigService/Apply";
    assert_eq!(words("method"), ["segue.admin.v1.ConfigService/List", apply, apply]);
    assert!(words("address").iter().all(|address| address.starts_with("127.0.0.1:")), "{text}");
    assert_eq!(told[1]["resources"], serde_json::json!(["Service default/chat"]));
    assert_eq!(told[1]["namespaces"], serde_json::json!(["default"]));
    assert_eq!(told[1]["revision"], 1);
}

#[tokio::test]
async fn half_of_tls_is_no_tls() {
    let directory = tempfile::tempdir().unwrap();
    let access = AccessSettings {
        admin_tls_cert: Some(directory.path().join("tls.crt")),
        ..AccessSettings::default()
    };
    let settings =
        Settings { access: access.clone(), ..Settings::local(directory.path().join("a")) };
    let error = start(settings).await.err().unwrap().to_string();
    assert!(error.contains("--admin-tls-key"), "{error}");
    let access = AccessSettings { admin_tls_key: Some(directory.path().join("no.key")), ..access };
    let settings = Settings { access, ..Settings::local(directory.path().join("b")) };
    let error = start(settings).await.err().unwrap().to_string();
    assert!(error.contains("tls.crt: No such file"), "{error}");
}
