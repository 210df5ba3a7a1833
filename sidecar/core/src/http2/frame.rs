//! Frames (RFC 9113 section 4.1).

use super::reason::Reason;

/// What a client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The head of each frame.
pub const HEAD_BYTES: usize = 9;
/// The largest frame that everybody must take, and that we take.
pub const LEAST_MAX_FRAME_BYTES: usize = 16 * 1024;

/// Types of frames.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Bytes that follow.
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    /// 0: the connection as a whole.
    pub stream: u32,
}

/// Where the content of a frame stands in what follows its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpadded {
    pub begin: usize,
    pub end: usize,
}

impl FrameHead {
    /// Reads a head; `None` while it is not complete.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = bytes.first_chunk::<HEAD_BYTES>()?;
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        // The first bit means nothing.
        let stream = u32::from_be_bytes(*stream) & (u32::MAX >> 1);
        Some(Self { length, kind: *kind, flags: *flags, stream })
    }

    /// The bytes of the head.
    pub fn bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..3].copy_from_slice(&(self.length as u32).to_be_bytes()[1..]);
        bytes[3..5].copy_from_slice(&[self.kind, self.flags]);
        bytes[5..].copy_from_slice(&self.stream.to_be_bytes());
        bytes
    }

    /// Whether a flag is set.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Takes padding off, and the priority of `HEADERS`, which means nothing any more.
pub fn unpad(head: FrameHead, payload: &[u8]) -> Result<Unpadded, Reason> {
    let (mut begin, mut end) = (0, payload.len());
    if head.has(flag::PADDED) {
        let padding = usize::from(*payload.first().ok_or(Reason::FRAME_SIZE_ERROR)?);
        begin = 1;
        end = end.checked_sub(padding).filter(|end| *end >= 1).ok_or(Reason::PROTOCOL_ERROR)?;
    }
    if head.kind == kind::HEADERS && head.has(flag::PRIORITY) {
        begin += 5;
        if begin > end {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
    }
    Ok(Unpadded { begin, end })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(kind: u8, flags: u8) -> FrameHead {
        FrameHead { length: 0, kind, flags, stream: 1 }
    }

    #[test]
    fn padding_and_priority_are_taken_off() {
        let data = head(kind::DATA, flag::PADDED);
        assert_eq!(unpad(data, &[2, 7, 7, 0, 0]), Ok(Unpadded { begin: 1, end: 3 }));
        assert_eq!(unpad(data, &[0]), Ok(Unpadded { begin: 1, end: 1 }));
        assert_eq!(unpad(data, &[1]), Err(Reason::PROTOCOL_ERROR));
        assert_eq!(unpad(data, &[]), Err(Reason::FRAME_SIZE_ERROR));
        let both = head(kind::HEADERS, flag::PADDED | flag::PRIORITY);
        assert_eq!(unpad(both, &[1, 0, 0, 0, 0, 16, 9, 0]), Ok(Unpadded { begin: 6, end: 7 }));
        assert_eq!(unpad(both, &[1, 0, 0, 0, 0, 0]), Err(Reason::FRAME_SIZE_ERROR));
        let other = head(kind::DATA, flag::PRIORITY);
        assert_eq!(unpad(other, &[1]), Ok(Unpadded { begin: 0, end: 1 }));
    }

    proptest! {
        #[test]
        fn heads_are_read_as_written(
            length in 0usize..1 << 24, kind: u8, flags: u8, stream in 0u32..1 << 31,
        ) {
            let head = FrameHead { length, kind, flags, stream };
            prop_assert_eq!(FrameHead::read(&head.bytes()), Some(head));
            prop_assert_eq!(FrameHead::read(&head.bytes()[..8]), None);
        }
    }
}
