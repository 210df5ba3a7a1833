//! An upstream that answers with bytes as they stand, and remembers what came.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What came on one connection.
#[derive(Clone, Default)]
pub struct Seen {
    pub bytes: Vec<u8>,
    pub closed: bool,
}

pub struct Scripted {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Scripted {
    /// What came so far, by connection.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// All bytes that came on a connection, as text.
    pub fn text(&self, connection: usize) -> String {
        self.seen()
            .get(connection)
            .map_or_else(String::new, |seen| String::from_utf8_lossy(&seen.bytes).into_owned())
    }
}

/// Answers each empty line by the numbers of its connection and of the line on it, both from 0;
/// where there is no answer, the connection is closed.
pub async fn scripted(
    answer: impl Fn(usize, usize) -> Option<String> + Clone + Send + Sync + 'static,
) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::<Mutex<Vec<Seen>>>::default();
    let all = Arc::clone(&seen);
    tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            all.lock().unwrap().push(Seen::default());
            let (all, answer) = (Arc::clone(&all), answer.clone());
            tokio::spawn(async move {
                serve(
                    stream,
                    |line| answer(connection, line),
                    |bytes| {
                        let seen = &mut all.lock().unwrap()[connection];
                        seen.bytes.extend_from_slice(bytes);
                        seen.closed |= bytes.is_empty();
                        seen.bytes.windows(4).filter(|four| four == b"\r\n\r\n").count()
                    },
                )
                .await;
            });
        }
    });
    Scripted { address, seen }
}

/// `came` notes bytes, none at the end, and says how many empty lines came so far.
async fn serve(
    mut stream: TcpStream,
    answer: impl Fn(usize) -> Option<String>,
    came: impl Fn(&[u8]) -> usize,
) {
    let mut buffer = [0; 4096];
    let mut answered = 0;
    loop {
        let length = stream.read(&mut buffer).await.unwrap_or(0);
        let lines = came(&buffer[..length]);
        if length == 0 {
            return;
        }
        while answered < lines {
            let Some(answer) = answer(answered) else { return };
            answered += 1;
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}
