//! The server and the ladder built for Windows, under wine. The clients are Linux programs on the same loopback interface.
//!
//! wine shows that the loop is right with what mio does on Windows. It is not Windows' kernel: a session that a client
//! has reset is counted as `finished` there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGINT;
use okloop::{PREFIX, Reason, Stats};

use crate::harness::{Client, Finished, Process, chunks_of, crowd, eventually, lossy, numbered_lines};

const TARGET: &str = "x86_64-pc-windows-gnu";

/// The servers of the ladder that answer one chunk and close, and their answer to `hello`.
const ONE_ANSWER: [(&str, &[u8]); 2] = [("echo_once", b"hello"), ("one_at_a_time", b"OK...hello")];

/// The servers of the ladder that hold conversations.
const CONVERSATIONS: [&str; 6] = [
    "thread_per_connection",
    "poll_all",
    "tiny_event_loop",
    "loop_backpressure",
    "loop_fair",
    "loop_deadlines",
];

/// Where the programs are, built once. Beside them lies the library that wine lacks.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in target");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "okloop", "--bin", "okloop", "--target", TARGET]);
    cargo
        .args(
            ONE_ANSWER
                .map(|(rung, _)| rung)
                .iter()
                .chain(&CONVERSATIONS)
                .flat_map(|rung| ["--example", rung]),
        )
        .arg("--target-dir")
        .arg(target);
    run(&mut cargo);

    let programs = target.join(TARGET).join("debug");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/windows/bcryptprimitives.c");
    let mut compiler = Command::new("x86_64-w64-mingw32-gcc");
    compiler.args(["-shared", "-o"]).arg(programs.join("bcryptprimitives.dll")).arg(source).arg("-ladvapi32");
    run(&mut compiler);
    run(wine().arg("wineboot"));
    programs
});

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{command:?}");
}

fn wine() -> Command {
    let mut wine = Command::new("wine");
    wine.env("WINEPREFIX", Path::new(env!("CARGO_TARGET_TMPDIR")).join("wine"));
    // No messages of wine itself, and no offer to download what it would need for .NET and web pages.
    wine.env("WINEDEBUG", "-all").env("WINEDLLOVERRIDES", "mscoree,mshtml=").env_remove("RUST_LOG");
    wine
}

fn start(program: &str, arguments: &[&str]) -> Process {
    let programs = LazyLock::force(&PROGRAMS);
    // The current directory is one of those where Windows looks for a library.
    Process::spawn(wine().current_dir(programs).arg(format!("{program}.exe")).args(arguments))
}

fn start_rung(name: &str) -> Process {
    start(&format!("examples/{name}"), &["0"])
}

fn okloop(arguments: &[&str]) -> Process {
    start("okloop", &[&["--host", "127.0.0.1", "--port", "0"], arguments].concat())
}

/// Ends the server as Ctrl-C in its console does: wine makes that of SIGINT.
fn stop(server: Process) -> Stats {
    server.signal(SIGINT);
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
        chunks_of(&message, received.strip_prefix(okloop::BANNER).expect("the banner comes first"));
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
fn windows_drains_at_ctrl_c_and_ends_at_the_drain_timeout() {
    let server = okloop(&["--drain-timeout", "2"]);
    let mut slow = Client::greeted(server.port());
    let _stays = Client::greeted(server.port());
    let flood = vec![b'x'; 64 << 20];
    slow.send_until_full(&flood);
    let began = Instant::now();
    let stopping = thread::spawn(move || stop(server));
    let received = slow.read_to_end();
    let prefixes = received.windows(PREFIX.len()).filter(|window| *window == PREFIX).count();
    let answered = received.len() - prefixes * PREFIX.len();
    chunks_of(&flood[..answered], &received);
    drop(slow);
    let stats = stopping.join().expect("the server ends in order");
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!((stats.closed(Reason::Drained), stats.closed(Reason::DrainTimeout)), (1, 1));
}

#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_refuses_an_option_that_it_cannot_serve() {
    let Finished { status, stdout, stderr } = start("okloop", &["--reuse-port"]).finish();
    assert_eq!((status, &stdout[..]), (Some(2), &b""[..]));
    assert!(stderr.contains("--reuse-port") && stderr.lines().count() == 1, "{stderr}");
    let help = start("okloop", &["--help"]).finish();
    assert!(!lossy(&help.stdout).contains("--reuse-port"));
}

#[test]
#[ignore = "needs wine, the mingw compiler and Rust's target x86_64-pc-windows-gnu"]
fn windows_runs_the_ladder() {
    for (rung, answer) in ONE_ANSWER {
        let server = start_rung(rung);
        let mut client = Client::connect(server.port());
        client.send(b"hello");
        assert_eq!(client.read_to_end(), answer, "{rung}");
    }
    for rung in CONVERSATIONS {
        let server = start_rung(rung);
        let mut client = Client::greeted(server.port());
        client.ask(b"hello");
        let payload = numbered_lines(1 << 20);
        chunks_of(&payload, &client.exchange(&payload));
        Client::greeted(server.port()).ask(b"and the next client");
    }
}
