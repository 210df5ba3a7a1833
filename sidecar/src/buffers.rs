//! Memory to read into and to write from, which connections borrow while bytes come or go. Each
//! worker's thread has its own.

use std::cell::RefCell;

use bytes::BytesMut;

/// The size of a piece of memory for heads and small bodies.
pub const BUFFER_BYTES: usize = 64 * 1024;
/// The size of a piece of memory for large bodies, and what is read at once at most. Each `recv` and
/// each `send` wakes a peer, which costs as much as copying the half of this.
pub const LARGE_BUFFER_BYTES: usize = 256 * 1024;
/// Pieces of each size kept for reading by one worker.
const MOST_BUFFERS: usize = 16;
/// Pieces kept for writing by one worker.
const MOST_PAGES: usize = 64;
const PAGE_BYTES: usize = 2 * 1024;
/// A page that grew beyond this is not kept.
const MOST_PAGE_BYTES: usize = 16 * 1024;

thread_local! {
    static BUFFERS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static LARGE_BUFFERS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    static PAGES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Sizes of memory for reading. Each has pieces of its own, so that no head makes a large one stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Small,
    Large,
}

impl Size {
    /// The one that suits.
    pub fn of(room: usize) -> Self {
        if room <= BUFFER_BYTES { Self::Small } else { Self::Large }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Small => BUFFER_BYTES,
            Self::Large => LARGE_BUFFER_BYTES,
        }
    }

    fn with_free<R>(self, then: impl FnOnce(&mut Vec<BytesMut>) -> R) -> R {
        match self {
            Self::Small => BUFFERS.with_borrow_mut(then),
            Self::Large => LARGE_BUFFERS.with_borrow_mut(then),
        }
    }

    /// A buffer with room for at least `room` bytes. Heads and pieces of bodies that were read
    /// before may still live in other parts of the same memory: it is used up to its end, and again
    /// from its begin when the last of them is gone.
    pub fn borrow_buffer(self, room: usize) -> BytesMut {
        let room_in_all = room.max(self.bytes());
        self.with_free(|free| {
            let fits = |buffer: &BytesMut| buffer.capacity() >= room;
            let place = free.iter().rposition(fits);
            let place =
                place.or_else(|| free.iter_mut().rposition(|it| it.try_reclaim(room_in_all)));
            match place {
                Some(place) => free.swap_remove(place),
                None => BytesMut::with_capacity(room_in_all),
            }
        })
    }

    /// Gives back an empty buffer of this size.
    pub fn return_buffer(self, buffer: BytesMut) {
        self.with_free(|free| {
            if free.len() < MOST_BUFFERS {
                free.push(buffer);
            } else if let Some(spent) = free.iter_mut().find(|it| it.capacity() < buffer.capacity())
            {
                *spent = buffer;
            }
        });
    }
}

/// An empty page to write a head on.
pub fn borrow_page() -> Vec<u8> {
    let kept = PAGES.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| Vec::with_capacity(PAGE_BYTES))
}

/// Gives back a page.
pub fn return_page(mut page: Vec<u8>) {
    page.clear();
    PAGES.with_borrow_mut(|free| {
        if free.len() < MOST_PAGES && (1..=MOST_PAGE_BYTES).contains(&page.capacity()) {
            free.push(page);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_when_nothing_of_it_lives() {
        let mut first = Size::Small.borrow_buffer(BUFFER_BYTES);
        let begin = first.as_ptr();
        first.extend_from_slice(&[1; 1000]);
        let head = first.split().freeze();
        Size::Small.return_buffer(first);
        let mut second = Size::Small.borrow_buffer(4096);
        second.extend_from_slice(&[2; 1000]);
        assert_eq!(second.as_ptr(), begin.wrapping_add(1000), "the rest of the same memory");
        drop(second.split());
        Size::Small.return_buffer(second);
        let third = Size::Small.borrow_buffer(BUFFER_BYTES);
        assert_ne!(third.as_ptr(), begin, "a head lives there");
        assert_eq!(head, [1; 1000][..]);
        drop(head);
        assert_eq!(Size::Small.borrow_buffer(BUFFER_BYTES).as_ptr(), begin);
    }

    #[test]
    fn large_bodies_have_memory_of_their_own() {
        assert_eq!(
            (Size::of(BUFFER_BYTES), Size::of(BUFFER_BYTES + 1)),
            (Size::Small, Size::Large)
        );
        let large = Size::Large.borrow_buffer(BUFFER_BYTES + 1);
        assert!(large.capacity() >= LARGE_BUFFER_BYTES);
        let begin = large.as_ptr();
        Size::Large.return_buffer(large);
        assert_ne!(Size::Small.borrow_buffer(4096).as_ptr(), begin);
        assert_eq!(Size::Large.borrow_buffer(LARGE_BUFFER_BYTES).as_ptr(), begin);
    }

    #[test]
    fn only_so_much_is_kept() {
        for _ in 0..2 * MOST_PAGES {
            return_page(vec![0; 100]);
        }
        return_page(vec![0; 2 * MOST_PAGE_BYTES]);
        PAGES.with_borrow(|pages| assert_eq!(pages.len(), MOST_PAGES));
        for _ in 0..2 * MOST_BUFFERS {
            Size::Small.return_buffer(BytesMut::with_capacity(100));
        }
        BUFFERS.with_borrow(|buffers| assert_eq!(buffers.len(), MOST_BUFFERS));
    }
}
