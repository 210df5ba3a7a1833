//! The new sidecar's side.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::letter::MOST_BYTES;
use super::{DONE, HELLO, Letter, LetterError, MESSAGE_TIME, Role, SERVING, Sockets, path_in};

/// What was handed over, while the old sidecar still serves.
#[derive(Debug)]
pub struct Claim {
    /// Revision that the old one runs on; 0: none.
    pub revision: u64,
    pub sockets: Sockets,
    conversation: UnixStream,
}

/// A place that cannot be taken.
#[derive(Debug, Error)]
pub enum ClaimError {
    #[error("the running sidecar cannot be asked for its place: {0}")]
    Io(#[from] io::Error),
    #[error("the running sidecar does not answer for {MESSAGE_TIME:?}")]
    Silent,
    #[error("the running sidecar does not give its place: {0}")]
    Letter(#[from] LetterError),
    #[error("the running sidecar ended the conversation")]
    Ended,
}

/// Asks the sidecar that runs on a data directory for its place. `None` where none listens there.
/// Until [`Claim::serves`] it may be dropped: the other one goes on.
pub async fn claim(data_dir: &Path) -> Result<Option<Claim>, ClaimError> {
    let conversation = match UnixStream::connect(path_in(data_dir)).await {
        Ok(conversation) => conversation,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let asking = ask(conversation);
    timeout(MESSAGE_TIME, asking).await.map_err(|_| ClaimError::Silent)?.map(Some)
}

async fn ask(mut conversation: UnixStream) -> Result<Claim, ClaimError> {
    conversation.write_all(HELLO).await?;
    let (mut text, mut files) = (Vec::new(), Vec::new());
    while !Letter::is_whole(&text) {
        let mut piece = [0; MOST_BYTES];
        let read = conversation
            .async_io(Interest::READABLE, || receive(&conversation, &mut piece, &mut files))
            .await?;
        text.extend_from_slice(&piece[..read]);
        if read == 0 || text.len() > MOST_BYTES {
            return Err(ClaimError::Ended);
        }
    }
    let letter = Letter::parse(&text)?;
    let (announced, came) = (letter.total(), files.len());
    if announced != came {
        return Err(LetterError::Files { announced, came }.into());
    }
    let mut sockets = Sockets::default();
    let mut files = files.into_iter();
    for (role, count) in letter.files {
        let some = files.by_ref().take(count);
        match role {
            Role::Outbound => sockets.outbound.extend(some.map(TcpListener::from)),
            Role::Inbound => sockets.inbound.extend(some.map(TcpListener::from)),
            Role::Admin => sockets.admin.extend(some.map(TcpListener::from)),
            Role::Lock => sockets.lock = some.last(),
        }
    }
    Ok(Claim { revision: letter.revision, sockets, conversation })
}

/// One piece of the letter, and the files that came with it.
fn receive(
    conversation: &UnixStream,
    piece: &mut [u8],
    files: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(super::MOST_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut pieces = [IoSliceMut::new(piece)];
    let received = recvmsg(conversation, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            files.extend(some);
        }
    }
    Ok(received.bytes)
}

impl Claim {
    /// Says that callers are accepted here, so that the old one drains. When this returns it follows
    /// the control plane no more, so that this one may, under the same node id.
    pub async fn serves(mut self) -> Result<(), ClaimError> {
        let saying = async {
            self.conversation.write_all(SERVING).await?;
            let mut answer = [0; DONE.len()];
            self.conversation.read_exact(&mut answer).await?;
            if answer == DONE { Ok(()) } else { Err(ClaimError::Ended) }
        };
        timeout(MESSAGE_TIME, saying).await.map_err(|_| ClaimError::Silent)?
    }
}
