//! Writes lists of fields.
//!
//! A field enters the table when it is seen for the second time in a while: what differs from one
//! message to the next (times, ids) never does, so that what is the same stays in. Strings are sent
//! as they are: the code would save few octets that the table does not save, and cost both sides
//! more than anything else here.

use std::collections::VecDeque;

use http::{HeaderName, HeaderValue, header};

use super::field::Pseudo;
use super::{ENTRY_OVERHEAD, integer, sample, static_table};

/// Octets of a table that is ours to choose.
const MOST_TABLE_SIZE: usize = 4096;
/// Places of guesses.
const SLOTS: usize = 128;
/// A larger field would push out too many others.
const MOST_FIELD_SIZE: usize = MOST_TABLE_SIZE / 4;

/// An encoder: one for each direction of a connection that is sent to.
#[derive(Debug)]
pub struct Encoder {
    /// The newest one in front.
    entries: VecDeque<Entry>,
    size: usize,
    most_size: usize,
    /// Told at the begin of the next block.
    new_size: Option<usize>,
    /// Entries that were ever made.
    made: u32,
    /// By hash: the entry that may be the one.
    guesses: [Guess; SLOTS],
    /// By hash: the field that was seen there last.
    seen: [u32; SLOTS],
}

#[derive(Debug)]
struct Entry {
    name: Box<str>,
    value: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Guess {
    hash: u32,
    /// Which entry in the order in which they were made, from 1.
    turn: u32,
}

impl Entry {
    fn size(&self) -> usize {
        self.name.len() + self.value.len() + ENTRY_OVERHEAD
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            most_size: MOST_TABLE_SIZE,
            new_size: None,
            made: 0,
            guesses: [Guess::default(); SLOTS],
            seen: [0; SLOTS],
        }
    }
}

impl Encoder {
    /// The receiver allows a table of this size.
    pub fn allow(&mut self, size: usize) {
        let size = size.min(MOST_TABLE_SIZE);
        if size != self.most_size {
            self.most_size = size;
            // The smallest one of several must be told (RFC 7541 section 4.2): it is the only one,
            // since a larger one after it need not be used.
            self.new_size = Some(self.new_size.map_or(size, |before| before.min(size)));
            self.most_size = self.new_size.unwrap_or(size);
            self.make_room(0);
        }
    }

    /// Begins a block.
    pub fn begin(&mut self, page: &mut Vec<u8>) {
        if let Some(size) = self.new_size.take() {
            integer::write(page, 0x20, 5, size);
        }
    }

    /// Writes a pseudo field.
    pub fn pseudo(&mut self, page: &mut Vec<u8>, name: Pseudo, value: &[u8]) {
        match static_table::index_of_pseudo_field(name, value) {
            0 => {
                let index = static_table::index_of_pseudo(name);
                self.field(page, name.as_str(), index, value);
            }
            index => integer::write(page, 0x80, 7, index),
        }
    }

    /// Writes a header.
    pub fn header(&mut self, page: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
        let index = static_table::index_of(name);
        let value_bytes = value.as_bytes();
        if value.is_sensitive() {
            literal(page, 0x10, 4, index, name.as_str(), value_bytes);
        } else if is_private(name) {
            literal(page, 0, 4, index, name.as_str(), value_bytes);
        } else {
            self.field(page, name.as_str(), index, value_bytes);
        }
    }

    fn field(&mut self, page: &mut Vec<u8>, name: &str, index: usize, value: &[u8]) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        if size > MOST_FIELD_SIZE.min(self.most_size) {
            return literal(page, 0, 4, index, name, value);
        }
        let hash = sample::both(sample::hash(name.as_bytes()), sample::hash(value));
        let slot = hash as usize % SLOTS;
        let guess = self.guesses[slot];
        if guess.hash == hash
            && guess.turn > 0
            && let age = (self.made - guess.turn) as usize
            && let Some(entry) = self.entries.get(age)
            && *entry.value == *value
            && *entry.name == *name
        {
            return integer::write(page, 0x80, 7, static_table::FIELDS + 1 + age);
        }
        if self.seen[slot] != hash || self.made == u32::MAX {
            self.seen[slot] = hash;
            return literal(page, 0, 4, index, name, value);
        }
        literal(page, 0x40, 6, index, name, value);
        self.make_room(size);
        self.size += size;
        self.made += 1;
        self.guesses[slot] = Guess { hash, turn: self.made };
        self.entries.push_front(Entry { name: name.into(), value: value.into() });
    }

    fn make_room(&mut self, size: usize) {
        while self.size + size > self.most_size
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size();
        }
    }
}

/// Whether somebody who sees the lengths of what we send could learn a secret by guessing (RFC 7541
/// section 7.1).
fn is_private(name: &HeaderName) -> bool {
    const PRIVATE: [HeaderName; 4] =
        [header::AUTHORIZATION, header::COOKIE, header::SET_COOKIE, header::PROXY_AUTHORIZATION];
    PRIVATE.contains(name)
}

fn literal(page: &mut Vec<u8>, kind: u8, prefix: u32, index: usize, name: &str, value: &[u8]) {
    integer::write(page, kind, prefix, index);
    if index == 0 {
        integer::write(page, 0, 7, name.len());
        page.extend_from_slice(name.as_bytes());
    }
    integer::write(page, 0, 7, value.len());
    page.extend_from_slice(value);
}
