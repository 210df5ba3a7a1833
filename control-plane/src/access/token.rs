//! Tokens: how they are made, and how they are recognised without being kept.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use aws_lc_rs::rand;
use segue_shared::secret::Secret;

/// What a token of people begins with, so that a leaked one is recognised for what it is.
pub const OPERATOR_PREFIX: &str = "segue-op-";
/// What a token of nodes begins with.
pub const JOIN_PREFIX: &str = "segue-join-";

const RANDOM_BYTES: usize = 32;
/// Crockford's alphabet in lower case: no letter is mistaken for a digit, or for another letter.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// SHA-256 of a token. Tokens have 256 random bits, so a fast hash without salt is enough.
#[derive(Clone, Copy, Debug)]
pub struct TokenDigest([u8; SHA256_OUTPUT_LEN]);

impl TokenDigest {
    pub fn of(token: &[u8]) -> Self {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, token).as_ref());
        Self(bytes)
    }

    /// From 64 hexadecimal digits, as `sha256sum` prints them.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != SHA256_OUTPUT_LEN * 2 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(i * 2..i * 2 + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Whether they are the same; takes the same time for every other one.
    pub fn matches(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

/// A new token: the prefix and 256 random bits. `None` where the system gives no randomness.
pub fn generate(prefix: &str) -> Option<Secret> {
    let mut bytes = [0; RANDOM_BYTES];
    rand::fill(&mut bytes).ok()?;
    Secret::new(&format!("{prefix}{}", readable(&bytes))).ok()
}

/// A new token for nodes. `None` where the system gives no randomness.
pub fn new_join_token() -> Option<Secret> {
    generate(JOIN_PREFIX)
}

/// Base 32, five bits a character.
fn readable(bytes: &[u8]) -> String {
    let (mut text, mut buffer, mut bits) = (String::new(), 0_u32, 0);
    let mut push = |five: u32| text.push(char::from(ALPHABET[(five & 31) as usize]));
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            push(buffer >> bits);
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        push(buffer << (5 - bits));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_says_what_it_is_for_and_is_like_no_other() {
        let [one, other] = [(); 2].map(|()| generate(OPERATOR_PREFIX).unwrap());
        assert!(one.expose().starts_with("segue-op-"));
        assert_eq!(one.expose().len(), "segue-op-".len() + 52);
        assert!(one != other);
    }

    #[test]
    fn all_bits_of_a_token_are_written() {
        assert_eq!(readable(&[0xff; 5]), "zzzzzzzz");
        assert_eq!(readable(&[0x01]), "04");
        let one_bit_apart: std::collections::BTreeSet<String> = (0..256)
            .map(|bit| {
                let mut bytes = [0_u8; 32];
                bytes[bit / 8] = 1 << (bit % 8);
                readable(&bytes)
            })
            .collect();
        assert_eq!(one_bit_apart.len(), 256);
    }

    #[test]
    fn digests_are_those_of_sha256sum() {
        // printf %s abc | sha256sum
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(TokenDigest::from_hex(hex).unwrap().matches(&TokenDigest::of(b"abc")));
        assert!(!TokenDigest::from_hex(hex).unwrap().matches(&TokenDigest::of(b"abd")));
        for wrong in ["", "ba78", &hex[1..], &format!("{}g", &hex[1..]), &"é".repeat(32)] {
            assert!(TokenDigest::from_hex(wrong).is_none(), "{wrong}");
        }
    }
}
