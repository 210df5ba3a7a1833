//! Plays cases of RFC 9113 and RFC 7541, frame by frame, at both doors, and judges what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;

use crate::capture::{Capture, Plane};
use crate::raw_http2::{
    ACK, Came, END_STREAM, Frame, GOAWAY, HEADERS, Outcome, PING, PREFACE, RST_STREAM, RawHttp2,
    fields, frame, get, head, number, set, status,
};

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;

/// The upstream answers this path with `GET /a`, or whatever the method was.
pub const ANSWERED: &str = "/a";
/// The upstream takes requests of this path and never answers: their streams stay half closed.
pub const SILENT: &str = "/silent";
/// No request of this path may come out at the upstream.
pub const BAD: &str = "/bad";

/// No error comes any more when nothing came for so long.
const QUIET: Duration = Duration::from_millis(1500);
/// Cases that are played at one time.
const AT_ONCE: usize = 16;

/// One thing that the caller does.
pub enum Step {
    Send(Vec<u8>),
    /// Waits for the frame of this type, stream and flags; it must have this payload.
    Comes(Frame),
    /// Waits until the other side ended the stream.
    Ended(u32),
}

/// What must come of the steps.
pub enum Wanted {
    /// `GOAWAY` with one of these codes, or a closed connection.
    Connection(&'static [u32]),
    /// `RST_STREAM` or `GOAWAY` with one of these codes, or a closed connection.
    Stream(&'static [u32]),
    /// A head with status 200 on this stream, and no error before it.
    Answer(u32),
    /// No error, and a `PING` is still acknowledged.
    Life,
}

pub struct Case {
    /// Section, and what is odd.
    pub name: &'static str,
    /// Before anything else.
    first: Vec<u8>,
    steps: Vec<Step>,
    wanted: Wanted,
}

impl Case {
    pub fn beginning_with(mut self, first: &[u8]) -> Self {
        self.first = first.to_vec();
        self
    }
}

/// A case that only sends.
pub fn case(name: &'static str, frames: &[Vec<u8>], wanted: Wanted) -> Case {
    steps(name, vec![Step::Send(frames.concat())], wanted)
}

pub fn steps(name: &'static str, steps: Vec<Step>, wanted: Wanted) -> Case {
    Case { name, first: [PREFACE, &set(&[])].concat(), steps, wanted }
}

/// A request with a body to come, or without.
pub fn open(stream: u32, path: &str) -> Vec<u8> {
    let fields = get(path, &[]).into_iter().skip(1).chain([(":method", "POST")]);
    head(stream, 0, &self::fields(&fields.collect::<Vec<_>>()))
}

pub fn request(stream: u32, path: &str) -> Vec<u8> {
    head(stream, END_STREAM, &fields(&get(path, &[])))
}

pub fn block(path: &str) -> Vec<u8> {
    fields(&get(path, &[]))
}

pub fn ping(payload: [u8; 8]) -> Vec<u8> {
    frame(PING, 0, 0, &payload)
}

pub fn acknowledged(payload: [u8; 8]) -> Step {
    comes(PING, ACK, 0, &payload)
}

pub fn comes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Step {
    Step::Comes(Frame { kind, flags, stream, payload: payload.to_vec() })
}

/// Plays all cases.
pub async fn judge(cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for some in cases.chunks(AT_ONCE) {
        let both = some.iter().flat_map(|case| [(case, false), (case, true)]);
        for ((case, inbound), verdict) in
            both.clone().zip(join_all(both.map(|(case, inbound)| play(case, inbound))).await)
        {
            let door = if inbound { "inbound" } else { "outbound" };
            // Whoever closes with unread bytes may take a `GOAWAY` back.
            let Err((_, why)) = verdict else { continue };
            wrong.push(format!("{} ({door}): {why}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

type Verdict = Result<Outcome, (Outcome, String)>;

async fn play(case: &Case, inbound: bool) -> Verdict {
    let upstream = Capture::answering(|request| {
        let words: Vec<&str> = request.head[0].split(' ').take(2).collect();
        let (text, length) = (words.join(" "), words.join(" ").len());
        (words[1] != SILENT).then(|| {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}").into_bytes()
        })
    })
    .await;
    let plane = Plane::start(upstream.address);
    let address = if inbound { plane.inbound } else { plane.outbound };
    let verdict = talk(case, address).await;
    if upstream.requests().iter().any(|request| request.target() == BAD) {
        // Told apart from all that `codes` may excuse.
        return Err((Outcome::Status(200), format!("was sent on, and {verdict:?} came")));
    }
    // Whatever became of the connection, the door still serves.
    let mut second = RawHttp2::connect(address).await;
    second.get(1, "/second").await;
    match second.outcome(1).await {
        Outcome::Status(200) => verdict,
        other => Err((Outcome::Nothing, format!("a second caller got {other:?}"))),
    }
}

async fn talk(case: &Case, address: SocketAddr) -> Verdict {
    const LAST: [u8; 8] = *b"the last";
    let mut caller = RawHttp2::open(address, &case.first).await;
    for step in &case.steps {
        take(&mut caller, step).await?;
    }
    match case.wanted {
        Wanted::Connection(codes) => match ending(&mut caller).await {
            Outcome::Closed => Ok(Outcome::Closed),
            Outcome::GoAway(code) if codes.contains(&code) => Ok(Outcome::GoAway(code)),
            seen => Err(but(&seen, "the connection's end")),
        },
        Wanted::Stream(codes) => match ending(&mut caller).await {
            Outcome::Closed => Ok(Outcome::Closed),
            Outcome::GoAway(code) if codes.contains(&code) => Ok(Outcome::GoAway(code)),
            Outcome::Reset(code) if codes.contains(&code) => Ok(Outcome::Reset(code)),
            seen => Err(but(&seen, "the stream's end")),
        },
        Wanted::Answer(stream) => match caller.outcome(stream).await {
            Outcome::Status(200) => Ok(Outcome::Status(200)),
            seen => Err(but(&seen, "an answer")),
        },
        Wanted::Life => {
            caller.send(&ping(LAST)).await;
            take(&mut caller, &acknowledged(LAST)).await?;
            Ok(Outcome::Nothing)
        }
    }
}

fn but(seen: &Outcome, wanted: &str) -> (Outcome, String) {
    (seen.clone(), format!("{seen:?} instead of {wanted}"))
}

async fn take(caller: &mut RawHttp2, step: &Step) -> Result<(), (Outcome, String)> {
    if let Step::Send(bytes) = step {
        // Whoever sees an error may close before all of it is sent.
        caller.send(bytes).await;
        return Ok(());
    }
    loop {
        let it = match caller.next_within(QUIET).await {
            Came::Frame(it) => it,
            Came::Closed => return Err(but(&Outcome::Closed, "a frame")),
            Came::Quiet => return Err(but(&Outcome::Nothing, "a frame")),
        };
        match step {
            Step::Comes(wanted) if same_place(wanted, &it) && *wanted == it => return Ok(()),
            Step::Comes(wanted) if same_place(wanted, &it) => {
                return Err(but(&Outcome::Nothing, &format!("{wanted:?}, {it:?}")));
            }
            Step::Ended(stream) if it.stream == *stream && it.kind <= HEADERS => {
                let ended = it.flags & END_STREAM != 0;
                if ended {
                    return Ok(());
                }
            }
            _ if it.kind == GOAWAY => {
                return Err(but(&Outcome::GoAway(number(&it.payload[4..])), "a frame"));
            }
            _ if it.kind == RST_STREAM => {
                return Err(but(&Outcome::Reset(number(&it.payload)), "a frame"));
            }
            _ => {}
        }
    }
}

fn same_place(one: &Frame, other: &Frame) -> bool {
    (one.kind, one.flags, one.stream) == (other.kind, other.flags, other.stream)
}

/// The first error; where there is none, what else came.
async fn ending(caller: &mut RawHttp2) -> Outcome {
    let mut seen = Outcome::Nothing;
    loop {
        match caller.next_within(QUIET).await {
            Came::Closed => return Outcome::Closed,
            Came::Quiet => return seen,
            Came::Frame(it) => match it.kind {
                GOAWAY => return Outcome::GoAway(number(&it.payload[4..])),
                RST_STREAM => return Outcome::Reset(number(&it.payload)),
                HEADERS => seen = Outcome::Status(status(&it.payload)),
                _ => {}
            },
        }
    }
}
