//! The services of the admin port, with reflection, health and limits.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_server::ClientStatusDiscoveryServiceServer;
use segue_control_plane_core::backup::MOST_RECORD_BYTES;
use segue_proto::FILE_DESCRIPTOR_SET;
use segue_proto::admin::v1::backup_service_server::BackupServiceServer;
use segue_proto::admin::v1::certificate_service_server::CertificateServiceServer;
use segue_proto::admin::v1::config_service_server::ConfigServiceServer;
use segue_proto::admin::v1::status_service_server::StatusServiceServer;
use segue_proto::admin::v1::token_service_server::TokenServiceServer;
use segue_shared::shutdown::DrainSignal;
use thiserror::Error;
use tokio::sync::Semaphore;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tower_layer::{Identity, Stack};

use super::backup_service::Backups;
use super::certificate_service::Certificates;
use super::change::Ledger;
use super::config_service::Configuration;
use super::csds::ClientStatus;
use super::in_flight::InFlight;
use super::settings::Settings;
use super::status_service::FleetStatus;
use super::token_service::JoinTokens;
use crate::access::AdminGate;
use crate::fleet::Fleet;
use crate::identity::{Rotation, Tokens};

/// Largest request.
const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Streams of one connection.
const MAX_STREAMS: u32 = 100;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the API needs.
pub struct Admin {
    pub ledger: Arc<Ledger>,
    pub fleet: Fleet,
    /// Ends watches and waits.
    pub drain: DrainSignal,
    pub settings: Settings,
    /// Tokens that people make; `None` where this control plane is no authority.
    pub tokens: Option<Tokens>,
    /// The root of the mesh; `None` as well.
    pub rotation: Option<Rotation>,
}

/// An API that cannot be served.
#[derive(Debug, Error)]
#[error("reflection cannot be served: {0}")]
pub struct AdminError(#[from] tonic_reflection::server::Error);

impl Admin {
    /// A server of the API behind its gate. Serve it with `serve_with_incoming_shutdown`.
    pub async fn router(
        self,
        gate: AdminGate,
    ) -> Result<Router<Stack<AdminGate, Identity>>, AdminError> {
        let in_flight = InFlight::new();
        let configuration = Configuration {
            ledger: Arc::clone(&self.ledger),
            fleet: self.fleet.clone(),
            in_flight: in_flight.clone(),
            drain: self.drain.clone(),
        };
        let clients = ClientStatus::new(self.fleet.clone(), in_flight.clone(), self.drain.clone());
        let backups = Backups {
            ledger: Arc::clone(&self.ledger),
            in_flight: in_flight.clone(),
            restoring: Semaphore::new(1),
        };
        let backups =
            BackupServiceServer::new(backups).max_decoding_message_size(MOST_RECORD_BYTES);
        let tokens = JoinTokens { tokens: self.tokens, in_flight: in_flight.clone() };
        let certificates = Certificates { rotation: self.rotation, in_flight: in_flight.clone() };
        let status = FleetStatus {
            store: Arc::clone(self.ledger.store()),
            fleet: self.fleet,
            in_flight,
            drain: self.drain,
        };
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let configuration =
            ConfigServiceServer::new(configuration).max_decoding_message_size(MAX_REQUEST_BYTES);
        let status = StatusServiceServer::new(status).max_decoding_message_size(MAX_REQUEST_BYTES);
        let clients = ClientStatusDiscoveryServiceServer::new(clients)
            .max_decoding_message_size(MAX_REQUEST_BYTES);
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<ConfigServiceServer<Configuration>>().await;
        reporter.set_serving::<StatusServiceServer<FleetStatus>>().await;
        reporter.set_serving::<BackupServiceServer<Backups>>().await;
        Ok(Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(MAX_STREAMS)
            .max_connection_age(self.settings.closing_age())
            .layer(gate)
            .add_service(configuration)
            .add_service(status)
            .add_service(clients)
            .add_service(backups)
            .add_service(TokenServiceServer::new(tokens))
            .add_service(CertificateServiceServer::new(certificates))
            .add_service(health)
            .add_service(reflection))
    }
}
