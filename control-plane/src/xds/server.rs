//! The services of the xDS port, with their limits.

use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use segue_proto::report::v1::report_service_server::ReportServiceServer;
use segue_shared::shutdown::DrainSignal;
use tonic::transport::Server;
use tonic::transport::server::Router;

use super::SnapshotCache;
use super::stream::Ads;
use crate::fleet::Fleet;
use crate::reports::intake::Intake;

/// Largest request.
const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Largest response: a snapshot's resources of one type.
const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one connection: a node needs two.
const MAX_STREAMS: u32 = 100;

/// What is served on the xDS port.
#[derive(Debug)]
pub struct XdsServices {
    pub ads: AggregatedDiscoveryServiceServer<Ads>,
    pub reports: ReportServiceServer<Intake>,
}

/// The services of the xDS port. Their streams end when `drain` begins.
pub fn xds_services(cache: SnapshotCache, fleet: Fleet, drain: DrainSignal) -> XdsServices {
    let ads = Ads::new(cache, fleet.clone(), drain.clone());
    XdsServices {
        ads: AggregatedDiscoveryServiceServer::new(ads)
            .max_decoding_message_size(MAX_REQUEST_BYTES)
            .max_encoding_message_size(MAX_RESPONSE_BYTES),
        reports: ReportServiceServer::new(Intake::new(fleet, drain))
            .max_decoding_message_size(MAX_REQUEST_BYTES),
    }
}

impl XdsServices {
    /// A server of these services that closes connections whose other end is silently gone. Serve
    /// it with `serve_with_incoming_shutdown`.
    pub fn router(self) -> Router {
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(MAX_STREAMS)
            .add_service(self.ads)
            .add_service(self.reports)
    }
}
