//! The server and the ladder built for Windows, under wine. The clients are Linux programs on the same loopback interface.
//!
//! wine shows that the loop is right with what mio does on Windows. It is not Windows' kernel: a session that a client
//! has reset is counted as `finished` there.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGINT;
use okloop::protocols::{BANNER, PREFIX};
use okloop::{Reason, Stats};
use socket2::SockRef;

use crate::harness::{
    self, Client, Finished, Process, TELNET_BANNER, chunks_of, crowd, eventually, lossy, numbered_lines,
};

const TARGET: &str = "x86_64-pc-windows-gnu";

/// The example servers without a banner of okloop's: what a client sends, and all that it gets.
const SHORT: [(&str, &[u8], &[u8]); 4] = [
    ("echo_once", b"hello", b"hello"),
    ("one_at_a_time", b"hello", b"OK...hello"),
    ("upper", b"hello", b"HELLO"),
    ("line_server", b"hello\nquit\n", b"Type lines, then quit\n1: hello\nGoodbye\n"),
];

/// The servers of the ladder that hold conversations.
const CONVERSATIONS: [&str; 6] = [
    "thread_per_connection",
    "poll_all",
    "tiny_event_loop",
    "loop_backpressure",
    "loop_fair",
    "loop_deadlines",
];

/// The programs, built once, and a Windows system to run them in, with the library that wine lacks.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    run(cargo("build").args(["--bins", "--examples"]));

    run(wine().arg("wineboot"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/windows/bcryptprimitives.c");
    let mut compiler = Command::new("x86_64-w64-mingw32-gcc");
    compiler.args(["-shared", "-o"]).arg(system().join("drive_c/windows/system32/bcryptprimitives.dll"));
    run(compiler.arg(source).arg("-ladvapi32"));
    target().join(TARGET).join("debug")
});

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in target")
}

/// The directory that wine shows to its programs as a Windows system.
fn system() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("wine")
}

/// Cargo for this package and Windows.
fn cargo(command: &str) -> Command {
    let mut cargo = harness::cargo();
    cargo.args([command, "--quiet", "--package", "okloop", "--target", TARGET, "--target-dir"]).arg(target());
    cargo
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
}

fn wine() -> Command {
    let mut wine = Command::new("wine");
    set_up(&mut wine);
    wine
}

/// Sets what wine needs, for a command that is wine or starts it.
fn set_up(command: &mut Command) -> &mut Command {
    // No messages of wine itself, and no offer to download what it would need for .NET and web pages.
    command.env("WINEDEBUG", "-all").env("WINEDLLOVERRIDES", "mscoree,mshtml=").env_remove("RUST_LOG");
    command.env("WINEPREFIX", system())
}

fn start(program: &str, arguments: &[&str]) -> Process {
    Process::spawn(wine().arg(PROGRAMS.join(format!("{program}.exe"))).args(arguments))
}

fn start_example(name: &str, arguments: &[&str]) -> Process {
    start(&format!("examples/{name}"), arguments)
}

fn okloop(arguments: &[&str]) -> Process {
    start("okloop", &[&["--host", "127.0.0.1", "--port", "0"], arguments].concat())
}

/// Ends the server as Ctrl-C in its console does: wine makes that of SIGINT.
fn stop(server: Process) -> Stats {
    server.signal(SIGINT);
    stopped(server)
}

/// Waits for the end of a server that was stopped. It must end in order.
fn stopped(server: Process) -> Stats {
    let finished = server.finish();
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    finished.stats()
}

#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_holds_conversations_with_a_crowd() {
    let server = okloop(&[]);
    let mut clients = crowd(100, server.port());
    for message in [&b"hello"[..], b"again", b"\x00\xff"] {
        for client in &mut clients {
            client.send(message);
        }
        for client in &mut clients {
            client.expect(&[PREFIX, message].concat());
        }
    }
    drop(clients);
    let stats = stop(server);
    assert_eq!((stats.accepted, stats.bytes_in), (100, 100 * 12));
}

#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_answers_data_that_comes_together_with_the_end_of_input() {
    let server = okloop(&[]);
    let port = server.port();
    for round in 0..300 {
        let mut client = Client::connect(port);
        let message = numbered_lines(1 + 3 * round);
        client.send(&message);
        client.half_close();
        let received = client.read_to_end();
        chunks_of(&message, received.strip_prefix(BANNER).expect("the banner comes first"));
    }
    assert_eq!(stop(server).closed(Reason::Finished), 300);
}

#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_delivers_megabytes_after_a_half_close_and_after_backpressure() {
    let server = okloop(&["--write-timeout", "0"]);
    let payload = numbered_lines(8 << 20);

    let mut eager = Client::greeted(server.port());
    chunks_of(&payload, &eager.exchange(&payload));

    let flood = vec![b'x'; 64 << 20];
    let mut slow = Client::greeted(server.port());
    let sent = slow.send_until_full(&flood);
    Client::greeted(server.port()).ask(b"are others served?");
    slow.half_close();
    chunks_of(&flood[..sent], &slow.read_to_end());
    assert_eq!(stop(server).closed(Reason::Finished), 3);
}

#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_ends_sessions_that_were_reset_and_no_other() {
    let server = okloop(&["--log-level", "debug"]);
    let port = server.port();
    let mut witness = Client::greeted(port);
    let flood = vec![b'x'; 64 << 20];
    let moments: [fn(&mut Client, &[u8]); 3] = [
        |_, _| {},
        |client, _| client.send(b"a few words"),
        |client, flood| _ = client.send_until_full(flood),
    ];
    for moment in moments {
        let mut client = Client::greeted(port);
        moment(&mut client, &flood);
        client.reset();
        witness.ask(b"still there?");
    }
    eventually("the three sessions end", || lossy(&server.stdout()).matches(" closed: ").count() == 3);
    drop(witness);
    assert_eq!(stop(server).closed(Reason::Failed), 0);
}

#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_ends_a_silent_client_and_one_that_does_not_read() {
    let server = okloop(&["--idle-timeout", "1", "--write-timeout", "1"]);
    let mut silent = Client::greeted(server.port());
    let mut stalled = Client::greeted(server.port());
    stalled.send_until_full(&vec![b'x'; 64 << 20]);
    assert_eq!(silent.read_to_end(), b"");
    let line = server.line_with("write_timeout");
    assert!(line.contains(&stalled.address().to_string()), "{line}");
    let stats = stop(server);
    assert_eq!((stats.closed(Reason::IdleTimeout), stats.closed(Reason::WriteTimeout)), (1, 1));
}

#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_delivers_all_pending_output_in_the_drain_that_ctrl_c_starts() {
    // No client waits for this time-out, however busy the machine is.
    let server = okloop(&["--drain-timeout", "600"]);
    let mut slow = Client::greeted(server.port());
    let flood = vec![b'x'; 64 << 20];
    slow.send_until_full(&flood);
    server.signal(SIGINT);
    server.line_with("Received Ctrl-C");
    let received = slow.read_to_end();
    let prefixes = received.windows(PREFIX.len()).filter(|window| *window == PREFIX).count();
    let answered = received.len() - prefixes * PREFIX.len();
    chunks_of(&flood[..answered], &received);
    drop(slow);
    assert_eq!(stopped(server).closed(Reason::Drained), 1);
}

#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_ends_a_drain_at_its_timeout() {
    let server = okloop(&["--drain-timeout", "1"]);
    let _stays = Client::greeted(server.port());
    let began = Instant::now();
    let stats = stop(server);
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(stats.closed(Reason::DrainTimeout), 1);
}

/// Ctrl-C in telnet sends "interrupt process" and "data mark" (RFC 854). The second byte of the mark is urgent. If the
/// system took it out of the stream, its first byte and that of the next command would be data.
#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_keeps_urgent_data_in_its_place_for_telnet() {
    let server = okloop(&["--telnet"]);
    let mut client = Client::connect(server.port());
    client.expect(TELNET_BANNER);
    client.send(b"\xff\xf4\xff");
    let sent = SockRef::from(client.stream()).send_out_of_band(b"\xf2");
    assert_eq!(sent.expect("there is room for a byte"), 1);
    client.send(b"\xff\xfd\x06hello");
    client.half_close();
    assert_eq!(client.read_to_end(), b"\xff\xfb\x06OK...hello");
}

#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_refuses_an_option_that_it_cannot_serve() {
    let Finished { status, stdout, stderr } = start("okloop", &["--reuse-port"]).finish();
    assert_eq!((status, &stdout[..]), (Some(2), &b""[..]));
    assert!(stderr.contains("--reuse-port") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_help_names_no_option_and_no_signal_that_it_lacks() {
    let help = start("okloop", &["--help"]).finish();
    let text = lossy(&help.stdout);
    assert!(text.contains("--drain-timeout") && text.contains("Ctrl-C"), "{text}");
    assert!(!text.contains("--reuse-port") && !text.contains("SIG"), "{text}");
}

#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_runs_the_ladder() {
    for (program, sent, expected) in SHORT {
        let server = start_example(program, &["0"]);
        let mut client = Client::connect(server.port());
        client.send(sent);
        client.half_close();
        assert_eq!(lossy(&client.read_to_end()), lossy(expected), "{program}");
    }
    for rung in CONVERSATIONS {
        let server = start_example(rung, &["0"]);
        let mut client = Client::greeted(server.port());
        client.ask(b"hello");
        let payload = numbered_lines(1 << 20);
        chunks_of(&payload, &client.exchange(&payload));
        Client::greeted(server.port()).ask(b"and the next client");
    }
}

#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_gets_a_page() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let google_get = start_example("google_get", &["127.0.0.1", &port.to_string()]);
    let mut browser = Client::from(listener.accept().expect("google_get connects").0);
    let request = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    browser.expect(request.as_bytes());
    browser.send(b"HTTP/1.1 200 OK\r\n\r\nhello");
    drop(browser);
    let finished = google_get.finish();
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    assert!(finished.stdout.ends_with(b"\r\n\r\nhello"), "{}", lossy(&finished.stdout));
}

/// With the rules of Windows: `Kernel::HERE` in `readiness.rs` means them then.
#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_passes_the_tests_that_run_on_every_system() {
    LazyLock::force(&PROGRAMS);
    let mut cargo = cargo("test");
    cargo.args(["--lib", "--bins", "--test", "portable"]);
    let output = set_up(&mut cargo).env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", "wine").output();
    let output = output.expect("cargo runs, as it runs this");
    assert!(output.status.success(), "{}{}", lossy(&output.stdout), lossy(&output.stderr));
}
