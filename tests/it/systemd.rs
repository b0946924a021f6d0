//! The committed systemd unit, judged by systemd's own tools: no system has to run under systemd for that.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};
use std::{fs, iter, mem, thread};

use nix::sys::signal::Signal;
use okloop::Step;
use okloop::config::{HIGH_WATER, INPUT_BUFFER};
use okloop::protocols::{BANNER, PREFIX};

use crate::harness::{
    Client, DEADLINE, Embedded, Process, binary, bind, eventually, loopback, lossy, session_of,
};
use crate::metrics::metrics_port;
use crate::vitals::Vitals;

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/deploy/okloop@.service");
const SOCKET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/deploy/okloop.socket");
const SYSCTLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/deploy/sysctl.conf");

#[test]
#[ignore = "needs systemd-analyze; .ci/run runs it where it is"]
fn the_unit_is_understood_whole() {
    let unit = unit_of("verify");
    let socket = unit.with_file_name("okloop.socket");
    fs::copy(SOCKET, &socket).expect("the socket's unit is committed");
    let Some(output) = analyze(&["verify".as_ref(), &unit, &socket]) else { return };
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", output.status);
}

#[test]
#[ignore = "needs systemd-analyze; .ci/run runs it where it is"]
fn the_unit_leaves_little_exposed() {
    // On systemd's scale from 0 (nothing) to 100; a unit without any hardening has 96.
    let arguments = ["security", "--offline=true", "--threshold=15", "--no-pager"].map(Path::new);
    let unit = unit_of("security");
    let Some(output) = analyze(&[&arguments[..], &[&unit]].concat()) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A session at its worst fills its buffers in the process and in the kernel, and systemd counts both.
#[test]
fn the_units_limits_have_room_for_every_session_at_its_worst() {
    /// A socket without bytes, its file and its entry in epoll.
    const IDLE: usize = 4200;
    /// The standard streams, the files of the server and its metrics, and clients that are being refused.
    const OTHER_FILES: u64 = 64;
    let unit = fs::read_to_string(UNIT).expect("the unit is committed");
    let of_unit = |key| value(&unit, key);
    let sessions: usize = option(&unit, "--max-connections").parse().expect("it is a number");
    let files: u64 = of_unit("LimitNOFILE=").parse().expect("it is a number");
    let gibibytes: usize =
        of_unit("MemoryMax=").strip_suffix('G').expect("in GiB").parse().expect("it is a number");

    let sysctls = fs::read_to_string(SYSCTLS).expect("the sysctls are committed");
    let most = |key| -> usize {
        let three_numbers = value(&sysctls, key);
        three_numbers.split(' ').next_back().expect("there are three").parse().expect("it is a number")
    };
    let in_kernel = IDLE + most("net.ipv4.tcp_rmem = ") + most("net.ipv4.tcp_wmem = ");
    let at_worst = INPUT_BUFFER + HIGH_WATER + PREFIX.len() + INPUT_BUFFER + in_kernel;
    assert!(sessions as u64 + OTHER_FILES <= files, "{sessions} sessions, {files} open files");
    assert!(
        sessions * at_worst <= gibibytes << 30,
        "{sessions} sessions of {at_worst} bytes, {gibibytes} GiB"
    );
}

/// Otherwise it kills, and the counters are lost.
#[test]
fn systemd_waits_longer_than_the_server_drains() {
    let unit = fs::read_to_string(UNIT).expect("the unit is committed");
    let seconds = |text: &str| text.parse::<f64>().expect("it is a number of seconds");
    let (drain, patience) = (option(&unit, "--drain-timeout"), value(&unit, "TimeoutStopSec="));
    assert!(seconds(drain) + 1.0 <= seconds(patience), "{drain} s to drain, {patience} s to wait");
}

#[test]
#[ignore = "needs systemd-analyze and strace; .ci/run installs and runs it"]
fn every_system_call_of_the_server_is_one_that_the_unit_allows() {
    if analyze(&["--version".as_ref()]).is_none() {
        return;
    }
    let unit = fs::read_to_string(UNIT).expect("the unit is committed");
    let mut allowed = BTreeSet::new();
    for filter in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let names = members(filter.trim_start_matches('~'));
        if filter.starts_with('~') {
            allowed = &allowed - &names;
        } else {
            allowed.extend(names);
        }
    }
    let refused: Vec<String> = system_calls().into_iter().filter(|name| !allowed.contains(name)).collect();
    assert_eq!(refused, Vec::<String>::new());
}

/// The real program that passes sockets, and starts the server when a client connects.
#[test]
#[ignore = "needs systemd-socket-activate; .ci/run installs and runs it"]
fn a_passed_socket_is_served_whatever_its_kind() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let address = free.expect("a port is free").to_string();
    let path = directory("activate").join("socket");
    // Of an earlier run.
    let _ = fs::remove_file(&path);
    let path = path.to_str().expect("the path is valid UTF-8");
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--listen", &address, "--listen", path]).arg(binary("okloop"));
    let server = Process::spawn(&mut command);
    server.complaint_with(path);

    // The first client is in the queue of the socket before the server starts.
    let mut client = Client::from(TcpStream::connect(&address).expect("systemd listens"));
    client.expect(BANNER);
    server.line_with(&format!("Socket now listening on {address}"));
    server.line_with(&format!("Connected with {}", client.address()));
    let mut local = UnixStream::connect(path).expect("the server listens");
    let mut banner = [0; BANNER.len()];
    local.read_exact(&mut banner).expect("it greets");
    assert_eq!(banner, BANNER);
    server.line_with("Connected with unix socket");
    client.ask(b"hello");
    server.signal(Signal::SIGTERM);
    assert_eq!(client.read_to_end(), b"");
    drop((client, local));
    assert_eq!(server.finish().status, Some(0));
    assert!(Path::new(path).exists(), "the socket's file is the supervisor's");
}

#[test]
fn beside_a_passed_socket_an_address_is_an_error_that_says_so() {
    for arguments in [&["--port", "8888"][..], &["--host", "127.0.0.1"]] {
        let (_, listener) = listening();
        let finished = activated(&listener, arguments, &[]).finish();
        assert_eq!((finished.status, &finished.stdout[..]), (Some(2), &b""[..]));
        let complaint = format!("{}: the server listens on the socket that it was passed", arguments[0]);
        assert!(finished.stderr.contains(&complaint), "{}", finished.stderr);
    }
}

#[test]
fn a_passed_file_that_is_no_socket_is_a_start_error() {
    let mut command = passing_standard_input(&[], &[]);
    let file = fs::File::open("/dev/null").expect("Linux has this device");
    let process = Process::from(command.stdin(file).spawn().expect("sh runs"));
    let finished = process.finish();
    assert_eq!(finished.status, Some(1));
    assert!(finished.stderr.starts_with("No passed socket to listen on: "), "{}", finished.stderr);
}

/// The supervisor's socket stays open while one process drains and the next one starts.
#[test]
fn a_restart_refuses_no_client_and_resets_none_before_its_greeting() {
    const THREADS: usize = 4;
    const EACH: usize = 250;
    let (port, listener) = listening();
    let first = activated(&listener, &["--log-level", "warn"], &[]);
    let greeted = Arc::new(AtomicUsize::new(0));
    let streams: Vec<_> = (0..THREADS)
        .map(|_| {
            let greeted = Arc::clone(&greeted);
            thread::spawn(move || {
                for _ in 0..EACH {
                    let mut client = Client::greeted(port);
                    greeted.fetch_add(1, Relaxed);
                    client.half_close();
                    client.read_to_end();
                }
            })
        })
        .collect();

    // Each process gets its part of the stream, and it is restarted twice.
    let mut running = first;
    let mut accepted = Vec::new();
    for part in 1..3 {
        eventually("a part of the clients has come", || greeted.load(Relaxed) >= part * THREADS * EACH / 4);
        running.signal(Signal::SIGTERM);
        let finished = running.finish();
        assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
        accepted.push(greeted.load(Relaxed));
        running = activated(&listener, &["--log-level", "warn"], &[]);
    }
    for stream in streams {
        stream.join().expect("each client is greeted");
    }
    assert_eq!(greeted.load(Relaxed), THREADS * EACH);
    assert!(accepted[0] < accepted[1] && accepted[1] < THREADS * EACH, "{accepted:?}");
    running.stop();
}

#[test]
fn the_supervisor_hears_when_the_server_serves_and_when_it_drains() {
    let supervisor = Supervisor::listen("notify");
    let server = supervisor.start(&[]);
    assert_eq!(supervisor.hear(), "READY=1\nSTATUS=Serving");
    let client = Client::greeted(server.port());
    server.signal(Signal::SIGTERM);
    assert_eq!(supervisor.hear(), "STOPPING=1\nSTATUS=Draining: 1 sessions are open");
    drop(client);
    assert_eq!(server.finish().status, Some(0));
    supervisor.expect_silence();
}

#[test]
fn a_supervisor_that_asks_for_it_hears_that_the_loop_turns_until_the_end() {
    let supervisor = Supervisor::listen("watchdog");
    let server = supervisor.start(&[("WATCHDOG_USEC", "200000")]);
    assert_eq!(supervisor.hear(), "READY=1\nSTATUS=Serving");
    let began = Instant::now();
    (0..5).for_each(|_| assert_eq!(supervisor.hear(), "WATCHDOG=1"));
    assert!(began.elapsed() >= Duration::from_millis(400), "each half of the time");

    // It still turns while it drains: the client does not end.
    let client = Client::greeted(server.port());
    server.signal(Signal::SIGTERM);
    assert!(supervisor.hear_other_news().starts_with("STOPPING=1\n"));
    (0..3).for_each(|_| assert_eq!(supervisor.hear(), "WATCHDOG=1"));
    drop(client);
    assert_eq!(server.finish().status, Some(0));
}

/// The queue of its socket is full after some ten datagrams. The loop must not wait for room.
#[test]
fn a_supervisor_that_does_not_read_does_not_hold_the_loop() {
    let supervisor = Supervisor::listen("deaf");
    let server = supervisor.start(&[("WATCHDOG_USEC", "2000")]);
    server.line_with("The supervisor cannot be told: ");
    Client::greeted(server.port()).ask(b"hello");
}

/// What a watchdog is for: the loop's thread is busy, and the supervisor hears nothing.
#[test]
fn a_session_that_blocks_the_loop_silences_the_watchdog() {
    let blocked = Arc::new(AtomicBool::new(false));
    let (in_session, in_tick) = (Arc::clone(&blocked), Arc::clone(&blocked));
    let ticks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ticks);
    let server = Embedded::run_by(bind(loopback()), move |server| {
        let new_session = |_: okloop::Client<'_>| {
            let blocked = Arc::clone(&in_session);
            session_of(move |input, output| {
                if input.is_empty() {
                    return Step::NeedInput;
                }
                blocked.store(true, Relaxed);
                thread::sleep(Duration::from_millis(300));
                blocked.store(false, Relaxed);
                output.push(b"done");
                Step::Consumed(input.len())
            })
        };
        server.run_with_tick(new_session, Duration::from_millis(10), move || {
            assert!(!in_tick.load(Relaxed), "a tick in a blocked loop");
            counted.fetch_add(1, Relaxed);
        })
    });
    eventually("the loop turns", || ticks.load(Relaxed) > 3);
    let mut client = Client::connect(server.port());
    client.send(b"work");
    eventually("the session works", || blocked.load(Relaxed));
    let before = ticks.load(Relaxed);
    client.expect(b"done");
    let after = ticks.load(Relaxed);
    assert!(after <= before + 2, "{} ticks in 300 ms", after - before);
}

#[test]
fn without_a_watchdog_an_idle_server_sleeps_and_with_one_it_has_no_more_threads() {
    let supervisor = Supervisor::listen("idle");
    let quiet = supervisor.start(&[]);
    let watched = supervisor.start(&[("WATCHDOG_USEC", "20000")]);
    let threads = |server: &Process| {
        server.port();
        fs::read_dir(format!("/proc/{}/task", server.id())).expect("the process runs").count()
    };
    assert_eq!(threads(&quiet), threads(&watched));
    let sleeps = || Vitals::of(&quiet).sleeps();
    let mut last = sleeps();
    eventually("the server waits", || {
        thread::sleep(Duration::from_millis(100));
        mem::replace(&mut last, sleeps()) == last
    });
    let before = sleeps();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(sleeps(), before);
}

/// A socket of ours that listens, as a supervisor has one.
fn listening() -> (u16, TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    (listener.local_addr().expect("it is bound").port(), listener)
}

/// A server that is passed our socket.
fn activated(listener: &TcpListener, arguments: &[&str], environment: &[(&str, &str)]) -> Process {
    let mut command = passing_standard_input(arguments, environment);
    let socket = OwnedFd::from(listener.try_clone().expect("a descriptor is left"));
    Process::from(command.stdin(socket).spawn().expect("sh runs"))
}

/// A server to which its standard input is passed as the first socket (`sd_listen_fds(3)`).
fn passing_standard_input(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\""]);
    command.arg(binary("okloop")).args(arguments).env_remove("RUST_LOG").envs(environment.to_vec());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A stand-in for systemd: the socket that it hears on (`sd_notify(3)`).
struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Supervisor {
    fn listen(test: &str) -> Self {
        let path = directory(test).join("notify");
        // Of an earlier run.
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("the directory is ours");
        socket.set_read_timeout(Some(*DEADLINE)).expect("the time-out is not zero");
        Self { socket, path }
    }

    fn start(&self, environment: &[(&str, &str)]) -> Process {
        let mut command = Command::new(binary("okloop"));
        command.args(["--host", "127.0.0.1", "--port", "0"]).env_remove("RUST_LOG");
        Process::spawn(command.env("NOTIFY_SOCKET", &self.path).envs(environment.to_vec()))
    }

    fn hear(&self) -> String {
        let mut news = [0; 1024];
        let length = self.socket.recv(&mut news).expect("the server has news");
        lossy(&news[..length])
    }

    /// The next news that are not the watchdog's.
    fn hear_other_news(&self) -> String {
        let mut news = iter::repeat_with(|| self.hear());
        news.find(|news| news != "WATCHDOG=1").expect("hearing ends with a time-out")
    }

    fn expect_silence(&self) {
        self.socket.set_nonblocking(true).expect("it is a socket");
        let error = self.socket.recv(&mut [0; 1024]).expect_err("there is no more news");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

/// What follows this option in the command line of the unit.
fn option<'a>(unit: &'a str, option: &str) -> &'a str {
    let mut words = value(unit, "ExecStart=").split(' ').skip_while(|word| *word != option);
    words.nth(1).expect("the unit has this option")
}

/// What a line of a file says behind `key`.
fn value<'a>(file: &'a str, key: &str) -> &'a str {
    file.lines().find_map(|line| line.strip_prefix(key)).expect("the file sets it")
}

/// The names of the system calls in a list of names and sets of them.
fn members(list: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for word in list.split_whitespace() {
        if word.starts_with('@') {
            let output = analyze(&["syscall-filter".as_ref(), word.as_ref()]).expect("it was there just now");
            let text = String::from_utf8(output.stdout).expect("names are ASCII");
            // The first line repeats the set's name; comments and members, other sets among them, are indented.
            let lines = text.lines().filter(|line| line.starts_with(' ') && !line.trim().starts_with('#'));
            lines.for_each(|line| names.extend(members(line)));
        } else {
            names.insert(word.to_owned());
        }
    }
    names
}

/// The system calls that a server makes from its start, through a session and a report, to the end of its drain.
fn system_calls() -> BTreeSet<String> {
    let trace = directory("strace").join("trace");
    let mut command = Command::new("strace");
    // Without a tracer between us and the server, signals reach the server.
    command.args(["-D", "-f", "-qq", "-e", "signal=none", "-o"]).arg(&trace).arg(binary("okloop"));
    let supervisor = Supervisor::listen("strace");
    command.env("NOTIFY_SOCKET", &supervisor.path).env("WATCHDOG_USEC", "20000");
    command.args(["--host", "127.0.0.1", "--port", "0", "--reuse-port", "--metrics", "127.0.0.1:0"]);
    let server = Process::spawn(&mut command);
    let mut client = Client::greeted(server.port());
    client.ask(b"hello");
    let mut scraper = Client::connect(metrics_port(&server));
    scraper.send(b"GET /metrics HTTP/1.0\r\n\r\n");
    scraper.half_close();
    assert!(scraper.read_to_end().starts_with(b"HTTP/1.1 200 OK"));
    server.signal(Signal::SIGUSR1);
    server.line_with("open=1 ");
    server.signal(Signal::SIGTERM);
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    assert_eq!(server.finish().status, Some(0));

    let trace = fs::read_to_string(&trace).expect("strace has written it");
    let calls = trace.lines().filter_map(|line| line.split_whitespace().nth(1)?.split_once('('));
    // What runs before the filter is in force: systemd itself executes the program.
    calls.map(|(name, _)| name.to_owned()).filter(|name| name != "execve").collect()
}

/// Runs systemd-analyze; `None`, and a word about it, where there is none.
fn analyze(arguments: &[&Path]) -> Option<Output> {
    match Command::new("systemd-analyze").args(arguments).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: there is no systemd-analyze here");
            None
        }
        output => Some(output.expect("systemd-analyze starts")),
    }
}

/// A copy of the unit that starts the program that was built here, because systemd looks whether there is one.
fn unit_of(test: &str) -> PathBuf {
    let unit = fs::read_to_string(UNIT).expect("the unit is committed");
    let program = binary("okloop");
    let copy = directory(test).join("okloop@.service");
    let adapted = unit.replace("/usr/local/bin/okloop", program.to_str().expect("the path is valid UTF-8"));
    fs::write(&copy, adapted).expect("the directory is ours");
    copy
}

/// A directory of this test's own.
fn directory(test: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("systemd-{test}"));
    fs::create_dir_all(&directory).expect("cargo gives the tests a directory");
    directory
}
