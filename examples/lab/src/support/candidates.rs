//! The servers that the laboratory tries: this project's own, and those of the command line.

use std::net::{SocketAddr, ToSocketAddrs};

use clap::Args;

use crate::support::{Answer, BANNER, CHUNK, End, Failure, Framing, PREFIX, Protocol, programs};

/// A server that can be tried.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub name: String,
    pub origin: Origin,
    pub protocol: Protocol,
    /// An argument more in one case of `faults`: the case's name, and the argument.
    pub more: Option<(&'static str, &'static str)>,
    /// Whether each line of a client goes to all others. The protocol then says nothing.
    pub is_chat: bool,
}

/// Where a server comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A program and its arguments, in which `{port}` stands for the port.
    Command(Vec<String>),
    /// It runs already, and nothing is known of its process.
    Address(SocketAddr),
}

impl Candidate {
    /// The program that its command begins with.
    pub fn program(&self) -> &str {
        match &self.origin {
            Origin::Command(words) => &words[0],
            Origin::Address(_) => "",
        }
    }
}

/// The parts of the laboratory that try one of the project's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Compare,
    Faults,
    Both,
    /// `compare`, among the chats.
    CompareChats,
}

/// Name, command, protocol, and the parts that try it. In a command, `{here}` is the directory of this program.
type Listed = (&'static str, &'static str, Promise, By);

const RUNG: &str = "{here}/examples/{name} {port}";
const OKLOOP: &str = "{here}/okloop --host 127.0.0.1 --port {port} --drain-timeout 2";
const OKLOOP_LINES: &str = "{here}/okloop --host 127.0.0.1 --port {port} --drain-timeout 2 --framing lines";
const LAB: &str = "{here}/lab serve {name} {port}";

type Bytes = &'static [u8];

/// A protocol's banner, prefix, framing and answer; and how a client asks for the end, with the goodbye, if it can.
type Promise = (Bytes, Bytes, Framing, Answer, Option<(Bytes, Bytes)>);

const ECHO: Promise = (b"", b"", Framing::Chunks, Answer::Same, None);
const UNGREETED: Promise = (b"", PREFIX, Framing::Chunks, Answer::Same, None);
const OK: Promise = (BANNER, PREFIX, Framing::Chunks, Answer::Same, None);
const OK_BY_LINES: Promise = (BANNER, PREFIX, Framing::Lines, Answer::Same, None);
const UPPER: Promise = (b"", b"", Framing::Chunks, Answer::Upper, None);
const ENDS: (Bytes, Bytes) = (b"quit\n", b"Goodbye\n");
const NUMBERED: Promise =
    (b"Type lines, then quit\n", b"{n}: ", Framing::WholeLines, Answer::Trimmed, Some(ENDS));

/// The project's servers, from the first rung of the ladder to the last.
const SERVERS: [Listed; 20] = [
    ("echo_once", RUNG, ECHO, By::Faults),
    ("one_at_a_time", RUNG, UNGREETED, By::Faults),
    ("thread_per_connection", RUNG, OK, By::Both),
    ("poll_all", RUNG, OK, By::Both),
    ("tiny_event_loop", RUNG, OK, By::Both),
    ("loop_backpressure", RUNG, OK, By::Faults),
    ("loop_fair", RUNG, OK, By::Faults),
    ("loop_deadlines", RUNG, OK, By::Faults),
    ("upper", RUNG, UPPER, By::Faults),
    ("line_server", RUNG, NUMBERED, By::Faults),
    ("okloop", OKLOOP, OK, By::Both),
    ("okloop --framing lines", OKLOOP_LINES, OK_BY_LINES, By::Faults),
    ("threads_gathered", LAB, OK, By::Compare),
    ("tokio_one_thread", LAB, OK, By::Compare),
    ("tokio_all_threads", LAB, OK, By::Compare),
    ("asyncio", "python3 {serve}/asyncio_server.py {port}", OK, By::Compare),
    ("chat", RUNG, ECHO, By::CompareChats),
    ("chat_threads", LAB, ECHO, By::CompareChats),
    ("chat_tokio", LAB, ECHO, By::CompareChats),
    ("chat_asyncio", "python3 {serve}/asyncio_chat.py {port}", ECHO, By::CompareChats),
];

/// The time-out of 1 s for which one case need not wait for the default of 300 s.
const SHORT_TIMEOUT: (&str, (&str, &str)) = ("loop_deadlines", ("vanished", "1"));

/// The project's servers that a part tries.
pub fn of_the_project(by: By) -> Result<Vec<Candidate>, Failure> {
    let here = programs::directory()?.display().to_string();
    let serve = concat!(env!("CARGO_MANIFEST_DIR"), "/src/serve");
    let is_tried = |tried_by| tried_by == by || tried_by == By::Both && by != By::CompareChats;
    let listed = SERVERS.iter().filter(|(.., tried_by)| is_tried(*tried_by));
    let candidate = |(name, command, promise, _): &Listed| Candidate {
        name: (*name).to_owned(),
        origin: {
            let word =
                |word: &str| word.replace("{here}", &here).replace("{serve}", serve).replace("{name}", name);
            Origin::Command(command.split(' ').map(word).collect())
        },
        protocol: protocol(promise),
        more: (SHORT_TIMEOUT.0 == *name).then_some(SHORT_TIMEOUT.1),
        is_chat: by == By::CompareChats,
    };
    Ok(listed.map(candidate).collect())
}

fn protocol(&(banner, prefix, framing, answer, end): &Promise) -> Protocol {
    let end = end.map(|(request, goodbye)| End { request: request.to_vec(), goodbye: goodbye.to_vec() });
    Protocol { banner: banner.to_vec(), prefix: prefix.to_vec(), framing, answer, chunk: CHUNK, end }
}

/// Servers of the operator's own.
#[derive(Debug, Args)]
pub struct Added {
    /// A server to start: {port} in the shell's command stands for the port on which it must listen. It must stay in the
    /// foreground; may be given again
    #[arg(long = "server", value_name = "NAME=COMMAND", value_parser = named_command)]
    servers: Vec<(String, Origin)>,

    /// A server that runs already, of whose process nothing is known; may be given again
    #[arg(long, value_name = "HOST:PORT")]
    connect: Vec<String>,

    /// Let --connect go to another address than loopback: only to a machine that you may load
    #[arg(long)]
    remote: bool,
}

impl Added {
    /// All of them, with this protocol.
    pub fn candidates(&self, protocol: &Protocol) -> Result<Vec<Candidate>, Failure> {
        let running = self.connect.iter().map(|place| Ok((place.clone(), self.running(place)?)));
        let candidate = |(name, origin)| {
            let protocol = protocol.clone();
            Candidate { name, origin, protocol, more: None, is_chat: false }
        };
        let added = self.servers.iter().cloned().map(Ok).chain(running);
        added.map(|added| added.map(candidate)).collect()
    }

    fn running(&self, place: &str) -> Result<Origin, Failure> {
        let wrong = |problem: &str| Failure::Usage(format!("--connect {place}: {problem}"));
        let mut addresses = place.to_socket_addrs().map_err(|error| wrong(&error.to_string()))?;
        let address = addresses.find(|address| self.remote || address.ip().is_loopback());
        address.map(Origin::Address).ok_or_else(|| wrong("not on loopback; --remote says that you mean it"))
    }
}

/// okloop's own conversation.
pub fn okloop() -> Protocol {
    protocol(&OK)
}

fn named_command(text: &str) -> Result<(String, Origin), String> {
    let (name, command) = text.split_once('=').ok_or("NAME=COMMAND is expected")?;
    let is_plain = |character: char| character.is_alphanumeric() || "-_.+ ".contains(character);
    if name.trim().is_empty() || !name.chars().all(is_plain) {
        return Err("a name has only letters, digits, '-', '_', '.' and '+'".to_owned());
    }
    if !command.contains("{port}") {
        return Err("the command has no {port} in it".to_owned());
    }
    // A shell that stays gets the signals that are for the server, and its megabyte counts as the server's.
    let first = command.split(' ').next().unwrap_or_default();
    let is_simple = !command.contains(['|', '&', ';', '<', '>', '(', '`', '\n']) && !first.contains('=');
    let command = if is_simple { format!("exec {command}") } else { command.to_owned() };
    Ok((name.to_owned(), Origin::Command(vec!["sh".to_owned(), "-c".to_owned(), command])))
}
