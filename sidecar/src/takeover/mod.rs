//! A sidecar that takes the place of another one on the same data directory, as for a new release:
//! it gets the listening sockets themselves, so that no caller is refused and nobody who waits to be
//! accepted is lost, and the other one drains.
//!
//! Over a Unix socket in the data directory, which only the same user may use:
//!
//! 1. The new one says which version of this conversation it speaks.
//! 2. The old one sends a [`Letter`] and with it the sockets and the lock of the directory
//!    (`SCM_RIGHTS`, unix(7)).
//! 3. The new one restores the last good snapshot, begins to accept, and says so.
//! 4. The old one stops to follow the control plane, answers, and drains.
//!
//! Whatever goes wrong before the third step leaves the old one as it was.

mod claim;
mod letter;
mod offer;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use claim::{Claim, ClaimError, claim};
pub use letter::{Letter, LetterError, MOST_SOCKETS, Role};
pub use offer::{Offer, OfferError, Place};

/// The socket in the data directory.
const SOCKET: &str = "takeover.sock";
/// What the new one says first.
const HELLO: &[u8] = b"segue-takeover 1\n";
/// What it says when it accepts callers.
const SERVING: &[u8] = b"serving\n";
/// What the old one answers when it follows nobody any more.
const DONE: &[u8] = b"done\n";
/// What it answers instead of a letter; the reason follows, to the end of the line.
const REFUSED: &str = "refused ";
/// Longest wait for one message of the other side.
const MESSAGE_TIME: Duration = Duration::from_secs(5);

/// What is handed over: open files, and what each is.
#[derive(Debug, Default)]
pub struct Sockets {
    pub outbound: Vec<TcpListener>,
    pub inbound: Vec<TcpListener>,
    pub admin: Vec<TcpListener>,
    /// The locked file of the data directory.
    pub lock: Option<OwnedFd>,
}

fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET)
}
