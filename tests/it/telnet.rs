//! Real telnet clients, each at a terminal of its own: Debian's `telnet`, which the tutorial uses, and `plink`.
//!
//! `script`, which every Debian has, makes the terminal. The test writes the user's keys to its input.

use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};

use nix::sys::signal::Signal;

use crate::harness::Process;

const ENTER: &str = "\r";
const CTRL_C: &str = "\x03";
const ESCAPE: &str = "\x1d";

#[test]
#[ignore = "needs telnet; .ci/run installs and runs it"]
fn three_sessions_at_once_look_as_in_the_tutorial() {
    let server = start(&[]);
    let mut sessions: Vec<Telnet> = (0..3).map(|_| Telnet::greeted(server.port())).collect();
    for telnet in &mut sessions {
        telnet.ask("hello");
    }
    for telnet in sessions.iter_mut().rev() {
        telnet.ask("how are you");
    }
    for telnet in sessions {
        let said = telnet.quit();
        let transcript = said.split_once("Connected to localhost.").map(|(_, from_there)| from_there);
        let expected = "\r\nEscape character is '^]'.\r\n\
                        Welcome to the server. Type something and hit enter\r\n\
                        hello\r\nOK...hello\r\nhow are you\r\nOK...how are you\r\n";
        assert!(transcript.is_some_and(|transcript| transcript.starts_with(expected)), "{said:?}");
        assert!(said.ends_with("Connection closed.\r\n"), "{said:?}");
    }
}

#[test]
#[ignore = "needs telnet; .ci/run installs and runs it"]
fn a_session_goes_on_after_ctrl_c() {
    let server = start(&["--log-level", "trace"]);
    let mut telnet = Telnet::greeted(server.port());
    telnet.ask("hello");
    telnet.type_keys(CTRL_C);
    // Interrupt Process and Do Timing Mark. Until it is told that the mark has passed, the client shows nothing more.
    server.line_with("read 5 bytes");
    // What it says itself when the server, by sending that back, asks for a mark; and by that the mark has passed.
    server.line_with("read 3 bytes");
    telnet.ask("still there?");
    telnet.quit();
}

#[test]
#[ignore = "needs telnet; .ci/run installs and runs it"]
fn a_full_server_says_so_and_a_stopping_one_closes() {
    let server = start(&["--max-connections", "1"]);
    let inside = Telnet::greeted(server.port());
    let refused = Telnet::dial(server.port());
    refused.process.line_with("The server is full. Please try again later");
    refused.process.line_with("Connection closed by foreign host.");
    server.signal(Signal::SIGTERM);
    inside.process.line_with("Connection closed by foreign host.");
    assert_eq!(server.finish().status, Some(0));
}

#[test]
#[ignore = "needs telnet; .ci/run installs and runs it"]
fn ctrl_c_and_are_you_there_look_right_with_the_telnet_option() {
    let server = start(&["--telnet", "--log-level", "trace"]);
    let mut telnet = Telnet::greeted(server.port());
    telnet.ask("hello");
    telnet.type_keys(CTRL_C);
    server.line_with("write 3 bytes");
    telnet.ask("still there?");
    telnet.command("send ayt");
    telnet.process.line_with("[Yes]");
    let shown = telnet.quit();
    let expected = "hello\r\nOK...hello\r\n^Cstill there?\r\nOK...still there?\r\n";
    assert!(shown.contains(expected), "{shown:?}");
}

#[test]
#[ignore = "needs telnet; .ci/run installs and runs it"]
fn synch_shows_nothing_with_the_telnet_option() {
    let server = start(&["--telnet"]);
    let mut telnet = Telnet::greeted(server.port());
    telnet.ask("hello");
    telnet.command("send synch");
    telnet.ask("still there?");
    let shown = telnet.quit();
    assert_eq!(shown.matches("OK...").count(), 2, "{shown:?}");
}

#[test]
#[ignore = "needs plink of putty-tools; .ci/run installs and runs it"]
fn a_session_with_putty_looks_as_in_the_tutorial_with_the_telnet_option() {
    let server = start(&["--telnet"]);
    let mut plink = Telnet::run(&format!("plink -telnet -P {} localhost", server.port()));
    plink.process.line_with("Welcome to the server. Type something and hit enter");
    plink.ask("hello");
    plink.ask("how are you");
    assert_eq!(server.stop().status, Some(0));
    // The terminal adds a CR to each LF, even behind a CR.
    let shown = String::from_utf8_lossy(&plink.process.finish().stdout).replace("\r\r\n", "\r\n");
    let expected = "Welcome to the server. Type something and hit enter\r\n\
                    hello\r\nOK...hello\r\nhow are you\r\nOK...how are you\r\n";
    assert!(shown.starts_with(expected), "{shown:?}");
}

/// A telnet client, and the keyboard of its terminal.
pub struct Telnet {
    pub process: Process,
    keyboard: ChildStdin,
}

impl Telnet {
    pub fn dial(port: u16) -> Self {
        Self::run(&format!("telnet localhost {port}"))
    }

    pub fn run(command: &str) -> Self {
        // With exec no shell stays between, which would get CTRL_C too, and return its own status.
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &format!("exec {command}"), "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("script is there");
        let keyboard = child.stdin.take().expect("stdin is piped");
        Self { process: child.into(), keyboard }
    }

    /// Dials and waits for the banner.
    fn greeted(port: u16) -> Self {
        let telnet = Self::dial(port);
        telnet.process.line_with("Welcome to the server. Type something and hit enter");
        telnet
    }

    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Types a line and waits for its answer.
    fn ask(&mut self, line: &str) {
        self.type_keys(&[line, ENTER].concat());
        self.process.line_with(&format!("OK...{line}"));
    }

    /// Gives Debian's client itself a command.
    fn command(&mut self, command: &str) {
        self.type_keys(ESCAPE);
        self.type_keys(&[command, ENTER].concat());
    }

    /// Leaves as a person does, and returns all that the terminal has shown.
    pub fn quit(mut self) -> String {
        self.command("quit");
        let finished = self.process.finish();
        assert_eq!(finished.status, Some(0));
        String::from_utf8_lossy(&finished.stdout).into_owned()
    }
}

fn start(arguments: &[&str]) -> Process {
    Process::start("okloop", &[&["--port", "0"], arguments].concat())
}
