//! Callers that show a certificate; in a process of its own, so that it can be given a core.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::upstream::SMALL_BYTES;

/// What a caller does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// One request after the other on a connection.
    KeepAlive,
    /// A connection with a full handshake for each request.
    Full,
    /// A connection that resumes a session for each request.
    Resumed,
}

/// A window of load.
#[derive(Clone, Debug, Args)]
pub struct Load {
    #[arg(long)]
    pub target: SocketAddr,
    #[arg(long, value_enum)]
    pub kind: Kind,
    #[arg(long)]
    pub connections: u32,
    #[arg(long)]
    pub seconds: u32,
    #[arg(long)]
    pub certificate: PathBuf,
    #[arg(long)]
    pub key: PathBuf,
}

/// What it gave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    pub requests: u64,
    pub failed: u64,
    /// Connections that resumed a session.
    pub resumed: u64,
    pub p50_seconds: f64,
}

/// Runs a window on `core`.
pub fn window(load: &Load, core: u32, dir: &Path) -> io::Result<Window> {
    let kind = load.kind.to_possible_value();
    let output = Command::new("taskset")
        .args(["-c", &core.to_string()])
        .arg(std::env::current_exe()?)
        .arg("tls-load")
        .args(["--target", &load.target.to_string()])
        .args(["--kind", kind.as_ref().map_or("", |kind| kind.get_name())])
        .args(["--connections", &load.connections.to_string()])
        .args(["--seconds", &load.seconds.to_string()])
        .arg("--certificate")
        .arg(&load.certificate)
        .arg("--key")
        .arg(&load.key)
        .current_dir(dir)
        .output()?;
    let told: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let told = told.filter(|_| output.status.success()).ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        io::Error::other(format!("the load ended with {}: {errors}", output.status))
    })?;
    let number = |key: &str| told[key].as_u64().unwrap_or_default();
    Ok(Window {
        requests: number("requests"),
        failed: number("failed"),
        resumed: number("resumed"),
        p50_seconds: told["p50Seconds"].as_f64().unwrap_or_default(),
    })
}

/// The other process.
pub fn run_load(load: &Load) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let (mut all, mut times) = (Window::default(), Vec::new());
    local.block_on(&runtime, async {
        let until = Instant::now() + Duration::from_secs(u64::from(load.seconds));
        let config = Arc::new(config(load)?);
        let callers: Vec<_> = (0..load.connections)
            .map(|_| tokio::task::spawn_local(call(load.clone(), Arc::clone(&config), until)))
            .collect();
        for caller in callers {
            let (window, mut taken) = caller.await.map_err(io::Error::other)?;
            all.requests += window.requests;
            all.failed += window.failed;
            all.resumed += window.resumed;
            times.append(&mut taken);
        }
        io::Result::Ok(())
    })?;
    times.sort_by(f64::total_cmp);
    let p50 = times.get(times.len() / 2).copied().unwrap_or_default();
    let told = json!({"requests": all.requests, "failed": all.failed, "resumed": all.resumed,
        "p50Seconds": p50});
    println!("{told}");
    Ok(())
}

async fn call(load: Load, config: Arc<ClientConfig>, until: Instant) -> (Window, Vec<f64>) {
    let (mut window, mut times) = (Window::default(), Vec::new());
    let mut kept: Option<TlsStream<TcpStream>> = None;
    while Instant::now() < until {
        let begun = Instant::now();
        let asked = async {
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => connect(load.target, &config).await?,
            };
            let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            ask(&mut stream, load.kind != Kind::KeepAlive).await?;
            io::Result::Ok((stream, resumed))
        };
        match asked.await {
            Ok((stream, resumed)) => {
                window.requests += 1;
                window.resumed += u64::from(resumed);
                kept = (load.kind == Kind::KeepAlive).then_some(stream);
            }
            Err(_) => window.failed += 1,
        }
        times.push(begun.elapsed().as_secs_f64());
    }
    (window, times)
}

async fn connect(
    target: SocketAddr,
    config: &Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("app.default").map_err(io::Error::other)?;
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// One request and its whole answer; the last one of a connection reads to its end, so that the
/// session's ticket has come.
async fn ask(stream: &mut TlsStream<TcpStream>, last: bool) -> io::Result<()> {
    let request: &[u8] = if last {
        b"GET / HTTP/1.1\r\nhost: chat\r\nx-user-id: 7\r\nconnection: close\r\n\r\n"
    } else {
        b"GET / HTTP/1.1\r\nhost: chat\r\nx-user-id: 7\r\n\r\n"
    };
    stream.write_all(request).await?;
    let mut answer = [0; 8 * 1024];
    let mut length = 0;
    while !answer[..length].ends_with(&[b'x'; SMALL_BYTES]) {
        match stream.read(&mut answer[length..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => length += read,
        }
    }
    if !answer.starts_with(b"HTTP/1.1 200") {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(())
}

fn config(load: &Load) -> io::Result<ClientConfig> {
    let pem = |file: &Path| std::fs::read(file);
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&pem(&load.certificate)?).collect();
    let chain = chain.map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(&pem(&load.key)?).map_err(io::Error::other)?;
    let provider = Arc::new(default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_client_auth_cert(chain, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = match load.kind {
        Kind::Resumed => Resumption::in_memory_sessions(256),
        Kind::KeepAlive | Kind::Full => Resumption::disabled(),
    };
    Ok(config)
}

/// Who answers is known: the proxy that was started for it.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
