//! Every rung of the ladder, run as a process the way its header says: the servers here, the client, `google_get`, in a
//! module of its own, and in another what only the loops do.

mod client;
mod loops;
mod neighbours;

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use okloop::protocols::{BANNER, CHUNK, PREFIX};
use socket2::{Domain, Socket, Type};

use crate::harness::{Client, Process, binary, chunks_of, eventually, full_device, lossy, numbered_lines};

/// The servers from the lowest rung to the highest.
const SERVERS: [&str; 8] = [
    "echo_once",
    "one_at_a_time",
    "thread_per_connection",
    "poll_all",
    "tiny_event_loop",
    "loop_backpressure",
    "loop_fair",
    "loop_deadlines",
];

/// The servers with a protocol of their own.
const PROTOCOLS: [&str; 2] = ["upper", "line_server"];

/// The servers that hold a conversation with many clients.
const GREETING_SERVERS: &[&str] = SERVERS.split_at(2).1;

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
    let wrong_port = SERVERS.into_iter().chain(PROTOCOLS).map(|name| (name, vec!["65536"]));
    let others = [
        ("thread_per_connection", vec!["0", "words"]),
        ("loop_deadlines", vec!["0", "0"]),
        ("loop_deadlines", vec!["0", "soon"]),
        ("poll_all", vec!["--port"]),
    ];
    for (name, arguments) in wrong_port.chain(others) {
        let finished = Process::start(name, &arguments).finish();
        assert_eq!(finished.status, Some(2), "{name} {arguments:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{name} {arguments:?}: {}", finished.stderr);
    }
}

#[test]
fn help_and_an_argument_too_many_get_a_line_on_how_to_use_it() {
    for (name, usage, most) in [
        ("google_get", "[HOST] [PORT] [SECONDS]", 3),
        ("echo_once", "[PORT]", 1),
        ("one_at_a_time", "[PORT]", 1),
        ("thread_per_connection", "[PORT] [chunks|lines]", 2),
        ("poll_all", "[PORT]", 1),
        ("tiny_event_loop", "[PORT]", 1),
        ("loop_backpressure", "[PORT]", 1),
        ("loop_fair", "[PORT]", 1),
        ("loop_deadlines", "[PORT] [SECONDS]", 2),
        ("upper", "[PORT]", 1),
        ("line_server", "[PORT]", 1),
    ] {
        let usage = format!("Usage: {name} {usage}\n");
        let asked = Process::start(name, &["--help"]).finish();
        assert_eq!((asked.status, lossy(&asked.stdout)), (Some(0), usage.clone()), "{name}");
        let too_many = [&["localhost", "80", "1"][..most], &["more"]].concat();
        let too_many = Process::start(name, &too_many).finish();
        assert_eq!(too_many.status, Some(2), "{name}");
        assert!(too_many.stdout.is_empty() && too_many.stderr.ends_with(&usage), "{}", too_many.stderr);
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

/// The client's kernel has room for one segment of 600 bytes, so the rest of the echo waits in the server's kernel.
#[test]
fn echo_once_loses_a_part_of_the_echo_if_it_closes_with_unread_input() {
    for _ in 0..3 {
        let server = Process::start("echo_once", &["0"]);
        let mut client = client_with_little_memory(server.port());
        client.send(&[b'x'; 2000]);
        // `send` has taken the whole echo.
        assert_eq!(server.finish().status, Some(0));
        let mut echo = Vec::new();
        let error = client.stream().read_to_end(&mut echo).expect_err("the connection is reset");
        assert_eq!((error.kind(), echo.len()), (ErrorKind::ConnectionReset, 600));
    }
    let server = Process::start("echo_once", &["0"]);
    let mut client = client_with_little_memory(server.port());
    client.send(&[b'x'; 1024]);
    assert_eq!(server.finish().status, Some(0));
    assert_eq!(client.read_to_end().len(), 1024);
}

fn client_with_little_memory(port: u16) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // The kernel raises it to its own least size (socket(7)).
    socket.set_recv_buffer_size(1).unwrap();
    socket.set_tcp_mss(600).unwrap();
    socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    TcpStream::from(socket).into()
}

#[test]
fn echo_once_says_in_a_line_that_its_client_was_lost() {
    let server = Process::start("echo_once", &["0"]);
    Client::connect(server.port()).reset();
    let finished = server.finish();
    assert_eq!(finished.status, Some(1));
    assert_eq!(finished.stderr, "Client lost: Connection reset by peer (os error 104)\n");
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
fn one_at_a_time_goes_on_immediately_after_a_client_that_resets() {
    let server = Process::start("one_at_a_time", &["0"]);
    let port = server.port();
    let start = Instant::now();
    for _ in 0..100 {
        Client::connect(port).reset();
    }
    Client::connect(port).ask(b"my turn");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?} for 100 clients that were gone");
}

#[test]
fn many_sessions_are_served_for_as_long_as_they_last() {
    for &name in GREETING_SERVERS {
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
    for &name in GREETING_SERVERS {
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
    for &name in GREETING_SERVERS {
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
#[ignore = "takes some 3 s; .ci/run runs it"]
fn a_client_that_does_not_read_stops_nobody_and_loses_nothing() {
    // More than the kernel's buffers take in both directions.
    let payload = numbered_lines(32 << 20);
    for &name in GREETING_SERVERS {
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
fn thread_per_connection_answers_a_line_longer_than_a_buffer_in_pieces() {
    let server = Process::start("thread_per_connection", &["0", "lines"]);
    let mut client = Client::greeted(server.port());
    let piece = vec![b'x'; 16 * CHUNK];
    let answer = client.exchange(&[&piece[..], b"end\n"].concat());
    assert!(answer == [PREFIX, &piece, PREFIX, b"end\n"].concat());
}

#[test]
fn a_lack_of_descriptors_ends_no_session_and_waiting_clients_come_in_after_it() {
    for name in ["thread_per_connection", "poll_all", "loop_fair", "loop_deadlines"] {
        let server = with_few_descriptors(name);
        let port = server.port();
        let mut first: Vec<Client> = (0..8).map(|_| Client::greeted(port)).collect();
        let waiting: Vec<Client> = (0..16).map(|_| Client::connect(port)).collect();
        server.complaint_with("No session: Too many open files");
        for client in &mut first {
            client.ask(b"still there?");
        }
        drop(first);
        // Those in front make room for those behind.
        for mut client in waiting {
            client.expect(BANNER);
            client.ask(b"at last");
        }
    }
}

#[test]
fn a_loop_that_cannot_recover_from_a_lack_of_descriptors_says_so() {
    for name in ["tiny_event_loop", "loop_backpressure"] {
        let server = with_few_descriptors(name);
        let port = server.port();
        let _clients: Vec<Client> = (0..16).map(|_| Client::connect(port)).collect();
        server.complaint_with("No session: Too many open files");
    }
}

#[test]
fn a_full_stdout_ends_no_server() {
    for name in SERVERS.into_iter().chain(PROTOCOLS) {
        // Held for the server, which cannot say which port it would have chosen.
        let holder = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        holder.set_reuse_address(true).unwrap();
        holder.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).unwrap();
        let port = holder.local_addr().unwrap().as_socket().expect("it is an IPv4 address").port();
        let _server = with_full_stdout(name, &[&port.to_string()]);

        let mut connected = None;
        eventually("it listens", || {
            connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok();
            connected.is_some()
        });
        let mut client = Client::from(connected.expect("it has just connected"));
        client.send(b"hello\n");
        client.half_close();
        assert!(client.read_to_end().to_ascii_lowercase().ends_with(b"hello\n"), "{name}");
    }
}

#[test]
fn a_closed_stdout_ends_no_server() {
    for name in SERVERS {
        let mut child = Command::new(binary(name)).arg("0").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let _server = Process::from(child);
        let listening = lines.nth(2).expect("there are three lines").unwrap();
        drop(lines);

        let port = listening.rsplit(':').next().unwrap().parse().unwrap();
        for _ in 0..if name == "echo_once" { 1 } else { 2 } {
            let mut client = Client::connect(port);
            client.send(b"hello");
            client.half_close();
            assert!(client.read_to_end().ends_with(b"hello"), "{name}");
        }
    }
}

/// Starts a server that may have 16 open files.
fn with_few_descriptors(name: &str) -> Process {
    Process::spawn(Command::new("sh").args(["-c", "ulimit -S -n 16; exec \"$0\" 0"]).arg(binary(name)))
}

/// Starts a rung that can print nothing, as if its output were on a disk that is full.
fn with_full_stdout(name: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new(binary(name));
    command.args(arguments).stdout(full_device()).stderr(Stdio::piped()).spawn().expect("it starts").into()
}
