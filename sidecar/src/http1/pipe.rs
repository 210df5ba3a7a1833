//! Pipes of the kernel's, through which large bodies go from one connection to another without being
//! copied to this process and back (`splice(2)`). Each worker's thread has its own.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use http_body::{Body, Frame};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Pieces below this are copied: two more calls of the kernel cost as much.
pub const PIPED_BYTES: u64 = 64 * 1024;
/// What a pipe may hold at one time, each page counted whole.
const ROOM_BYTES: usize = 256 * 1024;
/// Pipes that one worker has at one time, lent or not. Who finds none free copies.
const MOST_PIPES: usize = 64;

thread_local! {
    static PIPES: RefCell<Pipes> = const { RefCell::new(Pipes::new()) };
}

struct Pipes {
    free: Vec<Ends>,
    made: usize,
    /// How many lay about all the time since the last look.
    idle: usize,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe that is lent: empty at first, filled once, and drained. Dropped empty it is lent again,
/// else it is closed, with what is in it.
pub struct Pipe {
    ends: Option<Ends>,
    filled: usize,
}

/// A body that may come through a pipe.
pub trait PipedBody: Body<Data = Bytes> + Unpin {
    /// Fills an empty pipe with the next piece; whether anything came. If not, be it that nothing is
    /// there yet, that the body has ended or failed, or that it comes in another way, the next frame
    /// tells.
    fn fill(&mut self, _pipe: &mut Pipe) -> bool {
        false
    }
}

/// The next piece of a body.
pub enum Piece {
    Frame(Frame<Bytes>),
    Piped(Pipe),
}

impl Pipe {
    /// An empty pipe, if there is one.
    pub fn borrow() -> Option<Self> {
        let ends = PIPES.with_borrow_mut(|pipes| match pipes.free.pop() {
            Some(ends) => {
                pipes.idle = pipes.idle.min(pipes.free.len());
                Some(ends)
            }
            None if pipes.made < MOST_PIPES => {
                let ends = Ends::new().ok()?;
                pipes.made += 1;
                Some(ends)
            }
            None => None,
        })?;
        Some(Self { ends: Some(ends), filled: 0 })
    }

    /// How many bytes are in it.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Takes up to `most` bytes that came on a socket, which does not block.
    pub fn fill(&mut self, from: impl AsFd, most: u64) -> io::Result<usize> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(ROOM_BYTES);
        let Some(ends) = &self.ends else { return Ok(0) };
        let moved = splice(from, None, &ends.write, None, most, flags())?;
        self.filled += moved;
        Ok(moved)
    }

    /// Gives a socket, which does not block, what it takes.
    pub fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        let Some(ends) = &self.ends else { return Ok(0) };
        let moved = splice(&ends.read, None, to, None, self.filled, flags())?;
        self.filled = self.filled.saturating_sub(moved);
        Ok(moved)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        // A thread that ends has no pipes any more.
        let _ = PIPES.try_with(|pipes| {
            let mut pipes = pipes.borrow_mut();
            if self.filled == 0 {
                pipes.free.push(ends);
            } else {
                pipes.made -= 1;
            }
        });
    }
}

impl Pipes {
    const fn new() -> Self {
        Self { free: Vec::new(), made: 0, idle: 0 }
    }
}

/// Closes the pipes of this thread that nobody needed since the last time.
pub fn close_idle_pipes() {
    PIPES.with_borrow_mut(|pipes| {
        let kept = pipes.free.len() - pipes.idle;
        pipes.made -= pipes.idle;
        pipes.free.truncate(kept);
        pipes.idle = kept;
    });
}

impl Ends {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Where the user has too many large pipes already, a small one does.
        let _ = fcntl_setpipe_size(&write, ROOM_BYTES);
        Ok(Self { read, write })
    }
}

fn flags() -> SpliceFlags {
    SpliceFlags::MOVE | SpliceFlags::NONBLOCK
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (here, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_go_through_and_the_pipe_is_lent_again() {
        let ((mut caller, from), (to, mut upstream)) = (connection(), connection());
        caller.write_all(b"hello, world").unwrap();
        let mut pipe = Pipe::borrow().unwrap();
        assert_eq!(pipe.fill(&from, 5).unwrap(), 5);
        assert_eq!((pipe.filled(), pipe.drain(&to).unwrap(), pipe.filled()), (5, 5, 0));
        let mut read = [0; 5];
        upstream.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"hello");
        drop(pipe);
        PIPES.with_borrow(|pipes| assert_eq!((pipes.free.len(), pipes.made), (1, 1)));

        let mut pipe = Pipe::borrow().unwrap();
        pipe.fill(&from, 7).unwrap();
        drop(pipe);
        PIPES.with_borrow(|pipes| assert_eq!((pipes.free.len(), pipes.made), (0, 0)));
    }

    #[test]
    fn what_nobody_needs_from_one_look_to_the_next_is_closed() {
        let left = || PIPES.with_borrow(|pipes| (pipes.free.len(), pipes.made));
        let three = [Pipe::borrow(), Pipe::borrow(), Pipe::borrow()];
        close_idle_pipes();
        drop(three);
        close_idle_pipes();
        assert_eq!(left(), (3, 3), "they were needed since the last look");
        drop([Pipe::borrow(), Pipe::borrow()]);
        close_idle_pipes();
        assert_eq!(left(), (2, 2));
        close_idle_pipes();
        assert_eq!(left(), (0, 0));
    }

    #[test]
    fn there_are_only_so_many() {
        let all: Vec<Pipe> = std::iter::from_fn(Pipe::borrow).collect();
        assert_eq!(all.len(), MOST_PIPES);
        drop(all);
        assert!(Pipe::borrow().is_some());
    }

    #[test]
    fn nothing_to_take_and_a_closed_peer_are_told_apart() {
        let (caller, from) = connection();
        from.set_nonblocking(true).unwrap();
        let mut pipe = Pipe::borrow().unwrap();
        let error = pipe.fill(&from, 9).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(caller);
        from.set_nonblocking(false).unwrap();
        while pipe.fill(&from, 9).is_err() {}
        assert_eq!(pipe.filled(), 0);
    }
}
