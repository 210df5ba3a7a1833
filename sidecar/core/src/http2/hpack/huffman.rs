//! The Huffman code of HPACK (RFC 7541 appendix B). It is canonical: the lengths of the codes say
//! all of it.

use bytes::BufMut;

use super::HpackError;

/// The length of each octet's code in bits.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const LONGEST: usize = 30;
/// Codes up to this length are found by one look.
const SHORT: u32 = 8;

/// How to read the code.
struct Code {
    /// By the next eight bits: the octet, and the length of its code; 0 where it is longer.
    short: [(u8, u8); 1 << SHORT],
    /// Of each length: the first code, aligned to the left of 32 bits, and the place of its octet.
    first: [(u32, u16); LONGEST + 2],
    /// All octets by length of their code, then value.
    octets: [u8; 256],
}

static CODE: Code = Code::new();

impl Code {
    const fn new() -> Self {
        let mut code =
            Self { short: [(0, 0); 1 << SHORT], first: [(0, 0); LONGEST + 2], octets: [0; 256] };
        let (mut next, mut place, mut length) = (0u32, 0u16, 1);
        while length <= LONGEST {
            code.first[length] = (next << (32 - length), place);
            let mut octet = 0;
            while octet < 256 {
                if LENGTHS[octet] as usize == length {
                    code.octets[place as usize] = octet as u8;
                    if length <= SHORT as usize {
                        let free = SHORT - length as u32;
                        let mut tail = 0;
                        while tail < 1 << free {
                            code.short[((next << free) + tail) as usize] =
                                (octet as u8, length as u8);
                            tail += 1;
                        }
                    }
                    next += 1;
                    place += 1;
                }
                octet += 1;
            }
            next <<= 1;
            length += 1;
        }
        code.first[LONGEST + 1] = (u32::MAX, 256);
        code
    }

    /// The octet whose code is longer than eight bits at the left of `bits`, and its length.
    fn long(&self, bits: u32) -> Option<(u8, u32)> {
        let mut length = SHORT as usize + 1;
        // The codes of a length end where those of the next one begin.
        while length <= LONGEST && bits >= self.first[length + 1].0 {
            length += 1;
        }
        let (first, place) = self.first[length.min(LONGEST)];
        let turn = (bits - first) >> (32 - length.min(LONGEST));
        // Beyond the last octet is the end of string, which must not be there.
        self.octets.get(usize::from(place) + turn as usize).map(|octet| (*octet, length as u32))
    }
}

/// The most octets that so many octets of code stand for.
pub fn most_decoded(coded: usize) -> usize {
    coded * 8 / 5
}

/// Decodes a whole string.
pub fn decode(mut coded: &[u8], to: &mut impl BufMut) -> Result<(), HpackError> {
    // The next bits stand at the left.
    let (mut bits, mut count) = (0u64, 0u32);
    loop {
        while count <= 56
            && let Some((&octet, rest)) = coded.split_first()
        {
            bits |= u64::from(octet) << (56 - count);
            count += 8;
            coded = rest;
        }
        let (octet, length) = CODE.short[(bits >> (64 - SHORT)) as usize];
        let (octet, length) = if length > 0 {
            (octet, u32::from(length))
        } else {
            match CODE.long((bits >> 32) as u32) {
                Some(found) => found,
                // Only where it is all padding: the end of string itself must not be there.
                None if count < 8 => (0, 8),
                None => return Err(HpackError::Huffman),
            }
        };
        if length > count {
            break;
        }
        to.put_u8(octet);
        bits <<= length;
        count -= length;
    }
    // What is left is the begin of the end of string: ones, and fewer than eight of them.
    if count >= 8 || (count > 0 && bits >> (64 - count) != (1 << count) - 1) {
        return Err(HpackError::Huffman);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut to = Vec::new();
        decode(coded, &mut to).map(|()| to)
    }

    fn encoded(octets: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for octet in octets {
            let length = usize::from(LENGTHS[usize::from(*octet)]);
            let (first, place) = CODE.first[length];
            let turn = CODE.octets[usize::from(place)..].iter().position(|it| it == octet).unwrap();
            let code = (first >> (32 - length)) + turn as u32;
            write!(bits, "{code:0length$b}").unwrap();
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        bits.as_bytes()
            .chunks(8)
            .map(|octet| u8::from_str_radix(std::str::from_utf8(octet).unwrap(), 2).unwrap())
            .collect()
    }

    #[test]
    fn the_examples_of_the_rfc() {
        let host = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&host).unwrap(), b"www.example.com");
        assert_eq!(decoded(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(), b"no-cache");
        assert_eq!(encoded(b"www.example.com"), host);
        assert_eq!(decoded(&[]).unwrap(), b"");
    }

    #[test]
    fn each_octet_has_a_code() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encoded(&all)).unwrap(), all);
        for octet in all {
            for count in 1..10 {
                let string = vec![octet; count];
                assert_eq!(decoded(&encoded(&string)).unwrap(), string);
                assert!(string.len() <= most_decoded(encoded(&string).len()));
            }
        }
    }

    #[test]
    fn only_the_begin_of_the_end_of_string_may_follow() {
        // A whole octet of padding, zeros as padding, and the end of string itself.
        let no_cache = [0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf];
        assert_eq!(decoded(&[&no_cache[..], &[0xff]].concat()), Err(HpackError::Huffman));
        assert_eq!(decoded(&[0x00]), Err(HpackError::Huffman));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), Err(HpackError::Huffman));
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xfc]), Err(HpackError::Huffman));
        assert_eq!(decoded(&[0xff]), Err(HpackError::Huffman));
    }
}
