//! Integers of HPACK (RFC 7541 section 5.1).

use super::HpackError;

/// Octets after the first one that an integer may have: no honest one needs more.
const MOST_OCTETS: u32 = 4;

/// Reads an integer whose first octet has `prefix` bits for it, and takes it off.
pub fn read(bytes: &mut &[u8], prefix: u32) -> Result<usize, HpackError> {
    let (&first, mut rest) = bytes.split_first().ok_or(HpackError::Truncated)?;
    let most = (1usize << prefix) - 1;
    let mut value = usize::from(first) & most;
    if value == most {
        for octet in 0.. {
            let (&next, after) = rest.split_first().ok_or(HpackError::Truncated)?;
            if octet == MOST_OCTETS {
                return Err(HpackError::Integer);
            }
            rest = after;
            value += usize::from(next & 0x7f) << (7 * octet);
            if next & 0x80 == 0 {
                break;
            }
        }
    }
    *bytes = rest;
    Ok(value)
}

/// Writes an integer whose first octet has `prefix` bits for it; `first` holds the other bits.
pub fn write(page: &mut Vec<u8>, first: u8, prefix: u32, mut value: usize) {
    let most = (1usize << prefix) - 1;
    if value < most {
        page.push(first | value as u8);
        return;
    }
    page.push(first | most as u8);
    value -= most;
    while value >= 0x80 {
        page.push(value as u8 | 0x80);
        value >>= 7;
    }
    page.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        for (prefix, value, bytes) in
            [(5, 10, &[10][..]), (5, 1337, &[31, 154, 10]), (8, 42, &[42])]
        {
            let mut page = Vec::new();
            write(&mut page, 0, prefix, value);
            assert_eq!(page, bytes);
            assert_eq!(read(&mut &page[..], prefix), Ok(value));
        }
    }

    #[test]
    fn endless_and_broken_integers_are_refused() {
        assert_eq!(read(&mut &[][..], 7), Err(HpackError::Truncated));
        assert_eq!(read(&mut &[0x7f, 0x80][..], 7), Err(HpackError::Truncated));
        assert_eq!(read(&mut &[0x7f, 0x80, 0x80, 0x80, 0x80, 1][..], 7), Err(HpackError::Integer));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(prefix in 4u32..=8, value in 0usize..1 << 28, rest: Vec<u8>) {
            let mut page = Vec::new();
            write(&mut page, 0, prefix, value);
            page.extend_from_slice(&rest);
            let mut bytes = &page[..];
            prop_assert_eq!(read(&mut bytes, prefix), Ok(value));
            prop_assert_eq!(bytes, &rest[..]);
        }
    }
}
