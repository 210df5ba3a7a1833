//! Limits of the xDS port.

use std::time::Duration;

use clap::Args;

use crate::access::{Limits, Share, around};

/// What the xDS port serves at most.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[group(id = "xds")]
pub struct Settings {
    /// Threads that serve xDS clients [default: one for each core].
    #[arg(
        long,
        env = "SEGUE_XDS_THREADS",
        value_name = "THREADS",
        value_parser = clap::value_parser!(u32).range(1..=1024)
    )]
    pub xds_threads: Option<u32>,

    /// Connections to the xDS port at one time; further ones are closed at once.
    #[arg(
        long,
        env = "SEGUE_XDS_MAX_CONNECTIONS",
        value_name = "CONNECTIONS",
        default_value = "20000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub xds_max_connections: u32,

    /// Connections from one address (of IPv6: from one network of 64 bits) at one time [default: a
    /// quarter of --xds-max-connections, and no limit for loopback, behind which a proxy may stand
    /// for many]. What is set counts for loopback too.
    #[arg(
        long,
        env = "SEGUE_XDS_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "CONNECTIONS",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub xds_max_connections_per_address: Option<u32>,

    /// Streams of xDS clients at one time, of which a sidecar has two: one for its configuration,
    /// one for its reports. Further ones are refused with RESOURCE_EXHAUSTED.
    #[arg(
        long,
        env = "SEGUE_XDS_MAX_STREAMS",
        value_name = "STREAMS",
        default_value = "40000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub xds_max_streams: u32,

    /// Streams from one address at one time [default: a quarter of --xds-max-streams, and no limit
    /// for loopback]. What is set counts for loopback too.
    #[arg(
        long,
        env = "SEGUE_XDS_MAX_STREAMS_PER_ADDRESS",
        value_name = "STREAMS",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub xds_max_streams_per_address: Option<u32>,

    /// Large responses (more than 32 KiB) that are sent at one time, and as many large requests
    /// that are read. After a restart all clients come at once, and tell what they hold: none is
    /// refused, and so many are served side by side.
    #[arg(
        long,
        env = "SEGUE_XDS_MAX_PUSHES",
        value_name = "RESPONSES",
        default_value = "64",
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub xds_max_pushes: u32,

    /// Time for a client to take a part of a response, or to send the whole of a large request,
    /// before its connection is cut, in seconds.
    #[arg(
        long,
        env = "SEGUE_XDS_STALLED_SECONDS",
        value_name = "SECONDS",
        default_value = "30",
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    pub xds_stalled_seconds: u32,

    /// Age at which a stream ends, so that clients spread over all control planes, in seconds;
    /// each stream's differs from it by up to a tenth.
    #[arg(
        long,
        env = "SEGUE_XDS_MAX_AGE_SECONDS",
        value_name = "SECONDS",
        default_value = "1800",
        value_parser = clap::value_parser!(u32).range(10..=31_536_000)
    )]
    pub xds_max_age_seconds: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            xds_threads: None,
            xds_max_connections: 20_000,
            xds_max_connections_per_address: None,
            xds_max_streams: 40_000,
            xds_max_streams_per_address: None,
            xds_max_pushes: 64,
            xds_stalled_seconds: 30,
            xds_max_age_seconds: 1800,
        }
    }
}

impl Settings {
    /// Age from which a connection gets no new streams: a tenth before that of its streams.
    pub(super) fn connection_age(&self) -> Duration {
        self.stream_age(0)
    }

    /// Age at which a stream ends; `draw` is any number.
    pub(super) fn stream_age(&self, draw: u64) -> Duration {
        around(Duration::from_secs(u64::from(self.xds_max_age_seconds)), draw)
    }

    /// Connections end with their streams.
    pub(super) fn limits(&self) -> Limits {
        let most = self.xds_max_connections;
        let each = Share::of(most, self.xds_max_connections_per_address);
        Limits { most, each, age: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_spread_by_a_tenth_to_either_side() {
        let settings = Settings { xds_max_age_seconds: 1800, ..Settings::default() };
        assert_eq!(settings.connection_age(), Duration::from_mins(27));
        assert_eq!(settings.stream_age(100), Duration::from_mins(30));
        assert!(settings.stream_age(199) < Duration::from_mins(33));
    }
}
