//! The system's rules that send an application's connections to the sidecar: what `iptables-restore`
//! is told. Chains of our own hold all of them, so that they come and go as a whole.

use std::fmt::Write as _;

use crate::canonical::AddressRange;

/// The chain of connections that leave the application.
pub const OUTBOUND_CHAIN: &str = "SEGUE_OUTBOUND";
/// The chain of connections for the application.
pub const INBOUND_CHAIN: &str = "SEGUE_INBOUND";

/// What is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureRules {
    /// Where the sidecar takes what leaves the application.
    pub outbound_port: u16,
    /// Where it takes what is for the application; `None`: that is not captured.
    pub inbound_port: Option<u16>,
    /// Whose connections are the sidecar's own.
    pub sidecar: Owner,
    /// Ports of upstreams that are left alone.
    pub exclude_outbound_ports: Vec<u16>,
    /// Addresses of upstreams that are left alone.
    pub exclude_ranges: Vec<AddressRange>,
    /// Ports of the application that are captured; empty: all but those that are left alone.
    pub include_inbound_ports: Vec<u16>,
    /// Ports of the application that are left alone.
    pub exclude_inbound_ports: Vec<u16>,
}

/// How the sidecar's own connections are told from the application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    User(u32),
    Group(u32),
}

/// A family of addresses: each has tables of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// A jump from one of the system's chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    pub from: &'static str,
    pub to: &'static str,
}

impl CaptureRules {
    /// The jumps that must be there once.
    pub fn jumps(&self) -> Vec<Jump> {
        let mut jumps = vec![Jump { from: "OUTPUT", to: OUTBOUND_CHAIN }];
        if self.inbound_port.is_some() {
            jumps.push(Jump { from: "PREROUTING", to: INBOUND_CHAIN });
        }
        jumps
    }

    /// What sets the rules up, in one step, for `iptables-restore --noflush`. `present` are the jumps
    /// that are there already.
    pub fn install(&self, family: Family, present: &[Jump]) -> String {
        let mut text = String::from("*nat\n");
        // To name a chain of one's own here makes it, or empties it.
        for jump in self.jumps() {
            let _ = writeln!(text, ":{} - [0:0]", jump.to);
        }
        self.outbound(family, &mut text);
        self.inbound(&mut text);
        for jump in self.jumps() {
            if !present.contains(&jump) {
                let _ = writeln!(text, "-A {} -p tcp -j {}", jump.from, jump.to);
            }
        }
        text.push_str("COMMIT\n");
        text
    }

    fn outbound(&self, family: Family, text: &mut String) {
        let mut rule = |rule: &str| {
            let _ = writeln!(text, "-A {OUTBOUND_CHAIN} {rule}");
        };
        match self.sidecar {
            Owner::User(user) => rule(&format!("-m owner --uid-owner {user} -j RETURN")),
            Owner::Group(group) => rule(&format!("-m owner --gid-owner {group} -j RETURN")),
        }
        // What stays on this machine was never meant for others.
        rule("-o lo -j RETURN");
        for range in self.exclude_ranges.iter().filter(|range| family.holds(range)) {
            rule(&format!("-d {range} -j RETURN"));
        }
        for port in &self.exclude_outbound_ports {
            rule(&format!("-p tcp --dport {port} -j RETURN"));
        }
        rule(&format!("-p tcp -j REDIRECT --to-ports {}", self.outbound_port));
    }

    fn inbound(&self, text: &mut String) {
        let Some(to) = self.inbound_port else { return };
        let mut rule = |rule: &str| {
            let _ = writeln!(text, "-A {INBOUND_CHAIN} {rule}");
        };
        // Whoever knows the sidecar's port means it.
        rule(&format!("-p tcp --dport {to} -j RETURN"));
        for port in &self.exclude_inbound_ports {
            rule(&format!("-p tcp --dport {port} -j RETURN"));
        }
        if self.include_inbound_ports.is_empty() {
            rule(&format!("-p tcp -j REDIRECT --to-ports {to}"));
        }
        for port in &self.include_inbound_ports {
            rule(&format!("-p tcp --dport {port} -j REDIRECT --to-ports {to}"));
        }
    }
}

/// What takes the rules away, in one step: the jumps that are there, then the chains.
pub fn remove(present: &[Jump], chains: &[&str]) -> String {
    let mut text = String::from("*nat\n");
    for jump in present {
        let _ = writeln!(text, "-D {} -p tcp -j {}", jump.from, jump.to);
    }
    for chain in chains {
        let _ = write!(text, "-F {chain}\n-X {chain}\n");
    }
    text.push_str("COMMIT\n");
    text
}

/// Which of our jumps and chains a listing (`iptables-save -t nat`) shows. A jump that is there twice
/// is listed twice.
pub fn found(listing: &str) -> (Vec<Jump>, Vec<&'static str>) {
    const ALL: [Jump; 2] = [
        Jump { from: "OUTPUT", to: OUTBOUND_CHAIN },
        Jump { from: "PREROUTING", to: INBOUND_CHAIN },
    ];
    let jumps = listing.lines().filter_map(|line| {
        ALL.into_iter()
            .find(|jump| line.trim() == format!("-A {} -p tcp -j {}", jump.from, jump.to))
    });
    let chains = [OUTBOUND_CHAIN, INBOUND_CHAIN].into_iter().filter(|chain| {
        listing.lines().any(|line| {
            line.strip_prefix(':').is_some_and(|rest| rest.split(' ').next() == Some(*chain))
        })
    });
    (jumps.collect(), chains.collect())
}

impl Family {
    fn holds(self, range: &AddressRange) -> bool {
        range.is_ipv4() == (self == Self::V4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> CaptureRules {
        CaptureRules {
            outbound_port: 16001,
            inbound_port: Some(16006),
            sidecar: Owner::User(1337),
            exclude_outbound_ports: vec![22],
            exclude_ranges: vec!["169.254.169.254".parse().unwrap(), "fd00::/8".parse().unwrap()],
            include_inbound_ports: Vec::new(),
            exclude_inbound_ports: vec![9100],
        }
    }

    #[test]
    fn the_rules_of_ipv4() {
        let expected = "*nat
:SEGUE_OUTBOUND - [0:0]
:SEGUE_INBOUND - [0:0]
-A SEGUE_OUTBOUND -m owner --uid-owner 1337 -j RETURN
-A SEGUE_OUTBOUND -o lo -j RETURN
-A SEGUE_OUTBOUND -d 169.254.169.254/32 -j RETURN
-A SEGUE_OUTBOUND -p tcp --dport 22 -j RETURN
-A SEGUE_OUTBOUND -p tcp -j REDIRECT --to-ports 16001
-A SEGUE_INBOUND -p tcp --dport 16006 -j RETURN
-A SEGUE_INBOUND -p tcp --dport 9100 -j RETURN
-A SEGUE_INBOUND -p tcp -j REDIRECT --to-ports 16006
-A OUTPUT -p tcp -j SEGUE_OUTBOUND
-A PREROUTING -p tcp -j SEGUE_INBOUND
COMMIT
";
        assert_eq!(rules().install(Family::V4, &[]), expected);
    }

    #[test]
    fn a_jump_that_is_there_is_not_added_again() {
        let listing = ":OUTPUT ACCEPT [0:0]\n:SEGUE_OUTBOUND - [0:0]\n\
                       -A OUTPUT -p tcp -j SEGUE_OUTBOUND\n-A OUTPUT -p tcp -j SEGUE_OUTBOUND\n";
        let (jumps, chains) = found(listing);
        assert_eq!((jumps.len(), chains.as_slice()), (2, &[OUTBOUND_CHAIN][..]));
        let only = CaptureRules { inbound_port: None, ..rules() };
        assert!(!only.install(Family::V6, &jumps).contains("-A OUTPUT"));
        assert_eq!(
            remove(&jumps, &chains),
            "*nat\n-D OUTPUT -p tcp -j SEGUE_OUTBOUND\n-D OUTPUT -p tcp -j SEGUE_OUTBOUND\n\
             -F SEGUE_OUTBOUND\n-X SEGUE_OUTBOUND\nCOMMIT\n"
        );
    }

    #[test]
    fn only_what_is_named_comes_in() {
        let rules = CaptureRules {
            sidecar: Owner::Group(7),
            include_inbound_ports: vec![80, 8080],
            ..rules()
        };
        let text = rules.install(Family::V6, &[]);
        assert!(text.contains("--gid-owner 7 ") && text.contains("-d fd00::/8 "), "{text}");
        assert!(!text.contains("169.254"), "{text}");
        assert!(text.contains("-A SEGUE_INBOUND -p tcp --dport 8080 -j REDIRECT --to-ports 16006"));
        assert!(!text.contains("-A SEGUE_INBOUND -p tcp -j REDIRECT"), "{text}");
    }
}
