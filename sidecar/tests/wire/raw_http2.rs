//! An HTTP/2 caller that writes frames byte by byte and may break every rule.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 32;
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const PATIENCE: Duration = Duration::from_secs(5);

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What became of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    Reset(u32),
    GoAway(u32),
    Closed,
    Nothing,
}

impl Outcome {
    /// Whether the caller was told that there will be no answer of an upstream.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Status(status) => (400..500).contains(status),
            Self::Reset(_) | Self::GoAway(_) => true,
            Self::Closed | Self::Nothing => false,
        }
    }
}

/// What came next on a connection.
pub enum Came {
    Frame(Frame),
    Closed,
    /// Nothing for as long as was waited.
    Quiet,
}

pub struct RawHttp2 {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// The last parameters that the other side set.
    pub settings: HashMap<u16, u32>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A `SETTINGS` frame.
pub fn set(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in settings {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

/// Fields as literals that are not indexed (RFC 7541 section 6.2.2).
pub fn fields<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            integer(&mut block, 0, 7, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// An integer with a prefix (RFC 7541 section 5.1).
pub fn integer(block: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        block.push(first | value as u8);
        return;
    }
    block.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// The pseudo headers of a GET of `chat`.
pub fn get<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all =
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "chat"), (":path", path)];
    all.extend_from_slice(more);
    all
}

/// `HEADERS`, with `CONTINUATION` where they are long.
pub fn head(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    let mut pieces = block.chunks(16 * 1024).peekable();
    let mut all = Vec::new();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let end = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        let flags = if kind == HEADERS { flags | end } else { end };
        all.extend(frame(kind, flags, stream, piece));
        kind = CONTINUATION;
    }
    all
}

impl RawHttp2 {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[]).await
    }

    pub async fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(set(settings));
        Self::open(address, &bytes).await
    }

    /// Begins with these bytes instead of a preface.
    pub async fn open(address: SocketAddr, first: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(first).await.unwrap();
        Self { stream, bytes: Vec::new(), settings: HashMap::new() }
    }

    /// Whether all was taken: a side that closed takes no more.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// A whole request.
    pub async fn get(&mut self, stream: u32, path: &str) {
        self.send(&head(stream, END_STREAM, &fields(&get(path, &[])))).await;
    }

    /// The next frame; `None`: closed, or nothing for a long time.
    pub async fn next(&mut self) -> Option<Frame> {
        match self.next_within(PATIENCE).await {
            Came::Frame(frame) => Some(frame),
            Came::Closed | Came::Quiet => None,
        }
    }

    pub async fn next_within(&mut self, patience: Duration) -> Came {
        loop {
            if let Some(frame) = self.take() {
                if frame.kind == SETTINGS && frame.flags == 0 {
                    for pair in frame.payload.chunks_exact(6) {
                        let id = u16::from_be_bytes([pair[0], pair[1]]);
                        let value = u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]);
                        self.settings.insert(id, value);
                    }
                }
                return Came::Frame(frame);
            }
            let mut buffer = vec![0; 65536];
            match tokio::time::timeout(patience, self.stream.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => return Came::Closed,
                Ok(Ok(read)) => self.bytes.extend_from_slice(&buffer[..read]),
                Err(_) => return Came::Quiet,
            }
        }
    }

    /// What becomes of a stream, or of the connection.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        while let Some(frame) = self.next().await {
            match frame.kind {
                GOAWAY => return Outcome::GoAway(number(&frame.payload[4..])),
                HEADERS if frame.stream == stream => {
                    return Outcome::Status(status(&frame.payload));
                }
                RST_STREAM if frame.stream == stream => {
                    return Outcome::Reset(number(&frame.payload));
                }
                _ => {}
            }
        }
        if self.is_closed().await { Outcome::Closed } else { Outcome::Nothing }
    }

    /// Whether the other side has closed, at last.
    pub async fn is_closed(&mut self) -> bool {
        let mut buffer = vec![0; 65536];
        loop {
            match tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => return true,
                Ok(Ok(_)) => {}
                Err(_) => return false,
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let [a, b, c, kind, flags, s1, s2, s3, s4, ..] = *self.bytes.as_slice() else {
            return None;
        };
        let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = self.bytes.get(9..end)?.to_vec();
        self.bytes.drain(..end);
        let stream = u32::from_be_bytes([s1, s2, s3, s4]);
        Some(Frame { kind, flags, stream, payload })
    }
}

pub fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The status at the beginning of a head: one of the static table, or a literal, whose three digits
/// may be compressed (RFC 7541 appendix B).
pub fn status(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match *block {
        [first @ 0x88..=0x8e, ..] => INDEXED[usize::from(first - 0x88)],
        [_, length, ref text @ ..] if length & 0x80 == 0 => {
            std::str::from_utf8(&text[..usize::from(length)]).unwrap().parse().unwrap()
        }
        [_, _, ref text @ ..] => {
            let mut bits = text.iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1));
            let mut take = |count: u32| {
                (0..count).fold(0u16, |all, _| all << 1 | u16::from(bits.next().unwrap()))
            };
            let mut number = 0;
            for _ in 0..3 {
                let five = take(5);
                // 0 to 2 have five bits, 3 to 9 six.
                let digit = if five < 3 { five } else { (five << 1 | take(1)) - 22 };
                number = number * 10 + digit;
            }
            number
        }
        _ => 0,
    }
}
