//! The server's end of a connection, and the kernel behind it, with the rules of Linux.
//!
//! A read is short only if nothing more is there, or at an urgent mark (tcp(7)). An event comes only when the socket
//! *becomes* ready, or is registered again while it is ready (epoll(7), edge-triggered). A full socket is writable again
//! when a third of it is free. A session that forgets to re-arm gets no event here either.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use mio::Interest;
use okloop::connection::Stream;
use okloop::readiness::{Readable, Readiness};

/// What the client, or the network, does.
#[derive(Debug, Clone)]
pub enum Happening {
    /// These bytes arrive.
    Arrive(Vec<u8>),
    /// Urgent data leaves a mark in the stream. A read stops there although more bytes follow.
    Urgent,
    /// The client reads this many bytes, or all there are.
    Take(usize),
    /// The client ends its direction.
    End,
    /// The client resets the connection.
    Reset,
    /// The next read or write fails with this error.
    Fail(ErrorKind),
}

/// A connected socket.
#[expect(clippy::struct_excessive_bools, reason = "they are independent, as in the kernel")]
#[derive(Debug, Default)]
pub struct Socket {
    /// All that the client has sent, and how much of it was read.
    pub arrived: Vec<u8>,
    pub read: usize,
    marks: VecDeque<usize>,
    ended: bool,
    reset: bool,

    /// All that was written, and how much of it the client has read.
    pub written: Vec<u8>,
    taken: usize,
    /// How many written bytes fit before the client reads.
    room: usize,
    /// Whether the loop or epoll has found the socket full. Only then does new room make an edge (`SOCK_NOSPACE`).
    found_full: bool,
    /// How much had been read when the write side was shut down.
    pub shut_down: Option<usize>,

    failures: VecDeque<ErrorKind>,
    meanwhile: VecDeque<Happening>,
    /// The first rule that a call has broken.
    pub broken: Option<&'static str>,
    /// How many times `read` and `write` were called.
    pub calls: usize,

    /// What epoll reports.
    interest: Option<Interest>,
    /// Whether the socket is in epoll's ready list.
    edge: bool,
}

impl Socket {
    /// A socket with room for `room` bytes before the client reads.
    pub fn new(room: usize) -> Self {
        Self { room, ..Self::default() }
    }

    /// What was read to be answered.
    pub fn input(&self) -> &[u8] {
        &self.arrived[..self.shut_down.unwrap_or(self.read)]
    }

    /// Something happens now.
    pub fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Fail(error) => self.failures.push_back(error),
            Happening::Reset => {
                self.reset = true;
                self.edge = true;
            }
            _ if self.reset => {}
            Happening::Take(most) => self.take(most),
            _ if self.ended => {}
            Happening::Arrive(bytes) => {
                self.arrived.extend(bytes);
                self.became_ready(Interest::READABLE);
            }
            Happening::Urgent => {
                self.marks.push_back(self.arrived.len());
                self.became_ready(Interest::READABLE);
            }
            Happening::End => {
                self.ended = true;
                self.became_ready(Interest::READABLE);
            }
        }
    }

    /// Something happens in the middle of a turn: one happening just before each of the next system calls.
    pub fn meanwhile(&mut self, happening: Happening) {
        self.meanwhile.push_back(happening);
    }

    fn pass_time(&mut self) {
        if let Some(happening) = self.meanwhile.pop_front() {
            self.happen(happening);
        }
    }

    fn take(&mut self, most: usize) {
        self.taken += most.min(self.written.len() - self.taken);
        if self.found_full && self.is_writable() {
            self.found_full = false;
            self.became_ready(Interest::WRITABLE);
        }
    }

    fn free(&self) -> usize {
        self.room - (self.written.len() - self.taken)
    }

    fn is_writable(&self) -> bool {
        self.free() > 0 && self.free() >= self.room / 3
    }

    /// `epoll_ctl`, unless nothing would change. A socket that is ready gets its edge immediately.
    pub fn register(&mut self, wanted: Interest, rearm: bool) {
        if rearm || self.interest != Some(wanted) {
            self.pass_time();
            self.interest = Some(wanted);
            self.edge |= self.ready().is_some();
        }
    }

    fn became_ready(&mut self, what: Interest) {
        let asked = |interest: Interest| {
            interest.is_readable() && what.is_readable() || interest.is_writable() && what.is_writable()
        };
        self.edge |= self.interest.is_some_and(asked);
    }

    /// `epoll_wait`: the event, if there is one.
    pub fn event(&mut self) -> Option<Readiness> {
        std::mem::take(&mut self.edge).then(|| self.ready()).flatten()
    }

    /// What an event would say now. An error and a hang-up are reported whatever the interest is. If epoll finds the
    /// socket full, it marks it, as a write does.
    fn ready(&mut self) -> Option<Readiness> {
        let interest = self.interest?;
        self.found_full |= !self.is_writable();
        let hung_up = self.reset || self.ended && self.shut_down.is_some();
        let urgent = interest.is_priority() && !self.marks.is_empty();
        let readable = if hung_up || interest.is_readable() && self.ended || urgent {
            Readable::UntilBlocked
        } else if interest.is_readable() && self.read < self.arrived.len() {
            Readable::UntilShort
        } else {
            Readable::No
        };
        let writable = hung_up || interest.is_writable() && self.is_writable();
        (writable || readable != Readable::No).then_some(Readiness { readable, writable })
    }

    /// Notes what must hold. (The loop would catch a panic here.)
    fn expect(&mut self, holds: bool, rule: &'static str) {
        if !holds {
            self.broken.get_or_insert(rule);
        }
    }

    fn begin_call(&mut self) -> io::Result<()> {
        self.pass_time();
        self.calls += 1;
        self.failures.pop_front().map_or(Ok(()), |error| Err(error.into()))
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.begin_call()?;
        self.expect(!buffer.is_empty(), "a read into no space returns 0, as the end of input does");
        self.marks.retain(|&mark| mark > self.read);
        let end = self.marks.front().copied().unwrap_or(self.arrived.len());
        let available = &self.arrived[self.read..end];
        match available.len().min(buffer.len()) {
            0 if self.reset => Err(ErrorKind::ConnectionReset.into()),
            0 if self.ended => Ok(0),
            0 => Err(ErrorKind::WouldBlock.into()),
            count => {
                buffer[..count].copy_from_slice(&available[..count]);
                self.read += count;
                Ok(count)
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begin_call()?;
        self.expect(!bytes.is_empty(), "a write of no bytes is a useless system call");
        self.expect(self.shut_down.is_none(), "nothing is written after the end of output");
        if self.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(self.free());
        self.found_full |= count < bytes.len();
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.written.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.pass_time();
        if self.reset {
            return Err(ErrorKind::NotConnected.into());
        }
        self.expect(self.shut_down.is_none(), "the output is ended once");
        self.shut_down = Some(self.read);
        Ok(())
    }
}
