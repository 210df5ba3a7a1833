//! `grpc-timeout`: how long a caller of gRPC waits, as up to eight digits and a unit (the gRPC
//! protocol over HTTP/2, "Timeout").

use std::time::Duration;

use http::HeaderValue;

/// Units, the finest first, with the time of each in nanoseconds.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];
const MOST_DIGITS: usize = 8;

/// The time of a value; `None` where it is malformed.
pub fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > MOST_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0, |count, digit| count * 10 + u64::from(digit - b'0'));
    let (_, nanos) = UNITS.iter().find(|(known, _)| known == unit)?;
    let nanos = u128::from(count) * nanos;
    let secs = u64::try_from(nanos / 1_000_000_000).ok()?;
    Some(Duration::new(secs, (nanos % 1_000_000_000) as u32))
}

/// The value of a time in the finest unit that has room for it, rounded down.
pub fn value(time: Duration) -> HeaderValue {
    const END: u128 = 100_000_000;
    let nanos = time.as_nanos();
    let (unit, count) = UNITS
        .iter()
        .map(|&(unit, of)| (unit, nanos / of))
        .find(|(_, count)| *count < END)
        .unwrap_or((b'H', END - 1));
    let text = format!("{count}{}", char::from(unit));
    // Digits and a letter are always a valid value.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("0n"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_read_by_their_unit() {
        for (text, time) in [
            ("1H", Some(Duration::from_hours(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("30S", Some(Duration::from_secs(30))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("0S", Some(Duration::ZERO)),
            ("100000000n", None),
            ("5", None),
            ("S", None),
            ("5s", None),
            ("-1S", None),
            ("1.5S", None),
            ("", None),
        ] {
            assert_eq!(parse(text.as_bytes()), time, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_time_never_grows_on_its_way(nanos in any::<u64>()) {
            let time = Duration::from_nanos(nanos);
            let told = parse(value(time).as_bytes()).unwrap();
            prop_assert!(told <= time);
            // Eight digits, the first of which may be a one.
            let least = time.mul_f64(1.0 - 1.3e-6).saturating_sub(Duration::from_nanos(1));
            prop_assert!(told >= least);
        }
    }
}
