//! Streams and their states, errors and extensions (RFC 9113 sections 3.4 and 5).

use crate::h2_judge::{
    ANSWERED, BAD, CANCEL, Case, FRAME_SIZE_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, SILENT,
    STREAM_CLOSED, Step, Wanted, acknowledged, block, case, comes, judge, open, ping, request,
    steps,
};
use crate::raw_http2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, WITH_PRIORITY, fields, frame, head,
};

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

fn data(stream: u32) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, b"test")
}

fn more(stream: u32) -> Vec<u8> {
    frame(CONTINUATION, END_HEADERS, stream, &fields(&[("x", "1")]))
}

/// Depends on another stream, with weight 16.
fn priority(stream: u32, other: u32) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[&other.to_be_bytes()[..], &[15]].concat())
}

fn window(stream: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &100u32.to_be_bytes())
}

/// On a stream that ended with its answer.
fn ended(name: &'static str, then: &[Vec<u8>], wanted: Wanted) -> Case {
    let begin = Step::Send(request(1, ANSWERED));
    steps(name, vec![begin, Step::Ended(1), Step::Send(then.concat())], wanted)
}

fn beginnings() -> Vec<Case> {
    use Wanted::{Answer, Connection};
    vec![
        steps("3.4 settings first", vec![comes(SETTINGS, ACK, 0, b"")], Wanted::Life),
        case("3.4 a request behind the preface", &[request(1, ANSWERED)], Answer(1)),
        case("3.4 another preface", &[], Connection(&[PROTOCOL_ERROR]))
            .beginning_with(b"INVALID CONNECTION PREFACE\r\n\r\n"),
        case("3.4 a preface that ends otherwise", &[], Connection(&[PROTOCOL_ERROR]))
            .beginning_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r!"),
        case(
            "3.4 no frame behind the preface",
            &[],
            Connection(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]),
        )
        .beginning_with(&[PREFACE, &[0xff; 64]].concat()),
    ]
}

fn states() -> Vec<Case> {
    use Wanted::{Answer, Connection, Life, Stream};
    const PROTOCOL: Wanted = Connection(&[PROTOCOL_ERROR]);
    const CLOSED: Wanted = Stream(&[STREAM_CLOSED]);
    // What follows a head that is whole is out of order as well.
    const CLOSED_OR_ORDER: Wanted = Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]);
    let cut = |then: Vec<u8>| [open(1, SILENT), reset(1), then];
    vec![
        case("5.1 idle, DATA", &[data(1)], PROTOCOL),
        case("5.1 idle, RST_STREAM", &[reset(1)], PROTOCOL),
        case("5.1 idle, WINDOW_UPDATE", &[window(1)], PROTOCOL),
        case("5.1 idle, CONTINUATION", &[more(1)], PROTOCOL),
        case("5.1 idle, PRIORITY", &[priority(1, 0), request(1, ANSWERED)], Answer(1)),
        case("5.1 half closed, DATA", &[request(1, SILENT), data(1)], CLOSED),
        case("5.1 half closed, HEADERS", &[request(1, SILENT), request(1, BAD)], CLOSED),
        case("5.1 half closed, CONTINUATION", &[request(1, SILENT), more(1)], CLOSED_OR_ORDER),
        case("5.1 half closed, WINDOW_UPDATE", &[request(1, ANSWERED), window(1)], Answer(1)),
        case("5.1 half closed, PRIORITY", &[request(1, ANSWERED), priority(1, 0)], Answer(1)),
        case("5.1 half closed, RST_STREAM", &[request(1, SILENT), reset(1)], Life),
        case("5.1 half closed at once", &[open(1, ANSWERED), data(1)], Answer(1)),
        case("5.1 reset, DATA", &cut(data(1)), CLOSED),
        case("5.1 reset, HEADERS", &cut(request(1, BAD)), CLOSED),
        case("5.1 reset, CONTINUATION", &cut(more(1)), CLOSED_OR_ORDER),
        case("5.1 reset, PRIORITY", &cut(priority(1, 0)), Life),
        case("5.1 reset, another request", &cut(request(3, ANSWERED)), Answer(3)),
        ended("5.1 closed, DATA", &[data(1)], Connection(&[STREAM_CLOSED])),
        ended("5.1 closed, HEADERS", &[request(1, BAD)], Connection(&[STREAM_CLOSED])),
        ended("5.1 closed, CONTINUATION", &[more(1)], Connection(&[STREAM_CLOSED, PROTOCOL_ERROR])),
        ended("5.1 closed, WINDOW_UPDATE", &[window(1)], Life),
        ended("5.1 closed, RST_STREAM", &[reset(1)], Life),
        ended("5.1 closed, PRIORITY", &[priority(1, 0)], Life),
        case("5.1.1 an even stream", &[request(2, BAD)], PROTOCOL),
        case("5.1.1 an earlier stream", &[request(5, SILENT), request(3, BAD)], PROTOCOL),
        case("5.1.1 streams left out", &[request(5, ANSWERED), request(9, ANSWERED)], Answer(9)),
        case(
            "5.1.2 more streams than allowed",
            // Both doors allow 256 of callers on the same machine.
            &(0..=256).map(|i| request(2 * i + 1, SILENT)).collect::<Vec<_>>(),
            Stream(&[PROTOCOL_ERROR, REFUSED_STREAM]),
        ),
        case(
            "5.3.1 HEADERS that depend on themselves",
            &[frame(
                HEADERS,
                END_STREAM | END_HEADERS | WITH_PRIORITY,
                1,
                &[&[0, 0, 0, 1, 15][..], &block(BAD)].concat(),
            )],
            Stream(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.3.1 HEADERS that depend on another",
            &[frame(
                HEADERS,
                END_STREAM | END_HEADERS | WITH_PRIORITY,
                3,
                &[&[0, 0, 0, 1, 15][..], &block(ANSWERED)].concat(),
            )],
            Answer(3),
        ),
        case("5.3.1 PRIORITY on itself", &[priority(1, 1)], Stream(&[PROTOCOL_ERROR])),
    ]
}

fn errors() -> Vec<Case> {
    use Wanted::Connection;
    let odd = || frame(0xff, 0xff, 0, &[0; 8]);
    vec![
        case(
            "5.4.1 a broken frame between requests",
            &[request(1, SILENT), frame(PING, 0, 0, &[0; 3])],
            Connection(&[FRAME_SIZE_ERROR]),
        ),
        steps(
            "5.5 a frame of unknown type",
            vec![Step::Send([odd(), ping([5; 8])].concat()), acknowledged([5; 8])],
            Wanted::Life,
        ),
        case(
            "5.5 a frame of unknown type on a stream",
            &[open(1, ANSWERED), frame(0xbe, 0, 1, b"any"), data(1)],
            Wanted::Answer(1),
        ),
        case(
            "5.5 a frame of unknown type within a head",
            &[frame(HEADERS, END_STREAM, 1, &block(BAD)), odd(), more(1)],
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.5 an unknown flag",
            &[head(1, END_STREAM | 0x40, &block(ANSWERED))],
            Wanted::Answer(1),
        ),
    ]
}

#[tokio::test]
async fn streams_keep_their_states() {
    let cases = [beginnings(), states(), errors()].into_iter().flatten().collect();
    judge(cases).await;
}
