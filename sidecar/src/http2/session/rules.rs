//! What may follow what, and what becomes of it where something else does.

use segue_sidecar_core::http2::Reason;

use super::resets::Past;
use super::{LAST_STREAM, Role, Session, StreamError};

/// The stream that a frame is of.
pub enum Target {
    Open(u32),
    /// Nobody knows it any more.
    Past,
}

impl Session {
    /// Whether a caller may send one more frame of little use.
    pub(super) fn is_affordable(&mut self) -> bool {
        let begun = self.begun;
        if self.role == Role::Server && !self.budget.received_other(|| begun.elapsed()) {
            self.flooded = true;
        }
        !self.flooded
    }

    /// The stream that a frame is of, which must have been opened once.
    pub(super) fn target(&self, id: u32) -> Result<Target, Reason> {
        if let Some(key) = self.streams.key_of(id) {
            return Ok(Target::Open(key));
        }
        let begun = match self.role {
            Role::Server => id % 2 == 1 && id <= self.last_peer,
            Role::Client => id % 2 == 1 && id < self.next_ours,
        };
        if begun { Ok(Target::Past) } else { Err(Reason::PROTOCOL_ERROR) }
    }

    /// A frame came on a stream that had ended in order, where none may come. What servers send on
    /// streams that are no more is borne.
    pub(super) fn after_the_end(&self, id: u32) -> Result<(), Reason> {
        match self.resets.past(id) {
            Past::Ended if self.role == Role::Server => Err(Reason::STREAM_CLOSED),
            Past::Skipped if self.role == Role::Server => Err(Reason::PROTOCOL_ERROR),
            Past::Ended | Past::Skipped | Past::GivenUp | Past::Unknown => Ok(()),
        }
    }

    /// Ends a stream for an error of the peer's.
    pub(super) fn violated(&mut self, key: u32, reason: Reason) -> Result<(), Reason> {
        self.give_up(key, reason, StreamError::Violated(reason));
        if self.resets.error() { Ok(()) } else { Err(Reason::ENHANCE_YOUR_CALM) }
    }

    /// Refuses a stream that was not begun.
    pub(super) fn refuse(&mut self, id: u32, reason: Reason) -> Result<(), Reason> {
        self.resets.ours(id);
        self.write_reset(id, reason);
        if self.resets.error() { Ok(()) } else { Err(Reason::ENHANCE_YOUR_CALM) }
    }
}

/// Whether a priority names this stream as the one before.
pub fn depends_on(priority: &[u8], id: u32) -> bool {
    priority.first_chunk().is_some_and(|before| u32::from_be_bytes(*before) & LAST_STREAM == id)
}
