//! The one way to start a server: on a port of its own, in a process group of its own, with its output in a file. So no
//! server inherits another's memory, and one that dies takes nothing with it. Knows nothing of loads.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, pipe};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{self as unix, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use rlimit::Resource;

use crate::support::{ChildGuard, Failure, Interrupt, Log, Origin, is_listening};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(10);
/// How long a process may still be seen as alive after the end of its sessions.
const GRACE: Duration = Duration::from_millis(300);
/// How often the kernel is asked. Nothing tells when a foreign process begins to listen.
const GLANCE: Duration = Duration::from_millis(2);

/// As many open files as Docker and Kubernetes often allow.
pub const BILLION: u64 = 1_073_741_816;

/// How a server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Its output goes to the log.
    Plain,
    /// It may have this many open files.
    OpenFiles(u64),
    /// It may have [`BILLION`] open files, or strace tells it so.
    BillionFiles,
    /// Its standard output is a pipe whose reader leaves when the server listens.
    StdoutClosed,
    /// Its standard output is a disk without room.
    StdoutFull,
    /// Its standard output is a pipe that nothing reads.
    StdoutUnread,
    /// Descriptors 0 to 2 are closed.
    NoStandardStreams,
}

/// A server that listens. Dropping it ends its process group, if it was started here.
/// [`Descendants`](crate::support::child::Descendants) end the processes that have left the group.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process, if it was started here.
    pub process: Option<Process>,
}

/// The process of a server.
#[derive(Debug)]
pub struct Process {
    /// Its signals, its end, and its number.
    pub guard: ChildGuard,
    /// How long it took until it listened.
    pub started_in: Duration,
    words: Vec<String>,
    log: Log,
    /// The pipe that is the server's standard output, and is not read.
    unread: Option<PipeReader>,
}

/// Until a new child runs its own program, it has copies of all sockets of this process. No port is probed meanwhile: the
/// copy would keep the port, and the server could not bind it.
static FORKING: Mutex<()> = Mutex::new(());

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(words) => write!(f, "{}", as_typed(words)),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl Server {
    /// Starts it, with its output in the file `log`, and waits until it listens.
    pub fn start(origin: &Origin, setup: Setup, log: &Path, interrupt: &Interrupt) -> Result<Self, Failure> {
        match origin {
            Origin::Address(address) => Ok(Self { address: *address, process: None }),
            Origin::Command(words) => {
                let port = FreePort::find().map_err(Failure::system("A free port"))?;
                let words =
                    words.iter().map(|word| word.replace("{port}", &port.number.to_string())).collect();
                // Once it listens, the port needs no claim.
                Self::start_at(port.number, words, setup, log, interrupt)
            }
        }
    }

    /// The same command at the same port once more.
    pub fn start_again(&self, process: &Process, interrupt: &Interrupt) -> Result<Self, Failure> {
        let log = process.log.path.with_extension("again.log");
        Self::start_at(self.address.port(), process.words.clone(), Setup::Plain, &log, interrupt)
    }

    fn start_at(
        port: u16,
        words: Vec<String>,
        setup: Setup,
        log: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let (log, output) = Log::create(log.to_owned())?;
        let (mut command, unread) = command(&words, setup, output).map_err(Failure::system("A pipe"))?;
        let start = Instant::now();
        let guard = {
            let _no_probe = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
            ChildGuard::spawn(&mut command)
        };
        let program = command.get_program().to_string_lossy();
        let guard = guard.map_err(|error| Failure::Unusable(format!("did not start: {program}: {error}")))?;
        let mut process = Process { guard, started_in: Duration::ZERO, words, log, unread };
        process.wait_until_it_listens(port, interrupt)?;
        process.started_in = start.elapsed();
        process.unread = process.unread.filter(|_| setup == Setup::StdoutUnread);
        Ok(Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), process: Some(process) })
    }

    /// The reason behind a failure that a client saw. A server that has died is silent, refuses and loses sessions, but
    /// the reader wants to know that it died.
    pub fn explain(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Lost(_) | Failure::Refused(_) | Failure::Silent(_) | Failure::Unusable(_) => {
                self.death_within(GRACE).map_or(failure, Failure::Died)
            }
            failure => failure,
        }
    }

    /// How its process ended, and its last words, if it ends so soon.
    pub fn death_within(&self, limit: Duration) -> Option<String> {
        let process = self.process.as_ref()?;
        process.guard.exit_within(limit)?;
        process.death()
    }
}

impl Process {
    fn wait_until_it_listens(&self, port: u16, interrupt: &Interrupt) -> Result<(), Failure> {
        let deadline = Instant::now() + START;
        while !is_listening(port) {
            interrupt.check()?;
            if let Some(death) = self.death() {
                return Err(Failure::Unusable(death));
            }
            if Instant::now() > deadline {
                return Err(Failure::Unusable("never listened on its port".to_owned()));
            }
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    fn death(&self) -> Option<String> {
        let status = self.guard.exit_status()?;
        // A server that goes to the background ends with status 0 too.
        let advice = if status.success() { " (does it go to the background?)" } else { "" };
        let last_words = self.log.last_words().map(|words| format!(", last output: {words}"));
        Some(format!("the server has ended ({status}{advice}){}", last_words.unwrap_or_default()))
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

/// A port that is free on every interface: below those that the kernel gives to clients (`net.ipv4.ip_local_port_range`),
/// and above those that a load takes for its own clients. A server without `SO_REUSEADDR` must not find its port in
/// `TIME_WAIT`.
pub struct FreePort {
    pub number: u16,
    /// As long as this socket is open, no other laboratory on this machine takes the port.
    _claim: UnixListener,
}

impl FreePort {
    pub fn find() -> io::Result<Self> {
        const FIRST: u16 = 30_000;
        const COUNT: u16 = 2_000;
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Two runs at the same time begin at different places, even if their numbers are neighbours.
        let first = u16::try_from(std::process::id().wrapping_mul(101) % 2_000).expect("below 2,000");
        let mut result = Err(io::ErrorKind::AddrInUse.into());
        let _no_child = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..COUNT {
            result = Self::claim(FIRST + NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(first) % COUNT);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn claim(number: u16) -> io::Result<Self> {
        let name = unix::SocketAddr::from_abstract_name(format!("okloop laboratory, port {number}"))?;
        let claim = UnixListener::bind_addr(&name)?;
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, number))?;
        Ok(Self { number, _claim: claim })
    }
}

/// The command with its streams, and the end of a pipe that stays here. Limits and closed descriptors must hold before the
/// program's first line runs, so a shell sets them and becomes the program.
fn command(words: &[String], setup: Setup, log: File) -> io::Result<(Command, Option<PipeReader>)> {
    let in_shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).args(words);
        command
    };
    let mut command = match setup {
        Setup::OpenFiles(limit) => in_shell(&format!("ulimit -n {limit}; exec \"$@\"")),
        Setup::BillionFiles if allows_a_billion() => in_shell(&format!("ulimit -n {BILLION}; exec \"$@\"")),
        Setup::BillionFiles => told_a_billion(words),
        Setup::NoStandardStreams => in_shell("exec \"$@\" <&- >&- 2>&-"),
        _ => {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            command
        }
    };
    let mut unread = None;
    let stdout = match setup {
        Setup::StdoutFull => OpenOptions::new().write(true).open("/dev/full")?.into(),
        Setup::StdoutClosed | Setup::StdoutUnread => {
            let (reader, writer) = pipe()?;
            // A short pipe is full soon. If the kernel leaves it longer, the case says less.
            let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096));
            unread = Some(reader);
            Stdio::from(writer)
        }
        _ => log.try_clone()?.into(),
    };
    command.stdin(Stdio::null()).stdout(stdout).stderr(log);
    Ok((command, unread))
}

/// Whether a process that is started here may have [`BILLION`] open files.
pub fn allows_a_billion() -> bool {
    Resource::NOFILE.get_hard().is_ok_and(|limit| limit >= BILLION)
}

/// The command under strace, which answers each question for a limit with [`BILLION`], and lets each change of a limit
/// succeed. The kernel is not asked: it seldom allows so many (`fs.nr_open`, proc(5)).
fn told_a_billion(words: &[String]) -> Command {
    // The soft and the hard limit, in the machine's order of bytes.
    let limits = format!("{:016x}", BILLION.to_be()).repeat(2);
    let inject = format!("inject=prlimit64:retval=0:poke_exit=@arg4={limits}");
    let mut command = Command::new("strace");
    // The server keeps the process that is started here (--daemonize), and only this system call stops it.
    command.args(["--daemonize", "--follow-forks", "--seccomp-bpf", "-qq", "--output=/dev/null"]);
    command.args(["--trace=prlimit64", "-e", &inject, "--"]).args(words);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_claimed_until_its_server_listens() {
        let free = FreePort::find().expect("a port is free");
        let number = free.number;
        assert!(FreePort::claim(number).is_err());
        drop(free);
        let free = FreePort::claim(number).expect("the claim is over");
        drop(free);
        let _server = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).expect("the port is free");
        assert!(FreePort::claim(number).is_err());
    }
}
