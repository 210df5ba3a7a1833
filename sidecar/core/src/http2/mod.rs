//! HTTP/2 as bytes (RFC 9113): frames, lists of fields, settings and windows. What may follow what
//! is for the sessions that use it.

mod frame;
pub mod fuzz;
pub mod hpack;
mod message;
mod reason;
mod settings;
mod window;

pub use frame::{
    FrameHead, HEAD_BYTES, LEAST_MAX_FRAME_BYTES, PREFACE, Unpadded, flag, kind, unpad,
};
pub use message::{
    Malformed, MessageHead, Protocol, RequestFields, ResponseFields, TrailerFields, write_request,
    write_response, write_trailers,
};
pub use reason::Reason;
pub use settings::{OurSettings, PeerSettings, SettingsError};
pub use window::{MOST_WINDOW, ReceiveWindow, SendWindow};
