//! The example `chat`: sessions that talk to each other.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::Shutdown;
use std::rc::Rc;
use std::thread;

use nix::sys::signal::Signal;
use okloop::{Buffer, Reason, Session, Step};

use crate::harness::{Client, Embedded, Process, bind, eventually, loopback};
use crate::telnet::Telnet;

#[path = "../../examples/chat.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "the tests start its main as a process")]
mod program;

const GREETING: &[u8] = b"* Say something, or /nick NAME, /who, /quit\n";

fn start() -> Process {
    Process::start("chat", &["0"])
}

/// A client that has read the greeting.
fn enter(port: u16) -> Client {
    let mut client = Client::connect(port);
    client.expect(GREETING);
    client
}

/// A client with this name.
fn enter_as(name: &str, port: u16) -> Client {
    let mut client = enter(port);
    client.send(format!("/nick {name}\n").as_bytes());
    client.expect(format!("* You are {name}\n").as_bytes());
    client
}

/// `count` lines, each with `prefix` before its number.
fn numbered(prefix: &str, count: usize) -> String {
    (0..count).map(|number| format!("{prefix}{number}\n")).collect::<Vec<_>>().concat()
}

/// What a client has said was handled when it gets an answer of its own.
fn settle(client: &mut Client) {
    client.send(b"/help\n");
    client.expect(b"* There are /nick NAME, /who and /quit\n");
}

#[test]
fn each_line_goes_to_all_others_with_its_speakers_name() {
    let server = start();
    let [mut ann, mut bob, mut cid] = ["ann", "bob", "cid"].map(|name| enter_as(name, server.port()));
    ann.send(b"hello\r\nhow ");
    bob.expect(b"ann: hello\n");
    bob.send(b"hi\n");
    ann.expect(b"bob: hi\n");
    ann.send(b"are you\n\n  \n");
    bob.expect(b"ann: how are you\n");
    cid.expect(b"ann: hello\nbob: hi\nann: how are you\n");
    // A speaker does not get its own line, and an empty line is none.
    for client in [&mut ann, &mut bob, &mut cid] {
        settle(client);
    }
}

#[test]
fn clients_that_come_and_go_are_announced_to_nobody_and_get_nothing_that_was_said_before() {
    let server = start();
    let mut ann = enter_as("ann", server.port());
    ann.send(b"before\n");
    settle(&mut ann);
    let mut bob = enter(server.port());
    bob.send(b"/quit\n");
    assert_eq!(bob.read_to_end(), b"");
    drop(bob);
    enter(server.port()).reset();
    let mut cid = enter(server.port());
    settle(&mut cid);
    ann.send(b"after\n");
    cid.expect(b"ann: after\n");
    settle(&mut ann);
}

#[test]
fn who_names_those_who_are_here() {
    let server = start();
    let mut ann = enter_as("ann", server.port());
    let bob = enter(server.port());
    ann.send(b"/who\n");
    ann.expect(b"* 2 here:\n*   ann\n*   guest-2\n");
    drop(bob);
    eventually("bob has left", || {
        ann.send(b"/who\n/x\n");
        let shown = ann.lines_until("* There are /nick NAME, /who and /quit");
        shown[..shown.len() - 1] == ["* 1 here:", "*   ann"]
    });
}

#[test]
fn who_in_a_large_room_fits_in_an_answer() {
    let server = start();
    let mut clients: Vec<Client> = (0..150).map(|_| enter(server.port())).collect();
    let ann = &mut clients[0];
    ann.send(b"/who\n");
    ann.expect(b"* 150 here:\n*   guest-1\n");
    (2..=100).for_each(|number| ann.expect(format!("*   guest-{number}\n").as_bytes()));
    settle(ann);
}

#[test]
fn a_name_has_one_owner_and_looks_like_no_notice() {
    const NO_NAME: &[u8] = b"* A name has at most 24 letters and digits, and one owner\n";
    let server = start();
    let mut ann = enter_as("ann", server.port());
    let mut bob = enter(server.port());
    for name in ["ann", "guest-7", "*", "two words", "\u{fc}", "abcdefghijklmnopqrstuvwxy"] {
        bob.send(format!("/nick {name}\n").as_bytes());
        bob.expect(NO_NAME);
    }
    bob.send(b"/nick abcdefghijklmnopqrstuvwx\n/nick bob\nhi\n");
    bob.expect(b"* You are abcdefghijklmnopqrstuvwx\n* You are bob\n");
    ann.expect(b"bob: hi\n");
    drop(ann);
    eventually("the name is free again", || {
        bob.send(b"/nick ann\n");
        let mut first = [0; 4];
        bob.stream().read_exact(&mut first).expect("the session goes on");
        let is_free = &first == b"* Yo";
        bob.expect(if is_free { b"u are ann\n" } else { &NO_NAME[4..] });
        is_free
    });
}

#[test]
fn a_client_cannot_control_another_ones_terminal() {
    let server = start();
    let mut bob = enter(server.port());
    let mut ann = enter_as("ann", server.port());
    ann.send(b"a\x1b[2Jb\x07 \xc3\xa9\xff\n");
    bob.expect(b"ann: a [2Jb  \xc3\xa9\xff\n");
}

#[test]
fn a_line_that_is_too_long_ends_the_session_with_a_last_word() {
    let server = start();
    let mut ann = enter_as("ann", server.port());
    let mut bob = enter(server.port());
    ann.send(&[&[b'x'; 1023][..], b"\n"].concat());
    bob.expect(&[b"ann: ", &[b'x'; 1023][..], b"\n"].concat());
    ann.send(&[b'x'; 1024]);
    assert_eq!(ann.read_to_end(), b"* The server ends the session: request_too_large\n");
    settle(&mut bob);
}

#[test]
fn a_client_that_half_closes_has_said_what_it_sent() {
    let server = start();
    let mut bob = enter(server.port());
    let mut ann = enter_as("ann", server.port());
    let lines = numbered("", 500);
    assert_eq!(ann.exchange(lines.as_bytes()), b"");
    bob.expect(numbered("ann: ", 500).as_bytes());
}

#[test]
fn every_client_gets_every_line_of_all_others_in_each_speakers_order() {
    const CLIENTS: usize = 24;
    const LINES: usize = 300;
    let server = start();
    let clients: Vec<Client> =
        (0..CLIENTS).map(|number| enter_as(&format!("n{number}"), server.port())).collect();
    thread::scope(|scope| {
        for (own, client) in clients.iter().enumerate() {
            let mut speaker = client.split();
            scope.spawn(move || {
                (0..LINES).for_each(|number| speaker.send(format!("{number}\n").as_bytes()));
            });
            scope.spawn(move || {
                let mut next: HashMap<String, usize> = HashMap::new();
                let lines = BufReader::new(client.stream()).lines().take((CLIENTS - 1) * LINES);
                for line in lines.map(|line| line.expect("a whole line of text")) {
                    let (name, number) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
                    let expected = next.entry(name.to_owned()).or_default();
                    assert_eq!(number, expected.to_string(), "{name} to n{own}");
                    *expected += 1;
                }
                assert!(!next.contains_key(&format!("n{own}")), "its own lines");
            });
        }
    });
    for mut client in clients {
        settle(&mut client);
    }
}

#[test]
fn a_client_that_sends_without_a_pause_does_not_make_others_miss_lines() {
    const LINES: usize = 8_000;
    let server = start();
    // Their turns take more iterations than the room holds bursts of a session that is not held back.
    let mut others: Vec<Client> = (0..400).map(|_| enter(server.port())).collect();
    let mut ann = enter_as("ann", server.port());
    let (text, said) = (numbered("", LINES), numbered("ann: ", LINES));
    ann.send(text.as_bytes());
    for client in &mut others {
        client.expect(said.as_bytes());
    }
}

#[test]
fn a_client_that_never_reads_is_told_what_it_missed_and_the_others_get_everything() {
    /// More than the room keeps, and the buffers on the way hold.
    const LINES: usize = 8_000;
    let server = start();
    let slow = Client::with_small_window(server.port());
    let mut bob = enter(server.port());
    let mut ann = enter_as("ann", server.port());
    let line = |number: usize| format!("{number:05}{}\n", "x".repeat(900));
    // Bob gets each hundred of them before the next ones are said.
    for first in (0..LINES).step_by(100) {
        let lines: Vec<String> = (first..first + 100).map(line).collect();
        ann.send(lines.concat().as_bytes());
        for line in lines {
            bob.expect(format!("ann: {line}").as_bytes());
        }
    }

    let (mut next, mut missed) = (0, 0);
    let lines = BufReader::new(slow.stream()).lines().map(|line| line.expect("a whole line of text"));
    for text in lines.skip(1) {
        if let Some(notice) = text.strip_prefix("* ") {
            let count = notice.strip_suffix(" lines missed").and_then(|count| count.parse::<usize>().ok());
            missed += count.unwrap_or_else(|| panic!("{text:?}"));
            next += missed;
        } else {
            assert_eq!(text + "\n", format!("ann: {}", line(next)));
            next += 1;
        }
        if next == LINES {
            break;
        }
    }
    assert!((1_000..LINES - 4_096).contains(&missed), "{missed} lines missed");
    // Its session goes on as all others do.
    let mut slow = slow;
    settle(&mut slow);
}

#[test]
fn a_drain_delivers_what_was_said_and_ends_with_a_last_word() {
    let server = start();
    let mut ann = enter_as("ann", server.port());
    let mut others: Vec<Client> = (0..200).map(|_| enter(server.port())).collect();
    ann.send(b"last words\n");
    settle(&mut ann);
    server.signal(Signal::SIGTERM);
    for client in &mut others {
        assert_eq!(client.read_to_end(), b"ann: last words\n* The server ends the session: drained\n");
        client.stream().shutdown(Shutdown::Both).expect("the connection is open");
    }
    assert_eq!(ann.read_to_end(), b"* The server ends the session: drained\n");
    drop(ann);
    let finished = server.finish();
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
}

#[test]
fn a_session_that_panics_ends_alone_and_leaves_the_room() {
    /// A chat with a mistake.
    struct Unlucky(program::Chat);

    impl Session for Unlucky {
        fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
            assert!(input != b"panic\n", "the session's own mistake");
            self.0.answer(input, output)
        }
    }

    let server = Embedded::run_by(bind(loopback()), |server| {
        let room = Rc::<RefCell<program::Room>>::default();
        server.run(|client| Unlucky(program::Chat::enter(&room, client.waker)))
    });
    let [mut ann, mut bob, mut cid] = [(); 3].map(|()| {
        let mut client = Client::connect(server.port());
        settle(&mut client);
        client
    });
    ann.send(b"panic\n");
    let mut end = Vec::new();
    let _ = ann.stream().read_to_end(&mut end);
    bob.send(b"still there?\n");
    cid.expect(b"guest-2: still there?\n");
    cid.send(b"/who\n");
    cid.expect(b"* 2 here:\n*   guest-2\n*   guest-3\n");
    drop((ann, bob, cid));
    let (_, stats) = server.stop();
    assert_eq!(stats.closed(Reason::ProtocolError), 1, "{stats}");
}

#[test]
fn telnet_clients_get_whole_lines_of_their_own_kind() {
    let server = Process::start("chat", &["0", "--telnet"]);
    let [mut ann, mut bob] = [(); 2].map(|()| {
        let mut client = Client::connect(server.port());
        client.expect(b"* Say something, or /nick NAME, /who, /quit\r\n");
        client
    });
    // A command, and both ways to end a line.
    ann.send(b"he\xff\xf1llo\r\0\xff\xffagain\r\n");
    bob.expect(b"guest-1: hello\r\nguest-1: \xff\xffagain\r\n");
    // A wake reaches a session that has an incomplete command.
    bob.send(b"\xff\xfa");
    ann.send(b"once more\r\n");
    bob.expect(b"guest-1: once more\r\n");
}

#[test]
#[ignore = "needs telnet and plink of putty-tools; .ci/run installs and runs it"]
fn real_telnet_clients_chat() {
    let server = Process::start("chat", &["0", "--telnet"]);
    let mut telnet = Telnet::dial(server.port());
    telnet.process.line_with("* Say something");
    let mut plink = Telnet::run(&format!("plink -telnet -P {} localhost", server.port()));
    plink.process.line_with("* Say something");
    for number in 0..3 {
        telnet.type_keys(&format!("from telnet {number}\r"));
        plink.process.line_with(&format!("guest-1: from telnet {number}"));
        plink.type_keys(&format!("from plink {number}\r"));
        telnet.process.line_with(&format!("guest-2: from plink {number}"));
    }
    let shown = telnet.quit();
    let expected = "from telnet 0\r\nguest-2: from plink 0\r\nfrom telnet 1\r\nguest-2: from plink 1\r\n";
    assert!(shown.contains(expected), "{shown:?}");
}
