//! The byte queue for both directions of a session: bytes enter at the end and leave at the front.
//!
//! ```text
//!   0          start          end          capacity
//!   +------------+--------------+--------------+
//!   |  consumed  |    unread    |     free     |
//!   +------------+--------------+--------------+
//!         consume ──►    read_from, push ──►
//! ```
//!
//! The capacity never changes. A full buffer makes the client wait.

use std::fmt;
use std::io::{self, Read, Write};

use memmap2::MmapMut;

/// A byte queue of a fixed capacity.
///
/// ```
/// # use okloop::Buffer;
/// let mut buffer = Buffer::with_capacity(8)?;
/// buffer.push(b"hello");
/// buffer.consume(4);
/// assert_eq!((buffer.unread(), buffer.free()), (&b"o"[..], 7));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Its bytes are pages of their own (mmap(2)). A page costs nothing before its first byte is written, and all pages go
/// back to the kernel with the buffer. From the allocator a buffer would be cleared whole at the start, and glibc would
/// keep the memory of a crowd after the crowd has left.
pub struct Buffer {
    pages: MmapMut,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty buffer for up to `capacity` bytes.
    ///
    /// # Errors
    ///
    /// If the system has no memory, no address space or no mapping left (mmap(2), ENOMEM).
    pub fn with_capacity(capacity: usize) -> io::Result<Self> {
        Ok(Self { pages: MmapMut::map_anon(capacity)?, start: 0, end: 0 })
    }

    /// The bytes that were put in and not consumed yet.
    pub fn unread(&self) -> &[u8] {
        &self.pages[self.start..self.end]
    }

    /// The same bytes, to be changed in place.
    pub fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.pages[self.start..self.end]
    }

    /// How many bytes are unread.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether no byte is unread.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many more bytes fit.
    pub fn free(&self) -> usize {
        self.pages.len() - self.len()
    }

    /// Whether no more byte fits.
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

    /// Forgets the unread bytes.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Puts `bytes` in at the end.
    ///
    /// # Panics
    ///
    /// If they do not fit: ask [`Buffer::free`] first. A session need not ask as long as it keeps to its largest answer
    /// ([`Sizes`](crate::Sizes)).
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.free(), "push({}) with {} bytes free", bytes.len(), self.free());
        if self.pages.len() - self.end < bytes.len() {
            self.move_to_front();
        }
        self.pages[self.end..][..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Puts in formatted text: `write!(output, "{number}: ")` calls it. It needs no memory beside the buffer.
    ///
    /// ```
    /// # let mut output = okloop::Buffer::with_capacity(100)?;
    /// write!(output, "{}: ", 42);
    /// assert_eq!(output.unread(), b"42: ");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`Buffer::push`].
    pub fn write_fmt(&mut self, text: fmt::Arguments<'_>) {
        struct Pusher<'a>(&'a mut Buffer);
        impl fmt::Write for Pusher<'_> {
            fn write_str(&mut self, part: &str) -> fmt::Result {
                self.0.push(part.as_bytes());
                Ok(())
            }
        }
        let result = fmt::Write::write_fmt(&mut Pusher(self), text);
        result.expect("only an implementation of Display can fail here");
    }

    /// One `read` of at most `most` bytes. Returns the number of bytes that it returned; 0 is the end of input.
    ///
    /// # Errors
    ///
    /// Those of `read`. A read into no space is an error too, because it returns 0, which would look like the end of
    /// input.
    pub(crate) fn read_from(&mut self, source: &mut impl Read, most: usize) -> io::Result<usize> {
        let most = most.min(self.free());
        if most == 0 {
            return Err(io::Error::other("a read into a full buffer"));
        }
        self.move_to_front();
        let count = uninterrupted(|| source.read(&mut self.pages[self.end..][..most]))?;
        self.end += count;
        Ok(count)
    }

    /// One `write` of all unread bytes. Returns how many the sink took; these are consumed.
    pub(crate) fn write_to(&mut self, sink: &mut impl Write) -> io::Result<usize> {
        let count = uninterrupted(|| sink.write(self.unread()))?;
        self.consume(count);
        Ok(count)
    }

    fn move_to_front(&mut self) {
        if self.start > 0 {
            self.pages.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }
}

/// Repeats a call that a signal has interrupted (EINTR).
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Shows the fill level only: the bytes are a client's, and a log line must not carry them.
impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} unread of {})", self.len(), self.pages.len())
    }
}

/// The tests of all schedules keep connections as they were, and go back to them.
#[cfg(test)]
impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::with_capacity(self.pages.len()).expect("a few bytes of memory");
        copy.push(self.unread());
        copy
    }
}

#[cfg(test)]
impl std::hash::Hash for Buffer {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.unread().hash(state);
    }
}

/// A connection's own pointer to a buffer.
///
/// An array in a box, because a `Vec` can report that memory is out, where `Box::new` would end the process.
pub(crate) type BoxedBuffer = Box<[Buffer; 1]>;

/// Spare buffers of one direction. A connection takes a buffer for its turn, and puts it back when it is empty. Ten
/// thousand idle sessions share the few buffers that the busy ones need.
#[derive(Debug)]
pub(crate) struct Pool {
    capacity: usize,
    keep: usize,
    spare: Vec<BoxedBuffer>,
}

impl Pool {
    /// A pool of buffers for `capacity` bytes. It keeps at most `keep` spare ones.
    pub fn new(capacity: usize, keep: usize) -> Self {
        Self { capacity, keep, spare: Vec::with_capacity(keep) }
    }

    /// Makes the buffers of the next connections at least this large (bytes).
    pub fn grow(&mut self, capacity: usize) {
        if capacity > self.capacity {
            self.capacity = capacity;
            self.spare.clear();
        }
    }

    /// An empty buffer.
    ///
    /// # Errors
    ///
    /// If no buffer is spare and the system has no memory for a new one.
    #[inline]
    pub fn take(&mut self) -> io::Result<BoxedBuffer> {
        self.spare.pop().map_or_else(|| self.new_buffer(), Ok)
    }

    fn new_buffer(&self) -> io::Result<BoxedBuffer> {
        let mut single = Vec::new();
        single.try_reserve_exact(1)?;
        single.push(Buffer::with_capacity(self.capacity)?);
        Ok(single.into_boxed_slice().try_into().expect("one buffer was pushed"))
    }

    /// Takes the buffer back if it is empty. Otherwise the connection keeps it.
    #[inline]
    pub fn put_back(&mut self, buffer: BoxedBuffer) -> Option<BoxedBuffer> {
        if !buffer[0].is_empty() {
            return Some(buffer);
        }
        if self.spare.len() < self.keep && buffer[0].free() == self.capacity {
            self.spare.push(buffer);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(capacity: usize) -> Buffer {
        Buffer::with_capacity(capacity).expect("a few bytes of memory")
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let mut buffer = buffer(8);
        buffer.push(b"abcdef");
        buffer.consume(4);
        buffer.push(b"ghijkl");
        assert_eq!(buffer.unread(), b"efghijkl");
        assert!(buffer.is_full());
    }

    #[test]
    fn one_read_fills_all_the_free_space() {
        let mut buffer = buffer(4);
        buffer.push(b"ab");
        buffer.consume(1);
        assert_eq!(buffer.read_from(&mut &b"cdefgh"[..], 9).unwrap(), 3);
        assert_eq!(buffer.unread(), b"bcde");
    }

    #[test]
    fn a_read_takes_no_more_than_it_is_told() {
        let mut buffer = buffer(4);
        assert_eq!(buffer.read_from(&mut &b"abcd"[..], 2).unwrap(), 2);
        assert_eq!(buffer.unread(), b"ab");
    }

    #[test]
    fn a_read_into_a_full_buffer_is_an_error_and_not_the_end_of_input() {
        let mut buffer = buffer(2);
        buffer.push(b"ab");
        assert!(buffer.read_from(&mut &b"c"[..], 9).is_err());
        assert_eq!(buffer.unread(), b"ab");
    }

    #[test]
    fn a_short_write_keeps_the_rest() {
        let mut buffer = buffer(8);
        buffer.push(b"abcdef");
        let mut sink = [0; 4];
        assert_eq!(buffer.write_to(&mut &mut sink[..]).unwrap(), 4);
        assert_eq!((&sink[..], buffer.unread()), (&b"abcd"[..], &b"ef"[..]));
    }

    #[test]
    #[should_panic(expected = "push(2) with 1 bytes free")]
    fn a_push_of_more_than_fits_is_a_mistake_of_the_caller() {
        buffer(1).push(b"ab");
    }

    #[test]
    fn a_log_line_never_shows_the_bytes() {
        let mut buffer = buffer(8);
        buffer.push(b"secret");
        assert_eq!(format!("{buffer:?}"), "Buffer(6 unread of 8)");
    }

    #[test]
    fn the_pool_keeps_a_limited_number_of_buffers() {
        let mut pool = Pool::new(1, 1);
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.put_back(first).is_none());
        assert!(pool.put_back(second).is_none());
        assert_eq!(pool.spare.len(), 1);
    }

    #[test]
    fn a_connection_keeps_a_buffer_with_bytes_in_flight() {
        let mut pool = Pool::new(1, 1);
        let mut buffer = pool.take().unwrap();
        buffer[0].push(b"x");
        assert!(pool.put_back(buffer).is_some());
    }

    #[test]
    fn buffers_of_before_the_pool_grew_are_not_given_out_again() {
        let mut pool = Pool::new(1, 2);
        let (spare, taken) = (pool.take().unwrap(), pool.take().unwrap());
        pool.put_back(spare);
        pool.grow(2);
        pool.put_back(taken);
        assert_eq!(pool.take().unwrap()[0].free(), 2);
    }

    #[test]
    fn a_buffer_that_cannot_be_had_is_an_error() {
        assert!(Pool::new(usize::MAX, 1).take().is_err());
    }
}
