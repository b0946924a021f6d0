//! One okloop process of the fleet, and the port that all of them share.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use okloop::Stats;
use socket2::{Domain, Socket, Type};

use crate::support::{ChildGuard, Failure, Interrupt, many, programs, read_lines};

/// How long a process may take to listen, to report its counters, or to end after its drain.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long sessions have to end. Twenty thousand take half a second; a busy machine must not cut them off.
const DRAIN_TIMEOUT: &str = "60";
/// A request for the counters is repeated after this time: under load the log drops lines rather than wait.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The uptime in a report is rounded to this.
const ROUNDING: Duration = Duration::from_millis(1);

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
    log: Receiver<Line>,
    /// When it said that it listens. It was bound before.
    listening: Instant,
    /// The sessions that were open at its last report.
    open: Option<u64>,
}

/// A line of the log, and when it was read.
type Line = (Instant, String);

impl Server {
    /// Starts a process; [`Server::wait_until_listening`] says when it listens.
    pub fn start(program: &Path, number: usize, address: SocketAddr) -> Result<Self, Failure> {
        let (output, stdout) = io::pipe().map_err(Failure::system("A pipe"))?;
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let mut command = Command::new(program);
        command
            .args(["--host", &host, "--port", &port, "--reuse-port", "--drain-timeout", DRAIN_TIMEOUT])
            .args(["--log-level", "info"])
            .stdout(stdout);
        let process = ChildGuard::spawn(&mut command);
        let process = process.map_err(Failure::system(format!("{} does not start", program.display())))?;
        let (sender, log) = channel();
        read_lines(output, move |line| {
            let is_of_a_session = |line: &String| line.contains("Connected with");
            line.is_some_and(|line| is_of_a_session(&line) || sender.send((Instant::now(), line)).is_ok())
        });
        Ok(Self { number, process, log, listening: Instant::now(), open: None })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until clients can connect.
    pub fn wait_until_listening(&mut self, interrupt: &Interrupt) -> Result<(), Failure> {
        let listening = |(read, line): Line| line.contains("Socket now listening on").then_some(read);
        self.listening = self.wait_for(listening, PATIENCE, interrupt)?.ok_or_else(|| self.silent())?;
        Ok(())
    }

    /// Asks the process for its counters.
    pub fn counters(&mut self, interrupt: &Interrupt) -> Result<Stats, Failure> {
        let asked = Instant::now();
        // An earlier request that was repeated has two answers, and the second one may come only now. A report from
        // before this request has a shorter uptime than the server has now.
        let uptime = asked - self.listening;
        let is_new = |counters: &Stats| counters.uptime + ROUNDING > uptime;
        while asked.elapsed() < PATIENCE {
            self.signal(Signal::SIGUSR1)?;
            let report = |(_, line): Line| report(&line).filter(is_new);
            if let Some(counters) = self.wait_for(report, ASK_AGAIN, interrupt)? {
                self.open = Some(counters.open);
                return Ok(counters);
            }
        }
        Err(self.silent())
    }

    /// Tells the process to drain and to end, and waits for its end, which must have status 0; returns its last counters.
    pub fn drain(self, interrupt: &Interrupt) -> Result<Stats, Failure> {
        self.signal(Signal::SIGTERM)?;
        let status = self.wait_for_end(interrupt)?;
        if !status.success() {
            return Err(self.died(status));
        }
        self.log.iter().filter_map(|(_, line)| report(&line)).last().ok_or_else(|| self.silent())
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
        look: impl Fn(Line) -> Option<T>,
        patience: Duration,
        interrupt: &Interrupt,
    ) -> Result<Option<T>, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            interrupt.check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left.min(Interrupt::TICK)) {
                Ok(line) => match look(line) {
                    None => {}
                    found => return Ok(found),
                },
                Err(RecvTimeoutError::Disconnected) => return Err(self.died(self.wait_for_end(interrupt)?)),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
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

/// The counters in a log line; `None` if the line is about something else.
fn report(line: &str) -> Option<Stats> {
    line.rsplit_once("] ")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::{env, fs, process};

    use super::*;

    /// A program that logs like a server. It answers the first request for its counters twice, and logs two reports when
    /// it is told to stop.
    fn slow_server(first: &str, second: &str, last: &str) -> Server {
        let path = env::temp_dir().join(format!("lab-slow-server-{}", process::id()));
        let script = format!(
            "#!/bin/sh
            trap 'echo \"{first}\"; echo \"{first}\"; trap \"echo \\\"{second}\\\"\" USR1' USR1
            trap 'echo \"{second}\"; echo \"{last}\"; exit 0' TERM
            echo Socket now listening on 127.0.0.1:1
            while :; do sleep 0.01; done"
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let mut server = Server::start(&path, 0, SocketAddr::from((Ipv4Addr::LOCALHOST, 1))).unwrap();
        server.wait_until_listening(&Interrupt::default()).unwrap();
        fs::remove_file(&path).unwrap();
        server
    }

    #[test]
    fn a_servers_report_is_read() {
        let mut stats = Stats::default();
        (stats.open, stats.accepted, stats.uptime) = (12, 345, Duration::from_millis(1500));
        let line = format!("2026-01-01T00:00:00.000Z INFO  [okloop::server] {stats}");
        assert_eq!(report(&line).map(|stats| (stats.open, stats.accepted)), Some((12, 345)));
        assert!(report("INFO  [okloop::server] Connected with 127.0.0.1:60730").is_none());
    }

    #[test]
    fn a_late_second_report_is_not_taken_for_a_new_one_or_for_the_last_one() {
        let report = |open, seconds| {
            let mut stats = Stats::default();
            (stats.open, stats.uptime) = (open, Duration::from_secs(seconds));
            format!("INFO  [okloop::server] {stats}")
        };
        let interrupt = Interrupt::default();
        let mut server = slow_server(&report(1, 600), &report(2, 3600), &report(3, 3600));
        assert_eq!(server.counters(&interrupt).unwrap().open, 1);
        // The server's uptime is then longer than the first report says.
        server.listening -= Duration::from_secs(1200);
        assert_eq!(server.counters(&interrupt).unwrap().open, 2);
        assert_eq!(server.drain(&interrupt).unwrap().open, 3);
    }
}
