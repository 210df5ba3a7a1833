//! The one spelling of a path. Everything that looks at a path gets it from here, and what was looked
//! at is what goes on to the upstream (RFC 3986 section 6.2.2, and what backends do beyond it).
//!
//! | as it came | as it goes on |
//! |---|---|
//! | escapes of letters, digits, `-._~` | the characters |
//! | other escapes | with upper-case digits |
//! | characters that no path may hold (RFC 3986 section 3.3), not ASCII | escaped |
//! | `/./`, `/../`, also with parameters (`/..;x/`) | resolved, never above the root |
//! | `//`, `/;x/` | one slash |
//! | `\` | `/` |
//! | `%2f`, `%5c` | refused, kept or made `/`, by [`EscapedSlashes`] |
//! | `%00`, `%zz`, `#`, dots before `%3b` | refused |
//! | the query | untouched |

use std::fmt;

use http::uri::PathAndQuery;

/// What is done with a slash or backslash that is written as an escape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// The request is refused: backends disagree whether it parts segments.
    #[default]
    Reject,
    /// It stays an escape and parts nothing; the backends must see it the same way.
    Keep,
    /// It becomes a slash.
    Unescape,
}

/// A path in its one spelling, with the query that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonPath {
    target: PathAndQuery,
    /// The path without parameters of segments, where it has any.
    bare: Option<Box<str>>,
}

/// A path that has no one spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathFault {
    NoSlash,
    Escape,
    Nul,
    EscapedSlash,
    HiddenDots,
    Fragment,
}

impl CanonPath {
    /// Canonicalises. Allocates nothing where the path is canonical already and its segments have
    /// no parameters.
    pub fn of(target: PathAndQuery, slashes: EscapedSlashes) -> Result<Self, PathFault> {
        let text = target.as_str();
        // `http://chat?a` has an empty path, which means the root.
        if !text.starts_with(['/', '?']) {
            return Err(PathFault::NoSlash);
        }
        let target = if text.starts_with('/') && is_canonical(target.path().as_bytes()) {
            target
        } else {
            let mut path = rewritten(target.path().as_bytes(), slashes)?;
            if let Some(query) = target.query() {
                path.push('?');
                path.push_str(query);
            }
            PathAndQuery::try_from(path).map_err(|_| PathFault::NoSlash)?
        };
        let bare = target.path().contains(';').then(|| without_parameters(target.path()));
        Ok(Self { target, bare })
    }

    /// What goes on to the upstream: path and query.
    pub fn target(&self) -> &PathAndQuery {
        &self.target
    }

    /// Gives away what goes on to the upstream; the root is left.
    pub fn take_target(&mut self) -> PathAndQuery {
        self.bare = None;
        std::mem::replace(&mut self.target, PathAndQuery::from_static("/"))
    }

    /// The path as it goes on.
    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// The path as rules look at it: without parameters of segments (`/a;v=1/b` is `/a/b`), which
    /// some backends take off and others do not.
    pub fn matched(&self) -> &str {
        self.bare.as_deref().unwrap_or_else(|| self.target.path())
    }

    /// Without the question mark.
    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// What follows a prefix that a rule matched, as it goes on; parameters of the last segment of
    /// the prefix go with the prefix.
    pub fn after(&self, prefix: &str) -> Option<&str> {
        let path = self.path();
        if self.bare.is_none() {
            return path.strip_prefix(prefix);
        }
        if !self.matched().starts_with(prefix) {
            return None;
        }
        let (mut seen, mut in_parameters) = (0, false);
        for (i, byte) in path.bytes().enumerate() {
            in_parameters = byte == b';' || (in_parameters && byte != b'/');
            if !in_parameters {
                if seen == prefix.len() {
                    return Some(&path[i..]);
                }
                seen += 1;
            }
        }
        Some("")
    }
}

impl PathFault {
    /// A sentence for people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoSlash => "the request target must begin with a slash",
            Self::Escape => "a percent sign in the path must be followed by two hex digits",
            Self::Nul => "the path must not hold %00",
            Self::EscapedSlash => "the path must not hold an escaped slash or backslash",
            Self::HiddenDots => "the path must not hide dot segments behind an escape",
            Self::Fragment => "the request target must not hold a fragment",
        }
    }
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for PathFault {}

/// The path of a rule in the spelling that paths of requests have, so that a rule meets what it says
/// however it is written. What is no path stays as it is, and meets nothing.
pub fn rule_path(path: &str) -> Box<str> {
    if is_canonical(path.as_bytes()) {
        return path.into();
    }
    respelled(path.as_bytes(), EscapedSlashes::Keep).unwrap_or_else(|_| path.to_owned()).into()
}

/// Whether nothing would change. Escaped slashes are left to the long way.
fn is_canonical(path: &[u8]) -> bool {
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        rest = match byte {
            b'/' if begins_well(after) => after,
            b'/' => return false,
            b'%' => match escape(after) {
                Some(escaped) if escaped.stays => &after[2..],
                _ => return false,
            },
            _ if is_plain(*byte) => after,
            _ => return false,
        };
    }
    true
}

/// Whether what follows a slash is neither an empty segment, except at the end, nor dots.
fn begins_well(segment: &[u8]) -> bool {
    match segment {
        [b'/' | b';', ..] => false,
        [b'.', ..] => {
            let end = segment.iter().position(|byte| matches!(byte, b'/' | b';'));
            !is_dots(&segment[..end.unwrap_or(segment.len())])
        }
        _ => true,
    }
}

fn is_dots(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}

/// The canonical spelling of a path that is not canonical, or is so in a rare way.
fn rewritten(path: &[u8], slashes: EscapedSlashes) -> Result<String, PathFault> {
    let flat = respelled(path, slashes)?;
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_slash = true;
    for segment in flat.split('/').skip(1) {
        let name = segment.split(';').next().unwrap_or(segment);
        ends_in_slash = matches!(name, "" | "." | "..");
        match name {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ if hides_dots(segment) => return Err(PathFault::HiddenDots),
            _ => kept.push(segment),
        }
    }
    let mut all = String::with_capacity(flat.len() + 1);
    for segment in &kept {
        all.push('/');
        all.push_str(segment);
    }
    if ends_in_slash || all.is_empty() {
        all.push('/');
    }
    Ok(all)
}

/// Whether a backend that takes escaped delimiters for real ones would find dots, be it in what are
/// parameters to us.
fn hides_dots(segment: &str) -> bool {
    if !segment.contains('%') {
        return false;
    }
    let mut pieces = Vec::new();
    let mut rest = segment;
    while let Some(at) = ["%2F", "%5C", "%3B"].iter().filter_map(|it| rest.find(it)).min() {
        pieces.push(&rest[..at]);
        rest = &rest[at + 3..];
    }
    if pieces.is_empty() {
        return false;
    }
    pieces.push(rest);
    pieces.iter().any(|piece| is_dots(piece.split(';').next().unwrap_or(piece).as_bytes()))
}

/// The path with each character in its one spelling; segments are as they were.
fn respelled(path: &[u8], slashes: EscapedSlashes) -> Result<String, PathFault> {
    let mut flat = String::with_capacity(path.len() + 16);
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'%' => {
                let escaped = escape(after).ok_or(PathFault::Escape)?;
                rest = &after[2..];
                match (escaped.byte, slashes) {
                    (0, _) => return Err(PathFault::Nul),
                    (b'/' | b'\\', EscapedSlashes::Reject) => return Err(PathFault::EscapedSlash),
                    (b'/' | b'\\', EscapedSlashes::Unescape) => flat.push('/'),
                    (byte, _) if is_unreserved(byte) => flat.push(char::from(byte)),
                    (byte, _) => push_escape(&mut flat, byte),
                }
            }
            b'\\' | b'/' => flat.push('/'),
            b'#' => return Err(PathFault::Fragment),
            0 => return Err(PathFault::Nul),
            &byte if is_plain(byte) => flat.push(char::from(byte)),
            &byte => push_escape(&mut flat, byte),
        }
    }
    Ok(flat)
}

/// An escape, from behind its percent sign.
struct Escape {
    byte: u8,
    /// Whether it is its own one spelling, whatever is done with slashes.
    stays: bool,
}

fn escape(after: &[u8]) -> Option<Escape> {
    let [high, low, ..] = *after else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = u8::try_from(digit(high)? << 4 | digit(low)?).ok()?;
    let upper = !high.is_ascii_lowercase() && !low.is_ascii_lowercase();
    let parts = matches!(byte, 0 | b'/' | b'\\' | b';');
    Some(Escape { byte, stays: upper && !parts && !is_unreserved(byte) })
}

fn push_escape(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 15)]));
}

fn without_parameters(path: &str) -> Box<str> {
    let mut bare = String::with_capacity(path.len());
    for segment in path.split('/').skip(1) {
        bare.push('/');
        bare.push_str(segment.split(';').next().unwrap_or(segment));
    }
    bare.into_boxed_str()
}

/// RFC 3986 section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What may stand in a segment as it is (RFC 3986 section 3.3).
fn is_plain(byte: u8) -> bool {
    PLAIN[usize::from(byte)]
}

static PLAIN: [bool; 256] = plain();

const fn plain() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = is_unreserved(byte)
            || matches!(
                byte,
                b'!' | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
                    | b':'
                    | b'@'
            );
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests;
