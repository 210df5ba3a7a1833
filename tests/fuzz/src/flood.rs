//! The budget of HTTP/2 frames. Steps: frames of little use, requests, time that passes, pieces of
//! answers that are sent.

use std::time::Duration;

use segue_sidecar_core::flood::{FrameBudget, ResetRatio};

use crate::input::Input;

const BURST: u64 = 5_000;
const FRAMES_A_SECOND: u64 = 1_000;
const FRAMES_A_REQUEST: u64 = 10;
const FRAMES_A_DATA: u64 = 10;
/// Of one input.
const MOST_FRAMES: u64 = 40_000;

pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut budget = FrameBudget::default();
    let mut age = Duration::ZERO;
    let (mut others, mut earned) = (0, 0);
    while !input.is_empty() && others < MOST_FRAMES {
        let count = u64::from(input.short());
        match input.byte() % 4 {
            0 => {
                for _ in 0..count {
                    others += 1;
                    let elapsed = u64::try_from(age.as_millis()).unwrap() * FRAMES_A_SECOND / 1000;
                    if !budget.received_other(|| age) {
                        assert!(others > BURST, "{others} frames were too many");
                        return resets(bytes);
                    }
                    let most = BURST + earned + elapsed;
                    assert!(others <= most, "{others} frames went by");
                }
            }
            1 => {
                (0..count).for_each(|_| budget.received_headers());
                earned += count * FRAMES_A_REQUEST;
            }
            2 => age += Duration::from_millis(count),
            _ => {
                (0..count).for_each(|_| budget.sent_data());
                earned += count * FRAMES_A_DATA;
            }
        }
    }
    resets(bytes);
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
