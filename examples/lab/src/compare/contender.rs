//! A server in the comparison: how it starts, how it ends, and what is behind its failures.
//!
//! Each measurement starts its own process on a port of its own. So no server inherits another's memory, and one that
//! dies takes nothing with it. Knows nothing of loads.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::compare::log::Log;
use crate::support::child::ChildGuard;
use crate::support::failure::{Death, Failure};
use crate::support::interrupt::Interrupt;

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take: Ctrl-C is not seen meanwhile.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How often the laboratory tries. Nothing tells when a foreign process begins to listen.
const RETRY: Duration = Duration::from_millis(5);
/// How long the trial session may take, and how long after its last byte a process may still be seen as alive.
const GRACE: Duration = Duration::from_millis(300);

/// A server that can be measured.
#[derive(Debug, Clone)]
pub struct Contender {
    /// The name of its rows.
    pub name: String,
    /// How to come to it.
    pub origin: Origin,
}

/// Where a server comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Program and arguments, in which `{port}` stands for the port.
    Program(Vec<String>),
    /// It runs already, and nothing is known of its process.
    Address(SocketAddr),
}

/// A server that accepts connections. Dropping it ends its process group, if it was started here. A
/// [`Descendants`](crate::support::child::Descendants) ends the processes that have left the group.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    started: Option<Started>,
}

#[derive(Debug)]
struct Started {
    process: ChildGuard,
    log: Log,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(words) => write!(f, "{}", as_typed(words)),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl Contender {
    /// A server given as a shell's command line.
    pub fn from_command_line(name: &str, command: &str) -> Self {
        // A shell becomes the last command that it runs. Where it has to stay, as beside a pipeline, its megabyte is in
        // the contender's memory, but not in the memory of a session, which is growth.
        let program = ["sh", "-c", command].map(str::to_owned).to_vec();
        Self { name: name.to_owned(), origin: Origin::Program(program) }
    }

    /// Starts it, with its output going to the file `log`, and waits until it accepts connections.
    pub fn start(&self, log: PathBuf, interrupt: &Interrupt) -> Result<Server, Failure> {
        let server = match &self.origin {
            Origin::Address(address) => Server { address: *address, started: None },
            Origin::Program(program) => {
                let address = free_address().map_err(Failure::system("A free port"))?;
                let name = log.display().to_string();
                let (log, output) = Log::create(log).map_err(Failure::system(name))?;
                let process = spawn(program, address.port(), output).map_err(|error| {
                    Failure::NotStarted(format!("{}: {error}{}", program[0], hint(&program[0])))
                })?;
                Server { address, started: Some(Started { process, log }) }
            }
        };
        server.wait_until_it_accepts(interrupt)?;
        Ok(server)
    }
}

impl Server {
    /// The reason behind a failure that a client saw. A server that has died is silent, refuses and loses sessions, but
    /// the reader wants to know that it died.
    pub fn explain(&self, failure: Failure) -> Failure {
        if !matches!(
            failure,
            Failure::Lost(_) | Failure::Refused(_) | Failure::Silent(_) | Failure::NeverGreeted
        ) {
            return failure;
        }
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(death) = self.death() {
                return Failure::Died(death);
            }
            thread::sleep(RETRY);
        }
        failure
    }

    fn wait_until_it_accepts(&self, interrupt: &Interrupt) -> Result<(), Failure> {
        let deadline = Instant::now() + START;
        loop {
            interrupt.check()?;
            if let Ok(stream) = TcpStream::connect_timeout(&self.address, ATTEMPT) {
                // The load checks what a server sends. This session only shows that the server accepts.
                let _ = leave_in_order(stream);
                return Ok(());
            }
            if let Some(death) = self.death() {
                return Err(Failure::DiedAtStart(death));
            }
            if Instant::now() > deadline {
                return Err(Failure::NeverListened);
            }
            thread::sleep(RETRY);
        }
    }

    fn death(&self) -> Option<Death> {
        let Started { process, log } = self.started.as_ref()?;
        let status = process.exit_status()?;
        // A server that goes to the background ends with status 0 too.
        let advice = if status.success() { " (does it go to the background?)" } else { "" };
        Some(Death { how: format!("{status}{advice}"), last_words: log.last_words() })
    }
}

/// A command line as it is typed in a shell.
pub fn as_typed(words: &[String]) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_=./,:{}".contains(character);
    let quoted = |word: &String| {
        if word.chars().all(is_plain) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Ends the session as a client does, and reads on to the server's end: no reset before the measurement begins. A server
/// that never ends its output is left after a while.
fn leave_in_order(mut stream: TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + GRACE;
    stream.set_read_timeout(Some(GRACE))?;
    stream.shutdown(Shutdown::Write)?;
    let mut received = [0; 256];
    while stream.read(&mut received)? > 0 && Instant::now() < deadline {}
    Ok(())
}

/// A loopback address whose port is free on every interface now.
fn free_address() -> io::Result<SocketAddr> {
    let port = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port();
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

fn spawn(program: &[String], port: u16, log: File) -> io::Result<ChildGuard> {
    let mut words = program.iter().map(|word| word.replace("{port}", &port.to_string()));
    let name = words.next().ok_or(io::ErrorKind::InvalidInput)?;
    ChildGuard::spawn(
        Command::new(name).args(words).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log),
    )
}

/// What to do if a program is missing. Those of the project stand beside the laboratory, and only cargo builds them.
fn hint(program: &str) -> &'static str {
    if Path::new(program).is_absolute() { " (cargo run --release -p lab builds it)" } else { "" }
}
