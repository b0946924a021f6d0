//! A chat: each line goes to all other clients.
//!
//! ```text
//! cargo run --example chat
//! telnet localhost 8888
//! ```
//!
//! It shows sessions that talk to each other. A session never writes to another session's client. It appends its line to
//! the room, once, and wakes the others. Each of them then gets a turn, and takes the line from the room:
//!
//! ```text
//!   the room's lines:   … │ 41 │ 42 │ 43 │ 44 │ 45 │ ◄── ann says line 46, and wakes bob and cid
//!                              ▲              ▲
//!                              │              └ bob took all but line 45
//!                              └ cid reads slowly, and took all up to line 41
//! ```
//!
//! The room keeps its last lines only. A client that reads too slowly is told how many lines it has missed. The clients
//! that speak never wait for it. Nobody is told who comes and who goes: ten thousand clients that come would be fifty
//! million lines.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use okloop::{Buffer, Reason, Session, Sizes, Step, Waker};

mod serving;
mod terminal;

/// How many lines the room keeps for clients that read slowly.
const HISTORY: usize = 4096;
/// The longest line, with its ending (bytes).
const LONGEST_LINE: usize = 1024;
const LONGEST_NAME: usize = 24;
/// How many lines of one client follow each other before the other sessions get a turn to take them. Otherwise a client
/// that sends without a pause could fill the room between two turns of another session.
const BURST: u32 = 64;
/// The most that a session sends in one answer (bytes).
const ANSWER: usize = 16 * 1024;

/// What all sessions share. They run on one thread, and need no lock.
#[derive(Default)]
pub struct Room {
    /// By the numbers of their sessions.
    members: BTreeMap<u64, (Waker, String)>,
    guests: u64,
    /// Each with its speaker's number.
    pub lines: VecDeque<(u64, Vec<u8>)>,
    /// How many lines the room has dropped.
    pub dropped: usize,
}

impl Room {
    /// Appends a line, and wakes all sessions. Each of them takes it in its own turn.
    pub fn say(&mut self, speaker: u64, line: Vec<u8>) {
        if self.lines.len() == HISTORY {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back((speaker, line));
        self.members.values().for_each(|(waker, _)| waker.wake());
    }
}

/// One client's session.
pub struct Chat {
    room: Rc<RefCell<Room>>,
    waker: Waker,
    /// How many lines of the room it has taken.
    taken: usize,
    /// How many lines it has said since the others had a turn.
    burst: u32,
}

impl Chat {
    /// A session of a new member.
    pub fn enter(shared: &Rc<RefCell<Room>>, waker: Waker) -> Self {
        let mut room = shared.borrow_mut();
        room.guests += 1;
        let name = format!("guest-{}", room.guests);
        room.members.insert(waker.number(), (waker.clone(), name));
        Self { room: Rc::clone(shared), waker, taken: room.dropped + room.lines.len(), burst: 0 }
    }

    /// Takes what is new in the room, without the client's own lines. Returns whether that was all.
    fn take_lines(&mut self, output: &mut Buffer) -> bool {
        let (room, pending) = (self.room.borrow(), output.len());
        if self.taken < room.dropped {
            writeln!(output, "* {} lines missed", room.dropped - self.taken);
            self.taken = room.dropped;
        }
        for (speaker, line) in room.lines.range(self.taken - room.dropped..) {
            if output.len() - pending > ANSWER / 2 {
                return false;
            }
            if *speaker != self.waker.number() {
                output.push(line);
            }
            self.taken += 1;
        }
        true
    }

    fn rename(&mut self, name: &[u8], output: &mut Buffer) {
        let (mut room, name) = (self.room.borrow_mut(), String::from_utf8_lossy(name).into_owned());
        let is_taken = room.members.values().any(|(_, other)| *other == name);
        if is_taken || name.len() > LONGEST_NAME || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            writeln!(output, "* A name has at most {LONGEST_NAME} letters and digits, and one owner");
        } else {
            writeln!(output, "* You are {name}");
            room.members.insert(self.waker.number(), (self.waker.clone(), name));
        }
    }
}

impl Session for Chat {
    fn sizes(&mut self) -> Sizes {
        Sizes::new(LONGEST_LINE, ANSWER)
    }

    fn greet(&mut self, output: &mut Buffer) {
        output.push(b"* Say something, or /nick NAME, /who, /quit\n");
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        if !self.take_lines(output) {
            return Step::More;
        }
        if self.burst == BURST {
            // Its own lines have woken this session too, behind the others.
            self.burst = 0;
            return Step::Wait;
        }
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else { return Step::NeedInput };
        // A client must not control another client's terminal.
        input[..end].iter_mut().filter(|byte| byte.is_ascii_control()).for_each(|byte| *byte = b' ');
        match input[..end].trim_ascii() {
            b"" => {}
            b"/quit" => return Step::Close,
            b"/who" => {
                let room = self.room.borrow();
                writeln!(output, "* {} here:", room.members.len());
                room.members.values().take(100).for_each(|(_, name)| writeln!(output, "*   {name}"));
            }
            [b'/', b'n', b'i', b'c', b'k', b' ', name @ ..] => self.rename(name, output),
            [b'/', ..] => output.push(b"* There are /nick NAME, /who and /quit\n"),
            text => {
                let (mut room, number) = (self.room.borrow_mut(), self.waker.number());
                let line = [room.members[&number].1.as_bytes(), b": ", text, b"\n"].concat();
                room.say(number, line);
                self.burst += 1;
            }
        }
        Step::Consumed(end + 1)
    }

    fn ending(&mut self, reason: Reason, output: &mut Buffer) {
        writeln!(output, "* The server ends the session: {reason}");
    }
}

/// The room forgets the session when it ends, even if one of its methods panics.
impl Drop for Chat {
    fn drop(&mut self) {
        self.room.borrow_mut().members.remove(&self.waker.number());
    }
}

fn main() {
    let room = Rc::default();
    serving::run(|client| Chat::enter(&room, client.waker));
}
