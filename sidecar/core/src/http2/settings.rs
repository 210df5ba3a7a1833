//! Settings of both sides (RFC 9113 section 6.5, RFC 8441).

use thiserror::Error;

use super::frame::{FrameHead, LEAST_MAX_FRAME_BYTES, kind};
use super::reason::Reason;
use super::window::MOST_WINDOW;

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

const MOST_MAX_FRAME_BYTES: u32 = (1 << 24) - 1;
const ENTRY_BYTES: usize = 6;

/// What the peer told us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    pub header_table_size: usize,
    /// `None`: as many as we like.
    pub max_streams: Option<u32>,
    pub initial_window: u32,
    pub max_frame_bytes: usize,
    /// Whether `CONNECT` may name a protocol.
    pub extended_connect: bool,
}

/// What we tell the peer. All that is not here is as the RFC has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OurSettings {
    /// Streams that the peer may open; a client, which takes no pushes, says so instead.
    pub max_streams: Option<u32>,
    pub initial_window: u32,
    pub max_header_list_bytes: u32,
}

/// Settings that end the connection.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("setting {id} must not be {value}")]
pub struct SettingsError {
    pub id: u16,
    pub value: u32,
    pub reason: Reason,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            header_table_size: 4096,
            max_streams: None,
            initial_window: 65_535,
            max_frame_bytes: LEAST_MAX_FRAME_BYTES,
            extended_connect: false,
        }
    }
}

impl PeerSettings {
    /// Reads the content of a `SETTINGS` frame, whose length is a multiple of six.
    pub fn read(&mut self, payload: &[u8]) -> Result<(), SettingsError> {
        for entry in payload.as_chunks::<ENTRY_BYTES>().0 {
            let [a, b, value @ ..] = *entry;
            let (id, value) = (u16::from_be_bytes([a, b]), u32::from_be_bytes(value));
            let error = |reason| SettingsError { id, value, reason };
            match id {
                HEADER_TABLE_SIZE => self.header_table_size = value as usize,
                ENABLE_PUSH if value > 1 => return Err(error(Reason::PROTOCOL_ERROR)),
                MAX_CONCURRENT_STREAMS => self.max_streams = Some(value),
                INITIAL_WINDOW_SIZE if value > MOST_WINDOW => {
                    return Err(error(Reason::FLOW_CONTROL_ERROR));
                }
                INITIAL_WINDOW_SIZE => self.initial_window = value,
                MAX_FRAME_SIZE => {
                    if !(LEAST_MAX_FRAME_BYTES as u32..=MOST_MAX_FRAME_BYTES).contains(&value) {
                        return Err(error(Reason::PROTOCOL_ERROR));
                    }
                    self.max_frame_bytes = value as usize;
                }
                // RFC 8441 section 3: once allowed, always allowed.
                ENABLE_CONNECT_PROTOCOL => match value {
                    1 => self.extended_connect = true,
                    0 if !self.extended_connect => {}
                    _ => return Err(error(Reason::PROTOCOL_ERROR)),
                },
                _ => {}
            }
        }
        Ok(())
    }
}

impl OurSettings {
    /// Writes the frame.
    pub fn write(&self, page: &mut Vec<u8>) {
        let of_server = self
            .max_streams
            .map(|streams| [(MAX_CONCURRENT_STREAMS, streams), (ENABLE_CONNECT_PROTOCOL, 1)]);
        let of_client = self.max_streams.is_none().then_some((ENABLE_PUSH, 0));
        let of_both = [
            (INITIAL_WINDOW_SIZE, self.initial_window),
            (MAX_HEADER_LIST_SIZE, self.max_header_list_bytes),
        ];
        let all = of_both.into_iter().chain(of_server.into_iter().flatten()).chain(of_client);
        let length = ENTRY_BYTES * all.clone().count();
        let head = FrameHead { length, kind: kind::SETTINGS, flags: 0, stream: 0 };
        page.extend_from_slice(&head.bytes());
        for (id, value) in all {
            page.extend_from_slice(&id.to_be_bytes());
            page.extend_from_slice(&value.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::HEAD_BYTES;

    fn read(settings: &mut PeerSettings, id: u16, value: u32) -> Result<(), Reason> {
        let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        settings.read(&payload).map_err(|error| error.reason)
    }

    #[test]
    fn what_is_written_is_read() {
        let ours =
            OurSettings { max_streams: Some(7), initial_window: 9, max_header_list_bytes: 11 };
        let mut page = Vec::new();
        ours.write(&mut page);
        let head = FrameHead::read(&page).unwrap();
        assert_eq!((head.kind, head.length), (kind::SETTINGS, page.len() - HEAD_BYTES));
        let mut read = PeerSettings::default();
        read.read(&page[HEAD_BYTES..]).unwrap();
        let expected = PeerSettings {
            max_streams: Some(7),
            initial_window: 9,
            extended_connect: true,
            ..PeerSettings::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        let mut settings = PeerSettings::default();
        assert_eq!(read(&mut settings, ENABLE_PUSH, 2), Err(Reason::PROTOCOL_ERROR));
        let window = read(&mut settings, INITIAL_WINDOW_SIZE, MOST_WINDOW + 1);
        assert_eq!(window, Err(Reason::FLOW_CONTROL_ERROR));
        for size in [16_383, 1 << 24] {
            assert_eq!(read(&mut settings, MAX_FRAME_SIZE, size), Err(Reason::PROTOCOL_ERROR));
        }
        assert_eq!(read(&mut settings, ENABLE_CONNECT_PROTOCOL, 2), Err(Reason::PROTOCOL_ERROR));
        assert_eq!(read(&mut settings, ENABLE_CONNECT_PROTOCOL, 1), Ok(()));
        assert_eq!(read(&mut settings, ENABLE_CONNECT_PROTOCOL, 0), Err(Reason::PROTOCOL_ERROR));
        assert_eq!(read(&mut settings, 0x77, 5), Ok(()));
    }
}
