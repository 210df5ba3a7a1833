//! The order in which the addresses of one instance are tried (RFC 8305, section 4).

use std::net::SocketAddr;

/// The addresses in turns of family, the family of the first one first. Within a family the order
/// stays; what comes twice counts once.
pub fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::with_capacity(addresses.len());
    for address in addresses {
        if !all.contains(address) {
            all.push(*address);
        }
    }
    let first_is_v6 = all.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::with_capacity(first.len() + second.len());
    loop {
        let before = ordered.len();
        ordered.extend(first.next());
        ordered.extend(second.next());
        if ordered.len() == before {
            return ordered;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_the_first_address_goes_first() {
        let told = at(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let tried = at(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(interleaved(&told), tried);
        let told = at(&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1", "1.1.1.1:1"]);
        assert_eq!(interleaved(&told), at(&["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"]));
        assert_eq!(interleaved(&[]), []);
    }
}
