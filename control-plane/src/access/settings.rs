//! Settings of access.

use std::path::PathBuf;

use clap::Args;

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
}
