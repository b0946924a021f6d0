//! The server's end of a connection and the kernel behind it, honest as Linux is.
//!
//! A read is short only where nothing more is there, or at an urgent mark (tcp(7)). An event comes only when the socket
//! *becomes* ready, or is asked for anew while it is (epoll(7), edge-triggered), and a full socket is writable again
//! only when a third of it is free. So a session that forgets to ask is never woken here either.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};

use mio::Interest;
use okloop::config::{HIGH_WATER, INPUT_BUFFER};
use okloop::connection::Stream;
use okloop::protocol::PREFIX;
use okloop::readiness::{Readable, Readiness};

/// What the peer, or the network, does.
#[derive(Debug, Clone)]
pub enum Happening {
    /// These bytes arrive. None of them may occur in [`PREFIX`]: that tells answers apart.
    Arrive(Vec<u8>),
    /// A read stops here, though more may follow: the mark that urgent data leaves in the stream.
    Urgent,
    /// The peer takes this many bytes of what was written to it, or all there are.
    Take(usize),
    /// The peer ends its direction.
    End,
    /// The peer resets the connection.
    Reset,
    /// The next read or write returns this, whatever the socket could do.
    Return(Result<usize, ErrorKind>),
}

/// A connected socket.
#[expect(clippy::struct_excessive_bools, reason = "they are independent, as in the kernel")]
#[derive(Debug, Default)]
pub struct Socket {
    /// All that the peer has sent, and how much of it was read.
    pub arrived: Vec<u8>,
    pub read: usize,
    marks: VecDeque<usize>,
    ended: bool,
    reset: bool,

    /// What the session is greeted with, which is no answer.
    greeting: &'static [u8],
    /// All that was written, and how much of it the peer has taken.
    pub written: Vec<u8>,
    taken: usize,
    /// How many of the bytes that arrived have been written back in answers.
    pub answered: usize,
    /// How many bytes can wait for the peer to take them.
    room: usize,
    /// Whether somebody has found it full since: the peer's taking is an event only then.
    found_full: bool,
    /// How much had been read when the write side was shut down.
    pub shut_down: Option<usize>,

    results: VecDeque<Result<usize, ErrorKind>>,
    meanwhile: VecDeque<Happening>,
    /// How many times `read` and `write` were called.
    pub calls: usize,

    /// What epoll is asked to report.
    interest: Option<Interest>,
    /// Whether epoll has the socket in its list of those to look at.
    edge: bool,
}

impl Socket {
    /// A socket with `room` bytes of room for the peer to take, on which `greeting` will come before any answer.
    pub fn new(greeting: &'static [u8], room: usize) -> Self {
        Self { greeting, room, ..Self::default() }
    }

    /// All answers that were written.
    pub fn answers(&self) -> &[u8] {
        self.written.strip_prefix(self.greeting).expect("the greeting comes first, whole")
    }

    /// What was read to be answered.
    pub fn input(&self) -> &[u8] {
        &self.arrived[..self.shut_down.unwrap_or(self.read)]
    }

    /// The part of it that has not come back yet.
    pub fn unanswered(&self) -> &[u8] {
        &self.input()[self.answered..]
    }

    /// Lets something happen now.
    pub fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Return(result) => self.results.push_back(result),
            Happening::Reset => {
                self.reset = true;
                self.edge = true;
            }
            _ if self.reset => {}
            Happening::Take(most) => self.take(most),
            _ if self.ended => {}
            Happening::Arrive(bytes) => {
                assert!(!bytes.iter().any(|byte| PREFIX.contains(byte)), "a payload looks like a prefix");
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

    /// Lets something happen just before the next system call before which nothing is to happen yet.
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

    /// `epoll_ctl`, unless nothing would change: from now on this is reported, at once if it holds already.
    pub fn register(&mut self, wanted: Interest, anew: bool) {
        if anew || self.interest != Some(wanted) {
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

    /// `epoll_wait`: the event that is due, if there is one.
    pub fn event(&mut self) -> Option<Readiness> {
        std::mem::take(&mut self.edge).then(|| self.ready()).flatten()
    }

    /// What an event would say now. Errors and a hang-up are reported whether they are asked for or not. Who looks and
    /// finds no room will be told of it, as one whose write found none (`SOCK_NOSPACE` in the kernel).
    fn ready(&mut self) -> Option<Readiness> {
        let interest = self.interest?;
        self.found_full |= !self.is_writable();
        let hung_up = self.reset || self.ended && self.shut_down.is_some();
        let urgent = interest.is_priority() && !self.marks.is_empty();
        let readable = if hung_up || interest.is_readable() && self.ended {
            Readable::UntilEnd
        } else if urgent {
            Readable::UntilBlocked
        } else if interest.is_readable() && self.read < self.arrived.len() {
            Readable::UntilShort
        } else {
            Readable::No
        };
        let writable = hung_up || interest.is_writable() && self.is_writable();
        (writable || readable != Readable::No).then_some(Readiness { readable, writable })
    }

    /// What the read or write that begins is scripted to return, if it is.
    fn scripted_result(&mut self) -> Option<io::Result<usize>> {
        self.pass_time();
        self.calls += 1;
        self.results.pop_front().map(|result| result.map_err(io::Error::from))
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(result) = self.scripted_result() {
            return result;
        }
        assert!(!buffer.is_empty(), "a read into no space returns 0, as the end of input does");
        let held = self.unanswered().len();
        assert!(held < HIGH_WATER + INPUT_BUFFER, "reads on with {held} bytes unanswered");

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
        if let Some(result) = self.scripted_result() {
            return result;
        }
        assert!(!bytes.is_empty(), "a write of nothing is a system call for nothing");
        assert_eq!(self.shut_down, None, "nothing is written behind the end of output");
        if self.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(self.free());
        self.found_full |= count < bytes.len();
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let of_greeting = self.greeting.len().saturating_sub(self.written.len()).min(count);
        let payload = bytes[of_greeting..count].iter().filter(|byte| !PREFIX.contains(byte));
        self.answered += payload.count();
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
        assert_eq!(self.shut_down.replace(self.read), None, "the write side is shut down once");
        Ok(())
    }
}
