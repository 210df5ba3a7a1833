//! Files that are read again when they change.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{Digest, SHA256, digest};
use segue_shared::shutdown::DrainSignal;

use super::metrics::AccessMetrics;

/// Time between two looks. Contents are compared, not times: it works for renamed files, links that
/// are turned over, and on any file system.
const EVERY: Duration = Duration::from_secs(1);
/// As much of a file is compared; none of ours is larger.
const MOST_BYTES: u64 = 2 << 20;

/// Reads files into where they are used, and tells which they were. An error leaves what is used
/// as it is.
pub type Load = Box<dyn Fn() -> Result<Vec<PathBuf>, String> + Send>;

/// Files that belong together.
pub struct Followed {
    what: &'static str,
    load: Load,
    sources: Vec<PathBuf>,
    seen: Vec<Option<Digest>>,
}

impl Followed {
    /// Reads them for the first time.
    pub fn begin(what: &'static str, load: Load) -> Result<Self, String> {
        let sources = load()?;
        let seen = fingerprints(&sources);
        Ok(Self { what, load, sources, seen })
    }

    /// Reads them again if they are not what they were.
    fn look(&mut self, metrics: &AccessMetrics) {
        let now = fingerprints(&self.sources);
        if same(&now, &self.seen) {
            return;
        }
        // What could not be used is not tried again before it changes.
        self.seen = now;
        let what = self.what;
        match (self.load)() {
            Ok(sources) => {
                self.seen = fingerprints(&sources);
                self.sources = sources;
                metrics.reloaded(what, true);
                tracing::info!(what, "changed files were read");
            }
            Err(error) => {
                metrics.reloaded(what, false);
                tracing::error!(
                    what,
                    error,
                    "changed files cannot be used; what was read before stays"
                );
            }
        }
    }
}

/// Looks at the files until the drain signal.
pub async fn follow(mut followed: Vec<Followed>, metrics: AccessMetrics, drain: DrainSignal) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = drain.cancelled() => return,
        }
        let metrics = metrics.clone();
        let looked = tokio::task::spawn_blocking(move || {
            for files in &mut followed {
                files.look(&metrics);
            }
            followed
        });
        match looked.await {
            Ok(same) => followed = same,
            Err(error) => {
                tracing::error!(%error, "files of access are not followed any more");
                return drain.cancelled().await;
            }
        }
    }
}

fn fingerprints(files: &[PathBuf]) -> Vec<Option<Digest>> {
    files.iter().map(|file| fingerprint(file)).collect()
}

fn fingerprint(file: &Path) -> Option<Digest> {
    let mut content = Vec::new();
    File::open(file).ok()?.take(MOST_BYTES).read_to_end(&mut content).ok()?;
    Some(digest(&SHA256, &content))
}

fn same(now: &[Option<Digest>], then: &[Option<Digest>]) -> bool {
    let bytes = |digest: &Option<Digest>| digest.as_ref().map(|digest| digest.as_ref().to_vec());
    now.len() == then.len() && now.iter().zip(then).all(|(now, then)| bytes(now) == bytes(then))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_changed_file_is_read_once_and_a_bad_one_leaves_what_was() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        std::fs::write(&file, "one").unwrap();
        let used = Arc::new(Mutex::new((0, String::new())));
        let (target, source) = (Arc::clone(&used), file.clone());
        let load = move || {
            let mut used = target.lock().unwrap();
            used.0 += 1;
            let text = std::fs::read_to_string(&source).map_err(|error| error.to_string())?;
            if text.contains("bad") {
                return Err("bad".to_owned());
            }
            used.1 = text;
            Ok(vec![source.clone()])
        };
        let mut followed = Followed::begin("f", Box::new(load)).unwrap();
        let metrics = AccessMetrics::default();
        for (text, reads, in_use) in [
            ("one", 1, "one"),
            ("two", 2, "two"),
            ("two", 2, "two"),
            ("bad", 3, "two"),
            ("bad", 3, "two"),
            ("six", 4, "six"),
        ] {
            std::fs::write(&file, text).unwrap();
            followed.look(&metrics);
            assert_eq!(*used.lock().unwrap(), (reads, in_use.to_owned()), "{text}");
        }
        std::fs::remove_file(&file).unwrap();
        followed.look(&metrics);
        assert_eq!(used.lock().unwrap().1, "six");
    }
}
