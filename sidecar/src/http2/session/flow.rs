//! Windows, and the room that streams share.

use std::task::{Context, Poll};

use segue_sidecar_core::http2::Reason;

use super::{Left, Session, StreamError, note, write_window_update};

/// For less, nobody is woken.
const LEAST_ROOM_BYTES: usize = 16 * 1024;

impl Session {
    /// How much may be sent on a stream now; waits until it is something.
    pub fn poll_room(
        &mut self,
        key: u32,
        context: &Context<'_>,
    ) -> Poll<Result<usize, StreamError>> {
        let shared = self.out.room().min(self.send_window.room());
        let Some(stream) = self.streams.get(key) else {
            return Poll::Ready(Err(StreamError::Closed));
        };
        if let Some(error) = stream.error {
            return Poll::Ready(Err(error));
        }
        let room = stream.send_window.room().min(shared);
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        note(&mut stream.send_waker, context);
        if shared == 0 && !std::mem::replace(&mut stream.waits, true) {
            self.waiting.push(key);
        }
        Poll::Pending
    }

    /// There may be room again that streams share.
    pub fn made_room(&mut self) {
        if self.waiting.is_empty()
            || self.out.room() < LEAST_ROOM_BYTES
            || self.send_window.room() == 0
        {
            return;
        }
        for key in self.waiting.drain(..) {
            if let Some(stream) = self.streams.get(key) {
                stream.waits = false;
                stream.wake_sender();
            }
        }
    }

    /// So much of what came on a stream was taken, or is not wanted.
    pub(super) fn taken(&mut self, key: u32, bytes: usize) {
        if let Some(stream) = self.streams.get(key)
            && stream.receiving != Left::Nothing
            && stream.error.is_none()
            && stream.has_receiver
            && let Some(increment) = stream.receive_window.taken(bytes)
        {
            let id = stream.id;
            self.out.write(|page| write_window_update(page, id, increment));
            self.wake_driver();
        }
        self.taken_of_connection(bytes);
    }

    pub(super) fn taken_of_connection(&mut self, bytes: usize) {
        if self.ended {
            return;
        }
        if let Some(increment) = self.receive_window.taken(bytes) {
            self.out.write(|page| write_window_update(page, 0, increment));
            self.wake_driver();
        }
    }

    /// The peer opens the window of a stream, or of all.
    pub(super) fn opened(&mut self, key: Option<u32>, increment: u32) -> Result<(), Reason> {
        let Some(key) = key else {
            self.send_window.change(i64::from(increment))?;
            self.made_room();
            return Ok(());
        };
        if let Some(stream) = self.streams.get(key) {
            stream.send_window.change(i64::from(increment))?;
            stream.wake_sender();
        }
        Ok(())
    }

    /// The peer gives all streams another window.
    pub(super) fn shifted(&mut self, by: i64) -> Result<(), Reason> {
        for stream in self.streams.each() {
            stream.send_window.change(by)?;
            if by > 0 {
                stream.wake_sender();
            }
        }
        Ok(())
    }
}
