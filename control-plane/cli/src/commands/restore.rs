//! `segue restore`

use std::error::Error as _;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use segue_control_plane_core::backup::Whole;
use segue_proto::admin::v1::BackupRecord;
use tonic::{Code, Status};

use super::backup::told;
use crate::archive::{self, ArchiveError};
use crate::error::CliError;
use crate::session::Session;
use crate::{DONE, commands};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Backups in the order in which they were made, `-` for standard input: a full one for an
    /// empty store, then incremental ones; or incremental ones that go on where the store is
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// A backup that was read and found whole.
struct Known {
    file: PathBuf,
    whole: Whole,
    records: Vec<BackupRecord>,
}

pub async fn run(args: Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    let backups = args.files.iter().map(|file| known(file)).collect::<Result<Vec<_>, _>>()?;
    chained(&backups)?;
    if !args.yes && !agreed(&backups, &args.files, session)? {
        return Err(CliError::NotHeld("nothing was restored".to_owned()));
    }
    let mut client = session.backups().await?;
    for Known { file, whole, records } in backups {
        // One message holds many records' worth of memory for a short time only.
        let answer = client.restore(tokio_stream::iter(records)).await;
        let response = answer.map_err(|status| stopped(&file, status))?.into_inner();
        session.output.line(&format!(
            "{}: {}: restored, the configuration has {}",
            file.display(),
            told(&whole),
            commands::counted(response.resources, "resource")
        ))?;
    }
    Ok(DONE)
}

fn known(file: &Path) -> Result<Known, CliError> {
    let mut records = Vec::new();
    let read = if file == Path::new("-") {
        archive::read(io::stdin().lock(), |record| records.push(record))
    } else {
        File::open(file)
            .map_err(ArchiveError::from)
            .and_then(|open| archive::read(open, |record| records.push(record)))
    };
    match read {
        Ok(whole) => Ok(Known { file: file.to_owned(), whole, records }),
        Err(ArchiveError::Io(source)) => Err(CliError::File { file: file.to_owned(), source }),
        Err(error) => {
            let file = file.display();
            Err(CliError::NotHeld(format!("{file}: {error}: nothing was restored")))
        }
    }
}

/// Each but the first goes on where the one before it ends.
fn chained(backups: &[Known]) -> Result<(), CliError> {
    for pair in backups.windows(2) {
        let [before, after] = pair else { continue };
        if after.whole.since != before.whole.revision || after.whole.since == 0 {
            return Err(CliError::Usage(format!(
                "{} does not go on where {} ends: {}, but {}",
                after.file.display(),
                before.file.display(),
                told(&after.whole),
                told(&before.whole)
            )));
        }
    }
    Ok(())
}

fn agreed(
    backups: &[Known],
    files: &[PathBuf],
    session: &mut Session<'_>,
) -> Result<bool, CliError> {
    if files.iter().any(|file| file == Path::new("-")) || !io::stdin().is_terminal() {
        return Err(CliError::Usage("nobody can be asked here: say --yes".to_owned()));
    }
    for backup in backups {
        session.output.note(&format!("{}: {}", backup.file.display(), told(&backup.whole)));
    }
    session.output.note(&format!("Restore into {}? [y/N]", session.server()));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The files before it are restored, each for itself whole.
fn stopped(file: &Path, status: Status) -> CliError {
    let (file, decided) = (file.display(), is_decision(&status));
    let reason = CliError::from(status);
    CliError::NotHeld(if decided {
        format!("{file}: nothing of it was restored: {reason}")
    } else {
        format!(
            "{file}: it is not known whether it was restored, whole or not at all (`segue \
             history` tells): {reason}"
        )
    })
}

/// Whether the control plane looked at what it was sent and said no. Anything else, such as a
/// connection that broke, may have come after the commit.
fn is_decision(status: &Status) -> bool {
    // What was told on the way here has a source.
    status.source().is_none()
        && matches!(
            status.code(),
            Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::ResourceExhausted
                | Code::FailedPrecondition
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unimplemented
                | Code::Unauthenticated
        )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn told(status: Status) -> String {
        stopped(Path::new("a.backup"), status).to_string()
    }

    #[test]
    fn nothing_was_restored_where_the_control_plane_says_so() {
        let refused = told(Status::failed_precondition("the store is not empty"));
        assert_eq!(refused, "a.backup: nothing of it was restored: the store is not empty");
        for code in [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Cancelled,
            Code::Unknown,
            Code::Internal,
            Code::DataLoss,
        ] {
            let unknown = told(Status::new(code, "gone"));
            assert!(unknown.contains("it is not known whether it was restored"), "{unknown}");
        }
        // An HTTP/2 stack tells of a flood with this code.
        let mut broken = Status::resource_exhausted("too many pings");
        broken.set_source(Arc::new(io::Error::other("reset")));
        assert!(told(broken).contains("it is not known"), "a connection decides nothing");
    }
}
