//! HPACK: how HTTP/2 writes lists of fields (RFC 7541).

mod decoder;
mod encoder;
mod field;
mod huffman;
mod integer;
mod sample;
mod static_table;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use field::{Field, Pseudo};

/// What a field counts in a table, and in a list, beyond its octets.
pub const ENTRY_OVERHEAD: usize = 32;

/// A block that cannot be read. The two sides' tables differ from here on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HpackError {
    #[error("a list of fields ends in the middle of one")]
    Truncated,
    #[error("a field refers to one that is not in the table")]
    Index,
    #[error("an integer is too long")]
    Integer,
    #[error("a string is no Huffman code")]
    Huffman,
    #[error("the table may not be resized so, or not here")]
    TableSize,
}
