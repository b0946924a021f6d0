//! The byte queue that both directions of a session use: bytes are put in at the end and taken from the front.
//!
//! ```text
//!   0          start          end          capacity
//!   +------------+--------------+--------------+
//!   |  consumed  |    unread    |     free     |
//!   +------------+--------------+--------------+
//!         consume ──►    read_from, push ──►
//! ```
//!
//! The capacity never changes: a full buffer is what makes a peer wait. Nothing here knows a socket, a protocol or a
//! limit's reason; see [`crate::config`] for the sizes.

use std::fmt;
use std::io::{self, Read, Write};
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// A byte queue of a fixed capacity.
pub struct Buffer {
    bytes: Memory,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty buffer that holds up to `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Memory::zeroed(capacity), start: 0, end: 0 }
    }

    /// The bytes put in and not yet consumed.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// How many bytes are unread.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is unread.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many more bytes fit in.
    pub fn free(&self) -> usize {
        self.bytes.len() - self.len()
    }

    /// Whether nothing more fits in.
    pub fn is_full(&self) -> bool {
        self.free() == 0
    }

    /// Takes `count` bytes from the front.
    ///
    /// # Panics
    ///
    /// If fewer than `count` bytes are unread.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consume({count}) of {} unread bytes", self.len());
        self.start += count;
        if self.is_empty() {
            self.clear();
        }
    }

    /// Forgets what is unread.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Puts `bytes` in at the end.
    ///
    /// # Panics
    ///
    /// If they do not fit: ask [`Buffer::free`] first.
    pub fn push(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.free(), "push({}) with {} bytes free", bytes.len(), self.free());
        if self.bytes.len() - self.end < bytes.len() {
            self.move_to_front();
        }
        self.bytes[self.end..][..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// One `read` into all the free space; returns its result, the number of bytes that came.
    ///
    /// The caller sees to it that there is room: a read into no space returns 0 as the end of input does.
    pub fn read_from(&mut self, source: &mut impl Read) -> io::Result<usize> {
        self.move_to_front();
        let count = source.read(&mut self.bytes[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// One `write` of all that is unread; what was written is consumed. Returns the number of bytes that went.
    pub fn write_to(&mut self, sink: &mut impl Write) -> io::Result<usize> {
        let count = sink.write(self.unread())?;
        self.consume(count);
        Ok(count)
    }

    fn move_to_front(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }
}

/// Shows the fill level only: the bytes are a client's, and no log may carry them raw.
impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} unread of {})", self.len(), self.bytes.len())
    }
}

/// Where the bytes of a buffer lie.
///
/// A large one has pages of its own (mmap(2)): each costs nothing until its first byte is written, and all go back to the
/// kernel with the buffer. The allocator would clear them, and keep them when a crowd that needed them has gone.
enum Memory {
    Heap(Box<[u8]>),
    Pages(MmapMut),
}

impl Memory {
    /// From here on a buffer is large (bytes). One of a kilobyte would take four.
    const LARGE: usize = 16 * 1024;

    fn zeroed(size: usize) -> Self {
        let pages = (size >= Self::LARGE).then(|| MmapMut::map_anon(size));
        match pages {
            Some(Ok(pages)) => Self::Pages(pages),
            // A process has so many mappings and no more (`vm.max_map_count`).
            Some(Err(_)) | None => Self::Heap(vec![0; size].into_boxed_slice()),
        }
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Pages(bytes) => bytes,
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Pages(bytes) => bytes,
        }
    }
}

/// What a session has in flight: the bytes it sent us, and the bytes that we owe it.
#[derive(Debug)]
pub struct Buffers {
    /// Read from the socket, not yet answered.
    pub input: Buffer,
    /// The answers, as far as they are not written yet.
    pub output: Buffer,
}

impl Buffers {
    fn is_empty(&self) -> bool {
        self.input.is_empty() && self.output.is_empty()
    }
}

/// Spare buffers. A session borrows a pair when a byte comes for it, and gives it back when nothing is in flight, so
/// ten thousand idle sessions share the few pairs that the busy ones need.
#[derive(Debug)]
pub struct Pool {
    input: usize,
    output: usize,
    keep: usize,
    #[expect(clippy::vec_box, reason = "the box itself is what is lent: a session holds one pointer")]
    spare: Vec<Box<Buffers>>,
}

impl Pool {
    /// A pool of pairs with `input` and `output` bytes of capacity that keeps at most `keep` pairs for later.
    pub fn new(input: usize, output: usize, keep: usize) -> Self {
        Self { input, output, keep, spare: Vec::with_capacity(keep) }
    }

    /// An empty pair, a used one where there is one.
    pub fn lend(&mut self) -> Box<Buffers> {
        self.spare.pop().unwrap_or_else(|| {
            Box::new(Buffers {
                input: Buffer::with_capacity(self.input),
                output: Buffer::with_capacity(self.output),
            })
        })
    }

    /// Takes the pair back if nothing is in flight in it; else the session keeps it.
    pub fn reclaim(&mut self, buffers: Box<Buffers>) -> Option<Box<Buffers>> {
        if !buffers.is_empty() {
            return Some(buffers);
        }
        if self.spare.len() < self.keep {
            self.spare.push(buffers);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let mut buffer = Buffer::with_capacity(8);
        buffer.push(b"abcdef");
        buffer.consume(4);
        buffer.push(b"ghijkl");
        assert_eq!(buffer.unread(), b"efghijkl");
        assert!(buffer.is_full());
    }

    #[test]
    fn one_read_fills_all_the_free_space() {
        let mut buffer = Buffer::with_capacity(4);
        buffer.push(b"ab");
        buffer.consume(1);
        assert_eq!(buffer.read_from(&mut &b"cdefgh"[..]).unwrap(), 3);
        assert_eq!(buffer.unread(), b"bcde");
    }

    #[test]
    fn a_short_write_keeps_the_rest() {
        let mut buffer = Buffer::with_capacity(8);
        buffer.push(b"abcdef");
        let mut sink = [0; 4];
        assert_eq!(buffer.write_to(&mut &mut sink[..]).unwrap(), 4);
        assert_eq!((&sink[..], buffer.unread()), (&b"abcd"[..], &b"ef"[..]));
    }

    #[test]
    #[should_panic(expected = "push(2) with 1 bytes free")]
    fn more_than_fits_is_a_mistake_of_the_caller() {
        Buffer::with_capacity(1).push(b"ab");
    }

    #[test]
    fn a_log_line_never_shows_the_bytes() {
        let mut buffer = Buffer::with_capacity(8);
        buffer.push(b"secret");
        assert_eq!(format!("{buffer:?}"), "Buffer(6 unread of 8)");
    }

    #[test]
    fn the_pool_keeps_what_is_asked_and_no_more() {
        let mut pool = Pool::new(1, 1, 1);
        let (first, second) = (pool.lend(), pool.lend());
        assert!(pool.reclaim(first).is_none());
        assert!(pool.reclaim(second).is_none());
        assert_eq!(pool.spare.len(), 1);
    }

    #[test]
    fn the_pool_leaves_a_session_what_it_has_in_flight() {
        let mut pool = Pool::new(1, 1, 1);
        let mut buffers = pool.lend();
        buffers.output.push(b"x");
        assert!(pool.reclaim(buffers).is_some());
    }
}
