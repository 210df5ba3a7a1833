//! `segue-sidecar capture`: sets the system's rules up that send an application's connections to the
//! sidecar, shows them, and takes them away. Needs `iptables` and root, or CAP_NET_ADMIN.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::{Command, ExitCode, Stdio};

use clap::{Args, Parser, Subcommand};
use segue_sidecar_core::canonical::AddressRange;
use segue_sidecar_core::capture::{CaptureRules, Family, Owner, found, remove};
use thiserror::Error;

use crate::settings::address_range;

/// Rules that send an application's connections to the sidecar beside it
#[derive(Debug, Parser)]
#[command(name = "segue-sidecar capture", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Set the rules up, in place of those that are there
    Install(Captured),
    /// Take the rules away
    Remove(Families),
    /// Show what `install` would tell iptables-restore; needs no rights
    Print(Captured),
}

#[derive(Clone, Debug, Args)]
struct Captured {
    /// Port of the sidecar's outbound address, which must be on loopback or on all addresses
    #[arg(long, value_name = "PORT", default_value_t = 16001)]
    outbound_port: u16,
    /// Port of the sidecar's inbound address
    #[arg(long, value_name = "PORT", default_value_t = 16006)]
    inbound_port: u16,
    /// Capture only what leaves the application
    #[arg(long)]
    no_inbound: bool,
    /// User whose connections are the sidecar's own; the application must run as another one
    #[arg(long, value_name = "UID", required_unless_present = "gid", conflicts_with = "gid")]
    uid: Option<u32>,
    /// Group whose connections are the sidecar's own
    #[arg(long, value_name = "GID")]
    gid: Option<u32>,
    /// Ports of upstreams that are left alone, separated by commas
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    exclude_outbound_ports: Vec<u16>,
    /// Addresses of upstreams that are left alone, as ranges (10.0.0.0/8) separated by commas
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = address_range)]
    exclude_ranges: Vec<AddressRange>,
    /// Ports of the application that are captured, separated by commas [default: all]
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    include_inbound_ports: Vec<u16>,
    /// Ports of the application that are left alone, such as those of probes, separated by commas
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    exclude_inbound_ports: Vec<u16>,
    #[command(flatten)]
    families: Families,
}

#[derive(Clone, Copy, Debug, Args)]
struct Families {
    /// Rules of IPv6 as well; the sidecar must listen on `[::]` then
    #[arg(long)]
    ipv6: bool,
}

/// A step that did not work.
#[derive(Debug, Error)]
enum CaptureError {
    #[error("{program} cannot be run: {reason}; install the package iptables")]
    Missing { program: String, reason: io::Error },
    #[error(
        "{program}: {told}; it takes root, or the capability NET_ADMIN in this network namespace"
    )]
    Failed { program: String, told: String },
    #[error("the rules cannot be shown: {0}")]
    Output(#[from] io::Error),
}

/// Runs with the arguments behind `segue-sidecar`, of which the first is `capture`.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to do where even the terminal is gone.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match arguments.verb {
        Verb::Install(captured) => install(&captured),
        Verb::Remove(families) => families.each(take_away),
        Verb::Print(captured) => print(&captured),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn install(captured: &Captured) -> Result<(), CaptureError> {
    let rules = captured.rules();
    captured.families.each(|family| {
        let (jumps, chains) = found(&listing(family)?);
        // What an earlier set of rules had and this one has not must not stay.
        let unwanted = jumps.iter().any(|jump| !rules.jumps().contains(jump));
        if unwanted || jumps.len() > rules.jumps().len() {
            restore(family, &remove(&jumps, &chains))?;
            return restore(family, &rules.install(family, &[]));
        }
        restore(family, &rules.install(family, &jumps))
    })
}

fn take_away(family: Family) -> Result<(), CaptureError> {
    let (jumps, chains) = found(&listing(family)?);
    if jumps.is_empty() && chains.is_empty() {
        return Ok(());
    }
    restore(family, &remove(&jumps, &chains))
}

fn print(captured: &Captured) -> Result<(), CaptureError> {
    let rules = captured.rules();
    let mut out = io::stdout().lock();
    captured.families.each(|family| {
        let program = program(family, "restore");
        write!(out, "# {program} --noflush\n{}", rules.install(family, &[]))?;
        Ok(())
    })
}

/// The table as it is.
fn listing(family: Family) -> Result<String, CaptureError> {
    let program = program(family, "save");
    let output = Command::new(&program).args(["-t", "nat"]).stdin(Stdio::null()).output();
    told(program, output)
}

fn restore(family: Family, text: &str) -> Result<(), CaptureError> {
    let program = program(family, "restore");
    let run = || {
        let mut command = Command::new(&program);
        command.args(["--noflush", "--wait", "5"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut input) = child.stdin.take() {
            // Where it ends before it has read all, it says why.
            let _ = input.write_all(text.as_bytes());
        }
        child.wait_with_output()
    };
    let output = run();
    told(program, output).map(drop)
}

fn told(program: String, output: io::Result<std::process::Output>) -> Result<String, CaptureError> {
    match output {
        Err(reason) => Err(CaptureError::Missing { program, reason }),
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            Err(CaptureError::Failed { program, told })
        }
    }
}

fn program(family: Family, what: &str) -> String {
    match family {
        Family::V4 => format!("iptables-{what}"),
        Family::V6 => format!("ip6tables-{what}"),
    }
}

impl Captured {
    fn rules(&self) -> CaptureRules {
        let by_user = self.uid.map(Owner::User);
        // One of the two is there: the parser sees to it.
        let sidecar = by_user.unwrap_or_else(|| Owner::Group(self.gid.unwrap_or_default()));
        CaptureRules {
            outbound_port: self.outbound_port,
            inbound_port: (!self.no_inbound).then_some(self.inbound_port),
            sidecar,
            exclude_outbound_ports: self.exclude_outbound_ports.clone(),
            exclude_ranges: self.exclude_ranges.clone(),
            include_inbound_ports: self.include_inbound_ports.clone(),
            exclude_inbound_ports: self.exclude_inbound_ports.clone(),
        }
    }
}

impl Families {
    fn each(
        self,
        mut act: impl FnMut(Family) -> Result<(), CaptureError>,
    ) -> Result<(), CaptureError> {
        act(Family::V4)?;
        if self.ipv6 { act(Family::V6) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sidecars_own_connections_must_be_known() {
        let parse = |words: &str| Arguments::try_parse_from(words.split(' ')).map(|_| ());
        assert!(parse("capture install").is_err());
        assert!(parse("capture install --uid 1 --gid 2").is_err());
        assert!(parse("capture install --gid 2 --exclude-ranges 10.0.0.0/8,::1").is_ok());
        assert!(parse("capture install --uid 1 --exclude-ranges 10.0.0.1/8").is_err());
        assert!(parse("capture remove --ipv6").is_ok());
    }
}
