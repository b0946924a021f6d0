//! One okloop process of the fleet.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{self, ChildGuard, Failure, Interrupt, Origin, Setup, many, programs};

/// How long a process may take to tell its counters, or to end after its drain.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running okloop process. Dropping it ends the process.
#[derive(Debug)]
pub struct Server {
    /// Its place in the fleet.
    pub number: usize,
    /// Its address is the one where it serves its counters. It listens there after it listens for clients.
    started: support::Server,
    /// The sessions that were open when it was asked last.
    open: Option<u64>,
}

impl Server {
    /// Starts a process for at most so many sessions, and waits until clients can connect to `port`.
    pub fn start(number: usize, port: u16, sessions: usize, interrupt: &Interrupt) -> Result<Self, Failure> {
        let here = programs::directory()?;
        // Sessions have a minute to end. Twenty thousand take half a second; a busy machine must not cut them off.
        let arguments = format!(
            "--host 127.0.0.1 --port {port} --reuse-port --max-connections {sessions} --drain-timeout 60 \
             --log-level warn --metrics 127.0.0.1:{{port}}"
        );
        let program = here.join("okloop").display().to_string();
        let words = [program].into_iter().chain(arguments.split(' ').map(str::to_owned)).collect();
        let log = here.join(format!("fleet/{port}/okloop-{number}.log"));
        let started = support::Server::start(&Origin::Command(words), Setup::Plain, &log, interrupt)?;
        Ok(Self { number, started, open: None })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process().id()
    }

    fn process(&self) -> &ChildGuard {
        &self.started.process.as_ref().expect("it was started here").guard
    }

    /// Asks the process how many sessions are open.
    pub fn open_sessions(&mut self, interrupt: &Interrupt) -> Result<u64, Failure> {
        let ask = |_| self.count().ok().map(Ok).or_else(|| self.death().map(Err));
        let open = interrupt.until(PATIENCE, ask)?.ok_or_else(|| self.silent())??;
        self.open = Some(open);
        Ok(open)
    }

    fn count(&self) -> io::Result<u64> {
        let mut stream = TcpStream::connect_timeout(&self.started.address, Interrupt::TICK)?;
        stream.set_read_timeout(Some(Interrupt::TICK))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let open = page.lines().find_map(|line| line.strip_prefix("okloop_sessions_open ")?.parse().ok());
        open.ok_or(io::ErrorKind::InvalidData.into())
    }

    /// Tells the process to drain and to end, and waits for its end. Status 0 says that every session ended in order.
    pub fn drain(self, interrupt: &Interrupt) -> Result<(), Failure> {
        let signal = self.process().signal(Signal::SIGTERM);
        signal.map_err(Failure::system(format!("SIGTERM to okloop {}", self.number)))?;
        let status = interrupt.wait_for_end(self.process(), PATIENCE)?.ok_or_else(|| self.silent())?;
        if status.success() { Ok(()) } else { Err(self.death().unwrap_or_else(|| self.silent())) }
    }

    /// How the process ended, if it has.
    pub fn death(&self) -> Option<Failure> {
        let how = self.started.death_within(Duration::ZERO)?;
        let (number, id) = (self.number, self.id());
        let sessions = self.open.map_or_else(String::new, |open| format!(", with {}", many(open, "session")));
        Some(Failure::Died(format!("okloop {number} (process {id}){sessions}: {how}")))
    }

    fn silent(&self) -> Failure {
        Failure::Silent(format!("okloop {} did not answer within {PATIENCE:?}", self.number))
    }
}
