//! The committed `haproxy` configuration, run by the real program before two servers.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::{env, fs, thread};

use nix::sys::signal::Signal;
use okloop::protocols::BANNER;
use socket2::{Domain, Socket, Type};

use crate::harness::{
    Client, DEADLINE, Finished, Process, TELNET_BANNER, chunks_of, eventually, lossy, numbered_lines,
};

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/deploy/haproxy.cfg");

#[test]
#[ignore = "needs haproxy; .ci/run installs and runs it"]
fn sessions_of_a_stopping_server_end_with_nothing_owed_and_new_ones_go_to_the_other() {
    const SESSIONS: usize = 20;
    let payload = numbered_lines(20_000);
    let (a, b) = (Server::start(), Server::start());
    let balancer = Balancer::start(&a, &b);
    let mut clients = balancer.open(SESSIONS);
    assert_eq!((balancer.sessions("a"), balancer.sessions("b")), (SESSIONS / 2, SESSIONS / 2));

    // One of them is told to stop when everything has reached it, and it has not yet read a byte.
    a.process.signal(Signal::SIGSTOP);
    for client in &mut clients {
        client.send(&payload);
    }
    let half = SESSIONS / 2 * payload.len();
    b.wait_for_bytes(half, SESSIONS / 2);
    eventually("everything is in the sockets of the stopped server", || unread_bytes(a.port) == half);
    a.process.signal(Signal::SIGTERM);
    a.process.signal(Signal::SIGCONT);
    a.process.line_with("Stopping: ");
    let mut newcomers = balancer.open(5);

    let mut senders: Vec<Client> = clients.iter().map(Client::split).collect();
    let (ended, ends) = channel();
    let readers: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(number, mut client)| {
            let ended = ended.clone();
            thread::spawn(move || {
                let answers = client.read_to_end();
                ended.send(number).expect("the test waits for it");
                client.half_close();
                answers
            })
        })
        .collect();

    a.expect_clean_end();
    // A client says so before it ends its own side, and the server has waited for that.
    let gone: Vec<usize> = ends.try_iter().collect();
    assert_eq!(gone.len(), SESSIONS / 2);

    ask_all(&mut newcomers, b"hello");
    assert_eq!(balancer.sessions("b"), SESSIONS / 2 + newcomers.len());
    drop(newcomers);
    let stayed = (0..SESSIONS).filter(|number| !gone.contains(number));
    stayed.for_each(|number| senders[number].send(b"still there?"));
    b.wait_for_bytes(half + 5 * b"hello".len() + SESSIONS / 2 * b"still there?".len(), SESSIONS / 2 + 5);
    eventually("the newcomers have left", || balancer.sessions("b") == SESSIONS / 2);
    b.process.signal(Signal::SIGTERM);
    b.expect_clean_end();
    for (number, reader) in readers.into_iter().enumerate() {
        let answers = reader.join().expect("every session ends in order");
        let more: &[u8] = if gone.contains(&number) { b"" } else { b"still there?" };
        chunks_of(&[&payload[..], more].concat(), &answers);
    }
}

#[test]
#[ignore = "needs haproxy; .ci/run installs and runs it"]
fn a_server_can_be_emptied_without_hurrying_anybody() {
    let (a, b) = (Server::start(), Server::start());
    let balancer = Balancer::start(&a, &b);
    let mut early = balancer.open(6);
    balancer.command("set server okloop/a state drain");
    let mut late = balancer.open(6);
    assert_eq!((balancer.sessions("a"), balancer.sessions("b")), (3, 9));
    ask_all(&mut early, b"hello");
    ask_all(&mut late, b"hello");

    drop(early);
    eventually("the drained server is empty", || balancer.sessions("a") == 0);
    a.process.signal(Signal::SIGTERM);
    assert_eq!(a.process.finish().status, Some(0));
    ask_all(&mut late, b"still there?");
}

#[test]
#[ignore = "needs haproxy; .ci/run installs and runs it"]
fn a_full_server_gets_no_sessions_until_it_has_room() {
    let (small, large) = (Server::with(&["--max-connections", "1"]), Server::start());
    let mut inside = Client::connect(small.port);
    inside.send(b"PROXY UNKNOWN\r\n");
    inside.expect(BANNER);
    let balancer = Balancer::start(&small, &large);
    eventually("the check finds that it is full", || balancer.status("a") == "DOWN");
    let mut elsewhere = balancer.open(4);
    ask_all(&mut elsewhere, b"hello");

    drop(inside);
    eventually("the check finds that there is room", || balancer.status("a").starts_with("UP"));
}

#[test]
#[ignore = "needs haproxy; .ci/run installs and runs it"]
fn one_address_cannot_take_every_session() {
    const PER_SOURCE: usize = 100;
    let greedy = Ipv4Addr::new(127, 0, 0, 2);
    let other = Ipv4Addr::new(127, 0, 0, 3);
    let (a, b) = (Server::start(), Server::start());
    let balancer = Balancer::start(&a, &b);

    let mut clients: Vec<Client> = (0..PER_SOURCE).map(|_| balancer.connect_from(greedy)).collect();
    for client in &mut clients {
        client.expect(BANNER);
    }
    assert!(is_refused(&balancer.connect_from(greedy)));
    assert!(!is_refused(&balancer.connect_from(other)));
    ask_all(&mut clients, b"hello");

    drop(clients.pop());
    eventually("the address has room for one session more", || !is_refused(&balancer.connect_from(greedy)));
}

#[test]
#[ignore = "needs haproxy; .ci/run installs and runs it"]
fn the_servers_see_the_clients_addresses_and_not_the_balancers() {
    let options = ["--telnet", "--framing", "lines", "--log-level", "debug"];
    let (a, b) = (Server::with(&options), Server::with(&options));
    let balancer = Balancer::start(&a, &b);
    let mut clients: Vec<Client> =
        (2..8).map(|number| balancer.connect_from(Ipv4Addr::new(127, 0, 0, number))).collect();
    for client in &mut clients {
        client.expect(TELNET_BANNER);
        client.send(b"he\xff\xf1llo\r\n");
        client.expect(b"OK...hello\r\n");
    }
    let addresses: Vec<String> = clients.iter().map(|client| client.address().to_string()).collect();
    for client in &mut clients {
        client.half_close();
        client.read_to_end();
    }
    let logs = || [&a, &b].map(|server| lossy(&server.process.stdout())).concat();
    for address in addresses {
        let count = |text: &str| logs().matches(text).count();
        eventually("its end is logged", || count(&format!("{address} closed: finished")) == 1);
        assert_eq!(count(&format!("Connected with {address} through 127.0.0.1:")), 1);
    }
    let is_check = |line: &str| line.ends_with("a proxy that names no client");
    eventually("the checks are served too", || logs().lines().any(is_check));
    let log = logs();
    let connected = log.lines().filter(|line| line.contains("Connected with ") && !is_check(line)).count();
    assert_eq!(connected, clients.len(), "{log}");
}

fn ask_all(clients: &mut [Client], message: &[u8]) {
    for client in clients {
        client.ask(message);
    }
}

/// Whether the balancer closes the connection instead of passing on a server's banner.
fn is_refused(client: &Client) -> bool {
    match client.stream().read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) => panic!("neither a banner nor an end: {error}"),
    }
}

/// How many bytes wait in the sockets of a local port to be read, without those of the balancer's checks: a header.
fn unread_bytes(port: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let queue = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, received) = fields.get(4)?.split_once(':')?;
        let ours = fields[1].ends_with(&format!(":{port:04X}"));
        let received = usize::from_str_radix(received, 16).expect("it is a number");
        (ours && received > 16).then_some(received)
    };
    table.lines().filter_map(queue).sum()
}

/// A server behind the balancer.
struct Server {
    process: Process,
    port: u16,
}

impl Server {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(options: &[&str]) -> Self {
        let process = Process::start(
            "okloop",
            &[&["--host", "127.0.0.1", "--port", "0", "--proxy-protocol"], options].concat(),
        );
        let port = process.port();
        Self { process, port }
    }

    /// Waits until so many bytes have come from `sessions` clients together. Each session and each check has a header.
    fn wait_for_bytes(&self, count: usize, sessions: usize) {
        let (of_session, of_check) = (28, 16);
        eventually("all bytes have come", || {
            let stats = self.process.stats();
            let headers = of_session * sessions as u64 + of_check * (stats.accepted - sessions as u64);
            stats.bytes_in == count as u64 + headers
        });
    }

    /// Waits for the end of a server that was told to stop: every session ended in order, none had to be cut.
    fn expect_clean_end(self) {
        let Finished { status, stdout, .. } = self.process.finish();
        let counters = String::from_utf8_lossy(&stdout);
        assert_eq!(status, Some(0));
        assert!(
            counters.contains(" write_timeout=0 ") && counters.contains(" drain_timeout=0 "),
            "{counters}"
        );
    }
}

/// `HAProxy`, as it is configured in `examples/deploy/`, with ports of our own.
struct Balancer {
    /// The port that clients connect to.
    port: u16,
    admin: PathBuf,
    _process: Process,
}

impl Balancer {
    fn start(a: &Server, b: &Server) -> Self {
        // Its listening socket is ours and its standard input: clients can connect before it has come to life.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let admin = env::temp_dir().join(format!("okloop-haproxy-{port}.sock"));
        let child = Command::new("haproxy")
            .args(["-db", "-f", CONFIGURATION])
            .env("OKLOOP_FRONT", "fd@0")
            .env("OKLOOP_ADMIN", &admin)
            .env("OKLOOP_A", format!("127.0.0.1:{}", a.port))
            .env("OKLOOP_B", format!("127.0.0.1:{}", b.port))
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("haproxy is installed");
        let balancer = Self { port, admin, _process: Process::from(child) };
        eventually("the admin socket is there", || UnixStream::connect(&balancer.admin).is_ok());
        balancer
    }

    /// Opens so many sessions and waits for each banner.
    fn open(&self, count: usize) -> Vec<Client> {
        (0..count).map(|_| Client::greeted(self.port)).collect()
    }

    /// Connects from one of this machine's addresses. The balancer may refuse the session.
    fn connect_from(&self, source: Ipv4Addr) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is left");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("127.0.0.0/8 is this machine");
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)).into()).expect("it listens");
        Client::from(TcpStream::from(socket))
    }

    /// How many sessions a server has in the balancer's opinion; its checks are not among them.
    fn sessions(&self, server: &str) -> usize {
        self.column(server, "scur").parse().expect("it is a number")
    }

    fn status(&self, server: &str) -> String {
        self.column(server, "status")
    }

    /// A column of a server's line in the statistics.
    fn column(&self, server: &str, name: &str) -> String {
        let table = self.command("show stat");
        let mut lines = table.lines();
        let names = lines.next().expect("the table has a head").trim_start_matches("# ");
        let place = names.split(',').position(|column| column == name).expect("the column exists");
        let row =
            lines.find(|line| line.starts_with(&format!("okloop,{server},"))).expect("the server is known");
        row.split(',').nth(place).expect("rows are as long as the head").to_owned()
    }

    /// What the operator types, and what comes back.
    fn command(&self, line: &str) -> String {
        let mut socket = UnixStream::connect(&self.admin).expect("the admin socket is there");
        socket.set_read_timeout(Some(*DEADLINE)).expect("the time-out is not zero");
        writeln!(socket, "{line}").expect("the command fits");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("the answer ends");
        answer
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.admin);
    }
}
