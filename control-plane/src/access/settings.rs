//! Settings of access.

use std::path::PathBuf;

use clap::Args;

use super::metrics::Port;

/// Who may call the two gRPC ports.
#[derive(Clone, Debug, Default, Args)]
pub struct AccessSettings {
    /// Who may call the admin API, with which role, in which namespaces: a YAML file (see README,
    /// Access), read again when it changes. Without it the first start makes a token of an
    /// operator, DATA_DIR/operator.token.
    #[arg(long, env = "SEGUE_ACCESS_FILE", value_name = "FILE")]
    pub access_file: Option<PathBuf>,

    /// Tokens that nodes may join with, one a line, read again when it changes. Without it the
    /// first start makes one, DATA_DIR/join.token.
    #[arg(long, env = "SEGUE_JOIN_TOKEN_FILE", value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,

    /// Certificate chain of the admin port (PEM, the leaf first). With it the port speaks TLS and
    /// may be reached from other machines. Read again when it changes, as all files of TLS are.
    #[arg(long, env = "SEGUE_ADMIN_TLS_CERT", value_name = "FILE")]
    pub admin_tls_cert: Option<PathBuf>,

    /// Key of the admin port's certificate (PEM).
    #[arg(long, env = "SEGUE_ADMIN_TLS_KEY", value_name = "FILE")]
    pub admin_tls_key: Option<PathBuf>,

    /// Authorities (PEM) whose client certificates are believed on the admin port; whose they are
    /// is told by the access file.
    #[arg(long, env = "SEGUE_ADMIN_CLIENT_CA", value_name = "FILE")]
    pub admin_client_ca: Option<PathBuf>,

    /// Certificate chain of the xDS port (PEM, the leaf first). With it the port speaks TLS and may
    /// be reached from other machines.
    #[arg(long, env = "SEGUE_XDS_TLS_CERT", value_name = "FILE")]
    pub xds_tls_cert: Option<PathBuf>,

    /// Key of the xDS port's certificate (PEM).
    #[arg(long, env = "SEGUE_XDS_TLS_KEY", value_name = "FILE")]
    pub xds_tls_key: Option<PathBuf>,

    /// Authorities (PEM) whose client certificates let nodes in without a join token.
    #[arg(long, env = "SEGUE_XDS_CLIENT_CA", value_name = "FILE")]
    pub xds_client_ca: Option<PathBuf>,

    /// Where it is kept who changed what and who was refused, a JSON object a line: a file, `-` for
    /// standard output, or `off`. A file is put aside at 64 MiB, and five are kept. [default:
    /// DATA_DIR/audit.log]
    #[arg(long, env = "SEGUE_AUDIT_LOG", value_name = "FILE|-|off")]
    pub audit_log: Option<String>,
}

impl AccessSettings {
    /// Whether a port speaks TLS.
    pub fn encrypts(&self, port: Port) -> bool {
        match port {
            Port::Admin => self.admin_tls_cert.is_some(),
            Port::Xds => self.xds_tls_cert.is_some(),
        }
    }
}
