//! A server in the comparison: how it is started, looked at and ended.
//!
//! Each measurement starts its own process on a port of its own, so that no server inherits another's memory, and one
//! that dies takes nothing with it. Knows nothing of loads.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{self, ChildGuard};
use crate::failure::{Death, Failure};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take: no longer than Ctrl-C may go unseen.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How often it is asked. Nothing tells when a foreign process begins to listen.
const ASK: Duration = Duration::from_millis(5);
/// How long the first, trial session may take, and a process that closed its sockets to be seen as dead.
const GRACE: Duration = Duration::from_millis(300);
/// How many characters of a server's last words are shown.
const LAST_WORDS: usize = 100;

/// A server that can be measured.
#[derive(Debug, Clone)]
pub struct Contender {
    /// What its rows are called.
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

/// A server that accepts connections. Dropping it ends its processes, if it was started here.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    process: Option<ChildGuard>,
    log: PathBuf,
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
        // A shell becomes the last command that it has to run. Where it must stay, as beside a pipeline, its megabyte
        // counts with the contender's memory; not with that of a session, which is growth.
        let program = ["sh", "-c", command].map(str::to_owned).to_vec();
        Self { name: name.to_owned(), origin: Origin::Program(program) }
    }

    /// The same server, with its program started by another: `strace`, for example.
    pub fn under(&self, wrapper: &[&str]) -> Self {
        let origin = match &self.origin {
            Origin::Program(program) => {
                let wrapper = wrapper.iter().map(|&word| word.to_owned());
                Origin::Program(wrapper.chain(program.iter().cloned()).collect())
            }
            address @ Origin::Address(_) => address.clone(),
        };
        Self { name: self.name.clone(), origin }
    }

    /// Starts it, what it writes going to the file `log`, and waits until it accepts connections.
    pub fn start(&self, log: PathBuf, interrupted: &AtomicBool) -> Result<Server, Failure> {
        let server = match &self.origin {
            Origin::Address(address) => Server { address: *address, process: None, log },
            Origin::Program(program) => {
                let address = free_address().map_err(|error| Failure::Load(error.to_string()))?;
                let output = File::create(&log)
                    .map_err(|error| Failure::Load(format!("{}: {error}", log.display())))?;
                let process = spawn(program, address.port(), output)
                    .map_err(|error| Failure::NotStarted(format!("{}: {error}", program[0])))?;
                Server { address, process: Some(process), log }
            }
        };
        server.wait_until_it_accepts(interrupted)?;
        Ok(server)
    }
}

impl Server {
    /// What is behind a failure seen from outside: a server that has died is silent, refuses and loses sessions, but
    /// what the reader wants to know is that it died.
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
            thread::sleep(ASK);
        }
        failure
    }

    fn wait_until_it_accepts(&self, interrupted: &AtomicBool) -> Result<(), Failure> {
        let deadline = Instant::now() + START;
        loop {
            if interrupted.load(Ordering::Relaxed) {
                return Err(Failure::Interrupted);
            }
            if let Ok(stream) = TcpStream::connect_timeout(&self.address, ATTEMPT) {
                // What the trial session hears is judged in the measurement, by the load.
                let _ = leave_politely(stream);
                return Ok(());
            }
            if let Some(death) = self.death() {
                return Err(Failure::DiedAtStart(death));
            }
            if Instant::now() > deadline {
                return Err(Failure::NeverListened);
            }
            thread::sleep(ASK);
        }
    }

    fn death(&self) -> Option<Death> {
        let status = self.process.as_ref()?.exit_status()?;
        // Who goes to the background ends well, and cannot be told from one that is over.
        let advice = if status.success() { " (was it to stay in the foreground?)" } else { "" };
        Some(Death { how: format!("{status}{advice}"), last_words: last_words(&self.log) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The guard first: then what is left has left the server's group.
        if self.process.take().is_some() {
            child::end_descendants();
        }
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

/// Ends the session as a client does, and reads on to the server's end: a server is not to be reset before it has begun.
/// One that goes on speaking is left all the same.
fn leave_politely(mut stream: TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + GRACE;
    stream.set_read_timeout(Some(GRACE))?;
    stream.shutdown(Shutdown::Write)?;
    let mut heard = [0; 256];
    while stream.read(&mut heard)? > 0 && Instant::now() < deadline {}
    Ok(())
}

/// The last line of the log that is not blank.
fn last_words(log: &Path) -> Option<String> {
    let log = fs::read(log).ok()?;
    let line = log.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).rfind(|line| !line.is_empty())?;
    let line = String::from_utf8_lossy(line);
    let shown: String = line.chars().take(LAST_WORDS).collect();
    let rest = if shown.len() < line.len() { " ..." } else { "" };
    // With its control characters escaped: a server is not to have the reader's terminal.
    Some(format!("{shown:?}{rest}"))
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
