//! `segue backup`

use std::path::{Path, PathBuf};

use segue_control_plane_core::backup::{Check, Whole};
use segue_proto::admin::v1::backup_record::Record;
use segue_proto::admin::v1::{BackupRecord, BackupRequest};
use tonic::Streaming;

use crate::archive::{self, ArchiveError, NewFile};
use crate::error::CliError;
use crate::session::Session;
use crate::{DONE, commands};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what was committed after this revision, which an earlier backup leads to
    #[arg(long, value_name = "REVISION", default_value = "0", hide_default_value = true)]
    pub since: u64,
    /// File that is written, `-` for standard output [default: segue-REVISION.backup, or
    /// segue-SINCE-REVISION.backup]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

pub async fn run(args: Args, session: &mut Session<'_>) -> Result<u8, CliError> {
    if let Some(file) = args.output.as_deref().filter(|file| file.exists() && !is_stdout(file)) {
        return Err(exists(file));
    }
    let request = BackupRequest { since_revision: args.since };
    let records = session.backups().await?.backup(request).await?.into_inner();
    if args.output.as_deref().is_some_and(is_stdout) {
        return to_stdout(records, session).await;
    }
    let (whole, file) = to_file(records, args.output).await?;
    session.output.line(&format!("{}: {}", file.display(), told(&whole)))?;
    Ok(DONE)
}

async fn to_file(
    mut records: Streaming<BackupRecord>,
    name: Option<PathBuf>,
) -> Result<(Whole, PathBuf), CliError> {
    let here = Path::new(".");
    let folder = name.as_deref().and_then(Path::parent).unwrap_or(here);
    let folder = if folder.as_os_str().is_empty() { here } else { folder };
    let fail = |source| CliError::File { file: folder.to_owned(), source };
    let mut file = NewFile::begin(folder).map_err(fail)?;
    archive::begin(file.writer()).map_err(fail)?;
    let mut own_name = PathBuf::new();
    while let Some(record) = records.message().await? {
        if let Some(Record::Header(header)) = &record.record {
            own_name = match header.since_revision {
                0 => format!("segue-{}.backup", header.revision).into(),
                since => format!("segue-{since}-{}.backup", header.revision).into(),
            };
        }
        archive::append(file.writer(), &record).map_err(fail)?;
    }
    let name = name.unwrap_or(own_name);
    match file.keep(&name) {
        Ok(whole) => Ok((whole, name)),
        Err(ArchiveError::Io(error)) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(exists(&name))
        }
        Err(ArchiveError::Io(source)) => Err(CliError::File { file: name, source }),
        Err(error) => Err(CliError::NotHeld(format!("the backup is not whole: {error}"))),
    }
}

/// What is printed cannot be read again, so it is checked as it passes.
async fn to_stdout(
    mut records: Streaming<BackupRecord>,
    session: &mut Session<'_>,
) -> Result<u8, CliError> {
    let mut out = session.output.bytes();
    let mut check = Check::default();
    let fault = |fault| CliError::NotHeld(format!("the backup is not whole: {fault}"));
    archive::begin(&mut out)?;
    while let Some(record) = records.message().await? {
        check.take(&record).map_err(fault)?;
        archive::append(&mut out, &record)?;
    }
    out.flush()?;
    let whole = check.end().map_err(fault)?;
    session.output.note(&told(&whole));
    Ok(DONE)
}

fn is_stdout(file: &Path) -> bool {
    file == Path::new("-")
}

fn exists(file: &Path) -> CliError {
    CliError::Usage(format!("{} exists already: name another file with -o", file.display()))
}

/// What a backup is, in words.
pub fn told(whole: &Whole) -> String {
    let Whole { since, revision, records } = whole;
    let count = |one: &str| commands::counted(*records, one);
    match since {
        0 => format!("all of revision {revision}, {}", count("resource")),
        _ => format!("from revision {since} to {revision}, {}", count("commit")),
    }
}
