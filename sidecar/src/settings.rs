//! Settings of the sidecar's process.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use segue_shared::ids::{ServiceName, VersionLabel};
use segue_sidecar_core::canonical::{self, AddressRange};
use segue_sidecar_core::snapshot::Locality;

use crate::access_log::{AccessLog, AccessLogError, Logged};
use crate::control_plane::ControlPlanes;
use crate::dns::DnsSettings;
use crate::http::{Capture, Door, MOST_REQUESTS};
use crate::identity::IdentitySettings;

/// Segue's sidecar: stands next to one instance of a service and carries its traffic.
///
/// `segue-sidecar capture --help` tells how connections are sent to it that were meant for others.
///
/// Every setting is taken from the settings file, then the environment, then the flag; the last one
/// found counts.
#[derive(Clone, Debug, Parser)]
// `--version` is the version of the service, not of this program.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(name = "segue-sidecar", disable_version_flag = true)]
pub struct Settings {
    /// Service that the sidecar stands next to: `name` or `namespace/name`
    #[arg(long, env = "SEGUE_SERVICE", value_name = "NAME")]
    pub service: ServiceName,
    /// Version of that service which runs here
    #[arg(long, env = "SEGUE_VERSION", value_name = "LABEL", default_value = "v1")]
    pub version: VersionLabel,
    /// Name of this sidecar, unique in the mesh [default: service, version and process id]
    #[arg(long, env = "SEGUE_NODE_ID", value_name = "ID")]
    pub node_id: Option<String>,
    /// Region that the sidecar runs in, as the localities of services name it; with it, or with a
    /// zone, callers keep to their own locality where a policy says so
    #[arg(long, env = "SEGUE_REGION", value_name = "NAME", default_value = "")]
    pub region: String,
    /// Zone of the region
    #[arg(long, env = "SEGUE_ZONE", value_name = "NAME", default_value = "")]
    pub zone: String,
    /// Part of the zone, such as a rack
    #[arg(long, env = "SEGUE_SUB_ZONE", value_name = "NAME", default_value = "")]
    pub sub_zone: String,
    /// URLs of the control planes' xDS ports, separated by commas; they must serve one
    /// configuration. The sidecar follows one of them, chosen by its node id, and goes on to the next
    /// when that one is away, or behind what runs here already; it goes back to an older revision only
    /// when every one of them had its turn and none has more
    #[arg(
        long,
        env = "SEGUE_CONTROL_PLANE",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:18000"
    )]
    pub control_plane: Vec<String>,
    /// File with the token that the control plane lets this sidecar join by, on its first line that
    /// is neither empty nor a comment; read again at each connection
    #[arg(long, env = "SEGUE_JOIN_TOKEN_FILE", value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// PEM file with the authorities of the control planes' certificates; `https` needs it; read
    /// again at each connection
    #[arg(long, env = "SEGUE_CONTROL_PLANE_CA", value_name = "FILE")]
    pub control_plane_ca: Option<PathBuf>,
    /// PEM file with this sidecar's certificate for control planes that ask for one; read again at
    /// each connection
    #[arg(
        long,
        env = "SEGUE_CONTROL_PLANE_CERT",
        value_name = "FILE",
        requires = "control_plane_key"
    )]
    pub control_plane_cert: Option<PathBuf>,
    /// PEM file with the key of that certificate
    #[arg(
        long,
        env = "SEGUE_CONTROL_PLANE_KEY",
        value_name = "FILE",
        requires = "control_plane_cert"
    )]
    pub control_plane_key: Option<PathBuf>,
    /// Send the join token to other machines without TLS as well; for development only
    #[arg(long, env = "SEGUE_INSECURE_DEV")]
    pub insecure_dev: bool,
    #[command(flatten)]
    pub identity: IdentitySettings,
    /// Address of the local application; without it there is no inbound listener
    #[arg(long, env = "SEGUE_APP_ADDRESS", value_name = "HOST:PORT")]
    pub app_address: Option<SocketAddr>,
    /// What the local application speaks
    #[arg(long, env = "SEGUE_APP_PROTOCOL", value_enum, default_value = "auto")]
    pub app_protocol: AppProtocol,
    /// Where the application's own requests arrive (HTTP proxy and capture target); port 0: any
    #[arg(
        long,
        env = "SEGUE_OUTBOUND_ADDRESS",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:16001"
    )]
    pub outbound_address: SocketAddr,
    /// Where requests for the local application arrive; port 0: any
    #[arg(
        long,
        env = "SEGUE_INBOUND_ADDRESS",
        value_name = "HOST:PORT",
        default_value = "0.0.0.0:16006"
    )]
    pub inbound_address: SocketAddr,
    /// Where people and probes ask; must be a loopback address; port 0: any
    #[arg(
        long,
        env = "SEGUE_ADMIN_ADDRESS",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:16000"
    )]
    pub admin_address: SocketAddr,
    /// Directory for the last good configuration; without it a restart needs the control plane
    #[arg(long, env = "SEGUE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Take the place of the sidecar that runs with the same data directory: its listening sockets
    /// and its callers, of whom none is refused. Where none runs, start as usual
    #[arg(long, env = "SEGUE_TAKE_OVER", requires = "data_dir")]
    pub take_over: bool,
    /// Threads that carry traffic [default: number of available cores]
    #[arg(long, env = "SEGUE_WORKERS", value_name = "N")]
    pub workers: Option<u16>,
    /// Most connections of callers at one time [default: 10000, or half of the files that may be
    /// open]
    #[arg(long, env = "SEGUE_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// Requests after which a connection is closed in order, unless it is that of the application
    /// beside the sidecar or of a trusted proxy; 0: as many as it likes
    #[arg(
        long,
        env = "SEGUE_MAX_REQUESTS_PER_CONNECTION",
        value_name = "N",
        default_value_t = MOST_REQUESTS
    )]
    pub max_requests_per_connection: u64,
    /// Memory beyond which the system would end this process; from 85 % of it on, idle connections
    /// are closed sooner, from 92 % on all are after their answer, and from 95 % on new connections
    /// and requests are refused [default: the limit of the cgroup, if it has one]
    #[arg(long, env = "SEGUE_MEMORY_LIMIT_BYTES", value_name = "BYTES")]
    pub memory_limit_bytes: Option<u64>,
    /// Proxies whose X-Forwarded-* and Forwarded headers are believed, as ranges of addresses
    /// (10.0.0.0/8) separated by commas. What all others tell is replaced by what their connection
    /// tells; requests of the application beside the sidecar keep what it says of its own callers
    #[arg(
        long,
        env = "SEGUE_TRUSTED_PROXIES",
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = address_range
    )]
    pub trusted_proxies: Vec<AddressRange>,
    /// Headers that tell upstreams who called
    #[arg(
        long,
        env = "SEGUE_FORWARDED_HEADERS",
        value_enum,
        value_delimiter = ',',
        default_value = "x-forwarded"
    )]
    pub forwarded_headers: Vec<ForwardedHeader>,
    /// Name of this proxy in the Via headers of requests; without it none are added
    #[arg(long, env = "SEGUE_VIA", value_name = "NAME", value_parser = via)]
    pub via: Option<String>,
    /// What is done with escaped slashes and backslashes (%2f, %5c) in paths
    #[arg(long, env = "SEGUE_ESCAPED_SLASHES", value_enum, default_value = "reject")]
    pub escaped_slashes: EscapedSlashes,
    /// Let pass names of headers with underscores, except those that backends could take for headers
    /// of the mesh, of proxies or of framing; gRPC metadata may have such names
    #[arg(long, env = "SEGUE_ALLOW_UNDERSCORES")]
    pub allow_underscores: bool,
    /// Connections arrive that were captured on their way elsewhere (`segue-sidecar capture`): look
    /// for where they wanted to go
    #[arg(long, env = "SEGUE_CAPTURE")]
    pub capture: bool,
    /// What becomes of captured connections and requests that no service is meant by
    #[arg(long, env = "SEGUE_UNMATCHED", value_enum, default_value = "pass")]
    pub unmatched: Unmatched,
    /// How long captured connections may keep silent, in seconds, before their server is taken for
    /// one that speaks first
    #[arg(
        long,
        env = "SEGUE_DETECT_TIMEOUT",
        value_name = "SECONDS",
        default_value = "2",
        value_parser = seconds
    )]
    pub detect_timeout: Duration,
    /// Which requests are logged: those that were refused or answered with 5xx, at most 100 a
    /// second, all, or none
    #[arg(long, env = "SEGUE_ACCESS_LOG", value_enum, default_value = "errors")]
    pub access_log: AccessLogged,
    /// Where they are logged, a JSON object a line; `-` is the standard output
    #[arg(long, env = "SEGUE_ACCESS_LOG_FILE", value_name = "FILE", default_value = "-")]
    pub access_log_file: PathBuf,
    /// Variant of xDS that the sidecar asks for
    #[arg(long, env = "SEGUE_XDS_PROTOCOL", value_enum, default_value = "delta")]
    pub xds_protocol: XdsProtocol,
    /// DNS servers, as IP addresses with or without a port, separated by commas; without them those of
    /// the system are asked. Only clusters of other control planes have host names: those of our own
    /// come with addresses
    #[arg(
        long,
        env = "SEGUE_DNS_SERVERS",
        value_name = "HOST[:PORT]",
        value_delimiter = ',',
        value_parser = dns_server
    )]
    pub dns_servers: Vec<SocketAddr>,
    /// Time for the answer of a DNS server, in seconds; then it or the next one is asked once more
    #[arg(
        long,
        env = "SEGUE_DNS_TIMEOUT",
        value_name = "SECONDS",
        default_value = "2",
        value_parser = seconds
    )]
    pub dns_timeout: Duration,
    /// Log level: error, warn, info, debug, trace, or `target=level,…`
    #[arg(long, env = "SEGUE_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Write logs as one JSON object a line
    #[arg(long, env = "SEGUE_LOG_JSON")]
    pub log_json: bool,
    /// Longest wait for running requests at the end, in seconds
    #[arg(
        long,
        env = "SEGUE_DRAIN_TIMEOUT",
        value_name = "SECONDS",
        default_value = "30",
        value_parser = seconds
    )]
    pub drain_timeout: Duration,
}

/// What the local application speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AppProtocol {
    /// HTTP/2 for gRPC requests, HTTP/1.1 for all others.
    #[default]
    Auto,
    /// HTTP/1.1 always.
    Http1,
    /// HTTP/2 with prior knowledge always.
    Http2,
    /// No HTTP: connections are passed on as they are.
    Tcp,
}

/// Which requests are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum AccessLogged {
    Off,
    #[default]
    Errors,
    All,
}

/// What becomes of captured traffic that no service is meant by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Unmatched {
    /// It goes where it wanted to go.
    #[default]
    Pass,
    /// It is refused.
    Refuse,
}

/// What tells upstreams who called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For` and `X-Forwarded-Proto`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// Nothing.
    None,
}

/// What is done with escaped slashes in paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EscapedSlashes {
    /// The request is refused.
    #[default]
    Reject,
    /// They stay escapes; for backends that do not take them for slashes.
    Keep,
    /// They become slashes before anything looks at the path.
    Unescape,
}

/// Variant of xDS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum XdsProtocol {
    /// Only what changed.
    #[default]
    Delta,
    /// State of the world.
    Sotw,
}

impl From<XdsProtocol> for crate::xds::XdsProtocol {
    fn from(protocol: XdsProtocol) -> Self {
        match protocol {
            XdsProtocol::Delta => Self::Delta,
            XdsProtocol::Sotw => Self::Sotw,
        }
    }
}

impl Settings {
    /// The node id, made up where none was given.
    pub fn node_id(&self) -> String {
        self.node_id.clone().unwrap_or_else(|| {
            let service = &self.service;
            format!(
                "{}.{}.{}.{}",
                service.namespace,
                service.name,
                self.version,
                std::process::id()
            )
        })
    }

    /// The control planes, and how to show them who this is.
    pub fn control_planes(&self) -> ControlPlanes {
        ControlPlanes {
            join_token_file: self.join_token_file.clone(),
            plaintext_token: self.insecure_dev,
            ca_file: self.control_plane_ca.clone(),
            identity_files: self.control_plane_cert.clone().zip(self.control_plane_key.clone()),
            ..ControlPlanes::at(self.control_plane.iter().map(|url| url.trim()))
        }
    }

    /// Where the sidecar runs.
    pub fn locality(&self) -> Locality {
        Locality {
            region: self.region.as_str().into(),
            zone: self.zone.as_str().into(),
            sub_zone: self.sub_zone.as_str().into(),
        }
    }

    /// Who is asked for host names.
    pub fn dns(&self) -> DnsSettings {
        DnsSettings { servers: self.dns_servers.clone(), timeout: self.dns_timeout }
    }

    /// The access log, if there is one.
    pub fn access_log(&self) -> Result<Option<AccessLog>, AccessLogError> {
        let logged = match self.access_log {
            AccessLogged::Off => return Ok(None),
            AccessLogged::Errors => Logged::Errors,
            AccessLogged::All => Logged::All,
        };
        AccessLog::begin(logged, &self.access_log_file).map(Some)
    }

    /// What is asked of requests, and told of callers.
    pub fn door(&self) -> Door {
        let tells = |header| self.forwarded_headers.contains(&header);
        Door {
            trusted_proxies: self.trusted_proxies.clone(),
            tells: canonical::ForwardedHeaders {
                x_forwarded: tells(ForwardedHeader::XForwarded),
                forwarded: tells(ForwardedHeader::Forwarded),
            },
            via: self.via.clone(),
            escaped_slashes: match self.escaped_slashes {
                EscapedSlashes::Reject => canonical::EscapedSlashes::Reject,
                EscapedSlashes::Keep => canonical::EscapedSlashes::Keep,
                EscapedSlashes::Unescape => canonical::EscapedSlashes::Unescape,
            },
            underscores: self.allow_underscores,
            access_log: None,
            max_requests: self.max_requests_per_connection,
            mtls: self.identity.demand(),
            capture: Capture {
                on: self.capture,
                passes_unmatched: self.unmatched == Unmatched::Pass,
                detect_timeout: self.detect_timeout,
            },
        }
    }

    /// The number of threads that carry traffic, at least 1.
    pub fn worker_count(&self) -> usize {
        let wanted = self.workers.map(usize::from).filter(|&workers| workers > 0);
        wanted.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1)
    }
}

/// A range of addresses, for clap.
pub fn address_range(text: &str) -> Result<AddressRange, String> {
    text.trim().parse().map_err(|error: canonical::InvalidAddressRange| error.to_string())
}

/// A pseudonym as RFC 9110 section 7.6.3 has it: one token.
fn via(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if text.is_empty() || !text.bytes().all(good) {
        return Err(format!("{text:?} is no name: use letters, digits, '-', '.' and '_'"));
    }
    Ok(text.to_owned())
}

fn dns_server(text: &str) -> Result<SocketAddr, String> {
    const DNS_PORT: u16 = 53;
    let bare = || text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT));
    let reason = |_| format!("{text:?} is no IP address with or without a port");
    text.parse().or_else(|_| bare()).map_err(reason)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let seconds: f64 =
        number.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let settings = Settings::try_parse_from(["segue-sidecar", "--service", "chat"]).unwrap();
        assert_eq!(settings.service, ServiceName::new("default", "chat"));
        assert_eq!(settings.outbound_address.port(), 16001);
        assert_eq!(settings.inbound_address.to_string(), "0.0.0.0:16006");
        assert_eq!(settings.admin_address.port(), 16000);
        assert_eq!(settings.drain_timeout, Duration::from_secs(30));
        assert!(settings.node_id().starts_with("default.chat.v1."));
        assert!(settings.worker_count() >= 1);
    }

    #[test]
    fn control_planes_are_separated_by_commas() {
        let args =
            ["segue-sidecar", "--service", "chat", "--control-plane", "http://a:1, https://b:2"];
        let settings = Settings::try_parse_from(args).unwrap();
        assert_eq!(settings.control_planes().urls, ["http://a:1", "https://b:2"]);
        let half = [&args[..], &["--control-plane-cert", "c.pem"]].concat();
        assert!(Settings::try_parse_from(half).is_err());
    }

    #[test]
    fn the_door_is_strict_unless_told_otherwise() {
        let settings = |more: &[&str]| {
            Settings::try_parse_from([&["segue-sidecar", "--service", "chat"], more].concat())
        };
        let strict = settings(&[]).unwrap().door();
        assert!(strict.trusted_proxies.is_empty() && strict.via.is_none() && !strict.underscores);
        assert!(strict.tells.x_forwarded && !strict.tells.forwarded);
        assert_eq!(strict.escaped_slashes, canonical::EscapedSlashes::Reject);
        let told = settings(&[
            "--trusted-proxies=10.0.0.0/8, fd00::/8",
            "--forwarded-headers=forwarded",
            "--via=segue",
            "--escaped-slashes=keep",
            "--allow-underscores",
        ]);
        let told = told.unwrap().door();
        assert_eq!((told.trusted_proxies.len(), told.via.as_deref()), (2, Some("segue")));
        assert!(told.tells.forwarded && !told.tells.x_forwarded && told.underscores);
        assert_eq!(told.escaped_slashes, canonical::EscapedSlashes::Keep);
        assert!(settings(&["--trusted-proxies=10.0.0.1/8"]).is_err());
        assert!(settings(&["--via=two words"]).is_err());
    }

    #[test]
    fn durations_are_seconds_with_or_without_unit() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(seconds("2s"), Ok(Duration::from_secs(2)));
        assert!(seconds("soon").is_err() && seconds("-1").is_err());
    }

    #[test]
    fn a_dns_server_may_leave_out_its_port() {
        assert_eq!(dns_server("10.0.0.1"), Ok(([10, 0, 0, 1], 53).into()));
        assert_eq!(dns_server("[::1]:5353").unwrap().port(), 5353);
        assert_eq!(dns_server("::1").unwrap().port(), 53);
        let error = dns_server("dns.example").unwrap_err();
        assert_eq!(error, "\"dns.example\" is no IP address with or without a port");
    }
}
