//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    apply, backup, certs, completion, delete, describe, diff, get, history, restore, schema,
    status, token, undo, wait,
};

/// Moves services from one version to the next without a failed request.
#[derive(Debug, Parser)]
#[command(name = "segue", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub connection: Connection,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the control plane is, and who asks.
#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// The control plane's admin address, `http://HOST:PORT` or `https://HOST:PORT`
    #[arg(
        long,
        global = true,
        env = "SEGUE_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:18001"
    )]
    pub server: String,
    /// File that holds your token; without it the variable SEGUE_TOKEN may hold the token itself
    #[arg(long, global = true, env = "SEGUE_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Authorities (PEM) that the server's certificate may be signed by, in place of the system's
    #[arg(long, global = true, env = "SEGUE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Your certificate (PEM), where you are known by one
    #[arg(long, global = true, env = "SEGUE_CLIENT_CERT", value_name = "FILE")]
    pub client_cert: Option<PathBuf>,
    /// The key of your certificate (PEM)
    #[arg(long, global = true, env = "SEGUE_CLIENT_KEY", value_name = "FILE")]
    pub client_key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create and change resources from files, whole or not at all
    Apply(apply::Args),
    /// Show what `apply` would change; exits with 1 where something would
    Diff(diff::Args),
    /// Show resources
    Get(get::Args),
    /// Show all about one resource
    Describe(describe::Args),
    /// Delete resources
    Delete(delete::Args),
    /// Show what was committed, the newest first
    History(history::Args),
    /// Go back to an earlier revision, as a new one
    Undo(undo::Args),
    /// Show which revision each sidecar runs on
    Status(status::Args),
    /// Wait until every connected sidecar runs on a revision
    Wait(wait::Args),
    /// Make, show and revoke the tokens that sidecars join the mesh with
    #[command(subcommand)]
    Token(token::Args),
    /// Show and replace the root of the mesh
    #[command(subcommand)]
    Certs(certs::Args),
    /// Write the configuration, or what changed in it, to a file that `restore` takes back
    Backup(backup::Args),
    /// Take backups back, each whole or not at all
    Restore(restore::Args),
    /// Print the JSON Schema of resources, for editors
    Schema(schema::Args),
    /// Print a completion script for a shell
    Completion(completion::Args),
}
