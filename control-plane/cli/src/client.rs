//! The connection to the control plane.

use std::error::Error as _;
use std::time::Duration;

use segue_proto::admin::v1::config_service_client::ConfigServiceClient;
use segue_proto::admin::v1::status_service_client::StatusServiceClient;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::error::CliError;

/// Largest answer: a page of resources with their YAML.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time until an answer begins; a stream may then last.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Bytes of faults that an error may carry, which travels in HTTP/2 headers.
const DETAIL_BYTES: u32 = 512 * 1024;

type Told = InterceptedService<Channel, TakesDetails>;
pub type ConfigClient = ConfigServiceClient<Told>;
pub type StatusClient = StatusServiceClient<Told>;

/// Says that errors may be long here.
#[derive(Clone)]
pub struct TakesDetails;

impl Interceptor for TakesDetails {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("segue-detail-bytes", MetadataValue::from(DETAIL_BYTES));
        Ok(request)
    }
}

/// Connects now, so that a wrong address is told as one.
pub async fn connect(server: &str) -> Result<Channel, CliError> {
    let url = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let endpoint = Endpoint::from_shared(url)
        .map_err(|_| {
            CliError::Usage(format!("{server:?} is not an address: write it like http://host:port"))
        })?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(ANSWER_TIMEOUT)
        // Base64 and the message need room beyond the details.
        .http2_max_header_list_size(DETAIL_BYTES * 2);
    endpoint.connect().await.map_err(|error| CliError::Unreachable {
        server: server.to_owned(),
        reason: innermost(&error),
    })
}

pub fn config(channel: Channel) -> ConfigClient {
    ConfigServiceClient::with_interceptor(channel, TakesDetails)
        .max_decoding_message_size(MAX_ANSWER_BYTES)
}

pub fn status(channel: Channel) -> StatusClient {
    StatusServiceClient::with_interceptor(channel, TakesDetails)
        .max_decoding_message_size(MAX_ANSWER_BYTES)
}

/// "Connection refused" rather than "transport error".
fn innermost(error: &tonic::transport::Error) -> String {
    let mut cause = error.source();
    let mut text = error.to_string();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}
