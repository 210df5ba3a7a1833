//! What a call brings to say who it is.

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// Longest token that is looked at.
const MOST_TOKEN_BYTES: usize = 1024;

/// What was brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    Nothing,
    Token(&'a [u8]),
}

/// An authorization that is none: another scheme, several of them, too long.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable;

/// The token of `authorization: Bearer TOKEN` (RFC 6750, 2.1).
pub fn presented(headers: &HeaderMap) -> Result<Presented<'_>, Unreadable> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(Presented::Nothing) };
    if values.next().is_some() {
        return Err(Unreadable);
    }
    let value = value.as_bytes();
    let (scheme, token) = value.split_at_checked(7).ok_or(Unreadable)?;
    // The scheme's case does not matter (RFC 9110, 11.1).
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Err(Unreadable);
    }
    let token = token.trim_ascii();
    if token.is_empty() || token.len() > MOST_TOKEN_BYTES {
        return Err(Unreadable);
    }
    Ok(Presented::Token(token))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn one_bearer_token_is_read() {
        for good in ["Bearer abc", "bearer abc", "BEARER  abc "] {
            let headers = headers(&[good]);
            assert_eq!(presented(&headers), Ok(Presented::Token(b"abc")), "{good}");
        }
        assert_eq!(presented(&headers(&[])), Ok(Presented::Nothing));
    }

    #[test]
    fn anything_else_is_no_token() {
        let long = format!("Bearer {}", "a".repeat(1025));
        for wrong in [
            &["Basic YWJj"][..],
            &["Bearer"],
            &["Bearer "],
            &["abc"],
            &["Bearerabc"],
            &["Bearer a", "Bearer b"],
            &[long.as_str()],
        ] {
            assert_eq!(presented(&headers(wrong)), Err(Unreadable), "{wrong:?}");
        }
    }
}
