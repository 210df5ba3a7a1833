//! What goes wrong, in words that say what to do.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use segue_control_plane_core::fault_details;
use segue_proto::admin::v1 as api;
use thiserror::Error;
use tonic::{Code, Status};

use crate::{FAILED, USAGE};

/// Anything that keeps a verb from its end.
#[derive(Debug, Error)]
pub enum CliError {
    #[error(
        "cannot reach the control plane at {server}: {reason}\n\
         Start one with `segue-control-plane --data-dir DIR`, or name another with --server or \
         SEGUE_SERVER."
    )]
    Unreachable { server: String, reason: String },
    #[error("{0}")]
    Usage(String),
    #[error("{}: {source}", .file.display())]
    File { file: PathBuf, source: io::Error },
    /// Each line names its place.
    #[error("{}", lines(.0))]
    Faults(Vec<api::Fault>),
    #[error("{}", answer(.0))]
    Answer(Status),
    /// The verb ran, but what was asked does not hold.
    #[error("{0}")]
    NotHeld(String),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl CliError {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            _ => FAILED,
        }
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        let faults = fault_details::decode(status.details());
        if faults.is_empty() { Self::Answer(status) } else { Self::Faults(faults) }
    }
}

fn answer(status: &Status) -> String {
    match status.code() {
        Code::Aborted => {
            format!("{}; read it again and repeat", status.message())
        }
        Code::Unavailable => format!("the control plane is not available: {}", reason(status)),
        Code::PermissionDenied => format!("not allowed: {}", status.message()),
        _ if status.message().is_empty() => format!("the control plane answered {}", status.code()),
        _ => status.message().to_owned(),
    }
}

/// "operation timed out" rather than "http2 error", where it was not the server that said so.
fn reason(status: &Status) -> String {
    let mut cause = status.source();
    let mut text = status.message().to_owned();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

/// `file:line:col: resource: field: message (hint)`, a line each.
fn lines(faults: &[api::Fault]) -> String {
    let mut lines: Vec<String> = faults.iter().map(line).collect();
    let count = faults.len();
    let faults = if count == 1 { "fault" } else { "faults" };
    lines.push(format!("{count} {faults}: nothing was changed"));
    lines.join("\n")
}

fn line(fault: &api::Fault) -> String {
    let mut line = String::new();
    if !fault.file.is_empty() {
        line.push_str(&fault.file);
        line.push(':');
        if fault.line > 0 {
            let _ = write!(line, "{}:{}:", fault.line, fault.column);
        }
        line.push(' ');
    }
    for part in [&fault.resource, &fault.field_path] {
        if !part.is_empty() {
            line.push_str(part);
            line.push_str(": ");
        }
    }
    line.push_str(&fault.message);
    if !fault.hint.is_empty() {
        let _ = write!(line, " ({})", fault.hint);
    }
    line
}
