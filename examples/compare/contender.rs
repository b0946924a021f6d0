//! A server in the comparison: how it is started, looked at and ended.
//!
//! Each measurement starts its own process on a port of its own, so that no server inherits another's memory, and one
//! that dies takes nothing with it. Knows nothing of loads.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::ChildGuard;
use crate::failure::Failure;

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(5);
/// How often it is asked. Nothing tells when a foreign process begins to listen.
const ASK: Duration = Duration::from_millis(5);
/// How long the first, trial session may take, and a process that closed its sockets to be seen as dead.
const GRACE: Duration = Duration::from_millis(300);

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

/// A server that accepts connections. Dropping it ends the process, if it was started here.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    process: Option<ChildGuard>,
    log: PathBuf,
}

impl Contender {
    /// A server given as a shell's command line.
    pub fn from_command_line(name: &str, command: &str) -> Self {
        // `exec`: the process that is measured is to be the server, not the shell.
        let program = ["sh", "-c", &format!("exec {command}")].map(str::to_owned).to_vec();
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

    /// Starts it, what it writes going to a file in `logs`, and waits until it accepts connections.
    pub fn start(&self, logs: &Path, interrupted: &AtomicBool) -> Result<Server, Failure> {
        let log = logs.join(format!("{}.log", self.name));
        let server = match &self.origin {
            Origin::Address(address) => Server { address: *address, process: None, log },
            Origin::Program(program) => {
                let address = free_address().map_err(|error| Failure::Load(error.to_string()))?;
                let process = spawn(program, address.port(), &log)
                    .map_err(|error| Failure::NotStarted(format!("{}: {error}", program[0])))?;
                Server { address, process: Some(process), log }
            }
        };
        server.wait_until_it_accepts(interrupted)?;
        Ok(server)
    }
}

impl Server {
    /// The server's process, if it was started here.
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().map(ChildGuard::id)
    }

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
                return death;
            }
            thread::sleep(ASK);
        }
        failure
    }

    fn wait_until_it_accepts(&self, interrupted: &AtomicBool) -> Result<(), Failure> {
        let deadline = Instant::now() + START;
        loop {
            if let Ok(stream) = TcpStream::connect_timeout(&self.address, START) {
                // What the trial session hears is judged in the measurement, by the load.
                let _ = leave_politely(stream);
                return Ok(());
            }
            if let Some(death) = self.death() {
                return Err(death);
            }
            if interrupted.load(Ordering::Relaxed) {
                return Err(Failure::Interrupted);
            }
            if Instant::now() > deadline {
                return Err(Failure::NeverListened);
            }
            thread::sleep(ASK);
        }
    }

    fn death(&self) -> Option<Failure> {
        let status = self.process.as_ref()?.exit_status()?;
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let how = match log.lines().last() {
            Some(last_words) => format!("{status}: {last_words}"),
            None => status.to_string(),
        };
        Some(Failure::Died(how))
    }
}

/// Ends the session as a client does, and reads on to the server's end: a server is not to be reset before it has begun.
fn leave_politely(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(GRACE))?;
    stream.shutdown(Shutdown::Write)?;
    let mut heard = [0; 256];
    while stream.read(&mut heard)? > 0 {}
    Ok(())
}

/// A loopback address whose port is free on every interface now.
fn free_address() -> io::Result<SocketAddr> {
    let port = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port();
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

fn spawn(program: &[String], port: u16, log: &Path) -> io::Result<ChildGuard> {
    let mut words = program.iter().map(|word| word.replace("{port}", &port.to_string()));
    let name = words.next().ok_or(io::ErrorKind::InvalidInput)?;
    let log = File::create(log)?;
    ChildGuard::spawn(
        Command::new(name).args(words).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log),
    )
}
