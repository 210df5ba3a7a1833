//! Whom the mesh believes, on its way through: it waits for no mark, and is not kept on disk.

use super::Inbox;

impl Inbox {
    /// Whether the authorities of the mesh are to come on the stream; they do not until this is told.
    pub fn ask_for_authorities(&mut self, asks: bool) {
        self.asks_for_authorities = asks;
    }

    /// Authorities that came since the last look, in PEM.
    pub fn new_authorities(&mut self) -> Option<Box<[u8]>> {
        self.authorities.take()
    }
}
