//! One okloop process of the fleet, and the port that all of them share.

use std::env;
use std::io::{self, BufRead, BufReader, PipeReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

use crate::cargo;
use crate::child::ChildGuard;
use crate::counters::Counters;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::words::many;

/// How long a process may take to listen, to say its counters, or to end after its drain.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long sessions have to end. Twenty thousand of them take half a second; a busy machine must not cut them off.
const DRAIN_TIMEOUT: &str = "60";
/// How long cargo may take to build a server.
const BUILD_PATIENCE: Duration = Duration::from_secs(60 * 60);
/// A request for the counters is repeated after this time: in a rush the log drops lines rather than wait.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A port of 127.0.0.1 that is held without listening on it, so that the servers can share it.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _holder: Socket,
}

impl Port {
    /// Holds the port with this number, or one that the system chooses for 0. It is refused if anybody listens there,
    /// also with `SO_REUSEPORT`: our sessions would be shared with them.
    pub fn hold(number: u16) -> Result<Self, Failure> {
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, number));
        let bind = || -> io::Result<Self> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            // Without it the last fleet's sessions would keep the port for a minute (TIME_WAIT).
            socket.set_reuse_address(true)?;
            socket.bind(&wanted.into())?;
            // Only now, because a bind that may share takes a port that others share already.
            socket.set_reuse_port(true)?;
            let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok(Self { address: bound, _holder: socket })
        };
        bind().map_err(Failure::system(format!("The fleet cannot have {wanted} to itself")))
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The path of the server's program, beside this example's. With `cargo run`, which builds no other program than the
/// one it runs, cargo brings it up to date.
pub fn program(interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    let here = env::current_exe().map_err(Failure::system("The path of this program"))?;
    let profile_directory = here.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let program = profile_directory.join("okloop");
    if let Some(cargo) = env::var_os("CARGO") {
        let build = ChildGuard::spawn(cargo::build(cargo, profile_directory).args(["--bin", "okloop"]));
        let status =
            interrupt.wait_for_end(&build.map_err(Failure::system("cargo build"))?, BUILD_PATIENCE)?;
        if !status.is_some_and(|status| status.success()) {
            return Err(Failure::Died("cargo build --bin okloop failed".to_owned()));
        }
    }
    Ok(program)
}

/// A running okloop process. Dropping it ends the process.
#[derive(Debug)]
pub struct Server {
    /// Its place in the fleet.
    pub number: usize,
    process: ChildGuard,
    log: Receiver<String>,
    /// The sessions that were open when it was last asked.
    open: Option<usize>,
}

impl Server {
    /// Starts a process; [`Server::wait_until_listening`] says when it listens.
    pub fn start(program: &Path, number: usize, address: SocketAddr) -> Result<Self, Failure> {
        let (log, output) = io::pipe().map_err(Failure::system("A pipe"))?;
        let mut command = Command::new(program);
        command
            .args([
                "--host",
                &address.ip().to_string(),
                "--port",
                &address.port().to_string(),
                "--reuse-port",
            ])
            .args(["--drain-timeout", DRAIN_TIMEOUT, "--log-level", "info"])
            .stdout(output);
        let process = ChildGuard::spawn(&mut command)
            .map_err(Failure::system(format!("{} does not start", program.display())))?;
        Ok(Self { number, process, log: follow(log), open: None })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until clients can connect.
    pub fn wait_until_listening(&self, interrupt: &Interrupt) -> Result<(), Failure> {
        let listening = |line: &str| line.contains("Socket now listening on").then_some(());
        self.wait_for(listening, PATIENCE, interrupt)?.ok_or_else(|| self.silent())
    }

    /// Asks the process for its counters.
    pub fn counters(&mut self, interrupt: &Interrupt) -> Result<Counters, Failure> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            self.signal(Signal::SIGUSR1)?;
            if let Some(counters) = self.wait_for(Counters::parse, ASK_AGAIN, interrupt)? {
                self.open = Some(counters.open);
                return Ok(counters);
            }
        }
        Err(self.silent())
    }

    /// Tells the process to drain and to end.
    pub fn terminate(&self) -> Result<(), Failure> {
        self.signal(Signal::SIGTERM)
    }

    /// Waits for the end of the process: status 0, and returns the counters that it ended with.
    pub fn finish(self, interrupt: &Interrupt) -> Result<Counters, Failure> {
        let counters = self.wait_for(Counters::parse, PATIENCE, interrupt)?.ok_or_else(|| self.silent())?;
        let status = self.wait_for_end(interrupt)?;
        if status.success() { Ok(counters) } else { Err(self.died(status)) }
    }

    /// How the process ended, if it has.
    pub fn death(&self) -> Option<Failure> {
        self.process.exit_status().map(|status| self.died(status))
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        self.process.signal(signal).map_err(Failure::system(format!("{signal} to okloop {}", self.number)))
    }

    /// Waits for a log line in which `look` finds something; `None` if the time is over before.
    fn wait_for<T>(
        &self,
        look: impl Fn(&str) -> Option<T>,
        patience: Duration,
        interrupt: &Interrupt,
    ) -> Result<Option<T>, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            interrupt.check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left.min(Interrupt::TICK)) {
                Ok(line) => {
                    if let Some(found) = look(&line) {
                        return Ok(Some(found));
                    }
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.died(self.wait_for_end(interrupt)?));
                }
            }
        }
    }

    fn wait_for_end(&self, interrupt: &Interrupt) -> Result<ExitStatus, Failure> {
        interrupt.wait_for_end(&self.process, PATIENCE)?.ok_or_else(|| self.silent())
    }

    fn died(&self, status: ExitStatus) -> Failure {
        let (number, id) = (self.number, self.id());
        let sessions = self.open.map_or_else(String::new, |open| format!(", with {}", many(open, "session")));
        Failure::Died(format!("okloop {number} (process {id}) ended unexpectedly{sessions}: {status}"))
    }

    fn silent(&self) -> Failure {
        Failure::Silent(format!("okloop {}", self.number))
    }
}

/// Reads a server's log in a thread of its own, so that the server never waits for us, and passes on what is not about
/// a single session.
fn follow(log: PipeReader) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            if !line.contains("Connected with") && sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
