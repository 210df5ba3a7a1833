//! Bytes of a request that are not read yet, as they came: nothing is moved together, so that many
//! large requests at one time leave no large holes in the memory.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// Compression flag and length of a gRPC message.
pub(super) const HEAD_BYTES: usize = 5;

/// What came and was not read.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// None of them empty.
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Unread {
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The head of the message that this begins with.
    pub fn head(&self) -> Option<[u8; HEAD_BYTES]> {
        let mut head = [0; HEAD_BYTES];
        let mut bytes = self.pieces.iter().flatten();
        for place in &mut head {
            *place = *bytes.next()?;
        }
        Some(head)
    }

    /// The length of the message that this begins with; 0 where its head is not all there.
    pub fn announced(&self) -> usize {
        self.head().map_or(0, |[_, length @ ..]| u32::from_be_bytes(length) as usize)
    }

    /// Whether no memory is held.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.bytes == 0 && self.pieces.capacity() == 0
    }
}

impl Buf for Unread {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        while let Some(first) = self.pieces.front_mut() {
            if bytes < first.len() {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.pieces.pop_front();
        }
        self.pieces = VecDeque::new();
    }
}
