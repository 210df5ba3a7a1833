//! `segue-echo`: one instance of the test application.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use segue_tests::echo::Echo;
use tokio::net::TcpListener;

/// A small HTTP service that says which version it is.
#[derive(Debug, Parser)]
struct Flags {
    /// Where to listen; port 0 is any free one
    #[arg(long, default_value = "127.0.0.1:0")]
    address: SocketAddr,
    /// What the header x-version says
    #[arg(long, default_value = "v1")]
    version: String,
    /// Time before each answer, in milliseconds
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let flags = Flags::parse();
    let listener = TcpListener::bind(flags.address).await?;
    println!("listening name=http address={}", listener.local_addr()?);
    Echo { version: flags.version, delay: Duration::from_millis(flags.delay_ms) }
        .serve(listener)
        .await
}
