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

/// Passes bytes on until there are some that are to be lost: then the connection is.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cut: Arc<AtomicU8>, lost: Cut) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut bytes).await {
        let gone = cut.load(Ordering::SeqCst) == lost as u8;
        if count == 0 || gone || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
