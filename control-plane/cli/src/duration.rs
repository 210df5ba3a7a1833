//! Durations as people type them: `30s`, `1m30s`, `500ms` (GEP-2257).

use std::time::Duration;

/// Reads a duration: numbers, each followed by `h`, `m`, `s` or `ms`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: write it like 30s, 5m or 1h30m");
    let mut rest = text;
    let mut millis: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
        let (unit, factor) = units
            .into_iter()
            .find(|(unit, _)| rest[digits..].starts_with(unit))
            .ok_or_else(wrong)?;
        millis = number
            .checked_mul(factor)
            .and_then(|part| millis.checked_add(part))
            .ok_or_else(wrong)?;
        rest = &rest[digits + unit.len()..];
    }
    Ok(Duration::from_millis(millis))
}

/// A time to wait: at most what the control plane waits, so that nothing is changed before it says
/// no.
pub fn parse_wait(text: &str) -> Result<Duration, String> {
    const MOST: Duration = Duration::from_hours(1);
    match parse(text)? {
        wait if wait <= MOST => Ok(wait),
        _ => Err(format!("{text:?} is too long: wait at most 1h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_has_a_limit() {
        assert_eq!(parse_wait("60m"), Ok(Duration::from_hours(1)));
        assert!(parse_wait("61m").is_err());
    }

    #[test]
    fn durations_are_read_as_typed() {
        for (text, millis) in
            [("30s", 30_000), ("1m30s", 90_000), ("500ms", 500), ("1h", 3_600_000), ("0s", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "1d", "-1s", "1.5s", "30 s", "99999999999999999999s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
