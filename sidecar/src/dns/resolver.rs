//! Asks DNS servers.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use segue_sidecar_core::dns::Query;
use thiserror::Error;
use tokio::time::timeout;

/// How often a server that does not answer is asked.
const ATTEMPTS: usize = 2;

/// Who is asked.
#[derive(Clone, Debug)]
pub struct DnsSettings {
    /// The servers. None: those of the system (`/etc/resolv.conf`), with its search domains.
    pub servers: Vec<SocketAddr>,
    /// Time for the answer of a server; a second attempt has as much. Default 2 s.
    pub timeout: Duration,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: Duration::from_secs(2) }
    }
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// None: there is no such name, or it has no addresses.
    pub addresses: Vec<IpAddr>,
    /// How long that may be kept; zero where nothing says so.
    pub ttl: Duration,
}

/// A name that could not be looked up. What was known of it stays true, and asking again may help.
#[derive(Clone, Debug, Error)]
pub enum LookupError {
    #[error("the DNS settings of this system cannot be used: {0}")]
    Settings(String),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Failed(String),
}

/// Looks names up.
pub trait Lookup: Send + Sync + 'static {
    /// What a name stands for now.
    fn lookup(&self, query: &Query) -> impl Future<Output = Result<Answer, LookupError>> + Send;
}

/// A resolver of its own for each kind of address: the failure of one is not that of the other.
pub struct Resolver {
    settings: DnsSettings,
    /// Of A and of AAAA records; made for the first question, since most sidecars never ask.
    resolvers: OnceLock<Result<(TokioResolver, TokioResolver), LookupError>>,
}

impl Resolver {
    /// A resolver that asks as the settings say. Where those of the system cannot be read, each
    /// lookup says so.
    pub fn new(settings: &DnsSettings) -> Self {
        Self { settings: settings.clone(), resolvers: OnceLock::new() }
    }

    fn resolvers(&self) -> Result<&(TokioResolver, TokioResolver), LookupError> {
        let of = |strategy| {
            let made = resolver(&self.settings, strategy);
            made.map_err(|error| LookupError::Settings(error.to_string()))
        };
        let made = self.resolvers.get_or_init(|| {
            of(LookupIpStrategy::Ipv4Only).and_then(|v4| Ok((v4, of(LookupIpStrategy::Ipv6Only)?)))
        });
        made.as_ref().map_err(Clone::clone)
    }

    async fn one(&self, resolver: &TokioResolver, host: &str) -> Result<Answer, LookupError> {
        // Search domains take turns.
        let patience = self.settings.timeout * (ATTEMPTS as u32 + 1) * 2;
        let looked_up = timeout(patience, resolver.lookup_ip(host)).await;
        match looked_up.map_err(|_| LookupError::Timeout(patience))? {
            Ok(found) => {
                let ttl = found.as_lookup().answers().iter().map(|record| record.ttl).min();
                Ok(Answer {
                    addresses: found.iter().collect(),
                    ttl: Duration::from_secs(ttl.unwrap_or_default().into()),
                })
            }
            Err(error) if error.is_no_records_found() => {
                Ok(Answer { addresses: Vec::new(), ttl: Duration::ZERO })
            }
            Err(error) => Err(LookupError::Failed(error.to_string())),
        }
    }
}

impl Lookup for Resolver {
    async fn lookup(&self, query: &Query) -> Result<Answer, LookupError> {
        let (v4, v6) = self.resolvers()?;
        let family = query.family;
        let of = async |asks: bool, resolver| {
            if asks { Some(self.one(resolver, &query.host).await) } else { None }
        };
        let (v4, v6) = tokio::join!(of(family.asks_v4(), v4), of(family.asks_v6(), v6));
        let (mut failure, mut ttl) = (None, None);
        let mut found = |answer: Option<Result<Answer, LookupError>>| match answer {
            Some(Ok(answer)) => {
                if !answer.addresses.is_empty() {
                    ttl = Some(ttl.map_or(answer.ttl, |ttl: Duration| ttl.min(answer.ttl)));
                }
                answer.addresses
            }
            Some(Err(error)) => {
                failure = Some(error);
                Vec::new()
            }
            None => Vec::new(),
        };
        let addresses = family.select(found(v4), found(v6));
        // Many servers fail on records of the one kind and have those of the other.
        match failure {
            Some(error) if addresses.is_empty() => Err(error),
            _ => Ok(Answer { addresses, ttl: ttl.unwrap_or_default() }),
        }
    }
}

fn resolver(settings: &DnsSettings, strategy: LookupIpStrategy) -> Result<TokioResolver, NetError> {
    let mut builder = if settings.servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = settings.servers.iter().map(|server| {
            let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
                let mut connection = ConnectionConfig::new(protocol);
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = settings.timeout;
    options.attempts = ATTEMPTS;
    options.ip_strategy = strategy;
    // Whoever asks knows when to ask again.
    options.cache_size = 0;
    builder.build()
}
