//! A connection to etcd that can be cut in either direction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cut {
    Nothing,
    /// Requests arrive, answers do not.
    Answers,
    /// Requests do not arrive.
    Requests,
}

/// A proxy; ends with the test.
pub struct Cable {
    port: u16,
    cut: Arc<AtomicU8>,
    accepts: AbortHandle,
}

impl Cable {
    pub async fn to(url: &str) -> Self {
        let target = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(AtomicU8::new(Cut::Nothing as u8));
        let seen = Arc::clone(&cut);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&target).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                let requests = pump(from_client, to_server, Arc::clone(&seen), Cut::Requests);
                let answers = pump(from_server, to_client, Arc::clone(&seen), Cut::Answers);
                // Where one direction ends the other one does too, as if the cable broke.
                tokio::spawn(async move {
                    tokio::select! {
                        () = requests => {}
                        () = answers => {}
                    }
                });
            }
        });
        Self { port, cut, accepts: task.abort_handle() }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn cut(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

/// Passes bytes on, and loses those that are to be lost. What has lost some ends: with lost requests
/// at once, with lost answers when the cable is whole again, since a server that sees its client go
/// may drop what it was asked for.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cut: Arc<AtomicU8>, lost: Cut) {
    let mut bytes = vec![0; 64 * 1024];
    let mut has_lost = false;
    while let Ok(count) = from.read(&mut bytes).await {
        let is_cut = cut.load(Ordering::SeqCst) == lost as u8;
        has_lost |= is_cut;
        if count == 0 || has_lost && !(is_cut && lost == Cut::Answers) {
            return;
        }
        if !has_lost && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
