//! How workloads join: a token at first, then the certificate that they got for it.

use std::fs;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};
use segue_control_plane::access::AccessSettings;
use segue_control_plane::assembly::{ControlPlane, start};
use segue_control_plane::settings::Settings;
use segue_proto::admin::v1::token_service_client::TokenServiceClient;
use segue_proto::admin::v1::{
    CreateTokenRequest, CreateTokenResponse, ListTokensRequest, RevokeTokenRequest,
};
use segue_proto::identity::v1::identity_service_client::IdentityServiceClient;
use segue_proto::identity::v1::{IssueRequest, IssueResponse};
use segue_proto::report::v1::report_service_client::ReportServiceClient;
use segue_proto::report::v1::{Node as Reporter, ReportRequest};
use segue_shared::tls::Svid;
use tempfile::TempDir;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, Streaming};

use crate::ports::get;
use crate::support::service;

struct World {
    running: ControlPlane,
    directory: TempDir,
    /// The authority of the xDS port's certificate.
    roots: String,
}

/// A workload with a key of its own.
struct Workload {
    key: KeyPair,
}

async fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let roots = params.self_signed(&key).unwrap().pem();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        Some(path)
    };
    let access = AccessSettings {
        xds_tls_cert: file("tls.crt", &roots),
        xds_tls_key: file("tls.key", &key.serialize_pem()),
        ..AccessSettings::default()
    };
    let data_dir = directory.path().join("data");
    let settings = Settings { access, insecure_dev: false, ..Settings::local(data_dir) };
    let running = start(settings).await.unwrap();
    let world = World { running, directory, roots };
    let mut config = segue_proto::admin::v1::config_service_client::ConfigServiceClient::new(
        world.admin().await,
    );
    let two = format!("{}---\n{}", service("chat"), service("cart"));
    config.apply(world.by_operator(crate::support::file("f.yaml", &two))).await.unwrap();
    world
}

impl World {
    async fn admin(&self) -> Channel {
        let url = format!("http://{}", self.running.admin_address);
        Channel::from_shared(url).unwrap().connect().await.unwrap()
    }

    fn by_operator<T>(&self, message: T) -> Request<T> {
        let file = self.directory.path().join("data/operator.token");
        bearing(message, fs::read_to_string(file).unwrap().trim())
    }

    async fn token(&self, service: &str, uses: u32) -> CreateTokenResponse {
        let ttl = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        let request = CreateTokenRequest { service: service.to_owned(), ttl, uses };
        let mut tokens = TokenServiceClient::new(self.admin().await);
        tokens.create_token(self.by_operator(request)).await.unwrap().into_inner()
    }

    /// A connection to the xDS port, as somebody or as nobody.
    async fn xds(&self, identity: Option<Identity>) -> Channel {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.roots));
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let url = format!("https://{}", self.running.xds_address);
        let endpoint = Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap();
        endpoint.connect().await.unwrap()
    }

    async fn issue(
        &self,
        workload: &Workload,
        service: &str,
        token: &str,
    ) -> Result<IssueResponse, Status> {
        let mut client = IdentityServiceClient::new(self.xds(None).await);
        let request = bearing(workload.request(service), token);
        client.issue(request).await.map(tonic::Response::into_inner)
    }

    async fn metrics(&self) -> String {
        get(self.running.http_address, "/metrics").await.1
    }
}

impl Workload {
    fn new() -> Self {
        Self { key: KeyPair::generate().unwrap() }
    }

    fn request(&self, service: &str) -> IssueRequest {
        self.request_named(service, vec![])
    }

    fn request_named(&self, service: &str, names: Vec<SanType>) -> IssueRequest {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let csr = params.serialize_request(&self.key).unwrap().der().to_vec();
        IssueRequest { service: service.to_owned(), node_id: "n".to_owned(), csr, ttl: None }
    }

    fn identity(&self, issued: &IssueResponse) -> Identity {
        let chain: String = issued.chain.iter().map(|der| pem(der)).collect();
        Identity::from_pem(chain, self.key.serialize_pem())
    }
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

fn bearing<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

/// Opens a stream; the status that it ends with, if it does at once.
async fn stream(
    channel: Channel,
    node_id: &str,
    service: &str,
) -> Result<
    (Streaming<DeltaDiscoveryResponse>, tokio::sync::mpsc::Sender<DeltaDiscoveryRequest>),
    Status,
> {
    let (requests, waiting) = tokio::sync::mpsc::channel(4);
    let first = DeltaDiscoveryRequest {
        node: Some(Node {
            id: node_id.to_owned(),
            cluster: service.to_owned(),
            user_agent_name: "segue-sidecar".to_owned(),
            ..Node::default()
        }),
        type_url: segue_shared::xds_names::type_urls::CLUSTER.to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    requests.send(first).await.unwrap();
    let waiting = tokio_stream::wrappers::ReceiverStream::new(waiting);
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let mut responses = client.delta_aggregated_resources(waiting).await?.into_inner();
    let first =
        tokio::time::timeout(Duration::from_secs(10), responses.message()).await.unwrap()?;
    assert!(first.is_some());
    Ok((responses, requests))
}

#[tokio::test]
async fn a_token_gets_one_certificate_and_the_certificate_opens_the_stream() {
    let world = world().await;
    let made = world.token("chat", 1).await;
    let workload = Workload::new();
    let issued = world.issue(&workload, "chat", &made.token).await.unwrap();
    let leaf = issued.chain[0].clone().into();
    let svid = Svid::read(&leaf).unwrap();
    assert_eq!(svid.id.to_string(), "spiffe://mesh.local/ns/default/sa/chat");
    let replayed = world.issue(&Workload::new(), "chat", &made.token).await.unwrap_err();
    assert_eq!(replayed.code(), Code::Unauthenticated);
    assert!(replayed.message().contains("as often as it may be"), "{}", replayed.message());

    let channel = world.xds(Some(workload.identity(&issued))).await;
    let open = stream(channel.clone(), "chat-1", "default/chat").await.unwrap();
    // The certificate gets the next one.
    let mut renewing = IdentityServiceClient::new(channel.clone());
    let renewed = renewing.issue(workload.request("chat")).await.unwrap().into_inner();
    assert_ne!(renewed.chain[0], issued.chain[0]);
    let other = renewing.issue(workload.request("cart")).await.unwrap_err();
    assert_eq!(other.code(), Code::PermissionDenied);
    // And is nobody else.
    let other = stream(channel.clone(), "cart-1", "default/cart").await.err().unwrap();
    assert_eq!(other.code(), Code::PermissionDenied, "{other:?}");
    let mut reports = ReportServiceClient::new(channel);
    let node = Reporter { id: "c".into(), service: "default/cart".into(), ..Reporter::default() };
    let report = ReportRequest { node: Some(node), ..ReportRequest::default() };
    let mut told = reports.report(tokio_stream::iter([report])).await.unwrap().into_inner();
    let ended = loop {
        match told.message().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(ended.unwrap_err().code(), Code::PermissionDenied);
    let metrics = world.metrics().await;
    for line in [
        "segue_control_plane_issued_certificates_total 2",
        "segue_control_plane_refused_certificates_total{reason=\"token\"} 1",
        "segue_control_plane_refused_certificates_total{reason=\"other_service\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    drop(open);
}

#[tokio::test]
async fn the_mesh_authority_also_speaks_for_the_control_plane() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let mut settings = Settings { insecure_dev: false, ..Settings::local(data_dir.clone()) };
    settings.identity.xds_tls_names = vec!["127.0.0.1".to_owned(), "segue.internal".to_owned()];
    let running = start(settings).await.unwrap();
    let roots = fs::read_to_string(data_dir.join("ca/root.pem")).unwrap();
    let world = World { running, directory, roots };
    let made = world.token("chat", 1).await;
    let workload = Workload::new();
    let issued = world.issue(&workload, "chat", &made.token).await.unwrap();
    let channel = world.xds(Some(workload.identity(&issued))).await;
    drop(stream(channel, "chat-1", "default/chat").await.unwrap());

    let named = |name: &str| {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&world.roots)).domain_name(name)
    };
    let url = format!("https://{}", world.running.xds_address);
    let endpoint = Endpoint::from_shared(url).unwrap();
    let to = |name: &str| endpoint.clone().tls_config(named(name)).unwrap();
    to("segue.internal").connect().await.unwrap();
    to("elsewhere.internal").connect().await.unwrap_err();
}

#[tokio::test]
async fn what_a_token_does_not_say_is_not_given_for_it() {
    let world = world().await;
    let workload = Workload::new();
    let code = |issued: Result<IssueResponse, Status>| issued.unwrap_err().code();
    let made_up = world.issue(&workload, "chat", "segue-join-of-nobody-at-all").await;
    assert_eq!(code(made_up), Code::Unauthenticated);
    let chat = world.token("chat", 2).await;
    assert_eq!(code(world.issue(&workload, "cart", &chat.token).await), Code::PermissionDenied);
    // Another name in the request.
    let admin = SanType::URI("spiffe://mesh.local/ns/default/sa/admin".try_into().unwrap());
    let request = workload.request_named("chat", vec![admin]);
    let mut client = IdentityServiceClient::new(world.xds(None).await);
    let asked = client.issue(bearing(request, &chat.token)).await;
    assert_eq!(asked.unwrap_err().code(), Code::PermissionDenied);
    // None of that has used it up.
    for _ in 0..2 {
        world.issue(&workload, "chat", &chat.token).await.unwrap();
    }
    let revoked = world.token("chat", 1).await;
    let mut tokens = TokenServiceClient::new(world.admin().await);
    let id = revoked.about.unwrap().id;
    tokens.revoke_token(world.by_operator(RevokeTokenRequest { id })).await.unwrap();
    assert_eq!(code(world.issue(&workload, "chat", &revoked.token).await), Code::Unauthenticated);
    let listed = tokens.list_tokens(world.by_operator(ListTokensRequest {})).await.unwrap();
    let listed = listed.into_inner().tokens;
    assert_eq!((listed.len(), listed[0].uses_left, listed[0].uses), (1, 0, 2));
    assert_eq!(listed[0].created_by, "operator");
    let nobody = tokens.list_tokens(ListTokensRequest {}).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
}

/// A node id is what a node says of itself. Whoever has shown to be somebody keeps its id.
#[tokio::test]
async fn nobody_takes_the_node_id_of_another_workload() {
    let world = world().await;
    let mut channels = Vec::new();
    for service in ["chat", "cart"] {
        let token = world.token(service, 1).await.token;
        let workload = Workload::new();
        let issued = world.issue(&workload, service, &token).await.unwrap();
        channels.push(world.xds(Some(workload.identity(&issued))).await);
    }
    let [chat, cart] = &channels[..] else { unreachable!() };
    let (mut open, _requests) = stream(chat.clone(), "node-1", "default/chat").await.unwrap();
    let stolen = stream(cart.clone(), "node-1", "default/cart").await.err().unwrap();
    assert_eq!(stolen.code(), Code::PermissionDenied);
    let quiet = tokio::time::timeout(Duration::from_millis(300), open.message()).await;
    assert!(quiet.is_err(), "the owner's stream goes on: {quiet:?}");
    // Its own newer stream takes over, as ever.
    let _newer = stream(chat.clone(), "node-1", "default/chat").await.unwrap();
    let ended = loop {
        match open.message().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(ended.unwrap_err().code(), Code::Aborted);
    assert!(world.metrics().await.contains("reason=\"node_id\"} 1"));
}
