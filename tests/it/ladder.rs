//! Every rung of the ladder, run as a process the way its header says. The client, `google_get`, comes last.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use okloop::protocol::{BANNER, PREFIX};
use socket2::{Domain, Socket, Type};

use crate::harness::{Client, Finished, Process, binary, chunks_of, numbered_lines};

const SERVERS: [&str; 4] = ["echo_once", "one_at_a_time", "thread_per_connection", "tiny_event_loop"];
const GREETING_SERVERS: [&str; 2] = ["thread_per_connection", "tiny_event_loop"];

#[test]
fn a_server_says_the_tutorials_lines() {
    for name in SERVERS {
        let server = Process::start(name, &["0"]);
        let port = server.port();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let connected = format!("Connected with {}", client.local_addr().unwrap());
        server.line_with(&connected);
        drop(client);
        let expected = format!(
            "Socket created\nSocket bind complete\nSocket now listening on 0.0.0.0:{port}\n{connected}\n"
        );
        assert_eq!(server.stdout(), expected.as_bytes(), "{name}");
    }
}

#[test]
fn a_busy_port_is_said_as_in_the_tutorial() {
    let busy = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let address = busy.local_addr().unwrap();
    for name in SERVERS {
        let finished = Process::start(name, &[&address.port().to_string()]).finish();
        assert_eq!(finished.status, Some(1), "{name}");
        assert_eq!(
            finished.stderr,
            format!("Bind failed. Error Code: 98 Message: Address already in use ({address})\n")
        );
    }
}

#[test]
fn a_wrong_argument_is_said_in_one_line() {
    let wrong_port = SERVERS.map(|name| (name, vec!["65536"]));
    for (name, arguments) in wrong_port.into_iter().chain([("thread_per_connection", vec!["0", "words"])]) {
        let finished = Process::start(name, &arguments).finish();
        assert_eq!(finished.status, Some(2), "{name} {arguments:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{name} {arguments:?}: {}", finished.stderr);
    }
}

#[test]
fn echo_once_sends_back_what_came_and_exits() {
    let server = Process::start("echo_once", &["0"]);
    let mut client = Client::connect(server.port());
    client.send(b"hello\xff\0");
    assert_eq!(client.read_to_end(), b"hello\xff\0");
    assert_eq!(server.finish().status, Some(0));
}

#[test]
fn one_at_a_time_answers_each_client_once_and_goes_on() {
    let server = Process::start("one_at_a_time", &["0"]);
    let port = server.port();
    for message in [&b"first\r\n"[..], b"second", b"\xff\xf4\xff\xfd\x06"] {
        let mut client = Client::connect(port);
        client.send(message);
        assert_eq!(client.read_to_end(), [PREFIX, message].concat());
    }
}

#[test]
fn one_at_a_time_survives_clients_that_leave() {
    let server = Process::start("one_at_a_time", &["0"]);
    let port = server.port();
    Client::connect(port).reset();
    let mut silent = Client::connect(port);
    silent.half_close();
    assert_eq!(silent.read_to_end(), b"");

    let mut client = Client::connect(port);
    client.ask(b"still there?");
}

#[test]
fn sessions_are_served_at_once_and_for_as_long_as_they_last() {
    for name in GREETING_SERVERS {
        let server = Process::start(name, &["0"]);
        let port = server.port();
        let mut clients: Vec<Client> = (0..50).map(|_| Client::greeted(port)).collect();
        for turn in 0..3 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.ask(format!("client {number}, turn {turn}").as_bytes());
            }
        }
    }
}

#[test]
fn a_reset_ends_one_session_and_no_other() {
    for name in GREETING_SERVERS {
        let server = Process::start(name, &["0"]);
        let port = server.port();
        let mut witness = Client::greeted(port);
        for _ in 0..20 {
            Client::connect(port).reset();
            let mut client = Client::greeted(port);
            // Answers are on their way in both directions when the reset comes.
            client.send(&numbered_lines(100_000));
            client.reset();
        }
        witness.ask(b"still there?");
        Client::greeted(port).ask(b"and for others?");
    }
}

#[test]
fn every_answer_is_delivered_after_a_half_close() {
    let payload = numbered_lines(2 << 20);
    for name in GREETING_SERVERS {
        let server = Process::start(name, &["0"]);
        let mut client = Client::greeted(server.port());
        let mut sender = client.split();
        thread::scope(|scope| {
            scope.spawn(|| {
                sender.send(&payload);
                sender.half_close();
            });
            chunks_of(&payload, &client.read_to_end());
        });
    }
}

#[test]
fn a_client_that_does_not_read_stops_nobody_and_loses_nothing() {
    // More than the kernel's buffers take in both directions.
    let payload = numbered_lines(32 << 20);
    for name in GREETING_SERVERS {
        let server = Process::start(name, &["0"]);
        let port = server.port();
        let mut lazy = Client::greeted(port);
        let mut sender = lazy.split();
        thread::scope(|scope| {
            scope.spawn(|| {
                sender.send(&payload);
                sender.half_close();
            });
            for _ in 0..100 {
                Client::greeted(port).ask(b"hello");
            }
            chunks_of(&payload, &lazy.read_to_end());
        });
    }
}

#[test]
fn thread_per_connection_answers_lines_where_it_is_asked_to() {
    let server = Process::start("thread_per_connection", &["0", "lines"]);
    let mut client = Client::greeted(server.port());
    client.send(b"o");
    client.send(b"ne\ntwo\r\n\nre");
    client.expect(b"OK...one\nOK...two\r\nOK...\n");
    client.send(&[b'\n'; 5000]);
    client.send(b"rest");
    client.half_close();
    let expected = [b"OK...re\n".to_vec(), b"OK...\n".repeat(4999), b"OK...rest".to_vec()].concat();
    assert!(client.read_to_end() == expected);
}

#[test]
fn thread_per_connection_outlives_a_lack_of_descriptors() {
    let server = Process::spawn(
        Command::new("sh").args(["-c", "ulimit -n 16; exec \"$0\" 0"]).arg(binary("thread_per_connection")),
    );
    let port = server.port();
    let first: Vec<Client> = (0..8).map(|_| Client::greeted(port)).collect();
    let waiting: Vec<Client> = (0..16).map(|_| Client::connect(port)).collect();
    server.complaint_with("No session: Too many open files");
    drop(first);
    // Those in front make room for those behind.
    for mut client in waiting {
        client.expect(BANNER);
        client.ask(b"at last");
    }
}

#[test]
fn a_closed_stdout_ends_no_server() {
    for name in ["one_at_a_time", "thread_per_connection", "tiny_event_loop"] {
        let mut child = Command::new(binary(name)).arg("0").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let _server = Process::from(child);
        let listening = lines.nth(2).expect("there are three lines").unwrap();
        drop(lines);

        let port = listening.rsplit(':').next().unwrap().parse().unwrap();
        for _ in 0..2 {
            let mut client = Client::connect(port);
            client.send(b"hello");
            client.half_close();
            assert!(client.read_to_end().ends_with(b"OK...hello"), "{name}");
        }
    }
}

#[test]
fn google_get_prints_the_tutorials_lines_and_a_reply_with_a_length() {
    let reply = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 5\r\n\r\nmoved";
    let finished = google_get("30", |mut browser| {
        browser.send(reply);
        browser.read_to_end();
    });
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    assert_eq!(lossy(&finished.stdout), format!("{STEPS}{}", lossy(reply)));
}

#[test]
fn google_get_prints_a_body_of_any_length() {
    let body = numbered_lines(3_000_000);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let reply = [head.as_bytes(), &body].concat();
    let sent = reply.clone();
    let finished = google_get("30", move |mut browser| {
        browser.send(&sent);
        browser.read_to_end();
    });
    assert_eq!(finished.status, Some(0));
    assert!(finished.stdout == [STEPS.as_bytes(), &reply].concat());
}

#[test]
fn google_get_finds_the_end_of_a_chunked_reply_sent_byte_by_byte() {
    let reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                  c;odd=yes\r\nhello, world\r\n1\r\n\n\r\n0\r\nTrailer: x\r\n\r\n";
    let finished = google_get("30", |mut browser| {
        reply.chunks(1).for_each(|byte| browser.send(byte));
        browser.read_to_end();
    });
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    assert_eq!(lossy(&finished.stdout), format!("{STEPS}{}", lossy(reply)));
}

#[test]
fn google_get_reads_to_the_end_of_input_where_no_length_is_given() {
    let reply = b"HTTP/1.0 200 OK\r\n\r\nuntil I close";
    let finished = google_get("30", |mut browser| browser.send(reply));
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    assert!(finished.stdout.ends_with(reply));
}

#[test]
fn google_get_says_that_a_reply_is_not_complete() {
    let truncated = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel";
    let finished = google_get("30", |mut browser| browser.send(truncated));
    assert_eq!(finished.status, Some(1));
    assert_eq!(finished.stderr, "The server closed the connection before the end of its reply\n");
    assert!(finished.stdout.ends_with(truncated), "what has come is printed");
}

#[test]
fn google_get_does_not_wait_for_ever() {
    let finished = google_get("1", |mut browser| {
        browser.read_to_end();
    });
    assert_eq!(finished.status, Some(1));
    assert!(finished.stderr.starts_with("Receive timed out"), "{}", finished.stderr);
}

#[test]
fn google_get_says_that_a_reply_is_malformed() {
    let finished = google_get("30", |mut browser| browser.send(b"SSH-2.0-OpenSSH_9.2\r\n"));
    assert_eq!(finished.status, Some(1));
    assert_eq!(finished.stderr, "The reply is malformed: invalid HTTP version\n");
}

#[test]
fn google_get_says_which_step_failed() {
    let unresolved = Process::start("google_get", &["no-such-host.invalid"]).finish();
    assert_eq!(unresolved.status, Some(1));
    assert_eq!(unresolved.stderr, "Hostname could not be resolved. Exiting\n");

    // A port that is ours and does not listen, so that no other test can be given it.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = silent.local_addr().unwrap().as_socket().expect("it is an IPv4 address").port();
    let refused = Process::start("google_get", &["127.0.0.1", &port.to_string()]).finish();
    assert_eq!(refused.status, Some(1));
    assert!(refused.stderr.starts_with("Socket connect failed"), "{}", refused.stderr);
    assert_eq!(refused.stdout, b"Socket Created\nIp address of 127.0.0.1 is 127.0.0.1\n");

    for arguments in [&["localhost", "http"][..], &["localhost", "80", "0"]] {
        assert_eq!(Process::start("google_get", arguments).finish().status, Some(2), "{arguments:?}");
    }
}

/// What `google_get` prints before a reply from this machine.
const STEPS: &str = "Socket Created\nIp address of 127.0.0.1 is 127.0.0.1\n\
                     Socket Connected to 127.0.0.1 on ip 127.0.0.1\nMessage send successfully\n";

/// Runs `google_get`, patient for so many seconds, against a server that takes its request and then does as `reply`
/// says. A server that reads to the end there keeps the connection open until `google_get` has ended.
fn google_get(patience: &str, reply: impl FnOnce(Client) + Send + 'static) -> Finished {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let client = Process::start("google_get", &["127.0.0.1", &port, patience]);
    let server = thread::spawn(move || {
        let mut browser = Client::from(listener.accept().unwrap().0);
        browser.expect(b"GET / HTTP/1.1\r\n\r\n");
        reply(browser);
    });
    let finished = client.finish();
    server.join().expect("the server was asked as expected");
    finished
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
