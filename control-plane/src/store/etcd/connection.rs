//! Calls to etcd, with times and an honest word on what failed.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use http::uri::PathAndQuery;
use prost::Message;
use segue_shared::backoff::Backoff;
use tokio::time::{Instant, sleep, timeout};
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use super::api::{self, KeyValue, RangeRequest, Txn, TxnResponse};
use super::settings::EtcdSettings;
use crate::store::contract::StoreError;

/// Longest wait for one answer.
const REQUEST_MOST: Duration = Duration::from_secs(3);
/// Longest try of a call that may be made again.
const CALL_MOST: Duration = Duration::from_secs(5);
const CONNECT_MOST: Duration = Duration::from_secs(2);
/// etcd refuses pings that come more often than every 5 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer: a page of records or of parts.
const MOST_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// Connections to the members, which are made when they are used; clones share them. One member
/// is asked until it fails, then the next one.
#[derive(Clone)]
pub struct Connection {
    members: Arc<[Channel]>,
    asked: Arc<AtomicUsize>,
    user: Option<Arc<User>>,
}

struct User {
    name: String,
    password: String,
    token: RwLock<Option<MetadataValue<Ascii>>>,
}

/// What a watch tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    Puts,
    PutsAndDeletes,
}

/// A call that did not succeed.
#[derive(Debug)]
pub enum Trouble {
    /// etcd said no: it did nothing.
    Refused(String),
    /// No answer, or one that leaves it open: it may have happened, or may still.
    Unclear(String),
}

/// What a read transaction found.
pub struct Reading {
    /// etcd's own revision that all of it is of.
    pub at: i64,
    /// The member that answered.
    pub member: u64,
    /// The keys of each range, in the order of the ranges.
    found: std::vec::IntoIter<Vec<KeyValue>>,
}

impl Reading {
    /// The keys of the next range.
    pub fn range(&mut self) -> Vec<KeyValue> {
        self.found.next().unwrap_or_default()
    }

    /// The first key of the next range.
    pub fn one(&mut self) -> Option<KeyValue> {
        self.range().into_iter().next()
    }
}

impl From<Trouble> for StoreError {
    /// For calls that commit nothing.
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Refused(reason) => Self::Failed(format!("etcd refuses: {reason}")),
            Trouble::Unclear(reason) => Self::Unreachable(reason),
        }
    }
}

impl Connection {
    /// Reads the files. Blocks for them.
    pub fn new(settings: &EtcdSettings) -> Result<Self, StoreError> {
        let members = settings
            .endpoints
            .iter()
            .map(|url| member(settings, url))
            .collect::<Result<Vec<Channel>, StoreError>>()?;
        if members.is_empty() {
            return Err(wrong("--etcd", "", "it names no member"));
        }
        let user = settings.user_file.as_deref().map(user).transpose()?.map(Arc::new);
        Ok(Self { members: members.into(), asked: Arc::default(), user })
    }

    /// One transaction, asked for once.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse, Trouble> {
        self.unary("/etcdserverpb.KV/Txn", txn).await
    }

    /// A transaction that may be made twice, so that a lost answer does no harm.
    pub async fn again(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        self.retry("/etcdserverpb.KV/Txn", txn).await
    }

    /// Reads ranges as they are at one moment, not before this call.
    pub async fn read<const N: usize>(
        &self,
        ranges: [RangeRequest; N],
    ) -> Result<Reading, StoreError> {
        let operation = |range| api::Operation { request: Some(api::Request::Range(range)) };
        let success = ranges.into_iter().map(operation).collect();
        let answer = self.again(Txn { compare: Vec::new(), success }).await?;
        let (at, member) = (answer.revision(), answer.member());
        let found: Vec<Vec<KeyValue>> = answer
            .responses
            .into_iter()
            .map(|response| response.range.unwrap_or_default().kvs)
            .collect();
        Ok(Reading { at, member, found: found.into_iter() })
    }

    /// A lease of so many seconds. Where the answer is lost, that one runs out by itself.
    pub async fn grant(&self, seconds: i64) -> Result<i64, StoreError> {
        let request = api::LeaseGrantRequest { ttl: seconds };
        let path = "/etcdserverpb.Lease/LeaseGrant";
        let answer: api::LeaseGrantResponse = self.retry(path, request).await?;
        Ok(answer.id)
    }

    /// Ends a lease; where that fails it runs out by itself.
    pub async fn revoke(&self, lease: i64) {
        let request = api::LeaseRequest { id: lease };
        let path = "/etcdserverpb.Lease/LeaseRevoke";
        if let Err(trouble) = self.unary::<_, api::Empty>(path, request).await {
            tracing::debug!(?trouble, "a lease is left to run out");
        }
    }

    /// Renews a lease. Gives the seconds that it lasts from now on; 0: it is over.
    pub async fn renew(&self, lease: i64) -> Result<i64, Trouble> {
        let requests = stream::iter([api::LeaseRequest { id: lease }]);
        let path = "/etcdserverpb.Lease/LeaseKeepAlive";
        let renew = async {
            let mut answers: Streaming<api::LeaseKeepAliveResponse> =
                self.streaming(path, requests).await?;
            answers.message().await.map_err(|status| trouble(&status))
        };
        let answer = timeout(REQUEST_MOST, renew).await.map_err(|_| silent())??;
        answer.map(|answer| answer.ttl).ok_or_else(|| Trouble::Unclear("no answer".to_owned()))
    }

    /// Follows a range from etcd's revision `from` on.
    pub async fn watch(
        &self,
        (key, end): api::Range,
        from: i64,
        of: Watched,
    ) -> Result<Streaming<api::WatchResponse>, Trouble> {
        let filters = match of {
            Watched::Puts => vec![1],
            Watched::PutsAndDeletes => Vec::new(),
        };
        let create = api::WatchCreateRequest {
            key: key.into(),
            range_end: end.into(),
            start_revision: from,
            filters,
            fragment: true,
        };
        // A stream of requests that ended would end the watch.
        let requests =
            stream::iter([api::WatchRequest { create: Some(create) }]).chain(stream::pending());
        let watch = self.streaming("/etcdserverpb.Watch/Watch", requests);
        timeout(REQUEST_MOST, watch).await.map_err(|_| silent())?
    }

    /// Drops what etcd remembers of values before its own revision `at`.
    pub async fn compact(&self, at: i64) -> Result<(), Trouble> {
        let request = api::CompactionRequest { revision: at };
        self.unary::<_, api::Empty>("/etcdserverpb.KV/Compact", request).await.map(|_| ())
    }

    async fn retry<Q, A>(&self, path: &'static str, request: Q) -> Result<A, StoreError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let deadline = Instant::now() + CALL_MOST;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        loop {
            match self.unary(path, request.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Unclear(_)) if Instant::now() < deadline => {
                    sleep(backoff.next_pause(0.5)).await;
                }
                Err(trouble) => return Err(trouble.into()),
            }
        }
    }

    /// One call of one member, and once more where only the token was too old.
    async fn unary<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Trouble>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let member = self.asked.load(Ordering::Relaxed);
        let call = async {
            let first = self.ask(member, path, self.with_token(request.clone()).await?).await;
            match first {
                Err(status) if self.forget_token(&status) => {
                    let request = self.with_token(request).await?;
                    self.ask(member, path, request).await.map_err(|status| trouble(&status))
                }
                other => other.map_err(|status| trouble(&status)),
            }
        };
        let answer = timeout(REQUEST_MOST, call).await.unwrap_or_else(|_| Err(silent()));
        self.judge(member, &answer);
        answer
    }

    async fn ask<Q, A>(
        &self,
        member: usize,
        path: &'static str,
        request: tonic::Request<Q>,
    ) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc(member);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        grpc.unary(request, PathAndQuery::from_static(path), codec)
            .await
            .map(tonic::Response::into_inner)
    }

    async fn streaming<Q, A>(
        &self,
        path: &'static str,
        requests: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<Streaming<A>, Trouble>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let member = self.asked.load(Ordering::Relaxed);
        let request = self.with_token(requests).await?;
        let mut grpc = self.grpc(member);
        let answer = async {
            grpc.ready().await.map_err(|error| Trouble::Unclear(error.to_string()))?;
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            let answer = grpc.streaming(request, PathAndQuery::from_static(path), codec).await;
            answer.map(tonic::Response::into_inner).map_err(|status| {
                self.forget_token(&status);
                trouble(&status)
            })
        };
        let answer = answer.await;
        self.judge(member, &answer);
        answer
    }

    fn grpc(&self, member: usize) -> Grpc<Channel> {
        let channel = self.members[member % self.members.len()].clone();
        Grpc::new(channel).max_decoding_message_size(MOST_ANSWER_BYTES)
    }

    /// After a failure the next member is asked.
    fn judge<T>(&self, member: usize, answer: &Result<T, Trouble>) {
        if matches!(answer, Err(Trouble::Unclear(_))) {
            let next = member.wrapping_add(1);
            let _another_moved_on =
                self.asked.compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// A watch ended in an error, or an answer is doubtful: the next call asks the next member.
    pub fn broken(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there is only one member to ask.
    pub fn has_one_member(&self) -> bool {
        self.members.len() == 1
    }

    async fn with_token<Q>(&self, message: Q) -> Result<tonic::Request<Q>, Trouble> {
        let mut request = tonic::Request::new(message);
        // A member that is cut off from the others says so instead of being silent.
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        if let Some(user) = &self.user {
            let known = user.token.read().unwrap_or_else(PoisonError::into_inner).clone();
            let token = match known {
                Some(token) => token,
                None => self.authenticate(user).await?,
            };
            request.metadata_mut().insert("token", token);
        }
        Ok(request)
    }

    async fn authenticate(&self, user: &User) -> Result<MetadataValue<Ascii>, Trouble> {
        let request =
            api::AuthenticateRequest { name: user.name.clone(), password: user.password.clone() };
        let member = self.asked.load(Ordering::Relaxed);
        let path = "/etcdserverpb.Auth/Authenticate";
        let answer: Result<api::AuthenticateResponse, Status> =
            self.ask(member, path, tonic::Request::new(request)).await;
        let answer = answer.map_err(|status| trouble(&status))?;
        let token: MetadataValue<Ascii> = answer
            .token
            .parse()
            .map_err(|_| Trouble::Refused("the token cannot be sent".to_owned()))?;
        *user.token.write().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(token)
    }

    /// Whether the token may have been too old; then the next call gets a new one.
    fn forget_token(&self, status: &Status) -> bool {
        let Some(user) = self.user.as_ref().filter(|_| status.code() == Code::Unauthenticated)
        else {
            return false;
        };
        user.token.write().unwrap_or_else(PoisonError::into_inner).take();
        true
    }
}

fn silent() -> Trouble {
    Trouble::Unclear(format!("no answer in {REQUEST_MOST:?}"))
}

pub fn trouble(status: &Status) -> Trouble {
    let mut reason = format!("{:?}: {}", status.code(), status.message());
    if let Some(source) = std::error::Error::source(status) {
        reason = format!("{reason} ({source})");
    }
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => Trouble::Refused(reason),
        _ => Trouble::Unclear(reason),
    }
}

fn member(settings: &EtcdSettings, url: &str) -> Result<Channel, StoreError> {
    let fail = |error: tonic::transport::Error| {
        let reason = std::error::Error::source(&error)
            .map_or_else(|| error.to_string(), ToString::to_string);
        wrong("--etcd", url, &reason)
    };
    let mut endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(fail)?
        .connect_timeout(CONNECT_MOST)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    if url.starts_with("https://") {
        endpoint = endpoint.tls_config(tls(settings)?).map_err(fail)?;
    } else if !url.starts_with("http://") {
        return Err(wrong("--etcd", url, "it shall begin with http:// or https://"));
    }
    Ok(endpoint.connect_lazy())
}

fn tls(settings: &EtcdSettings) -> Result<ClientTlsConfig, StoreError> {
    let mut tls = ClientTlsConfig::new();
    tls = match &settings.ca {
        Some(file) => tls.ca_certificate(Certificate::from_pem(read("--etcd-ca", file)?)),
        None => tls.with_native_roots(),
    };
    if let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) {
        let certificate = read("--etcd-cert", certificate)?;
        tls = tls.identity(Identity::from_pem(certificate, read("--etcd-key", key)?));
    }
    Ok(tls)
}

fn user(file: &Path) -> Result<User, StoreError> {
    let setting = "--etcd-user-file";
    let line = String::from_utf8_lossy(&read(setting, file)?).into_owned();
    let (name, password) = line.trim_end().split_once(':').ok_or_else(|| {
        wrong(setting, &file.display().to_string(), "it shall hold one line, name:password")
    })?;
    Ok(User { name: name.to_owned(), password: password.to_owned(), token: RwLock::default() })
}

fn read(setting: &'static str, file: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(file).map_err(|error| wrong(setting, &file.display().to_string(), &error.to_string()))
}

fn wrong(setting: &'static str, value: &str, reason: &str) -> StoreError {
    StoreError::Setting { setting, value: value.to_owned(), reason: reason.to_owned() }
}
