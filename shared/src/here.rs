//! Which hosts are this machine.

use std::net::IpAddr;

/// Whether a host, as URLs and addresses have it, is this machine, which no packet to it leaves.
/// No name server is asked.
pub fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_addresses() {
        for (host, is) in [
            ("127.0.0.1", true),
            ("127.1.2.3", true),
            ("[::1]", true),
            ("localhost", true),
            ("LocalHost", true),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
        ] {
            assert_eq!(is_this_machine(host), is, "{host}");
        }
    }
}
