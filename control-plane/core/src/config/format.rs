//! How texts must look: durations, percentages, host names, endpoints, expressions.

use std::net::SocketAddr;
use std::time::Duration;

use regex::RegexBuilder;
use segue_proto::config::v1::Format;
use segue_shared::ids::dns_label;

use super::expression;

/// Compiled size of an expression, in bytes.
pub(super) const MAX_REGEX_BYTES: usize = 1 << 20;

/// What is wrong with a text, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadText {
    pub message: String,
    pub hint: &'static str,
}

/// Checks that a text looks as its field says.
pub(super) fn check(format: Format, text: &str) -> Result<(), BadText> {
    let (good, what, hint) = match format {
        Format::Unspecified => return Ok(()),
        Format::Regex => return regex(text),
        Format::Percent => return percent(text).map(|_| ()),
        Format::Endpoint => return endpoint(text).map(|_| ()),
        Format::DnsLabel => (
            dns_label(text).is_ok(),
            "a DNS label",
            "1 to 63 lower-case letters, digits and '-', with a letter or digit at both ends",
        ),
        Format::Host => (
            is_host(text.strip_prefix("*.").unwrap_or(text)),
            "a host name",
            "such as chat.example.com, without scheme, port and path",
        ),
        Format::HeaderName => (
            is_token(text),
            "the name of a header or cookie",
            "letters, digits and '-', such as x-user-id",
        ),
        Format::Path => (
            text.starts_with('/') && !text.contains(|c: char| c.is_control() || c == ' '),
            "a path",
            "a path begins with '/'",
        ),
        Format::HostPort => {
            (host_port(text).is_some(), "a host name and a port", "such as chat.internal:8080")
        }
        Format::JsonPointer => (
            is_json_pointer(text),
            "a JSON pointer",
            "such as /session/id (RFC 6901; '~' is written ~0 and '/' ~1)",
        ),
        Format::Method => (
            is_token(text) && !text.contains(|c: char| c.is_ascii_lowercase()),
            "an HTTP method",
            "methods are upper-case, such as GET",
        ),
    };
    if good {
        Ok(())
    } else {
        Err(BadText { message: format!("{} is not {what}", quoted(text)), hint })
    }
}

/// A text for a message: in quotes, its control characters made visible, cut after 64 characters.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("`{}{more}`", short.escape_debug())
}

/// An expression that compiles within its limit.
pub(super) fn regex(text: &str) -> Result<(), BadText> {
    if let Some(what) = expression::beyond_re2(text) {
        return Err(BadText {
            message: format!("{} has {what}", quoted(text)),
            hint: "write it without: Envoy's engine, RE2, does not know it or takes it otherwise",
        });
    }
    RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build().map(|_| ()).map_err(|error| {
        let (message, hint) = match error {
            regex::Error::CompiledTooBig(_) => (
                format!("the expression {} compiles to more than 1 MiB", quoted(text)),
                "make it shorter, above all its repetitions `{n,m}`",
            ),
            error => {
                // The last line names the fault; those before draw a picture of it.
                let text_of_error = error.to_string();
                let last = text_of_error.lines().last().unwrap_or_default();
                let reason = last.strip_prefix("error: ").unwrap_or(last);
                (
                    format!("{} is not a regular expression: {reason}", quoted(text)),
                    "RE2 syntax, without look-around and back-references",
                )
            }
        };
        BadText { message, hint }
    })
}

/// An address of an instance. A port must be named.
pub(super) fn endpoint(text: &str) -> Result<SocketAddr, BadText> {
    text.parse().ok().filter(|address: &SocketAddr| address.port() != 0).ok_or_else(|| BadText {
        message: format!("{} is not IP:port", quoted(text)),
        hint: "such as 10.0.0.7:8080 or [fd00::7]:8080; host names go to `dns`",
    })
}

/// Host and port, the host in lower case.
pub(super) fn host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|&port| port != 0)?;
    is_host(host).then(|| (host.to_ascii_lowercase(), port))
}

/// A percentage from 0% to 100% in hundredths of a percent, rounded to the nearest.
pub(super) fn percent(text: &str) -> Result<u16, BadText> {
    let number = text.strip_suffix('%').filter(|number| {
        number.starts_with(|c: char| c.is_ascii_digit())
            && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    });
    number
        .and_then(|number| number.parse::<f64>().ok())
        .filter(|number| (0.0..=100.0).contains(number))
        .map(|number| (number * 100.0).round() as u16)
        .ok_or_else(|| BadText {
            message: format!("{} is not a percentage", quoted(text)),
            hint: "from 0% to 100%, such as 0.5%",
        })
}

/// Reads a duration (GEP-2257): up to four parts of `h`, `m`, `s` and `ms`, up to five digits each.
pub(super) fn duration(text: &str) -> Result<Duration, BadText> {
    read_duration(text).ok_or_else(|| BadText {
        message: format!("{} is not a duration", quoted(text)),
        hint: "whole numbers with h, m, s or ms, such as 30s, 500ms or 1h30m",
    })
}

fn read_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut millis = 0u64;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit = tail.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, tail) = tail.split_at_checked(unit)?;
        let unit_millis = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1000,
            "ms" => 1,
            _ => return None,
        };
        parts += 1;
        if !(1..=5).contains(&digits) || parts > 4 {
            return None;
        }
        millis += number.parse::<u64>().ok()? * unit_millis;
        rest = tail;
    }
    (parts > 0).then(|| Duration::from_millis(millis))
}

/// Writes a duration so that [`duration`] reads the same. What the notation cannot say (a negative
/// time, parts of a millisecond) is written in seconds, which no reader takes for a duration.
pub(super) fn print_duration(seconds: i64, nanos: i32) -> String {
    let (Ok(whole), Ok(fraction)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
        return format!("{seconds}s {nanos}ns");
    };
    if fraction % 1_000_000 != 0 || fraction >= 1_000_000_000 {
        return format!("{whole}.{fraction:09}s");
    }
    let parts = [
        (whole / 3600, "h"),
        (whole / 60 % 60, "m"),
        (whole % 60, "s"),
        (u64::from(fraction / 1_000_000), "ms"),
    ];
    let mut text = String::new();
    for (number, unit) in parts.into_iter().filter(|(number, _)| *number > 0) {
        text.push_str(&number.to_string());
        text.push_str(unit);
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Labels of letters, digits, '-' and '_', separated by dots (RFC 1123, with the underscore that
/// service names use), or an IP address.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_json_pointer(text: &str) -> bool {
    let escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    (text.is_empty() || text.starts_with('/')) && escapes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in
            [("30s", 30_000), ("5m", 300_000), ("1h30m", 5_400_000), ("500ms", 500), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "1.5s", "-1s", "1d", "5 s", "100000s", "1s1s1s1s1s", "1S", "é"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn formats_tell_good_from_bad() {
        for (format, good, bad) in [
            (Format::DnsLabel, vec!["a", "v2"], vec!["A", "a.b", ""]),
            (
                Format::Host,
                vec!["a", "*.example.com"],
                vec!["", "a:80", "http://a", "*.*.b", "a/b"],
            ),
            (Format::HeaderName, vec!["x-user-id"], vec!["", "a b", "a:"]),
            (
                Format::Endpoint,
                vec!["1.2.3.4:80", "[::1]:80"],
                vec!["1.2.3.4", "a:80", "1.2.3.4:0"],
            ),
            (Format::Percent, vec!["0.5%", "100%"], vec!["5", "101%", "-1%", ".5%", "%", "1e1%"]),
            (Format::Regex, vec!["^a+$"], vec!["(", "(?=a)", "(a{1000}){1000}"]),
            (Format::Path, vec!["/", "/a*"], vec!["", "a", "/a b"]),
            (Format::HostPort, vec!["a.b:80"], vec!["a", "a:0", "a:b", ":80", "a:70000"]),
            (Format::JsonPointer, vec!["", "/a~0b"], vec!["a", "/a~b", "/a~"]),
            (Format::Method, vec!["GET"], vec!["get", "", "A B"]),
        ] {
            for text in good {
                assert_eq!(check(format, text), Ok(()), "{format:?} {text}");
            }
            for text in bad {
                assert!(check(format, text).is_err(), "{format:?} {text}");
            }
        }
    }

    proptest! {
        #[test]
        fn durations_come_back(millis in 0u64..=300_000_000_000) {
            let time = Duration::from_millis(millis);
            let text = print_duration(time.as_secs().cast_signed(), time.subsec_nanos().cast_signed());
            prop_assert_eq!(duration(&text), Ok(time));
        }
    }

    #[test]
    fn what_the_notation_cannot_say_is_not_read_back() {
        for (seconds, nanos) in [(-1, 0), (0, 1), (1, -1), (0, 1_000_000_000)] {
            assert!(duration(&print_duration(seconds, nanos)).is_err());
        }
    }
}
