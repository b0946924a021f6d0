//! The example gateway, between real peers: what travels through it, what it costs while one side is slow, and what each
//! side notices of the other one's end.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use okloop::config::MOST_CONNECTING;
use okloop::protocols::BANNER;
use okloop::{Config, Ending, Reason};
use socket2::{Domain, Socket, Type};

use crate::harness::{
    Client, Embedded, Process, allow_open_files, binary, bind, crowd, eventually, loopback, lossy,
    numbered_lines,
};
use crate::vitals::Vitals;

#[path = "../../examples/gateway.rs"]
#[expect(dead_code, reason = "main is the example's")]
mod example;

/// What one direction of a pair may hold in the gateway: an input buffer, the pipe, and an output buffer (bytes).
///
/// The pipe is a vector, which may be twice as large as what it holds.
const PER_DIRECTION: u64 = (64 + 2 * 64 + 128) * 1024;

/// What the test is to the gateway: the backend.
struct Backend(TcpListener);

impl Backend {
    fn listen() -> Self {
        Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free"))
    }

    /// The kernel does not answer the next handshake: the queue of this listener is full. Returns what fills it.
    fn full() -> (Self, Client) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is left");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port is free");
        // A queue holds one connection more than its backlog.
        socket.listen(0).expect("the socket is bound");
        let backend = Self(socket.into());
        let first = Client::connect(backend.address().port());
        (backend, first)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("a bound socket has an address")
    }

    fn accept(&self) -> Client {
        Client::from(self.0.accept().expect("the gateway connects").0)
    }
}

/// The gateway in a thread of the test.
fn embedded(config: Config, backend: SocketAddr) -> Embedded {
    Embedded::run_by(bind(config), move |server| {
        let sessions = example::gateway(server.handle(), backend);
        server.run(sessions)
    })
}

/// The gateway as its users start it.
fn process(backend: SocketAddr) -> Process {
    Process::start("gateway", &["0", &backend.to_string()])
}

/// A client, and its connection at the backend.
fn pair(port: u16, backend: &Backend) -> (Client, Client) {
    (Client::connect(port), backend.accept())
}

/// More than all buffers between the client and the backend hold.
fn flood() -> Vec<u8> {
    numbered_lines(1_000_003).repeat(64)
}

#[test]
fn bytes_and_half_closes_travel_in_each_direction() {
    for client_is_first in [true, false] {
        let backend = Backend::listen();
        let gateway = embedded(loopback(), backend.address());
        let (client, theirs) = pair(gateway.port(), &backend);
        let (mut first, mut second) = if client_is_first { (client, theirs) } else { (theirs, client) };
        first.send(b"a question");
        second.expect(b"a question");
        second.send(b"an answer");
        first.expect(b"an answer");

        first.send(b"the last question");
        first.half_close();
        assert_eq!(second.read_to_end(), b"the last question");
        let answer = numbered_lines(1 << 20);
        thread::scope(|scope| {
            scope.spawn(|| second.send(&answer));
            first.expect(&answer);
        });
        second.half_close();
        assert_eq!(first.read_to_end(), b"");
        eventually("both sessions are over", || gateway.stats().open == 0);
        assert_eq!(gateway.stats().closed(Reason::Finished), 2, "{}", gateway.stats());
    }
}

#[test]
fn what_a_client_sends_before_the_backend_is_there_is_not_lost() {
    let (backend, _first) = Backend::full();
    let gateway = embedded(loopback(), backend.address());
    let mut client = Client::connect(gateway.port());
    client.send(b"a question");
    client.half_close();
    eventually("the question is in the pipe", || gateway.stats().bytes_in == 10);
    drop(backend.accept());
    // The kernel asks again after a second (RFC 6298).
    let mut theirs = backend.accept();
    assert_eq!(theirs.read_to_end(), b"a question");
    theirs.send(b"an answer");
    drop(theirs);
    assert_eq!(client.read_to_end(), b"an answer");
}

#[test]
fn sixteen_mebibytes_each_way_pass_slow_readers_and_cost_little_memory() {
    const PAIRS: u64 = 4;
    let backend = Backend::listen();
    let gateway = process(backend.address());
    let (port, whole) = (gateway.port(), numbered_lines(16 << 20));
    let ends: Vec<Client> = (0..PAIRS).flat_map(|_| <[Client; 2]>::from(pair(port, &backend))).collect();
    let vitals = Vitals::of(&gateway);
    let before = vitals.resident_memory();
    thread::scope(|scope| {
        for (number, end) in (0..).zip(ends) {
            let (mut sender, whole) = (end.split(), &whole);
            scope.spawn(move || {
                sender.send(whole);
                sender.half_close();
            });
            scope.spawn(move || {
                let (mut received, mut chunk) = (Vec::<u8>::new(), vec![0; 200_000]);
                let mut random = fastrand::Rng::with_seed(number);
                loop {
                    let most = random.usize(1..chunk.len());
                    let count = end.stream().read(&mut chunk[..most]).expect("the gateway ends in order");
                    if count == 0 {
                        break;
                    }
                    received.extend(&chunk[..count]);
                    thread::sleep(Duration::from_micros(random.u64(0..4000)));
                }
                assert!(received == *whole, "every byte comes once, in its place");
            });
        }
    });
    let most = 2 * PAIRS * PER_DIRECTION + (1 << 20);
    let more = vitals.peak_memory() - before;
    assert!(more < most, "{more} bytes for {PAIRS} pairs");
    assert_eq!(gateway.stop().status, Some(0));
}

#[test]
fn a_side_that_does_not_read_can_still_send() {
    let backend = Backend::listen();
    let (gateway, flood) = (embedded(loopback(), backend.address()), flood());
    for client_is_deaf in [true, false] {
        let (client, theirs) = pair(gateway.port(), &backend);
        let (mut deaf, mut other) = if client_is_deaf { (client, theirs) } else { (theirs, client) };
        let sent = other.send_until_full(&flood);
        for _ in 0..100 {
            deaf.send(&[b'x'; 10_000]);
            other.expect(&[b'x'; 10_000]);
        }
        deaf.expect(&flood[..sent]);
    }
}

#[test]
fn typing_arrives_letter_by_letter_and_is_echoed() {
    const ROUNDS: u32 = 100;
    let backend = Backend::listen();
    let gateway = process(backend.address());
    let (mut typist, mut theirs) = pair(gateway.port(), &backend);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        typist.send(b"a");
        theirs.expect(b"a");
        theirs.send(b"a");
        typist.expect(b"a");
        for letter in [b"b", b"c"] {
            typist.send(letter);
            theirs.expect(letter);
        }
    }
    // Nagle's algorithm would hold a letter back until the one before is acknowledged. The kernel waits 40 ms with that,
    // because it expects an answer that takes the acknowledgement with it.
    assert!(start.elapsed() < ROUNDS * Duration::from_millis(20), "{:?}", start.elapsed());

    let server = Process::okloop(&[]);
    let gateway = process(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let mut typists = crowd(20, gateway.port());
    for letter in b"ls -l /tmp" {
        for typist in &mut typists {
            typist.ask(&[*letter]);
        }
    }
}

#[test]
fn a_reset_on_one_side_ends_the_other() {
    let backend = Backend::listen();
    let gateway = embedded(loopback(), backend.address());
    for client_resets in [true, false] {
        let (client, theirs) = pair(gateway.port(), &backend);
        let (mut first, mut second) = if client_resets { (client, theirs) } else { (theirs, client) };
        first.send(b"the last words");
        second.expect(b"the last words");
        first.reset();
        assert_eq!(second.read_to_end(), b"");
        drop(second);
        eventually("both sessions are over", || gateway.stats().open == 0);
    }
    let stats = gateway.stats();
    assert_eq!((stats.closed(Reason::Reset), stats.closed(Reason::Ended)), (2, 2), "{stats}");
}

/// A session whose client has ended its direction does not read any more.
#[test]
fn a_reset_after_a_half_close_ends_the_other_side() {
    let backend = Backend::listen();
    let config = Config { linger_timeout: Duration::from_millis(50), ..loopback() };
    let gateway = embedded(config, backend.address());
    let (mut client, mut theirs) = pair(gateway.port(), &backend);
    client.half_close();
    assert_eq!(theirs.read_to_end(), b"");
    client.reset();
    eventually("both sessions are over", || gateway.stats().open == 0);
    let stats = gateway.stats();
    assert_eq!((stats.closed(Reason::Reset), stats.closed(Reason::Ended)), (1, 1), "{stats}");
}

/// A server that closes with unread input causes a reset. What it had said before is in the gateway.
#[test]
fn what_a_backend_has_said_before_a_reset_reaches_a_client_that_reads_later() {
    let backend = Backend::listen();
    let gateway = embedded(loopback(), backend.address());
    let (mut client, mut theirs) = pair(gateway.port(), &backend);
    let (flood, mut sent) = (flood(), 0);
    // Until the client's output is full, and the pipe is not: then the gateway still reads.
    while {
        let stats = gateway.stats();
        stats.bytes_in - stats.bytes_out < 80_000
    } {
        theirs.send(&flood[sent..sent + 8000]);
        sent += 8000;
        eventually("the gateway has read all", || gateway.stats().bytes_in == sent as u64);
    }
    theirs.reset();
    eventually("the gateway knows of the reset", || gateway.stats().closed(Reason::Reset) == 1);
    assert!(client.read_to_end() == flood[..sent]);
}

#[test]
fn a_backend_that_is_down_costs_its_clients_one_clear_line() {
    let backend = Backend::listen();
    let address = backend.address();
    drop(backend);
    let gateway = embedded(loopback(), address);
    for _ in 0..20 {
        let mut client = Client::connect(gateway.port());
        client.send(b"is anybody there?");
        let line = client.read_to_end();
        assert_eq!(lossy(&line), "The backend cannot be reached: Connection refused (os error 111)\n");
    }
    eventually("all sessions are over", || gateway.stats().open == 0);
    let stats = gateway.stats();
    assert_eq!((stats.closed(Reason::ConnectFailed), stats.closed(Reason::Ended)), (20, 20), "{stats}");
}

#[test]
fn a_backend_that_hangs_in_connect_costs_the_time_out_and_one_clear_line() {
    let (backend, _first) = Backend::full();
    let timeout = Duration::from_millis(300);
    let gateway = embedded(Config { connect_timeout: timeout, ..loopback() }, backend.address());
    let start = Instant::now();
    let mut client = Client::connect(gateway.port());
    assert_eq!(lossy(&client.read_to_end()), "The backend cannot be reached: timed out\n");
    assert!(start.elapsed() >= timeout);
    drop(client);
    eventually("both sessions are over", || gateway.stats().open == 0);
    let stats = gateway.stats();
    assert_eq!((stats.closed(Reason::ConnectFailed), stats.closed(Reason::Ended)), (1, 1), "{stats}");
}

#[test]
fn a_client_that_leaves_while_the_backend_hangs_cancels_the_connect() {
    let (backend, _first) = Backend::full();
    let gateway = embedded(loopback(), backend.address());
    let client = Client::connect(gateway.port());
    eventually("the connect is under way", || gateway.stats().open == 2);
    client.reset();
    eventually("both sessions are over", || gateway.stats().open == 0);
    let stats = gateway.stats();
    assert_eq!((stats.closed(Reason::Reset), stats.closed(Reason::Ended)), (1, 1), "{stats}");
}

/// The loop begins no more connections than it may have under way. The last client's connection is not begun before one of
/// the others has failed.
#[test]
#[ignore = "takes some 2 s; .ci/run runs it"]
fn the_connection_of_a_client_that_has_left_before_is_ended_when_it_is_begun() {
    const OTHERS: u64 = MOST_CONNECTING as u64;
    allow_open_files();
    let (backend, _first) = Backend::full();
    let config = Config { connect_timeout: Duration::from_secs(2), ..loopback() };
    let gateway = embedded(config, backend.address());
    let clients: Vec<Client> = (0..OTHERS).map(|_| Client::connect(gateway.port())).collect();
    eventually("all other connections are under way", || gateway.stats().open == 2 * OTHERS);
    let last = Client::connect(gateway.port());
    eventually("the last one is not", || gateway.stats().open == 2 * OTHERS + 1);
    last.reset();
    eventually("the last client has left", || gateway.stats().closed(Reason::Reset) == 1);
    for mut client in clients {
        assert_eq!(lossy(&client.read_to_end()), "The backend cannot be reached: timed out\n");
    }
    eventually("all sessions are over", || gateway.stats().open == 0);
    let stats = gateway.stats();
    assert_eq!((stats.closed(Reason::ConnectFailed), stats.closed(Reason::Ended)), (OTHERS, OTHERS + 1));
}

#[test]
fn a_gateway_that_is_full_says_so() {
    let backend = Backend::listen();
    let gateway = embedded(Config { max_connections: 3, ..loopback() }, backend.address());
    let (mut client, mut theirs) = pair(gateway.port(), &backend);
    // There is room for this client, and none for its connection to the backend.
    let mut second = Client::connect(gateway.port());
    let line = lossy(&second.read_to_end());
    assert!(line.starts_with("The backend cannot be reached: "), "{line}");
    drop(second);
    client.send(b"still there?");
    theirs.expect(b"still there?");
}

#[test]
fn a_stop_lets_the_backend_answer_what_was_asked_before() {
    let backend = Backend::listen();
    let gateway = process(backend.address());
    let (mut client, mut theirs) = pair(gateway.port(), &backend);
    let (mut silent, mut other) = pair(gateway.port(), &backend);
    client.send(b"a question");
    theirs.expect(b"a question");
    gateway.signal(SIGTERM);
    assert_eq!(theirs.read_to_end(), b"");
    let answer = numbered_lines(1 << 20);
    thread::scope(|scope| {
        scope.spawn(|| {
            theirs.send(&answer);
            theirs.half_close();
        });
        assert!(client.read_to_end() == answer);
        client.half_close();
    });
    assert_eq!(other.read_to_end(), b"");
    other.half_close();
    assert_eq!(silent.read_to_end(), b"");
    silent.half_close();
    let finished = gateway.finish();
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
}

#[test]
fn a_backend_that_ignores_the_drain_is_waited_for_until_the_time_out() {
    let backend = Backend::listen();
    let timeout = Duration::from_millis(300);
    let gateway = embedded(Config { drain_timeout: timeout, ..loopback() }, backend.address());
    let (mut client, mut theirs) = pair(gateway.port(), &backend);
    let start = Instant::now();
    let (ending, stats) = gateway.stop();
    assert!(start.elapsed() >= timeout);
    assert_eq!((ending, stats.closed(Reason::DrainTimeout)), (Ending::TimedOut, 2), "{stats}");
    assert_eq!((client.read_to_end(), theirs.read_to_end()), (vec![], vec![]));
}

#[test]
fn a_backend_that_is_killed_and_started_again_is_used_again() {
    let server = Process::okloop(&[]);
    let port = server.port();
    let gateway = process(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let mut clients = crowd(20, gateway.port());
    for client in &mut clients {
        client.ask(b"hello");
    }
    server.signal(SIGKILL);
    assert_eq!(server.finish().status, None);
    for client in &mut clients {
        assert_eq!(client.read_to_end(), b"");
    }
    let line = Client::connect(gateway.port()).read_to_end();
    assert!(line.starts_with(b"The backend cannot be reached: "), "{}", lossy(&line));

    let again = Process::start("okloop", &["--host", "127.0.0.1", "--port", &port.to_string()]);
    again.port();
    Client::greeted(gateway.port()).ask(b"still there?");
}

/// Each client needs two files. If the number of free ones is odd, the last client gets no connection to the backend. If it
/// is even, the last client waits to be accepted.
#[test]
fn without_open_files_one_attempt_fails_and_the_others_go_on() {
    let server = Process::okloop(&[]);
    let backend = format!("127.0.0.1:{}", server.port());
    let lines = [31, 32].map(|limit| {
        let script = format!("ulimit -n {limit}; exec \"$0\" 0 \"$1\"");
        let mut command = Command::new("sh");
        let gateway = Process::spawn(command.args(["-c", &script]).arg(binary("gateway")).arg(&backend));
        let (port, vitals) = (gateway.port(), Vitals::of(&gateway));
        let (before, mut answered) = (vitals.open_files(), Vec::new());
        let line = loop {
            let client = Client::connect(port);
            match client.first_within(Duration::from_millis(500)) {
                banner if banner == BANNER => answered.push(client),
                line => break lossy(&line),
            }
        };
        assert!(answered.len() > 5, "{} clients", answered.len());
        drop(answered.pop());
        eventually("two files are free", || vitals.open_files() == before + 2 * answered.len());
        answered.push(Client::greeted(port));
        for client in &mut answered {
            client.ask(b"still there?");
        }
        line
    });
    let line = "The backend cannot be reached: Too many open files (os error 24)\n";
    assert!(lines == ["", line] || lines == [line, ""], "{lines:?}");
}

#[test]
#[ignore = "takes some 3 s; .ci/run runs it"]
fn five_thousand_clients_are_served_and_leave_nothing_behind() {
    allow_open_files();
    let server = Process::okloop(&[]);
    let gateway = process(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let (port, vitals) = (gateway.port(), [&server, &gateway].map(Vitals::of));
    let before = vitals.each_ref().map(Vitals::open_files);
    let mut clients: Vec<Client> = (0..10).flat_map(|_| crowd(500, port)).collect();
    assert_eq!(vitals[1].open_files(), before[1] + 10_000);
    for client in &mut clients {
        client.send(b"hello");
    }
    for client in &mut clients {
        client.expect(b"OK...hello");
    }
    drop(clients);
    eventually("all files are closed", || vitals.each_ref().map(Vitals::open_files) == before);
    Client::greeted(port).ask(b"still there?");
    gateway.stop();
}

#[test]
#[ignore = "needs redis; .ci/run installs and runs it"]
fn redis_is_as_good_through_it() {
    let port = Backend::listen().address().port().to_string();
    let mut redis = Command::new("redis-server");
    let redis = Process::spawn(redis.args(["--bind", "127.0.0.1", "--save", "", "--port", &port]));
    redis.line_with("Ready to accept connections");
    let gateway = process(format!("127.0.0.1:{port}").parse().expect("an address and a port"));
    let through = gateway.port().to_string();

    // One after the other, many, pipelined, and with large values.
    for load in ["-n 2000 -c 1", "-n 20000 -c 50", "-n 50000 -c 50 -P 16", "-n 500 -c 20 -d 3000"] {
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", &through, "-q", "-t", "set,get,lrange_100"]).args(load.split(' '));
        let output = command.output().expect("redis-benchmark is installed");
        let text = lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", lossy(&output.stderr));
        // LRANGE has its list from LPUSH.
        assert_eq!(text.matches("requests per second").count(), 4, "{text}");
    }
    let ask = |arguments: &[&str]| {
        let mut command = Command::new("redis-cli");
        lossy(
            &command.args(["-p", &through]).args(arguments).output().expect("redis-cli is installed").stdout,
        )
    };
    let value = lossy(&numbered_lines(100_000));
    assert_eq!(ask(&["SET", "key", value.trim_end()]), "OK\n");
    assert_eq!(ask(&["GET", "key"]), format!("{}\n", value.trim_end()));
    gateway.stop();
    redis.stop();
}
