//! Frames, their sizes and places (RFC 9113 sections 4, 6 and 7).

use crate::h2_judge::{
    ANSWERED, BAD, Case, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, NO_ERROR, PROTOCOL_ERROR, SILENT,
    STREAM_CLOSED, Step, Wanted, acknowledged, block, case, comes, judge, open, ping, request,
    steps,
};
use crate::raw_http2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, fields, frame, set,
};

const PROTOCOL: Wanted = Wanted::Connection(&[PROTOCOL_ERROR]);
const SIZE: Wanted = Wanted::Connection(&[FRAME_SIZE_ERROR]);
const FLOW: Wanted = Wanted::Connection(&[FLOW_CONTROL_ERROR]);

const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MOST_WINDOW: u32 = (1 << 31) - 1;
const RESERVED: u32 = 1 << 31;

fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// The first piece of a head that has more.
fn begun(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM, stream, &block(BAD))
}

fn more(flags: u8, stream: u32) -> Vec<u8> {
    frame(CONTINUATION, flags, stream, &fields(&[("x", "1")]))
}

/// Is ignored, but for what is in order in it.
fn alive(name: &'static str, sent: Vec<u8>) -> Case {
    case(name, &[sent], Wanted::Life)
}

fn sizes() -> Vec<Case> {
    let long = fields(&[("x", "a".repeat(20_000))]);
    vec![
        steps(
            "4.1 flags that mean nothing",
            vec![Step::Send(frame(PING, 0x16, 0, &[1; 8])), acknowledged([1; 8])],
            Wanted::Life,
        ),
        steps(
            "4.1 the reserved bit",
            vec![Step::Send(frame(PING, 0, RESERVED, &[2; 8])), acknowledged([2; 8])],
            Wanted::Life,
        ),
        case(
            "4.2 the longest frame",
            &[open(1, ANSWERED), frame(DATA, END_STREAM, 1, &[b'a'; 16_384])],
            Wanted::Answer(1),
        ),
        case(
            "4.2 DATA too long",
            &[open(1, BAD), frame(DATA, END_STREAM, 1, &vec![b'a'; 16_385])],
            Wanted::Stream(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "4.2 HEADERS too long",
            &[frame(HEADERS, END_STREAM | END_HEADERS, 1, &[block(BAD), long].concat())],
            SIZE,
        ),
        case("4.3 PRIORITY within a head", &[begun(1), frame(PRIORITY, 0, 1, &[0; 5])], PROTOCOL),
        case("4.3 another head within a head", &[begun(1), request(3, BAD)], PROTOCOL),
    ]
}

fn bodies_and_heads() -> Vec<Case> {
    let padded = |length: u8, rest: &[u8]| [&[length][..], rest].concat();
    let whole = END_STREAM | END_HEADERS | PADDED;
    vec![
        case("6.1 DATA of no stream", &[frame(DATA, 0, 0, b"test")], PROTOCOL),
        case(
            "6.1 DATA behind the end",
            &[request(1, SILENT), frame(DATA, END_STREAM, 1, b"test")],
            Wanted::Stream(&[STREAM_CLOSED]),
        ),
        case(
            "6.1 DATA that is all padding and more",
            &[open(1, BAD), frame(DATA, END_STREAM | PADDED, 1, &padded(6, b"test"))],
            PROTOCOL,
        ),
        case(
            "6.1 DATA with padding",
            &[open(1, ANSWERED), frame(DATA, END_STREAM | PADDED, 1, &padded(2, b"test"))],
            Wanted::Answer(1),
        ),
        case("6.2 HEADERS of no stream", &[request(0, BAD)], PROTOCOL),
        case(
            "6.2 padding beyond the frame",
            &[frame(HEADERS, whole, 1, &padded(255, &block(BAD)))],
            PROTOCOL,
        ),
        case(
            "6.2 HEADERS with padding",
            &[frame(HEADERS, whole, 1, &padded(2, &[&block(ANSWERED)[..], &[0, 0]].concat()))],
            Wanted::Answer(1),
        ),
        case("6.3 PRIORITY of no stream", &[frame(PRIORITY, 0, 0, &[0; 5])], PROTOCOL),
        case(
            "6.3 PRIORITY of another length",
            &[request(1, SILENT), frame(PRIORITY, 0, 1, &[0; 4])],
            Wanted::Stream(&[FRAME_SIZE_ERROR]),
        ),
        case("6.4 RST_STREAM of no stream", &[frame(RST_STREAM, 0, 0, &[0; 4])], PROTOCOL),
        case("6.4 RST_STREAM of an idle stream", &[frame(RST_STREAM, 0, 1, &[0; 4])], PROTOCOL),
        case(
            "6.4 RST_STREAM of another length",
            &[open(1, SILENT), frame(RST_STREAM, 0, 1, &[0; 3])],
            SIZE,
        ),
    ]
}

fn settings() -> Vec<Case> {
    vec![
        case("6.5 an acknowledgement with a payload", &[frame(SETTINGS, ACK, 0, &[0])], SIZE),
        case("6.5 SETTINGS of a stream", &[frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 100])], PROTOCOL),
        case("6.5 SETTINGS of another length", &[frame(SETTINGS, 0, 0, &[0, 3, 0])], SIZE),
        case("6.5.2 push neither on nor off", &[set(&[(ENABLE_PUSH, 2)])], PROTOCOL),
        case("6.5.2 a window too large", &[set(&[(INITIAL_WINDOW_SIZE, RESERVED)])], FLOW),
        case("6.5.2 frames too short", &[set(&[(MAX_FRAME_SIZE, 16_383)])], PROTOCOL),
        case("6.5.2 frames too long", &[set(&[(MAX_FRAME_SIZE, 1 << 24)])], PROTOCOL),
        alive("6.5.2 an unknown parameter", set(&[(0xff, 1)])),
        steps(
            "6.5.3 the last of two values",
            vec![
                Step::Send(set(&[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)])),
                Step::Send(request(1, ANSWERED)),
                comes(DATA, 0, 1, b"G"),
            ],
            Wanted::Life,
        ),
        steps(
            "6.5.3 each is acknowledged",
            vec![
                Step::Send([set(&[]), set(&[(ENABLE_PUSH, 0)])].concat()),
                // The preface had the first one.
                comes(SETTINGS, ACK, 0, b""),
                comes(SETTINGS, ACK, 0, b""),
                comes(SETTINGS, ACK, 0, b""),
            ],
            Wanted::Life,
        ),
    ]
}

fn pings_and_windows() -> Vec<Case> {
    let away =
        |stream, code: u32| frame(GOAWAY, 0, stream, &[&[0; 4][..], &code.to_be_bytes()].concat());
    let first =
        |size| Step::Send([set(&[(INITIAL_WINDOW_SIZE, size)]), request(1, ANSWERED)].concat());
    vec![
        steps(
            "6.7 PING",
            vec![Step::Send(ping(*b"anything")), acknowledged(*b"anything")],
            Wanted::Life,
        ),
        steps(
            "6.7 an acknowledgement is not acknowledged",
            vec![
                Step::Send([frame(PING, ACK, 0, &[1; 8]), ping([2; 8])].concat()),
                acknowledged([2; 8]),
            ],
            Wanted::Life,
        ),
        case("6.7 PING of a stream", &[frame(PING, 0, 1, &[0; 8])], PROTOCOL),
        case("6.7 PING of another length", &[frame(PING, 0, 0, &[0; 6])], SIZE),
        case("6.8 GOAWAY of a stream", &[away(1, NO_ERROR)], PROTOCOL),
        case("6.9 nothing more for the connection", &[window(0, 0)], PROTOCOL),
        case(
            "6.9 nothing more for a stream",
            &[open(1, SILENT), window(1, 0)],
            Wanted::Stream(&[PROTOCOL_ERROR]),
        ),
        case("6.9 WINDOW_UPDATE of another length", &[frame(WINDOW_UPDATE, 0, 0, &[0; 3])], SIZE),
        steps(
            "6.9.1 no more than the window",
            vec![first(1), comes(DATA, 0, 1, b"G")],
            Wanted::Life,
        ),
        case(
            "6.9.1 too much for the connection",
            &[window(0, MOST_WINDOW), window(0, MOST_WINDOW)],
            FLOW,
        ),
        case(
            "6.9.1 too much for a stream",
            &[open(1, SILENT), window(1, MOST_WINDOW), window(1, MOST_WINDOW)],
            Wanted::Stream(&[FLOW_CONTROL_ERROR]),
        ),
        steps(
            "6.9.2 a window that opens",
            vec![first(0), Step::Send(set(&[(INITIAL_WINDOW_SIZE, 1)])), comes(DATA, 0, 1, b"G")],
            Wanted::Life,
        ),
        steps(
            "6.9.2 a window below zero",
            vec![
                first(3),
                comes(DATA, 0, 1, b"GET"),
                Step::Send([set(&[(INITIAL_WINDOW_SIZE, 2)]), window(1, 2)].concat()),
                comes(DATA, 0, 1, b" "),
            ],
            Wanted::Life,
        ),
        case(
            "6.9.2 a window that settings overflow",
            &[
                open(1, SILENT),
                window(1, MOST_WINDOW - 65_535),
                set(&[(INITIAL_WINDOW_SIZE, 65_536)]),
            ],
            FLOW,
        ),
        case(
            "7 RST_STREAM with an unknown code",
            &[open(1, SILENT), frame(RST_STREAM, 0, 1, &[0xff; 4])],
            Wanted::Life,
        ),
        // A caller that goes away may be left.
        case("7 GOAWAY with an unknown code", &[away(0, 0xff)], Wanted::Connection(&[NO_ERROR])),
    ]
}

fn continuations() -> Vec<Case> {
    let head_open = || frame(HEADERS, 0, 1, &block(BAD));
    let good = || frame(HEADERS, END_STREAM, 1, &block(ANSWERED));
    vec![
        case("6.10 two of them", &[good(), more(0, 1), more(END_HEADERS, 1)], Wanted::Answer(1)),
        case(
            "6.10 DATA between them",
            &[begun(1), more(0, 1), frame(DATA, END_STREAM, 1, b"test")],
            PROTOCOL,
        ),
        case("6.10 one of no stream", &[begun(1), more(END_HEADERS, 0)], PROTOCOL),
        case("6.10 one of another stream", &[begun(1), more(END_HEADERS, 3)], PROTOCOL),
        case("6.10 behind a whole head", &[open(1, BAD), more(END_HEADERS, 1)], PROTOCOL),
        case(
            "6.10 behind the last",
            &[head_open(), more(END_HEADERS, 1), more(END_HEADERS, 1)],
            PROTOCOL,
        ),
        case(
            "6.10 behind DATA",
            &[open(1, BAD), frame(DATA, 0, 1, b"test"), more(END_HEADERS, 1)],
            PROTOCOL,
        ),
    ]
}

#[tokio::test]
async fn frames_have_their_sizes_and_places() {
    let all = [sizes(), bodies_and_heads(), settings(), pings_and_windows(), continuations()];
    judge(all.into_iter().flatten().collect()).await;
}
