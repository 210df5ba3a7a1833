//! Settings of the process: file < environment < flag.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;

use crate::access::AccessSettings;
use crate::admin;
use crate::identity::IdentitySettings;
use crate::store::EtcdSettings;
use crate::xds;

/// Segue's control plane: keeps the configuration, checks it, and streams it to sidecars.
#[derive(Clone, Debug, Parser)]
#[command(name = "segue-control-plane", version)]
pub struct Settings {
    /// Directory of the store, made with mode 0700 where it does not exist.
    #[arg(long, env = "SEGUE_DATA_DIR", value_name = "DIR", default_value = "segue-data")]
    pub data_dir: PathBuf,

    #[command(flatten)]
    pub etcd: EtcdSettings,

    /// Where sidecars and other xDS clients connect (gRPC). Port 0: any free one.
    #[arg(
        long,
        env = "SEGUE_XDS_ADDRESS",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:18000"
    )]
    pub xds_address: SocketAddr,

    /// Where people and their tools connect (gRPC). Port 0: any free one.
    #[arg(
        long,
        env = "SEGUE_ADMIN_ADDRESS",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:18001"
    )]
    pub admin_address: SocketAddr,

    /// Where /metrics, /livez and /readyz are served (HTTP). Port 0: any free one.
    #[arg(
        long,
        env = "SEGUE_HTTP_ADDRESS",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:18080"
    )]
    pub http_address: SocketAddr,

    /// Asks nobody for tokens or certificates: whoever reaches the ports reads and changes
    /// everything. For development only.
    #[arg(long, env = "SEGUE_INSECURE_DEV")]
    pub insecure_dev: bool,

    #[command(flatten)]
    pub access: AccessSettings,

    #[command(flatten)]
    pub identity: IdentitySettings,

    #[command(flatten)]
    pub admin: admin::Settings,

    /// Revisions that are kept for `history` and `undo`.
    #[arg(
        long,
        env = "SEGUE_RETENTION",
        value_name = "REVISIONS",
        default_value = "1000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub retention: u32,

    /// Time after which a connected node that does not run on the newest revision counts as stale,
    /// in seconds.
    #[arg(
        long,
        env = "SEGUE_STALE_AFTER_SECONDS",
        value_name = "SECONDS",
        default_value = "15",
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    pub stale_after_seconds: u32,

    /// Time between two reports of request counts that sidecars, Envoys and gRPC clients are asked
    /// for, in seconds.
    #[arg(
        long,
        env = "SEGUE_REPORT_INTERVAL_SECONDS",
        value_name = "SECONDS",
        default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=3600)
    )]
    pub report_interval_seconds: u32,

    /// Resources that the configuration may hold; an apply that would make it larger is refused.
    #[arg(
        long,
        env = "SEGUE_MAX_RESOURCES",
        value_name = "RESOURCES",
        default_value = "50000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub max_resources: u32,

    #[command(flatten)]
    pub xds: xds::Settings,

    /// Time for open requests and streams to end after SIGTERM, in seconds.
    #[arg(
        long,
        env = "SEGUE_DRAIN_SECONDS",
        value_name = "SECONDS",
        default_value = "5",
        value_parser = clap::value_parser!(u32).range(0..=3600)
    )]
    pub drain_seconds: u32,

    /// Level of the logs: error, warn, info, debug, trace, or `target=level,…`.
    #[arg(long, env = "SEGUE_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,

    /// Logs as JSON, one object a line.
    #[arg(long, env = "SEGUE_LOG_JSON")]
    pub log_json: bool,
}

impl Settings {
    /// A control plane on this machine alone, on any free ports, that asks nobody who they are; the
    /// rest as by default. For several in one process.
    pub fn local(data_dir: impl Into<PathBuf>) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            data_dir: data_dir.into(),
            etcd: EtcdSettings::default(),
            xds_address: any,
            admin_address: any,
            http_address: any,
            insecure_dev: true,
            access: AccessSettings::default(),
            identity: IdentitySettings::default(),
            admin: admin::Settings::default(),
            retention: 1000,
            stale_after_seconds: 15,
            report_interval_seconds: 1,
            max_resources: 50_000,
            xds: xds::Settings::default(),
            drain_seconds: 5,
            log_level: "info".to_owned(),
            log_json: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_flag_has_an_environment_variable_and_a_help() {
        Settings::command().debug_assert();
        for argument in Settings::command().get_arguments() {
            if matches!(argument.get_id().as_str(), "help" | "version") {
                continue;
            }
            let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
            let expected = format!("SEGUE_{}", argument.get_id().as_str().to_ascii_uppercase());
            assert_eq!(variable, Some(expected));
            assert!(argument.get_help().is_some(), "{}", argument.get_id());
        }
    }

    #[test]
    fn a_local_one_differs_from_the_default_in_its_ports_and_in_being_open() {
        let default = Settings::parse_from(["segue-control-plane"]);
        let local = Settings {
            xds_address: default.xds_address,
            admin_address: default.admin_address,
            http_address: default.http_address,
            insecure_dev: false,
            ..Settings::local("segue-data")
        };
        assert_eq!(format!("{default:?}"), format!("{local:?}"));
    }
}
