//! The terminal is a peer too: it may be gone, full, stalled, and it is shown what strangers send.

use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGTERM, SIGUSR1};
use socket2::{Domain, Socket, Type};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::harness::{Client, Process, binary, crowd, eventually, full_device};
use crate::vitals::Vitals;

/// `okloop | head`: the reader leaves after a few lines, and every later one finds a broken pipe.
#[test]
fn a_server_whose_log_is_piped_to_a_reader_that_leaves_serves_on() {
    let (server, port, stdout) = piped("trace");
    drop(stdout);
    for _ in 0..100 {
        Client::greeted(port).ask(b"hello");
    }
    server.signal(SIGUSR1);
    server.stop();
}

#[test]
fn a_server_whose_log_has_reached_the_limit_of_a_files_size_serves_on() {
    let port = HeldPort::new();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("limited.log");
    let log = File::create(&path).expect("a file can be made");
    let script = "ulimit -f 1; exec \"$0\" \"$@\"";
    let server = port.serve(Command::new("sh").args(["-c", script]).arg(binary("okloop")).stdout(log));
    let mut client = port.client();
    for _ in 0..100 {
        client.ask(b"hello");
    }
    server.stop();
    assert!(fs::metadata(path).expect("it is there").len() <= 1024, "a block is 512 or 1024 bytes");
}

/// Thousands of sessions, each with a dozen lines, and nobody reads them.
#[test]
fn a_log_that_nobody_reads_keeps_nobody_waiting() {
    let (server, port, stdout) = piped("trace");
    let mut typist = Client::greeted(port);
    let mut crowd = crowd(2_000, port);
    let start = Instant::now();
    for client in &mut crowd {
        client.ask(b"hello");
        typist.ask(b"still there?");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "4,000 answers took {:?}", start.elapsed());

    // Somebody reads again.
    let server = server.reading(stdout);
    let dropped = server.line_with("log lines were dropped");
    assert!(dropped.contains("WARN"), "{dropped}");
    drop(crowd);
    server.stop();
}

#[test]
fn every_line_is_either_logged_or_counted_as_dropped() {
    const CLIENTS: usize = 3_000;
    let (server, port, stdout) = piped("info");
    let _crowd = crowd(CLIENTS, port);
    let server = server.reading(stdout);
    eventually("the lines add up", || {
        let (logged, dropped) = logged_and_dropped(&server);
        assert!(logged + dropped <= CLIENTS, "{logged} lines and {dropped} dropped ones");
        logged < CLIENTS && logged + dropped == CLIENTS
    });
    server.stop();
}

/// Standard output keeps a line that it could not write, and writes it later.
#[test]
#[ignore = "takes some 3 s; .ci/run runs it"]
fn a_line_that_is_printed_late_is_not_counted_as_dropped() {
    let (mut ours, theirs) = UnixStream::pair().expect("two descriptors are left");
    theirs.set_nonblocking(true).expect("a socket has this mode");
    let mut command = Command::new(binary("okloop"));
    command.args(["--host", "127.0.0.1", "--port", "0", "--drain-timeout", "0"]).env_remove("RUST_LOG");
    command.stdout(OwnedFd::from(theirs)).stderr(Stdio::piped());
    let server = Process::from(command.spawn().expect("the server starts"));
    // It holds the server's end of the log.
    drop(command);
    let port = port_in(&mut ours);
    // The writer pauses between these crowds, and finds the socket full each time.
    let mut clients: Vec<Client> = (0..200).flat_map(|_| crowd(15, port)).collect();

    let server = server.reading(ours);
    eventually("the lines add up", || {
        clients.push(Client::greeted(port));
        let (logged, dropped) = logged_and_dropped(&server);
        assert!(logged + dropped <= clients.len(), "{logged} lines and {dropped} dropped ones");
        dropped > 0 && logged + dropped == clients.len()
    });
    server.stop();
}

#[test]
fn the_time_in_a_line_is_when_it_was_logged() {
    // More lines than the pipe holds: the writer prints the last ones when the test reads.
    const CLIENTS: usize = 1_500;
    let (server, port, stdout) = piped("info");
    let _crowd = crowd(CLIENTS, port);
    thread::sleep(Duration::from_millis(50));
    let now = OffsetDateTime::now_utc().format(&Rfc3339).expect("the year has four digits");
    let server = server.reading(stdout);
    eventually("all are logged", || logged_and_dropped(&server).0 == CLIENTS);
    for line in String::from_utf8_lossy(&server.stdout()).lines() {
        assert!(line < now.as_str(), "{line} was not logged before {now}");
    }
    server.stop();
}

#[test]
fn a_log_whose_thread_cannot_start_says_so_on_standard_error_and_the_server_serves() {
    let port = HeldPort::new();
    let mut command = Command::new(binary("okloop"));
    // No machine has the memory for a stack of 10¹⁵ bytes.
    let command = command.env("RUST_MIN_STACK", "1000000000000000");
    let server = port.serve(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    port.client().ask(b"hello");
    server.signal(SIGTERM);
    let finished = server.finish();
    assert_eq!((finished.status, &finished.stdout[..]), (Some(0), &b""[..]));
    assert!(finished.stderr.starts_with("No log yet: its thread cannot start: "), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
}

/// To wake a thread costs a system call, and the loop would make it.
#[test]
fn lines_that_follow_each_other_do_not_wake_the_logs_thread_each_time() {
    const VISITS: u64 = 2_000;
    let server = Process::okloop(&[]);
    let port = server.port();
    let vitals = Vitals::of(&server);
    let (start, before) = (Instant::now(), vitals.sleeps_of("log writer"));
    for _ in 0..VISITS {
        Client::greeted(port);
    }
    let sleeps = vitals.sleeps_of("log writer") - before;
    // A pause is one sleep of 10 ms, and if no line came meanwhile, the wait for the next line is another one.
    let pauses = u64::try_from(start.elapsed().as_millis()).expect("a test takes less than an age") / 10;
    assert!(sleeps < 20 + 3 * pauses, "{sleeps} sleeps in {pauses} pauses");
    server.stop();
}

/// Here printing fails for a while, rather than waits.
#[test]
fn a_log_whose_lines_could_not_be_printed_goes_on_when_they_can() {
    let port = HeldPort::new();
    let (ours, theirs) = UnixStream::pair().expect("two descriptors are left");
    theirs.set_nonblocking(true).expect("a socket has this mode");
    let stdout = Stdio::from(OwnedFd::from(theirs));
    let server = port.serve(Command::new(binary("okloop")).stdout(stdout).stderr(Stdio::piped()));
    let mut client = port.client();
    drop(crowd(500, port.number()));

    let server = server.reading(ours);
    client.ask(b"hello");
    server.line_with("log lines were dropped");
    eventually("all is logged again", || {
        client.ask(b"hello again");
        String::from_utf8_lossy(&server.stdout()).contains("read 11 bytes")
    });
    server.stop();
}

#[test]
#[ignore = "takes some 3 s; .ci/run runs it"]
fn a_server_whose_log_nobody_reads_ends_all_the_same() {
    let (server, port, _stdout) = piped("trace");
    drop(crowd(1_000, port));
    let start = Instant::now();
    server.stop();
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

/// The queue is full when the last line comes, and somebody reads again within the time that the log has to be flushed.
#[test]
fn the_counters_at_the_end_are_not_among_the_dropped_lines() {
    let (server, port, stdout) = piped("info");
    let _silent = crowd(3_000, port);
    server.signal(SIGTERM);
    let vitals = Vitals::of(&server);
    eventually("all are cut off", || vitals.open_files() < 100);
    let finished = server.reading(stdout).finish();
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    let log = String::from_utf8(finished.stdout).expect("the log is text");
    let last = log.lines().last().expect("there is a log");
    assert!(last.contains("open=0 peak=3000 "), "{last}");
}

#[test]
fn no_client_can_write_a_line_in_the_log() {
    let forged =
        b"x\n2026-01-01T00:00:00.000Z INFO  [okloop::server] Connected with 6.6.6.6:6\r\n\x1b[2J\xff\xf4";
    for framing in ["chunks", "lines"] {
        let server = Process::okloop(&["--log-level", "trace", "--framing", framing]);
        let mut client = Client::greeted(server.port());
        client.send(forged);
        server.line_with(&format!("read {} bytes", forged.len()));
        // A half line, and one that is cut off by a reset.
        client.send(forged);
        client.reset();
        server.line_with("closed: reset");
        let log = String::from_utf8(server.stop().stdout).expect("the log is text");
        assert!(!log.contains("6.6.6.6"));
        assert!(log.lines().all(|line| !line.contains(char::is_control)));
    }
}

#[test]
fn a_failed_start_has_its_exit_status_though_nobody_can_be_told_why() {
    let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = busy.local_addr().expect("a bound socket has an address").port().to_string();
    for (arguments, status) in [(["--port", &port], 1), (["--port", "telnet"], 2)] {
        let mut command = Command::new(binary("okloop"));
        let command = command.args(["--host", "127.0.0.1"]).args(arguments);
        let status_of = command.stdout(full_device()).stderr(full_device()).status();
        assert_eq!(status_of.expect("the server starts").code(), Some(status));
    }
}

/// A server whose standard output is a pipe in the test's hand, read up to the line that tells the port.
fn piped(level: &str) -> (Process, u16, impl Read + Send + use<>) {
    let arguments = ["--host", "127.0.0.1", "--port", "0", "--drain-timeout", "0", "--log-level", level];
    let mut command = Command::new(binary("okloop"));
    let command = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the server starts");
    let mut stdout = child.stdout.take().expect("it is piped");
    let server = Process::from(child);
    let port = port_in(&mut stdout);
    (server, port, stdout)
}

/// Reads up to the line that tells the port.
fn port_in(stdout: &mut impl Read) -> u16 {
    loop {
        let line = line_of(stdout);
        if let Some((_, address)) = line.split_once("Socket now listening on ") {
            return address.trim_end().parse::<SocketAddr>().expect("an address comes last").port();
        }
    }
}

/// The next line, and not a byte more: what the pipe holds, it holds.
fn line_of(stdout: &mut impl Read) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        stdout.read_exact(&mut byte).expect("the server logs on");
        line.extend(byte);
    }
    String::from_utf8(line).expect("the log is text")
}

/// How many sessions the log tells of, and how many lines it says that it has dropped.
fn logged_and_dropped(server: &Process) -> (usize, usize) {
    let log = server.stdout();
    let lines: Vec<&str> = log.split(|&byte| byte == b'\n').flat_map(str::from_utf8).collect();
    let logged = lines.iter().filter(|line| line.contains("Connected with")).count();
    (logged, lines.into_iter().filter_map(dropped_lines).sum())
}

/// How many lines the log says here that it has dropped.
fn dropped_lines(line: &str) -> Option<usize> {
    let (head, _) = line.split_once(" log lines were dropped")?;
    head.rsplit(' ').next()?.parse().ok()
}

/// A port for a server that can tell nobody which one it was given. Holding it, bound but not listening, keeps it from
/// everybody who does not share ports.
struct HeldPort(Socket);

impl HeldPort {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is left");
        socket.set_reuse_port(true).expect("Linux has this option");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port is free");
        Self(socket)
    }

    fn number(&self) -> u16 {
        let address = self.0.local_addr().expect("a bound socket has an address");
        address.as_socket().expect("it is an IP address").port()
    }

    /// Starts the server by this command at the port.
    fn serve(&self, command: &mut Command) -> Process {
        let port = self.number().to_string();
        let arguments = [
            "--host",
            "127.0.0.1",
            "--port",
            &port,
            "--reuse-port",
            "--drain-timeout",
            "0",
            "--log-level",
            "trace",
        ];
        command.args(arguments).spawn().expect("the server starts").into()
    }

    /// A client of the server, as soon as that listens.
    fn client(&self) -> Client {
        let knock = || TcpStream::connect((Ipv4Addr::LOCALHOST, self.number())).is_ok();
        eventually("the server listens", knock);
        Client::greeted(self.number())
    }
}
