//! The services of the xDS port, with their limits.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_server::LoadReportingServiceServer;
use segue_proto::identity::v1::identity_service_server::IdentityServiceServer;
use segue_proto::report::v1::report_service_server::ReportServiceServer;
use segue_shared::shutdown::DrainSignal;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tower_layer::{Identity, Stack};

use super::issuing::Issuing;
use super::loads::LoadReports;
use super::open::OpenStreams;
use super::reports::Reports;
use super::service::AdsService;
use super::stream::Ads;
use super::{Settings, SnapshotCache};
use crate::access::{Connections, JoinGate, Port, Threshold};
use crate::fleet::Fleet;
use crate::identity::Membership;
use crate::metrics::StreamMetrics;

/// Largest report.
const MAX_REPORT_BYTES: usize = 4 * 1024 * 1024;
/// Largest request for a certificate.
const MAX_ISSUE_BYTES: usize = 32 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one connection: a sidecar needs two, a gRPC process one for each service it calls.
const MAX_STREAMS: u32 = 100;
/// What a client may send before we have read it: requests are small.
const WINDOW_BYTES: u32 = 64 * 1024;
const FRAME_BYTES: u32 = 16 * 1024;
/// Headers of one request, tokens included.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Streams that a client opened and reset before we looked at them.
const MAX_PENDING_RESETS: usize = 20;

/// What is served on the xDS port.
pub struct XdsServices {
    pub ads: AdsService,
    pub reports: ReportServiceServer<Reports>,
    pub loads: LoadReportingServiceServer<LoadReports>,
    open: OpenStreams,
    connections: Connections,
    settings: Arc<Settings>,
    gate: JoinGate,
    threshold: Threshold,
    issuing: Issuing,
}

/// The services of the xDS port, open to everybody. Their streams end when `drain` begins.
pub fn xds_services(
    cache: SnapshotCache,
    fleet: Fleet,
    settings: Settings,
    metrics: StreamMetrics,
    drain: DrainSignal,
) -> XdsServices {
    let settings = Arc::new(settings);
    let connections = Connections::new(settings.limits(), metrics.connections.clone());
    let open = OpenStreams::new(&settings, connections.clone(), metrics.clone(), drain);
    let shared = Arc::clone(&settings);
    let membership = None;
    let ads = Ads { cache, fleet, open: open.clone(), metrics, settings: shared, membership };
    let (loads, reports) = (LoadReports::new(ads.clone()), Reports::new(ads.clone()));
    XdsServices {
        ads: AdsService::new(ads),
        reports: ReportServiceServer::new(reports).max_decoding_message_size(MAX_REPORT_BYTES),
        loads: LoadReportingServiceServer::new(loads).max_decoding_message_size(MAX_REPORT_BYTES),
        open,
        connections,
        settings,
        gate: JoinGate::open(),
        threshold: Threshold::plain(Port::Xds),
        issuing: Issuing { membership: None },
    }
}

impl XdsServices {
    /// The same for those alone whom threshold and gate let in.
    #[must_use]
    pub fn behind(mut self, gate: JoinGate, threshold: Threshold) -> Self {
        self.gate = gate;
        self.threshold = threshold;
        self
    }

    /// The same, which issue certificates as well.
    #[must_use]
    pub fn issuing(mut self, membership: Option<Membership>) -> Self {
        self.ads = self.ads.issuing(membership.clone());
        self.issuing = Issuing { membership };
        self
    }

    /// The connections of the port, once it is served.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Serves a port until the drain, and then until its connections are gone.
    pub async fn serve(
        self,
        listener: TcpListener,
        drain: DrainSignal,
    ) -> Result<(), tonic::transport::Error> {
        let incoming = self.threshold.clone().arrivals(listener, self.connections.clone());
        let open = self.open.clone();
        let served = self.router().serve_with_incoming_shutdown(incoming, drain.cancelled_owned());
        tokio::select! {
            served = served => served,
            () = open.watch() => Ok(()),
        }
    }

    /// A server of these services that closes connections whose other end is silently gone.
    fn router(self) -> Router<Stack<JoinGate, Identity>> {
        let issuing =
            IdentityServiceServer::new(self.issuing).max_decoding_message_size(MAX_ISSUE_BYTES);
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .max_concurrent_streams(MAX_STREAMS)
            .max_connection_age(self.settings.connection_age())
            .layer(self.gate)
            .add_service(self.ads)
            .add_service(self.reports)
            .add_service(self.loads)
            .add_service(issuing)
    }
}
