//! The old sidecar's side.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::geteuid;
use segue_shared::shutdown::DrainSignal;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{DONE, HELLO, Letter, MESSAGE_TIME, MOST_SOCKETS, REFUSED, Role, SERVING, path_in};

/// Time for the new sidecar to be ready for callers.
const READY_TIME: Duration = Duration::from_mins(1);
/// Pause after a conversation that could not even begin.
const PAUSE: Duration = Duration::from_millis(100);

/// A place that can be taken.
pub struct Offer {
    listener: UnixListener,
    path: PathBuf,
    /// Which file it is: another process may put its own there.
    file: u64,
}

/// What is given away with the place.
pub struct Place<R> {
    /// What is handed over, by role.
    pub files: Vec<(Role, OwnedFd)>,
    /// The revision that requests run on at that moment.
    pub revision: R,
    /// Cancelled when another one serves: nothing is followed from then on.
    pub following: DrainSignal,
    /// Cancelled once nothing is followed, and all is on the disk.
    pub unfollowed: DrainSignal,
    /// Cancelled at last.
    pub drain: DrainSignal,
}

/// A socket that nobody can ask over.
#[derive(Debug, Error)]
#[error("no other sidecar can take the place of this one over {path}: {source}")]
pub struct OfferError {
    path: PathBuf,
    source: io::Error,
}

/// Why a conversation came to nothing.
#[derive(Debug, Error)]
enum Failed {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("user {0} may not take the place of this sidecar")]
    Stranger(u32),
    #[error("it speaks another version of the conversation")]
    Version,
    #[error("it said nothing for {0:?}")]
    Silent(Duration),
    #[error("more than {MOST_SOCKETS} sockets cannot be handed over")]
    TooMany,
    #[error("it never served")]
    Ended,
}

impl Offer {
    /// Listens in a data directory that is this process's own; whatever lies there is of one that
    /// is gone, or whose place was taken.
    pub fn open(data_dir: &Path) -> Result<Self, OfferError> {
        let path = path_in(data_dir);
        let fail = |source| OfferError { path: path.clone(), source };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(fail)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).map_err(fail)?;
        let file = std::fs::symlink_metadata(&path).map_err(fail)?.ino();
        Ok(Self { listener, path, file })
    }

    /// Waits for somebody who takes the place, one conversation at a time, until the drain begins;
    /// then what could be handed over is closed, and the socket goes, unless it is another's by then.
    pub async fn stand<R: Fn() -> u64>(self, place: Place<R>) {
        let taken = place.drain.run_until_cancelled(self.taken(&place)).await;
        let is_ours = |meta: std::fs::Metadata| meta.ino() == self.file;
        if taken.is_none() && std::fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            let _ = std::fs::remove_file(&self.path);
        }
        place.drain.cancel();
    }

    async fn taken<R: Fn() -> u64>(&self, place: &Place<R>) {
        loop {
            let conversation = match self.listener.accept().await {
                Ok((conversation, _)) => conversation,
                Err(error) => {
                    warn!(%error, "nobody can ask for the place of this sidecar");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            match give(conversation, place).await {
                Ok(()) => {
                    info!("another process has taken the place of this sidecar, which drains");
                    return;
                }
                Err(error) => warn!(%error, "the place of this sidecar was asked for in vain"),
            }
        }
    }
}

async fn give<R: Fn() -> u64>(
    mut conversation: UnixStream,
    place: &Place<R>,
) -> Result<(), Failed> {
    let (us, them) = (geteuid(), socket_peercred(&conversation).map_err(io::Error::from)?.uid);
    if them != us && !them.is_root() {
        return Err(Failed::Stranger(them.as_raw()));
    }
    let mut hello = [0; HELLO.len()];
    let hearing = conversation.read_exact(&mut hello);
    timeout(MESSAGE_TIME, hearing).await.map_err(|_| Failed::Silent(MESSAGE_TIME))??;
    if hello != HELLO {
        let refusal = format!("{REFUSED}this sidecar speaks version 1 of the conversation\n");
        conversation.write_all(refusal.as_bytes()).await?;
        return Err(Failed::Version);
    }
    if place.files.len() > MOST_SOCKETS {
        let refusal = format!("{REFUSED}{}\n", Failed::TooMany);
        conversation.write_all(refusal.as_bytes()).await?;
        return Err(Failed::TooMany);
    }
    send(&mut conversation, place).await?;
    let mut said = [0; SERVING.len()];
    let hearing = conversation.read_exact(&mut said);
    timeout(READY_TIME, hearing)
        .await
        .map_err(|_| Failed::Silent(READY_TIME))?
        .map_err(|_| Failed::Ended)?;
    if said != SERVING {
        return Err(Failed::Ended);
    }
    place.following.cancel();
    // The other one waits for this, though not for ever.
    let _ = timeout(MESSAGE_TIME / 2, place.unfollowed.cancelled()).await;
    if let Err(error) = conversation.write_all(DONE).await {
        warn!(%error, "the process that took the place of this one is gone already");
    }
    Ok(())
}

/// The letter and all files, in one message.
async fn send<R: Fn() -> u64>(
    conversation: &mut UnixStream,
    place: &Place<R>,
) -> Result<(), Failed> {
    let mut letter = Letter { revision: (place.revision)(), files: Vec::new() };
    for (role, _) in &place.files {
        match letter.files.last_mut() {
            Some((last, count)) if last == role => *count += 1,
            _ => letter.files.push((*role, 1)),
        }
    }
    let text = letter.to_string();
    let files: Vec<BorrowedFd<'_>> = place.files.iter().map(|(_, file)| file.as_fd()).collect();
    let sending = conversation.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&files));
        let pieces = [IoSlice::new(text.as_bytes())];
        Ok(sendmsg(&*conversation, &pieces, &mut control, SendFlags::NOSIGNAL)?)
    });
    let sent = timeout(MESSAGE_TIME, sending).await.map_err(|_| Failed::Silent(MESSAGE_TIME))??;
    conversation.write_all(&text.as_bytes()[sent..]).await?;
    Ok(())
}
