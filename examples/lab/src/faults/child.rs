//! A server's process: started as a case wants it, and looked at through /proc.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, pipe};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use procfs::process::Process;

use super::case::{Setup, Stop, cannot_run, fails};
use crate::support::child::ChildGuard;

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(10);
/// How often the kernel is asked about it.
const ASK: Duration = Duration::from_millis(2);
/// How much of its last line a reader is shown (bytes).
const LINE: usize = 200;
/// How much of its last output is kept (bytes).
const LAST_WORDS: usize = 4096;

/// A running server. Dropping it kills its process group.
#[derive(Debug)]
pub struct Child {
    guard: ChildGuard,
    words: Vec<String>,
    port: u16,
    last_words: Arc<Mutex<VecDeque<u8>>>,
    /// The pipe that is the server's standard output, while it is not read.
    unread: Mutex<Option<PipeReader>>,
}

/// The process groups that run now, for [`end_all`].
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
static ENDING: AtomicBool = AtomicBool::new(false);

/// Until a new child runs its own program, it has copies of all sockets of this process. No port is probed meanwhile: the
/// copy would keep the port, and the server could not bind it.
static FORKING: Mutex<()> = Mutex::new(());

/// Kills every server that runs, and those that are about to start.
pub fn end_all() {
    ENDING.store(true, Ordering::SeqCst);
    for group in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // A group that has ended is what we want.
        let _ = killpg(*group, Signal::SIGKILL);
    }
}

impl Child {
    /// Starts a command, in which `{port}` stands for the port, and waits until it listens there.
    pub fn start(words: &[String], setup: Setup) -> Result<Self, Stop> {
        let port = free_port().map_err(|error| cannot_run(format!("no port is free: {error}")))?;
        let words: Vec<String> = words.iter().map(|word| word.replace("{port}", &port.to_string())).collect();
        let child = Self::spawn(&words, setup, port)
            .map_err(|error| cannot_run(format!("{} does not start: {error}", words[0])))?;
        child.wait_until_it_listens().map_err(|came| match setup {
            Setup::Plain => cannot_run(came),
            _ => fails("the server starts and listens", came),
        })?;
        if setup == Setup::StdoutClosed {
            child.unread.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        Ok(child)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The same command at the same port once more.
    pub fn start_again(&self) -> Result<Self, Stop> {
        let child = Self::spawn(&self.words, Setup::Plain, self.port)
            .map_err(|error| cannot_run(error.to_string()))?;
        child
            .wait_until_it_listens()
            .map_err(|came| fails("the server listens on the same port again", came))?;
        Ok(child)
    }

    fn spawn(words: &[String], setup: Setup, port: u16) -> io::Result<Self> {
        let (output, writer) = pipe()?;
        let mut command = command(words, setup);
        let (stdout, unread) = stdout(setup, &writer)?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(writer);
        let guard = {
            let _no_probe = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
            ChildGuard::spawn(&mut command)?
        };
        // The command keeps copies of the pipes' ends, and the output ends when the last of them is closed.
        drop(command);
        let child = Self {
            guard,
            words: words.to_vec(),
            port,
            last_words: keep_last_words(output),
            unread: Mutex::new(unread),
        };
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(child.pid());
        if ENDING.load(Ordering::SeqCst) {
            let _ = killpg(child.pid(), Signal::SIGKILL);
        }
        Ok(child)
    }

    fn wait_until_it_listens(&self) -> Result<(), String> {
        let deadline = Instant::now() + START;
        while !is_listening(self.port) {
            if let Some(end) = self.end() {
                return Err(end);
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "the server does not listen on port {} after {} s",
                    self.port,
                    START.as_secs()
                ));
            }
            thread::sleep(ASK);
        }
        Ok(())
    }

    /// How the process ended, if it did, and its last line of output.
    pub fn end(&self) -> Option<String> {
        let status = self.exit_status()?;
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let words: Vec<u8> = words.iter().copied().collect();
        let last = words.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).rfind(|line| !line.is_empty());
        let last =
            last.map(|line| format!(", last output: {}", super::case::shown(line, LINE))).unwrap_or_default();
        Some(format!("the server has ended ({status}){last}"))
    }

    /// How the process ended, if it did.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.guard.exit_status()
    }

    /// Waits for the end of the process.
    pub fn exit_within(&self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.exit_status() {
                None if Instant::now() < deadline => thread::sleep(ASK),
                status => return status,
            }
        }
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        // It can fail only for a process that has ended, which the case then sees.
        let _ = self.guard.signal(signal);
    }

    /// Runs `act` while the process is stopped: it finds everything that the clients did in one batch of events.
    pub fn while_stopped<T>(&self, act: impl FnOnce() -> T) -> T {
        self.signal(Signal::SIGSTOP);
        let deadline = Instant::now() + Duration::from_secs(2);
        while self.look(|process| Ok(process.stat()?.state)) != Ok('T') && Instant::now() < deadline {
            thread::sleep(Duration::from_micros(200));
        }
        let result = act();
        self.signal(Signal::SIGCONT);
        result
    }

    /// The memory that is really used (bytes).
    pub fn resident_memory(&self) -> Result<u64, Stop> {
        self.look(|process| Ok(process.status()?.vmrss.unwrap_or(0) * 1024)).map_err(cannot_run)
    }

    /// The address space that is reserved (bytes).
    pub fn address_space(&self) -> Result<u64, Stop> {
        self.look(|process| Ok(process.stat()?.vsize)).map_err(cannot_run)
    }

    /// How many files it has open.
    pub fn open_files(&self) -> Result<usize, Stop> {
        self.look(Process::fd_count).map_err(cannot_run)
    }

    /// The number that its next file would get. With this as the limit of open files, it can open none.
    pub fn next_file(&self) -> Result<u64, Stop> {
        let next = |process: &Process| {
            let open: BTreeSet<i32> = process.fd()?.filter_map(Result::ok).map(|file| file.fd).collect();
            Ok((0..i32::MAX).find(|number| !open.contains(number)).unwrap_or(0))
        };
        self.look(next).map(i32::unsigned_abs).map(u64::from).map_err(cannot_run)
    }

    /// How often its threads have gone to sleep: each time, something had woken them.
    pub fn sleeps(&self) -> Result<u64, Stop> {
        let sleeps = |process: &Process| {
            let tasks = process.tasks()?.filter_map(Result::ok).filter_map(|task| task.status().ok());
            Ok(tasks.filter_map(|status| status.voluntary_ctxt_switches).sum())
        };
        self.look(sleeps).map_err(cannot_run)
    }

    /// The processor time of all its threads, those included that have ended.
    pub fn processor_time(&self) -> Result<Duration, Stop> {
        let time = clock_getcpuclockid(self.pid()).and_then(clock_gettime);
        time.map(Duration::from).map_err(|error| cannot_run(format!("the process's clock: {error}")))
    }

    /// Limits a resource of the running process, for as long as the result says how it was before.
    pub fn limit(&self, resource: rlimit::Resource, limit: u64) -> Result<(u64, u64), Stop> {
        let mut before = (0, 0);
        let pid = self.pid().as_raw();
        rlimit::prlimit(pid, resource, None, Some((&mut before.0, &mut before.1)))
            .and_then(|()| rlimit::prlimit(pid, resource, Some((limit, before.1)), None))
            .map_err(|error| cannot_run(format!("prlimit: {error}")))?;
        Ok(before)
    }

    fn look<T>(&self, look: impl FnOnce(&Process) -> procfs::ProcResult<T>) -> Result<T, String> {
        Process::new(self.pid().as_raw())
            .and_then(|process| look(&process))
            .map_err(|error| format!("/proc: {error}"))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.guard.id()).expect("Linux numbers processes up to 2²² only"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The guard ends the group after this. While the group's number is in the list, it is no other group's.
        let group = self.pid();
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|&running| running != group);
    }
}

/// A port below those that the kernel gives to clients (`net.ipv4.ip_local_port_range`), and free on every interface.
fn free_port() -> io::Result<u16> {
    const PORTS: std::ops::Range<u16> = 10_000..32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two runs at the same time begin at different places, even if their numbers are neighbours.
    let first = u16::try_from(std::process::id().wrapping_mul(101) % 20_000).expect("below 20,000");
    let mut result = Err(io::ErrorKind::AddrInUse.into());
    let _no_child = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in PORTS {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(first);
        let port = PORTS.start + offset % (PORTS.end - PORTS.start);
        result = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map(|_| port);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Limits and closed descriptors must hold before the program's first line runs, so a shell sets them and becomes it.
fn command(words: &[String], setup: Setup) -> Command {
    let script = match setup {
        Setup::OpenFiles(limit) => format!("ulimit -n {limit}; exec \"$@\""),
        Setup::NoStandardStreams => "exec \"$@\" <&- >&- 2>&-".to_owned(),
        _ => {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            return command;
        }
    };
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).args(words);
    command
}

fn stdout(setup: Setup, output: &PipeWriter) -> io::Result<(Stdio, Option<PipeReader>)> {
    match setup {
        Setup::StdoutFull => Ok((OpenOptions::new().write(true).open("/dev/full")?.into(), None)),
        Setup::StdoutClosed | Setup::StdoutUnread => {
            let (reader, writer) = pipe()?;
            // A short pipe is full soon. If the kernel leaves it longer, the case says less.
            let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096));
            Ok((writer.into(), Some(reader)))
        }
        _ => Ok((output.try_clone()?.into(), None)),
    }
}

/// Reads the output to its end, so that the server never waits for us, and keeps only its last bytes.
fn keep_last_words(mut output: PipeReader) -> Arc<Mutex<VecDeque<u8>>> {
    let kept = Arc::new(Mutex::new(VecDeque::new()));
    let shared = Arc::clone(&kept);
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(count) = output.read(&mut chunk) {
            if count == 0 {
                return;
            }
            let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend(&chunk[..count]);
            let excess = kept.len().saturating_sub(LAST_WORDS);
            kept.drain(..excess);
        }
    });
    kept
}

/// Whether a socket listens on this port. The kernel's table is asked and not the server, because a connection would be
/// a client that a server may count.
fn is_listening(port: u16) -> bool {
    listening_sockets().any(|socket| socket.local == port)
}

fn listening_sockets() -> impl Iterator<Item = Socket> {
    ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().flat_map(|table| {
        // Listening sockets come first in the table (proc_pid_net(5)); thousands of others may follow.
        let sockets = File::open(table).map(BufReader::new).into_iter().flat_map(|file| file.lines().skip(1));
        let sockets = sockets.map_while(Result::ok);
        sockets.map_while(|line| Socket::parse(&line).filter(|socket| socket.state == LISTEN))
    })
}

/// How many clients are in the accept queue of a server on this machine.
pub fn waiting_clients(server: SocketAddr) -> usize {
    listening_sockets().filter(|socket| socket.local == server.port()).map(|socket| socket.input).sum()
}

/// Whether the kernel has a timer of its own for the server's end of a connection: keepalive, for an idle one. Nothing if
/// the server has closed that end.
pub fn has_timer(server: SocketAddr, client: SocketAddr) -> Option<bool> {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let text = std::fs::read_to_string(table).ok()?;
        let mut sockets = text.lines().skip(1).filter_map(Socket::parse);
        let ours = |socket: &Socket| {
            let is_open = socket.state == ESTABLISHED;
            is_open && socket.local == server.port() && socket.remote == client.port()
        };
        sockets.find(ours).map(|socket| socket.timer == KEEPALIVE)
    })
}

/// A line of /proc/net/tcp.
struct Socket {
    local: u16,
    remote: u16,
    state: u8,
    /// Bytes that have come; for a listening socket, clients in its queue.
    input: usize,
    timer: u8,
}

/// `TCP_ESTABLISHED` in the kernel's `include/net/tcp_states.h`.
const ESTABLISHED: u8 = 0x01;
/// `TCP_LISTEN`, in the same file.
const LISTEN: u8 = 0x0a;
/// "another timer (e.g. delayed ack or keepalive) is pending" in the kernel's `proc_net_tcp.rst`.
const KEEPALIVE: u8 = 2;

impl Socket {
    /// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when …`, all in hexadecimal digits.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let mut port = || u16::from_str_radix(fields.next()?.rsplit(':').next()?, 16).ok();
        let (local, remote) = (port()?, port()?);
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        let input = usize::from_str_radix(fields.next()?.split_once(':')?.1, 16).ok()?;
        let timer = u8::from_str_radix(fields.next()?.split(':').next()?, 16).ok()?;
        Some(Self { local, remote, state, input, timer })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use socket2::SockRef;

    use super::*;

    #[test]
    fn the_kernels_table_tells_what_listens_and_what_has_a_timer() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        assert!(is_listening(address.port()));
        let client = TcpStream::connect(address).expect("it listens");
        let client_address = client.local_addr().expect("it is connected");
        assert_eq!(waiting_clients(address), 1);
        let (server, _) = listener.accept().expect("a client has connected");
        assert_eq!(has_timer(address, client_address), Some(false));
        assert_eq!(waiting_clients(address), 0);
        SockRef::from(&server).set_keepalive(true).expect("it is a TCP socket");
        assert_eq!(has_timer(address, client_address), Some(true));
        drop(listener);
        assert!(!is_listening(address.port()), "a connection is no listener");
    }
}
