//! The connection to the control plane.

use std::error::Error as _;
use std::time::Duration;

use segue_control_plane_core::backup::MOST_RECORD_BYTES;
use segue_proto::admin::v1::backup_service_client::BackupServiceClient;
use segue_proto::admin::v1::certificate_service_client::CertificateServiceClient;
use segue_proto::admin::v1::config_service_client::ConfigServiceClient;
use segue_proto::admin::v1::status_service_client::StatusServiceClient;
use segue_proto::admin::v1::token_service_client::TokenServiceClient;
use segue_shared::here::is_this_machine;
use tokio::time::timeout;
use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::args::Connection;
use crate::error::CliError;
use crate::identity;

/// Largest answer: a page of resources with their YAML.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same with the handshake of TLS.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time until an answer begins; a stream may then last.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// While a call lasts, the other end is asked so often whether it is still there,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// and has so long to say so.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of faults that an error may carry, which travels in HTTP/2 headers.
const DETAIL_BYTES: u32 = 512 * 1024;

/// How long a call may take until its answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// A minute.
    Short,
    /// As long as the other end is there: what they send or fetch may be large.
    Long,
}

pub type Connected = InterceptedService<Channel, Introduction>;
pub type ConfigClient = ConfigServiceClient<Connected>;
pub type StatusClient = StatusServiceClient<Connected>;
pub type BackupClient = BackupServiceClient<Connected>;
pub type TokenClient = TokenServiceClient<Connected>;
pub type CertificateClient = CertificateServiceClient<Connected>;

/// Says with each call who asks, and that errors may be long here.
#[derive(Clone)]
pub struct Introduction {
    /// Marked as sensitive, so that it is never printed.
    authorization: Option<AsciiMetadataValue>,
}

impl Interceptor for Introduction {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("segue-detail-bytes", MetadataValue::from(DETAIL_BYTES));
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

/// Connects now, so that a wrong address is told as one.
pub async fn connect(to: &Connection, calls: Calls) -> Result<Connected, CliError> {
    let server = to.server.as_str();
    let url = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let mut endpoint = Endpoint::from_shared(url)
        .map_err(|_| {
            CliError::Usage(format!(
                "{server:?} is not an address: write it like http://host:port or https://host:port"
            ))
        })?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        // Base64 and the message need room beyond the details.
        .http2_max_header_list_size(DETAIL_BYTES * 2);
    if calls == Calls::Short {
        endpoint = endpoint.timeout(ANSWER_TIMEOUT);
    }
    let encrypted = endpoint.uri().scheme_str() == Some("https");
    let token = identity::token(to.token_file.as_deref())?;
    if token.is_some() && !encrypted && !endpoint.uri().host().is_some_and(is_this_machine) {
        return Err(CliError::Usage(format!(
            "{server} is another machine, and over http:// whoever is on the way reads your \
             token: use https://"
        )));
    }
    let endpoint = if encrypted {
        let tls = identity::tls(to)?;
        endpoint.tls_config(tls).map_err(|error| {
            CliError::Usage(format!(
                "--ca-file, --client-cert or --client-key cannot be used: {}",
                innermost(&error)
            ))
        })?
    } else {
        identity::refuse_tls_files(to)?;
        endpoint
    };
    let unreachable = |reason: String| CliError::Unreachable { server: server.to_owned(), reason };
    let channel = timeout(READY_TIMEOUT, endpoint.connect())
        .await
        .map_err(|_| unreachable(format!("no answer within {READY_TIMEOUT:?}")))?
        .map_err(|error| unreachable(innermost(&error)))?;
    let authorization = token.as_ref().map(identity::bearer).transpose()?;
    Ok(InterceptedService::new(channel, Introduction { authorization }))
}

pub fn config(channel: Connected) -> ConfigClient {
    ConfigServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES)
}

pub fn status(channel: Connected) -> StatusClient {
    StatusServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES)
}

pub fn backups(channel: Connected) -> BackupClient {
    BackupServiceClient::new(channel).max_decoding_message_size(MOST_RECORD_BYTES)
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
