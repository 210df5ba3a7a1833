//! Configuration files: one, a directory of them, or standard input.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use segue_proto::admin::v1::SourceFile;

use crate::error::CliError;

/// Most that one batch holds; the server takes no more.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// Reads what `-f` names, in the order given; of a directory, its `.yaml`, `.yml` and `.json` files
/// in the order of their names. `-` is standard input.
pub fn read(names: &[PathBuf]) -> Result<Vec<SourceFile>, CliError> {
    let mut files = Vec::new();
    let mut room = MOST_BYTES;
    for name in names {
        if name.as_os_str() == "-" {
            let mut content = String::new();
            let read = io::stdin().lock().take(room + 1).read_to_string(&mut content);
            read.map_err(|source| failed(Path::new("standard input"), source))?;
            files.push(SourceFile { name: "stdin".to_owned(), content });
        } else if name.is_dir() {
            for path in directory(name)? {
                files.push(file(&path)?);
            }
        } else {
            files.push(file(name)?);
        }
        let read: usize = files.iter().map(|file| file.content.len()).sum();
        room = MOST_BYTES
            .checked_sub(u64::try_from(read).unwrap_or(u64::MAX))
            .ok_or_else(|| CliError::Usage("the files hold more than 4 MiB".to_owned()))?;
    }
    Ok(files)
}

fn file(path: &Path) -> Result<SourceFile, CliError> {
    let length = fs::metadata(path).map_err(|source| failed(path, source))?.len();
    if length > MOST_BYTES {
        return Err(CliError::Usage(format!("{}: holds more than 4 MiB", path.display())));
    }
    let content = fs::read_to_string(path).map_err(|source| failed(path, source))?;
    Ok(SourceFile { name: path.display().to_string(), content })
}

fn directory(directory: &Path) -> Result<Vec<PathBuf>, CliError> {
    let fail = |source| failed(directory, source);
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let known = path.extension().is_some_and(|extension| {
            ["yaml", "yml", "json"].iter().any(|known| extension == *known)
        });
        if known && path.is_file() {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        let directory = directory.display();
        return Err(CliError::Usage(format!("{directory}: holds no .yaml, .yml or .json file")));
    }
    paths.sort();
    Ok(paths)
}

fn failed(file: &Path, source: io::Error) -> CliError {
    CliError::File { file: file.to_owned(), source }
}
