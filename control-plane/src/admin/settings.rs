//! Limits of the admin port.

use std::time::Duration;

use clap::Args;

use crate::access::{Limits, Share};

/// What the admin port serves at most.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[group(id = "admin")]
pub struct Settings {
    /// Connections to the admin port at one time; further ones are closed at once.
    #[arg(
        long,
        env = "SEGUE_ADMIN_MAX_CONNECTIONS",
        value_name = "CONNECTIONS",
        default_value = "1024",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub admin_max_connections: u32,

    /// Connections from one address (of IPv6: from one network of 64 bits) at one time [default: a
    /// quarter of --admin-max-connections, and no limit for loopback, behind which a proxy may
    /// stand for many]. What is set counts for loopback too.
    #[arg(
        long,
        env = "SEGUE_ADMIN_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "CONNECTIONS",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub admin_max_connections_per_address: Option<u32>,

    /// Age at which a connection ends, and what lasts on it begins anew, in seconds; each one's
    /// differs from it by up to a tenth.
    #[arg(
        long,
        env = "SEGUE_ADMIN_MAX_AGE_SECONDS",
        value_name = "SECONDS",
        default_value = "1800",
        value_parser = clap::value_parser!(u32).range(10..=31_536_000)
    )]
    pub admin_max_age_seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            admin_max_connections: 1024,
            admin_max_connections_per_address: None,
            admin_max_age_seconds: 1800,
        }
    }
}

impl Settings {
    pub fn limits(&self) -> Limits {
        let most = self.admin_max_connections;
        let each = Share::of(most, self.admin_max_connections_per_address);
        Limits { most, each, age: Some(self.age()) }
    }

    /// Age from which a connection gets no new calls: a tenth before it ends at the earliest.
    pub(super) fn closing_age(&self) -> Duration {
        self.age() * 9 / 10
    }

    fn age(&self) -> Duration {
        Duration::from_secs(u64::from(self.admin_max_age_seconds))
    }
}
