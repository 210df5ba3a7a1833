//! A hash that looks at a few bytes. It guides guesses that are proven by comparison.

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash of the length, the first eight and the last eight bytes.
pub fn hash(bytes: &[u8]) -> u32 {
    let length = bytes.len();
    let (first, last) = match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)), 0),
    };
    mixed(first.wrapping_mul(ODD) ^ last.rotate_left(23) ^ length as u64)
}

/// One hash of two.
pub fn both(a: u32, b: u32) -> u32 {
    mixed(u64::from(a) << 32 | u64::from(b))
}

fn mixed(value: u64) -> u32 {
    let value = (value ^ value >> 29).wrapping_mul(ODD);
    (value >> 32) as u32
}
