//! Reads lists of fields.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::field::{Field, Name};
use super::{ENTRY_OVERHEAD, HpackError, huffman, integer, static_table};

/// A decoder: one for each direction of a connection that is received from.
#[derive(Debug)]
pub struct Decoder {
    /// The newest one in front.
    entries: VecDeque<Entry>,
    size: usize,
    /// As the sender chose.
    most_size: usize,
    /// As we allow.
    allowed_size: usize,
}

#[derive(Debug)]
struct Entry {
    field: Field,
    size: usize,
}

/// The strings of one list, in one piece of memory.
struct Arena {
    memory: BytesMut,
    room: usize,
}

impl Decoder {
    /// A decoder whose table holds up to `allowed_size` (RFC 7541 section 4.1).
    pub fn new(allowed_size: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, most_size: allowed_size, allowed_size }
    }

    /// Reads one whole block. After an error nothing can be read on this connection any more.
    pub fn decode(&mut self, block: &[u8], mut take: impl FnMut(Field)) -> Result<(), HpackError> {
        let mut arena = Arena { memory: BytesMut::new(), room: huffman::most_decoded(block.len()) };
        let mut rest = block;
        let mut begun = false;
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                let index = integer::read(&mut rest, 7)?;
                take(self.field(index)?.clone());
            } else if first & 0x40 != 0 {
                let index = integer::read(&mut rest, 6)?;
                self.insert(index, &mut rest, &mut take)?;
            } else if first & 0x20 != 0 {
                let size = integer::read(&mut rest, 5)?;
                if begun || size > self.allowed_size {
                    return Err(HpackError::TableSize);
                }
                self.most_size = size;
                self.make_room(0);
                continue;
            } else {
                let index = integer::read(&mut rest, 4)?;
                let name = self.name(index, &mut rest)?;
                let value = arena.string(&mut rest)?;
                take(name.with(value, first & 0x10 != 0));
            }
            begun = true;
        }
        Ok(())
    }

    /// A literal that the table keeps. Its value has memory of its own.
    fn insert(
        &mut self,
        index: usize,
        rest: &mut &[u8],
        take: &mut impl FnMut(Field),
    ) -> Result<(), HpackError> {
        let before = *rest;
        let name = self.name(index, rest)?;
        let name_octets = match &name {
            Name::Pseudo(pseudo) => pseudo.as_str().len(),
            Name::Header(name) => name.as_str().len(),
            Name::Unfit => before.len() - rest.len(),
        };
        let mut arena = Arena { memory: BytesMut::new(), room: 0 };
        let value = arena.string(rest)?;
        let size = name_octets + value.len() + ENTRY_OVERHEAD;
        let field = name.with(value, false);
        if self.make_room(size) {
            self.size += size;
            self.entries.push_front(Entry { field: field.clone(), size });
        }
        take(field);
        Ok(())
    }

    /// Whether an entry of this size fits, once those are gone that are too many.
    fn make_room(&mut self, size: usize) -> bool {
        while self.size + size > self.most_size {
            let Some(oldest) = self.entries.pop_back() else { return size <= self.most_size };
            self.size -= oldest.size;
        }
        true
    }

    fn name(&self, index: usize, rest: &mut &[u8]) -> Result<Name, HpackError> {
        if index > 0 {
            return Ok(self.field(index)?.name());
        }
        let (coded, string) = string(rest)?;
        if !coded {
            return Ok(Name::of(string));
        }
        let mut name = Vec::with_capacity(huffman::most_decoded(string.len()));
        huffman::decode(string, &mut name)?;
        Ok(Name::of(&name))
    }

    fn field(&self, index: usize) -> Result<&Field, HpackError> {
        if index <= static_table::FIELDS {
            return static_table::field(index).ok_or(HpackError::Index);
        }
        let entry = self.entries.get(index - static_table::FIELDS - 1);
        entry.map(|entry| &entry.field).ok_or(HpackError::Index)
    }
}

impl Arena {
    /// The next string.
    fn string(&mut self, rest: &mut &[u8]) -> Result<Bytes, HpackError> {
        let (coded, string) = string(rest)?;
        if string.is_empty() {
            return Ok(Bytes::new());
        }
        let room = if coded { huffman::most_decoded(string.len()) } else { string.len() };
        if self.memory.capacity() < room {
            self.memory = BytesMut::with_capacity(self.room.max(room));
        }
        if coded {
            huffman::decode(string, &mut self.memory)?;
        } else {
            self.memory.put_slice(string);
        }
        if self.room == 0 {
            // The only one.
            return Ok(std::mem::take(&mut self.memory).freeze());
        }
        Ok(self.memory.split().freeze())
    }
}

/// Takes off a string: whether it is in the Huffman code, and its octets.
fn string<'a>(rest: &mut &'a [u8]) -> Result<(bool, &'a [u8]), HpackError> {
    let coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer::read(rest, 7)?;
    let (string, after) = rest.split_at_checked(length).ok_or(HpackError::Truncated)?;
    *rest = after;
    Ok((coded, string))
}
