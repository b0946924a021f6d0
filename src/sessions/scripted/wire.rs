//! One TCP connection without a network: the client, both kernels and what is on its way between them.
//!
//! ```text
//!             the client's kernel                   the server's kernel
//!   client ─ Send ─► [send queue] ═══ Carry ══► [receive queue] ─ read ─► session      up
//!   client ◄─ Read ─ [receive queue] ◄══ Ack ═══ [send queue] ◄─ write ── session      down
//! ```
//!
//! Each queue has a size. A full receive queue closes the window: the network then carries nothing, and the bytes wait in
//! the send queue of the other side. A reset destroys all that has not arrived.
//!
//! The server's kernel tells mio of its end by events, with the rules of one system, and gives no event more than that
//! system promises. A loop that forgets to re-arm gets no event here either:
//!
//! - epoll: when the socket *becomes* ready, or is registered again while it is ready. The event says all that holds
//!   (epoll(7), edge-triggered). A full socket is writable again when a third of it is free.
//! - kqueue: the same, but reading and writing are separate filters, and each has an event of its own. There is none for
//!   urgent data.
//! - IOCP: while the socket is ready. But mio clears the interest that the event reports, until a call returns
//!   `WouldBlock` or the socket is registered again.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::Interest;

use crate::readiness::{Flags, Kernel, Readiness};

/// What the client, the network or another session does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Happening {
    /// The client sends these bytes.
    Send(Vec<u8>),
    /// The client's next byte is urgent. A read stops before it although more bytes follow.
    Urgent,
    /// The client reads so many bytes.
    Read(usize),
    /// The client ends its direction.
    End,
    /// The client closes its socket. What it has not read is lost, and then its kernel sends a reset (RFC 2525, 2.17).
    Close,
    /// The client resets the connection, and the reset arrives.
    Reset,
    /// So many bytes from the client arrive, and the end behind them.
    Carry(usize),
    /// So many bytes to the client arrive, and the end behind them. The server's kernel learns it.
    Ack(usize),
    /// The server's kernel ends the connection: the client has taken nothing for the time that was set.
    GiveUp,
    /// Another session, or a thread, publishes something and wakes the session.
    Wake,
    /// The next read or write fails with this error.
    Fail(ErrorKind),
    /// The outgoing connection is open now.
    Open,
    /// The other end refuses the outgoing connection: no server listens there.
    Refuse,
}

/// How many bytes the four queues hold.
#[derive(Debug, Clone, Copy, Hash)]
pub struct Rooms {
    pub client_send: usize,
    pub receive: usize,
    pub send: usize,
    pub client_receive: usize,
}

impl Rooms {
    /// Everything that is sent may arrive. The server's send queue holds `send` bytes.
    pub fn wide(send: usize) -> Self {
        let most = usize::MAX;
        Self { client_send: most, receive: most, send, client_receive: most }
    }
}

/// One direction: its bytes, and how far they are.
///
/// ```text
///   |── read ──|── receive queue ──|── send queue ──|
///   0        read               arrived        bytes.len()
/// ```
#[derive(Debug, Clone, Hash)]
pub struct Direction {
    pub bytes: Vec<u8>,
    pub arrived: usize,
    pub read: usize,
    /// The sender has ended it, the end has arrived, and the receiver has read it.
    pub has_ended: bool,
    pub has_end_arrived: bool,
    pub is_end_read: bool,
    send_room: usize,
    receive_room: usize,
}

impl Direction {
    fn new(send_room: usize, receive_room: usize) -> Self {
        let (bytes, arrived, read) = (Vec::new(), 0, 0);
        let (has_ended, has_end_arrived, is_end_read) = (false, false, false);
        Self { bytes, arrived, read, has_ended, has_end_arrived, is_end_read, send_room, receive_room }
    }

    /// Room in the send queue (bytes).
    pub fn free(&self) -> usize {
        self.send_room - (self.bytes.len() - self.arrived)
    }

    /// What the receive queue holds (bytes).
    pub fn unread(&self) -> usize {
        self.arrived - self.read
    }

    /// Whether the network could carry something now. The end needs an open window too.
    pub fn can_move(&self) -> bool {
        let is_waiting = self.arrived < self.bytes.len() || self.has_ended && !self.has_end_arrived;
        is_waiting && self.unread() < self.receive_room
    }

    fn carry(&mut self, most: usize) {
        let window = self.receive_room - self.unread();
        self.arrived += most.min(window).min(self.bytes.len() - self.arrived);
        self.has_end_arrived |= self.has_ended && self.can_move() && self.arrived == self.bytes.len();
    }

    fn take(&mut self, most: usize) -> &[u8] {
        let start = self.read;
        self.read += most.min(self.unread());
        &self.bytes[start..self.read]
    }
}

/// A connection, its client, and the events of the server's end.
#[derive(Debug, Clone, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "facts of a socket, each on its own")]
pub struct Wire {
    kernel: Kernel,
    pub up: Direction,
    pub down: Direction,
    marks: VecDeque<usize>,
    /// An accepted connection is open from the start.
    pub is_open: bool,
    pub has_client_closed: bool,
    /// Why the connection has failed: the client has reset it, or the server's kernel has given up.
    pub failure: Option<ErrorKind>,
    /// The server's kernel has reset the connection. What the client has not read is lost.
    pub has_reset_client: bool,
    /// The server has closed its socket, and its kernel goes on.
    pub is_closed: bool,
    /// Whether the loop or epoll has found the send queue full. Only then does new room make an edge (`SOCK_NOSPACE`).
    found_full: bool,
    /// The kernel ends the connection when the client takes nothing for this long (`TCP_USER_TIMEOUT`).
    pub limit: Option<Duration>,
    /// Errors of the next calls, which do not end the connection.
    mistakes: VecDeque<ErrorKind>,
    /// What happens just before each of the next system calls.
    pub meanwhile: VecDeque<Option<Happening>>,
    /// The first rule that a call has broken. (The loop would catch a panic here.)
    pub broken: Option<&'static str>,
    /// How many system calls there were.
    pub calls: usize,
    /// What the kernel reports.
    pub asked: Option<Asked>,
    listed: Listed,
}

/// An interest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Asked {
    pub readable: bool,
    pub writable: bool,
    priority: bool,
}

impl From<Interest> for Asked {
    fn from(interest: Interest) -> Self {
        let (readable, writable) = (interest.is_readable(), interest.is_writable());
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let priority = interest.is_priority();
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let priority = false;
        Self { readable, writable, priority }
    }
}

/// What an event can come from. On epoll it is one entry in the ready list, on kqueue an entry for each filter. On IOCP
/// it is what mio still asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Listed {
    read: bool,
    write: bool,
    error: bool,
}

impl Listed {
    const EPOLL: Self = Self { read: true, write: true, error: true };

    /// mio asks for errors whatever the interest is.
    fn all_of(asked: Asked) -> Self {
        Self { read: asked.readable, write: asked.writable, error: true }
    }
}

const READABLE: Asked = Asked { readable: true, writable: false, priority: false };
const WRITABLE: Asked = Asked { readable: false, writable: true, priority: false };
const BOTH: Asked = Asked { readable: true, writable: true, priority: false };

impl Wire {
    /// An outgoing connection that is not open yet. Its "client" is the server that it goes to.
    pub fn outgoing(kernel: Kernel, rooms: Rooms) -> Self {
        Self { is_open: false, ..Self::new(kernel, rooms) }
    }

    /// A connection over which nothing was sent.
    pub fn new(kernel: Kernel, rooms: Rooms) -> Self {
        Self {
            kernel,
            up: Direction::new(rooms.client_send, rooms.receive),
            down: Direction::new(rooms.send, rooms.client_receive),
            marks: VecDeque::new(),
            is_open: true,
            has_client_closed: false,
            failure: None,
            has_reset_client: false,
            is_closed: false,
            found_full: false,
            limit: None,
            mistakes: VecDeque::new(),
            meanwhile: VecDeque::new(),
            broken: None,
            calls: 0,
            asked: None,
            listed: Listed::default(),
        }
    }

    /// Whether it is an outgoing connection that is not open and has not failed.
    pub fn is_opening(&self) -> bool {
        !self.is_open && self.failure.is_none()
    }

    /// Whether it is open and has not failed.
    pub fn is_up(&self) -> bool {
        self.is_open && self.failure.is_none()
    }

    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Something happens now. What is impossible does not happen.
    pub fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Fail(error) => self.mistakes.push_back(error),
            _ if self.failure.is_some() => {}
            Happening::Refuse if !self.is_open => self.end(ErrorKind::ConnectionRefused),
            Happening::Open if !self.is_open => {
                self.is_open = true;
                self.became_ready(WRITABLE);
            }
            _ if !self.is_open => {}
            Happening::Reset => self.end(ErrorKind::ConnectionReset),
            Happening::Close if self.down.unread() > 0 => self.end(ErrorKind::ConnectionReset),
            Happening::GiveUp if self.limit.is_some() => self.end(ErrorKind::TimedOut),
            Happening::Close => {
                self.has_client_closed = true;
                self.up.has_ended = true;
            }
            Happening::Send(bytes) if !self.up.has_ended => {
                let room = self.up.free().min(bytes.len());
                self.up.bytes.extend(&bytes[..room]);
            }
            Happening::Urgent if !self.up.has_ended => {
                self.marks.push_back(self.up.bytes.len());
                self.became_ready(READABLE);
            }
            Happening::End => self.up.has_ended = true,
            Happening::Read(most) => drop(self.down.take(most)),
            Happening::Carry(most) => self.carry(most),
            Happening::Ack(most) => self.ack(most),
            Happening::Send(_)
            | Happening::Urgent
            | Happening::Wake
            | Happening::GiveUp
            | Happening::Open
            | Happening::Refuse => {}
        }
    }

    fn carry(&mut self, most: usize) {
        let (arrived, had_end) = (self.up.arrived, self.up.has_end_arrived);
        self.up.carry(most);
        if self.up.arrived > arrived || self.up.has_end_arrived != had_end {
            self.became_ready(READABLE);
        }
    }

    fn ack(&mut self, most: usize) {
        let (arrived, had_end) = (self.down.arrived, self.down.has_end_arrived);
        self.down.carry(most);
        let has_moved = self.down.arrived > arrived;
        if self.has_client_closed && has_moved {
            return self.end(ErrorKind::ConnectionReset);
        }
        // kqueue's filter runs at each acknowledgement, whether the socket was full or not.
        if (self.found_full || self.kernel == Kernel::Kqueue && has_moved) && self.is_writable() {
            self.found_full = false;
            self.became_ready(WRITABLE);
        }
        // `sk_state_change`: it lists the socket whatever the interest is.
        if self.down.has_end_arrived != had_end && self.kernel == Kernel::Epoll {
            self.listed = Listed::EPOLL;
        }
    }

    fn end(&mut self, failure: ErrorKind) {
        self.failure = Some(failure);
        match self.kernel {
            Kernel::Epoll => self.listed = Listed::EPOLL,
            Kernel::Kqueue => self.became_ready(BOTH),
            Kernel::Iocp => {}
        }
    }

    /// The server closes its socket. If it has not read all input, or if the client sends more, its kernel sends a reset
    /// (RFC 2525, 2.17). The model assumes that a client that has not ended sends more.
    pub fn close(&mut self) {
        self.is_closed = true;
        let is_all_read = self.up.has_ended && self.up.read == self.up.bytes.len();
        self.has_reset_client = self.is_open && self.failure.is_none() && !is_all_read;
    }

    fn is_writable(&self) -> bool {
        let free = self.down.free();
        self.is_open && (self.down.has_ended || free > 0 && free >= self.down.send_room / 3)
    }

    /// Whether a write would move something, or return an error.
    pub fn takes_output(&self) -> bool {
        self.is_writable() || self.failure.is_some()
    }

    /// Whether a read would return something new: bytes, the end, or an error.
    pub fn has_input(&self) -> bool {
        self.failure.is_some() || self.up.unread() > 0 || self.up.has_end_arrived && !self.up.is_end_read
    }

    /// Registers the socket. One that is ready is listed immediately. (The loop re-arms in this way.)
    pub fn register(&mut self, interest: Interest) {
        let asked = Asked::from(interest);
        self.asked = Some(asked);
        let is_ready = |filter| self.flags(filter).is_some();
        self.listed = match self.kernel {
            Kernel::Iocp => Listed::all_of(asked),
            Kernel::Epoll if is_ready(asked) => Listed::EPOLL,
            Kernel::Epoll => Listed::default(),
            Kernel::Kqueue => Listed {
                read: asked.readable && is_ready(READABLE),
                write: asked.writable && is_ready(WRITABLE),
                error: false,
            },
        };
        // epoll looks at the socket. If it is full, epoll marks it, as a write does (`tcp_poll`).
        self.found_full |= !self.is_writable();
    }

    fn became_ready(&mut self, what: Asked) {
        let Some(asked) = self.asked else { return };
        let (read, write) = (asked.readable && what.readable, asked.writable && what.writable);
        match self.kernel {
            Kernel::Epoll if read || write => self.listed = Listed::EPOLL,
            Kernel::Kqueue => {
                self.listed.read |= read;
                self.listed.write |= write;
            }
            Kernel::Epoll | Kernel::Iocp => {}
        }
    }

    /// Whether `poll` would return an event.
    pub fn has_event(&self) -> bool {
        self.poll().0.iter().any(Option::is_some)
    }

    /// `poll`: all events of one batch.
    pub fn events(&mut self) -> [Option<Readiness>; 2] {
        self.found_full |= self.listed == Listed::EPOLL && !self.is_writable();
        let (events, listed) = self.poll();
        self.listed = listed;
        events
    }

    /// The events of one batch, and what is listed after it.
    fn poll(&self) -> ([Option<Readiness>; 2], Listed) {
        let (Some(asked), listed) = (self.asked, self.listed) else { return ([None, None], self.listed) };
        let (filters, rest) = match self.kernel {
            Kernel::Epoll => ([(listed == Listed::EPOLL).then_some(asked), None], Listed::default()),
            Kernel::Kqueue => {
                let filters = [listed.read.then_some(READABLE), listed.write.then_some(WRITABLE)];
                (filters, Listed::default())
            }
            Kernel::Iocp => {
                let error = listed.error && self.failure.is_some();
                let read = error || listed.read && self.flags(READABLE).is_some();
                let write = error || listed.write && self.flags(WRITABLE).is_some();
                let rest = Listed {
                    read: listed.read && !read,
                    write: listed.write && !write,
                    error: listed.error && !error,
                };
                ([Some(Asked { readable: read, writable: write, priority: false }), None], rest)
            }
        };
        let event = |filter: Option<Asked>| Some(self.kernel.readiness(self.flags(filter?)?));
        (filters.map(event), rest)
    }

    /// What mio says of the socket if it was asked for this. `None`: there is no event.
    fn flags(&self, asked: Asked) -> Option<Flags> {
        let (reset, has_ended) = (self.failure.is_some(), self.up.has_end_arrived || self.failure.is_some());
        let readable = asked.readable && (self.up.unread() > 0 || has_ended);
        let writable = asked.writable && (self.is_writable() || reset);
        let (read_closed, write_closed) = (readable && has_ended, writable && reset);
        let flags = Flags { readable, writable, read_closed, write_closed, ..Flags::default() };
        let flags = match self.kernel {
            Kernel::Epoll => {
                let is_hung_up = reset || has_ended && self.down.has_ended;
                // On other systems, `READ` is without it.
                let asks = asked.priority || asked.readable && Kernel::HERE != Kernel::Epoll;
                let priority = asks && !self.marks.is_empty();
                Flags {
                    readable: readable || priority,
                    read_closed: read_closed || is_hung_up,
                    write_closed: is_hung_up,
                    error: reset,
                    priority,
                    ..flags
                }
            }
            Kernel::Kqueue => {
                let write_closed = writable && (reset || self.down.has_ended);
                Flags { write_closed, error: reset && (readable || writable), ..flags }
            }
            Kernel::Iocp => flags,
        };
        let is_event = flags.readable || flags.writable || flags.read_closed;
        is_event.then_some(flags)
    }

    /// Notes what must hold. (The loop would catch a panic here.)
    fn expect(&mut self, holds: bool, rule: &'static str) {
        if !holds {
            self.broken.get_or_insert(rule);
        }
    }

    fn would_block(&mut self) -> io::Error {
        if let (Kernel::Iocp, Some(asked)) = (self.kernel, self.asked) {
            self.listed = Listed::all_of(asked);
        }
        ErrorKind::WouldBlock.into()
    }

    fn fail(&mut self) -> io::Result<()> {
        self.mistakes.pop_front().map_or(Ok(()), |error| Err(error.into()))
    }

    /// `read` by the server.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fail()?;
        self.expect(!buffer.is_empty(), "a read into no space returns 0, as the end of input does");
        self.marks.retain(|&mark| mark > self.up.read);
        let before_mark = self.marks.front().map_or(usize::MAX, |mark| mark - self.up.read);
        if self.up.unread() > 0 {
            let bytes = self.up.take(buffer.len().min(before_mark));
            buffer[..bytes.len()].copy_from_slice(bytes);
            return Ok(bytes.len());
        }
        if let Some(failure) = self.failure {
            return Err(failure.into());
        }
        if self.up.has_end_arrived {
            self.up.is_end_read = true;
            return Ok(0);
        }
        Err(self.would_block())
    }

    /// `write` by the server.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.fail()?;
        self.expect(!bytes.is_empty(), "a write of no bytes is a useless system call");
        self.expect(!self.down.has_ended, "nothing is written after the end of output");
        match self.failure {
            Some(ErrorKind::ConnectionReset) => return Err(ErrorKind::BrokenPipe.into()),
            Some(failure) => return Err(failure.into()),
            None => {}
        }
        let count = bytes.len().min(self.down.free());
        self.found_full |= count < bytes.len();
        if count == 0 {
            return Err(self.would_block());
        }
        self.down.bytes.extend(&bytes[..count]);
        Ok(count)
    }

    /// `shutdown` by the server.
    pub fn shutdown(&mut self) -> io::Result<()> {
        if self.failure.is_some() {
            return Err(ErrorKind::NotConnected.into());
        }
        self.expect(!self.down.has_ended, "the output is ended once");
        self.down.has_ended = true;
        if self.kernel == Kernel::Kqueue {
            self.became_ready(WRITABLE);
        }
        Ok(())
    }

    /// Whether an outgoing connection is open, or why it has failed.
    pub fn is_connected(&self) -> io::Result<bool> {
        self.failure.map_or(Ok(self.is_open), |failure| Err(failure.into()))
    }

    /// Whether the client's kernel has everything. Only epoll's kernel can tell.
    pub fn is_delivered(&self) -> io::Result<Option<bool>> {
        match (self.kernel, self.failure) {
            (Kernel::Epoll, Some(failure)) => Err(failure.into()),
            (Kernel::Epoll, None) => Ok(Some(self.down.has_end_arrived)),
            (Kernel::Kqueue | Kernel::Iocp, _) => Ok(None),
        }
    }
}
