//! HTTP/1.1 as bytes (RFC 9112), stricter than the RFC allows wherever two readers of the same
//! bytes might differ: what is accepted has one meaning, and is written in one form.

mod chunked;
mod field;
mod framing;
pub mod fuzz;
mod head;
mod trailer;
mod write;

pub use chunked::{ChunkDecoder, ChunkError, Chunked};
pub use framing::{BodyLength, Message, stated_length};
pub use head::{
    HeadEnd, HeadError, MOST_FIELDS, MOST_HEAD_BYTES, MOST_TARGET_BYTES, RequestHead, ResponseHead,
    parse_request, parse_response,
};
pub use write::{
    Connection, Framing, LAST_CHUNK, write_chunk_size, write_request, write_response,
    write_trailers,
};
