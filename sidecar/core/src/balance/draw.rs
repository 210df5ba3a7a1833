//! Draws out of draws.

/// Another uniform number out of one (splitmix64), for algorithms that need several.
pub fn mixed(draw: u64) -> u64 {
    let state = draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A number below `end` from a uniform draw, without a division.
pub(super) fn below(draw: u64, end: u64) -> u64 {
    ((u128::from(draw) * u128::from(end)) >> 64) as u64
}

/// A number from 0.0 to below 1.0 from a uniform draw.
pub(super) fn part(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}
