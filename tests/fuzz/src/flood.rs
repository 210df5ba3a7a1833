//! The budget of HTTP/2 frames. The first 24 bytes are the preface; then steps: bytes that come as
//! they are, frames of one kind, time that passes, pieces of answers that are sent.

use std::time::Duration;

use segue_sidecar_core::flood::{FrameBudget, ResetRatio};

use crate::input::Input;

const PREFACE_BYTES: usize = 24;
const BURST: u64 = 5_000;
const FRAMES_A_SECOND: u64 = 1_000;
const FRAMES_A_REQUEST: u64 = 10;
const FRAMES_A_DATA: u64 = 10;
/// A frame of data without data.
const HEAD_BYTES: usize = 9;
/// Of one input.
const MOST_FRAMES: usize = 8_000;

/// All that a connection has seen.
#[derive(Default)]
struct Seen {
    age: Duration,
    received: Vec<u8>,
    sent_pieces: u64,
}

/// What the frames in the received bytes count for.
#[derive(Default)]
struct Counted {
    requests: u64,
    others: u64,
}

pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mut budget, mut cutwise) = (FrameBudget::default(), FrameBudget::default());
    let mut seen = Seen::default();
    let mut frames = 0;
    let mut piece = input.take(PREFACE_BYTES).to_vec();
    let mut is_good = true;
    loop {
        let age = seen.age;
        let in_budget = budget.received(&piece, || age);
        // However the network cuts the bytes, and the answer is that of any part of them.
        let cut = piece.chunks(7).map(|part| cutwise.received(part, || age));
        assert_eq!(cut.fold(true, |all, one| all & one), in_budget);
        seen.received.append(&mut piece);
        is_good &= in_budget;
        if !is_good || input.is_empty() || frames > MOST_FRAMES {
            break;
        }
        match input.byte() % 4 {
            0 => piece = input.piece().to_vec(),
            1 => {
                let (kind, length) = (input.byte(), usize::from(input.byte() % 16));
                let count = usize::from(input.short()) % MOST_FRAMES;
                frames += count;
                let mut frame = vec![0, 0, length as u8, kind, 0, 0, 0, 0, 0];
                frame.resize(9 + length, 0xff);
                piece = frame.repeat(count);
            }
            2 => seen.age += Duration::from_millis(u64::from(input.short())),
            _ => {
                let count = input.byte();
                let sent = [0; HEAD_BYTES].repeat(usize::from(count));
                budget.sent(&sent);
                sent.chunks(7).for_each(|part| cutwise.sent(part));
                seen.sent_pieces += u64::from(count);
            }
        }
    }
    let counted = counted(&seen.received);
    let earned = u64::try_from(seen.age.as_millis()).unwrap() * FRAMES_A_SECOND / 1000
        + counted.requests * FRAMES_A_REQUEST
        + seen.sent_pieces * FRAMES_A_DATA;
    if is_good {
        assert!(counted.others <= BURST + earned, "{} frames went by", counted.others);
    } else {
        assert!(counted.others > BURST, "{} frames were too many", counted.others);
    }
    resets(bytes);
}

/// The frames whose heads are whole.
fn counted(received: &[u8]) -> Counted {
    let mut counted = Counted::default();
    let mut rest = received.get(PREFACE_BYTES..).unwrap_or_default();
    while let [a, b, c, kind, _, _, _, _, _, after @ ..] = rest {
        match kind {
            0 => {}
            1 => counted.requests += 1,
            _ => counted.others += 1,
        }
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        rest = after.get(length..).unwrap_or_default();
    }
    counted
}

/// A connection is closed for its cancellations only where more than half of many streams were
/// cancelled early. Each byte is a few streams: the lower half of it opened, the upper one cancelled.
fn resets(bytes: &[u8]) {
    let mut ratio = ResetRatio::default();
    let (mut opened, mut early) = (0_u32, 0_u32);
    for byte in bytes {
        for _ in 0..byte & 0x0f {
            ratio.opened();
            opened += 1;
        }
        let age = if byte & 0x80 == 0 { Duration::ZERO } else { ResetRatio::EARLY };
        for _ in 0..byte >> 4 & 7 {
            early += u32::from(age < ResetRatio::EARLY);
            let closed = ratio.cancelled(age);
            assert_eq!(closed, opened >= 500 && early > opened / 2, "{early} of {opened}");
        }
    }
}
