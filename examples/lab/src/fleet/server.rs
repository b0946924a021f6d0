//! One okloop process of the fleet, and the port that all of them share.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

use crate::support::{ChildGuard, Failure, Interrupt, many, programs, read_lines};

/// How long a process may take to listen, to tell its counters, or to end after its drain.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long sessions have to end. Twenty thousand take half a second; a busy machine must not cut them off.
const DRAIN_TIMEOUT: &str = "60";

/// A port of 127.0.0.1 that is bound without listening, so that the servers can share it.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _holder: Socket,
}

impl Port {
    /// Binds the port with this number, or one that the system chooses for 0. A port on which another program listens is
    /// refused, also with `SO_REUSEPORT`: the kernel would give it some of the sessions.
    pub fn hold(number: u16) -> Result<Self, Failure> {
        let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, number));
        let bind = || -> io::Result<Self> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            // Otherwise the last fleet's sessions would keep the port for a minute (TIME_WAIT).
            socket.set_reuse_address(true)?;
            socket.bind(&wanted.into())?;
            // After bind, because a bind that may share takes a port that others share already.
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

/// The path of the server's program, which cargo has brought up to date.
pub fn program(interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    programs::build([], interrupt)?;
    Ok(programs::directory()?.join("okloop"))
}

/// A running okloop process. Dropping it ends the process.
#[derive(Debug)]
pub struct Server {
    /// Its place in the fleet.
    pub number: usize,
    process: ChildGuard,
    /// Where it serves its counters. It says so in its log when clients can connect.
    started: Receiver<SocketAddr>,
    metrics: Option<SocketAddr>,
    /// The sessions that were open when it was asked last.
    open: Option<u64>,
}

impl Server {
    /// Starts a process for at most so many sessions; [`Server::wait_until_listening`] says when it listens.
    pub fn start(
        program: &Path,
        number: usize,
        address: SocketAddr,
        sessions: usize,
    ) -> Result<Self, Failure> {
        let (output, stdout) = io::pipe().map_err(Failure::system("A pipe"))?;
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let mut command = Command::new(program);
        command
            .args(["--host", &host, "--port", &port, "--reuse-port", "--drain-timeout", DRAIN_TIMEOUT])
            .args(["--max-connections", &sessions.to_string(), "--metrics", "127.0.0.1:0"])
            .args(["--log-level", "info"])
            .stdout(stdout);
        let process = ChildGuard::spawn(&mut command);
        let process = process.map_err(Failure::system(format!("{} does not start", program.display())))?;
        let (sender, started) = channel();
        read_lines(output, move |line| {
            let metrics = line.as_ref().and_then(|line| metrics(line));
            metrics.is_none_or(|metrics| sender.send(metrics).is_ok()) && line.is_some()
        });
        Ok(Self { number, process, started, metrics: None, open: None })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until clients can connect.
    pub fn wait_until_listening(&mut self, interrupt: &Interrupt) -> Result<(), Failure> {
        let started = interrupt.until(PATIENCE, |left| match self.started.recv_timeout(left) {
            Err(RecvTimeoutError::Timeout) => None,
            started => Some(started.ok()),
        });
        self.metrics = started?.ok_or_else(|| self.silent())?;
        match self.metrics {
            Some(_) => Ok(()),
            None => Err(self.died(self.wait_for_end(interrupt)?)),
        }
    }

    /// Asks the process how many sessions are open.
    pub fn open_sessions(&mut self, interrupt: &Interrupt) -> Result<u64, Failure> {
        let ask = |_| {
            let open = self.metrics.and_then(|metrics| open_sessions(metrics).ok());
            open.map(Ok).or_else(|| self.death().map(Err))
        };
        let open = interrupt.until(PATIENCE, ask)?.ok_or_else(|| self.silent())??;
        self.open = Some(open);
        Ok(open)
    }

    /// Tells the process to drain and to end, and waits for its end. Status 0 says that every session ended in order.
    pub fn drain(self, interrupt: &Interrupt) -> Result<(), Failure> {
        let signal = self.process.signal(Signal::SIGTERM);
        signal.map_err(Failure::system(format!("SIGTERM to okloop {}", self.number)))?;
        let status = self.wait_for_end(interrupt)?;
        if status.success() { Ok(()) } else { Err(self.died(status)) }
    }

    /// How the process ended, if it has.
    pub fn death(&self) -> Option<Failure> {
        self.process.exit_status().map(|status| self.died(status))
    }

    fn wait_for_end(&self, interrupt: &Interrupt) -> Result<ExitStatus, Failure> {
        interrupt.wait_for_end(&self.process, PATIENCE)?.ok_or_else(|| self.silent())
    }

    fn died(&self, status: ExitStatus) -> Failure {
        let (number, id) = (self.number, self.id());
        let sessions = self.open.map_or_else(String::new, |open| format!(", with {}", many(open, "session")));
        Failure::died(format!("okloop {number} (process {id}){sessions}: {status}"))
    }

    fn silent(&self) -> Failure {
        Failure::Silent(format!("okloop {} did not answer within {PATIENCE:?}", self.number))
    }
}

/// The address in the log line that has it.
fn metrics(line: &str) -> Option<SocketAddr> {
    line.split_once("Metrics on http://")?.1.strip_suffix("/metrics")?.parse().ok()
}

fn open_sessions(metrics: SocketAddr) -> io::Result<u64> {
    let mut stream = TcpStream::connect_timeout(&metrics, Interrupt::TICK)?;
    stream.set_read_timeout(Some(Interrupt::TICK))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let open = page.lines().find_map(|line| line.strip_prefix("okloop_sessions_open ")?.parse().ok());
    open.ok_or(io::ErrorKind::InvalidData.into())
}
