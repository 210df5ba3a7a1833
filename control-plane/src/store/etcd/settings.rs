//! How etcd is reached.

use std::path::PathBuf;

use clap::Args;

const PREFIX: &str = "/segue";

/// Several control planes that share one etcd serve one configuration.
#[derive(Args, Clone, Debug)]
pub struct EtcdSettings {
    /// Keeps the configuration in etcd instead of --data-dir, so that several control planes serve
    /// it and each of them takes changes: URLs of the members, http:// or https://.
    #[arg(
        id = "etcd",
        long = "etcd",
        env = "SEGUE_ETCD",
        value_name = "URL",
        value_delimiter = ','
    )]
    pub endpoints: Vec<String>,

    /// What all keys in etcd begin with: control planes that serve the same share it.
    #[arg(
        id = "etcd_prefix",
        long = "etcd-prefix",
        env = "SEGUE_ETCD_PREFIX",
        value_name = "PREFIX",
        default_value = PREFIX
    )]
    pub prefix: String,

    /// PEM file of the authorities that sign etcd's certificates. Without it: those that this
    /// machine trusts.
    #[arg(id = "etcd_ca", long = "etcd-ca", env = "SEGUE_ETCD_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// PEM file of the certificate that is shown to etcd.
    #[arg(
        id = "etcd_cert",
        long = "etcd-cert",
        env = "SEGUE_ETCD_CERT",
        value_name = "FILE",
        requires = "etcd_key"
    )]
    pub certificate: Option<PathBuf>,

    /// PEM file of its key.
    #[arg(
        id = "etcd_key",
        long = "etcd-key",
        env = "SEGUE_ETCD_KEY",
        value_name = "FILE",
        requires = "etcd_cert"
    )]
    pub key: Option<PathBuf>,

    /// File with one line, name:password, by which etcd knows us.
    #[arg(
        id = "etcd_user_file",
        long = "etcd-user-file",
        env = "SEGUE_ETCD_USER_FILE",
        value_name = "FILE"
    )]
    pub user_file: Option<PathBuf>,
}

impl Default for EtcdSettings {
    /// No etcd.
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            prefix: PREFIX.to_owned(),
            ca: None,
            certificate: None,
            key: None,
            user_file: None,
        }
    }
}
