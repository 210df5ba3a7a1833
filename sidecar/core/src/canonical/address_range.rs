//! Addresses with a common beginning, as people write them: `10.0.0.0/8`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// A network in CIDR notation (RFC 4632), or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    prefix_bits: u8,
}

/// A text that is no range.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no range of addresses: write 10.0.0.0/8, fd00::/8 or one address")]
pub struct InvalidAddressRange(String);

impl AddressRange {
    /// Whether it is of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// Whether an address lies in the range. IPv4 addresses that are written as IPv6 ones
    /// (`::ffff:10.0.0.1`) are taken for what they are.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shift = |bits: u32| bits.saturating_sub(u32::from(self.prefix_bits));
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.checked_shr(shift(u32::BITS)).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differ = first.to_bits() ^ address.to_bits();
                differ.checked_shr(shift(u128::BITS)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = InvalidAddressRange;

    fn from_str(text: &str) -> Result<Self, InvalidAddressRange> {
        let invalid = || InvalidAddressRange(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| invalid())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            Some(bits) => bits.trim().parse().map_err(|_| invalid())?,
            None => most,
        };
        if prefix_bits > most {
            return Err(invalid());
        }
        let range = Self { first: address, prefix_bits };
        // A bit beyond the prefix is a slip of the pen that would mean another range than it looks.
        let first = match address {
            IpAddr::V4(address) => {
                let kept = u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & kept))
            }
            IpAddr::V6(address) => {
                let kept = u128::MAX.checked_shl(128 - u32::from(prefix_bits)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & kept))
            }
        };
        if first == address { Ok(range.unmapped()) } else { Err(invalid()) }
    }
}

impl AddressRange {
    /// A range of IPv4 that is written as one of IPv6 (`::ffff:10.0.0.0/104`), taken for what it is,
    /// as its addresses are.
    fn unmapped(self) -> Self {
        match (self.first.to_canonical(), self.prefix_bits.checked_sub(96)) {
            (first, Some(prefix_bits)) if first.is_ipv4() && self.first.is_ipv6() => {
                Self { first, prefix_bits }
            }
            _ => self,
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_begins_as_it_does() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "255.1.1.1", "::1"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::10.1.1.1"),
            ("::ffff:10.0.0.0/104", "10.1.1.1", "11.1.1.1"),
            ("::ffff:10.1.2.3", "::ffff:10.1.2.3", "10.1.2.4"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("192.168.4.0/22", "192.168.7.255", "192.168.8.0"),
        ] {
            let range: AddressRange = range.parse().unwrap();
            assert!(range.contains(inside.parse().unwrap()), "{range} {inside}");
            assert!(!range.contains(outside.parse().unwrap()), "{range} {outside}");
            assert_eq!(range.to_string().parse(), Ok(range));
        }
    }

    #[test]
    fn what_is_no_range_is_told() {
        for bad in
            ["", "10", "10.0.0.0/33", "::/129", "10.0.0.1/8", "a/8", "10.0.0.0/", "10.0.0.0/-1"]
        {
            let refused = bad.parse::<AddressRange>();
            assert_eq!(refused, Err(InvalidAddressRange(bad.to_owned())), "{bad}");
        }
    }
}
