//! The file of a backup: a line that says what it is, then records, each behind its length.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use prost::Message as _;
use segue_control_plane_core::backup::{BackupFault, Check, MOST_RECORD_BYTES, Whole};
use segue_proto::admin::v1::BackupRecord;
use thiserror::Error;

/// The first line, for people and for `file`.
const MAGIC: &[u8] = b"segue backup 1\n";

/// A backup that cannot be read.
#[derive(Debug, Error)]
pub enum ArchiveError {
    #[error("it is no backup of Segue")]
    NoBackup,
    #[error("{0}")]
    Fault(#[from] BackupFault),
    #[error("record {0} cannot be read: bytes of it were changed, or a newer release wrote it")]
    Unreadable(u64),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes the first line.
pub fn begin(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(MAGIC)
}

/// Writes one record.
pub fn append(out: &mut dyn Write, record: &BackupRecord) -> io::Result<()> {
    out.write_all(&record.encode_length_delimited_to_vec())
}

/// Reads to the end, gives each record away, and says what the backup is. Nothing of it is to be
/// believed before that.
pub fn read(from: impl Read, mut each: impl FnMut(BackupRecord)) -> Result<Whole, ArchiveError> {
    let mut from = BufReader::new(from);
    let mut magic = [0; MAGIC.len()];
    match from.read_exact(&mut magic) {
        Ok(()) if magic == MAGIC => {}
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
        _ => return Err(ArchiveError::NoBackup),
    }
    let mut check = Check::default();
    let mut count = 0;
    while let Some(length) = length(&mut from, count)? {
        let mut bytes = Vec::new();
        let wanted = u64::try_from(length).unwrap_or(u64::MAX);
        from.by_ref().take(wanted).read_to_end(&mut bytes)?;
        if bytes.len() < length {
            return Err(BackupFault::Cut(count).into());
        }
        let record =
            BackupRecord::decode(bytes.as_slice()).map_err(|_| ArchiveError::Unreadable(count))?;
        // What the digest covers is what was read, without a byte that means nothing here.
        if record.encode_to_vec() != bytes {
            return Err(ArchiveError::Unreadable(count));
        }
        check.take(&record)?;
        each(record);
        count += 1;
    }
    Ok(check.end()?)
}

/// The length of the next record; `None` at the end.
fn length(from: &mut impl Read, record: u64) -> Result<Option<usize>, ArchiveError> {
    let mut length = 0_usize;
    for place in 0..5 {
        let mut byte = [0];
        match from.read_exact(&mut byte) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return if place == 0 { Ok(None) } else { Err(BackupFault::Cut(record).into()) };
            }
            Err(error) => return Err(error.into()),
        }
        length |= usize::from(byte[0] & 0x7f) << (7 * place);
        if byte[0] & 0x80 == 0 {
            let fits = length <= MOST_RECORD_BYTES;
            return if fits { Ok(Some(length)) } else { Err(ArchiveError::Unreadable(record)) };
        }
    }
    Err(ArchiveError::Unreadable(record))
}

/// A file that appears under its name when it is whole, and on disk.
pub struct NewFile {
    aside: PathBuf,
    folder: PathBuf,
    file: BufWriter<File>,
    kept: bool,
}

impl NewFile {
    /// Begins one in `folder`, which only its owner reads.
    pub fn begin(folder: &Path) -> io::Result<Self> {
        let aside = folder.join(format!(".segue-backup-{}.part", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        let (folder, file) = (folder.to_owned(), BufWriter::new(file));
        Ok(Self { aside, folder, file, kept: false })
    }

    pub fn writer(&mut self) -> &mut dyn Write {
        &mut self.file
    }

    /// Puts it on disk, reads it again, and gives it its name if it is whole and nothing else
    /// bears that name.
    pub fn keep(mut self, name: &Path) -> Result<Whole, ArchiveError> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        let whole = read(File::open(&self.aside)?, drop)?;
        // Unlike a rename it never replaces another file.
        fs::hard_link(&self.aside, name)?;
        fs::remove_file(&self.aside)?;
        self.kept = true;
        File::open(&self.folder)?.sync_all()?;
        Ok(whole)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            let _gone_already = fs::remove_file(&self.aside);
        }
    }
}
