//! How many places each address has, so that none takes those of all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// How many places one address may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    most: usize,
    of_loopback: bool,
}

/// The places that are taken. Holds no entry for who has none.
#[derive(Debug)]
pub struct Addresses {
    share: Share,
    taken: HashMap<IpAddr, usize>,
}

impl Share {
    /// What is `set` counts for every address. Where nothing is, it is a quarter of `all`, and
    /// loopback has no limit: behind it may be a proxy or a tunnel of this machine, which stands
    /// for everybody.
    pub fn of(all: u32, set: Option<u32>) -> Self {
        let most = usize::try_from(set.unwrap_or(all / 4)).unwrap_or(usize::MAX);
        Self { most: most.max(1), of_loopback: set.is_some() }
    }
}

impl Addresses {
    pub fn new(share: Share) -> Self {
        Self { share, taken: HashMap::new() }
    }

    /// Takes a place, if this address may have another one; to be given back with
    /// [`Addresses::leave`].
    #[must_use]
    pub fn enter(&mut self, address: IpAddr) -> bool {
        let Some(key) = self.key(address) else { return true };
        let count = self.taken.entry(key).or_default();
        if *count >= self.share.most {
            return false;
        }
        *count += 1;
        true
    }

    pub fn leave(&mut self, address: IpAddr) {
        let Some(key) = self.key(address) else { return };
        if let Some(count) = self.taken.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.taken.remove(&key);
            }
        }
    }

    /// Under what an address is counted; `None` where it is not. Of IPv6 a network of 64 bits is
    /// one: everybody is given at least that (RFC 6177, 2).
    fn key(&self, address: IpAddr) -> Option<IpAddr> {
        match address.to_canonical() {
            loopback if loopback.is_loopback() && !self.share.of_loopback => None,
            IpAddr::V6(address) if !address.is_loopback() => {
                Some(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into())
            }
            address => Some(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn by_default_an_address_has_a_quarter_and_loopback_what_it_wants() {
        let mut addresses = Addresses::new(Share::of(8, None));
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        assert!(addresses.enter(one) && addresses.enter(one));
        assert!(!addresses.enter(one), "a quarter");
        assert!(addresses.enter(other), "of nobody else's");
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!((0..100).all(|_| addresses.enter(address(loopback))), "{loopback}");
            addresses.leave(address(loopback));
        }
        addresses.leave(one);
        assert!(addresses.enter(one));
        for leaving in [one, one, other] {
            addresses.leave(leaving);
        }
        assert!(addresses.taken.is_empty(), "who has nothing costs nothing");
    }

    #[test]
    fn what_is_set_counts_for_everybody() {
        let mut addresses = Addresses::new(Share::of(1000, Some(1)));
        for name in ["127.0.0.1", "::1", "192.0.2.1"] {
            assert!(addresses.enter(address(name)));
            assert!(!addresses.enter(address(name)), "{name}");
        }
    }

    #[test]
    fn spellings_and_networks_of_one_client_are_one() {
        let mut addresses = Addresses::new(Share::of(4, None));
        assert!(addresses.enter(address("192.0.2.1")));
        assert!(!addresses.enter(address("::ffff:192.0.2.1")));
        assert!(addresses.enter(address("2001:db8::1")));
        assert!(!addresses.enter(address("2001:db8::ffff:2")), "the same network");
        assert!(addresses.enter(address("2001:db8:0:1::1")), "another one");
        assert!(Addresses::new(Share::of(1, None)).enter(address("192.0.2.1")), "one at least");
    }
}
