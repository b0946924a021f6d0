//! Connections that the server opens itself: each has a session, which learns how the attempt ends.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use okloop::config::CONNECT_QUEUE;
use okloop::{
    Address, Buffer, Config, ConnectQueueFull, Ending, Handle, Origin, Reason, Server, Session, Step, Waker,
};

use crate::harness::{Client, DEADLINE, Embedded, FULL, eventually, loopback};

/// What a session tells the test.
#[derive(Debug, PartialEq)]
enum News {
    Began(Address, Waker),
    Opened,
    Failed(ErrorKind),
    Closed(Reason),
}

/// Greets with its tag, and echoes. Accepted ones have the tag 0.
struct Talker {
    tag: u64,
    news: Sender<(u64, News)>,
}

impl Talker {
    fn tell(&self, news: News) {
        // It fails if the test is over.
        let _ = self.news.send((self.tag, news));
    }
}

impl Session for Talker {
    fn connect_failed(&mut self, error: &io::Error) {
        self.tell(News::Failed(error.kind()));
    }

    fn greet(&mut self, output: &mut Buffer) {
        writeln!(output, "{}", self.tag);
        self.tell(News::Opened);
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        output.push(input);
        Step::Consumed(input.len())
    }

    fn closed(&mut self, reason: Reason) {
        self.tell(News::Closed(reason));
    }
}

/// A server of such sessions, and what they tell.
struct Talkers {
    server: Embedded,
    handle: Handle,
    news: Receiver<(u64, News)>,
}

impl Talkers {
    fn run(config: Config) -> Self {
        Self::run_bound(Server::bind(config).expect("a port is free"))
    }

    fn run_bound(server: Server) -> Self {
        let (handle, (sender, news)) = (server.handle(), channel());
        let server = Embedded::run(server, move |client| {
            let tag = if let Origin::Outgoing(tag) = client.origin { tag } else { 0 };
            let session = Talker { tag, news: sender.clone() };
            session.tell(News::Began(client.peer, client.waker));
            session
        });
        Self { server, handle, news }
    }

    fn connect(&self, address: SocketAddr, tag: u64) {
        self.handle.connect(address, tag).expect("few connections are asked for");
    }

    fn next(&self) -> (u64, News) {
        self.news.recv_timeout(*DEADLINE).expect("something happens in time")
    }

    /// The connection with this tag is begun next.
    fn begun(&self, expected: u64) -> Waker {
        match self.next() {
            (tag, News::Began(_, waker)) if tag == expected => waker,
            other => panic!("{other:?}"),
        }
    }
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free")
}

fn address_of(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("a bound socket has an address")
}

fn accept(listener: &TcpListener) -> Client {
    Client::from(listener.accept().expect("the server connects").0)
}

/// An address of this machine where nothing listens.
fn closed_port() -> SocketAddr {
    address_of(&listener())
}

#[test]
fn another_thread_opens_a_connection_while_the_loop_sleeps() {
    let (listener, server) = (listener(), Server::new(loopback()).expect("the system has room"));
    let address = address_of(&listener);
    let talkers = Talkers::run_bound(server);
    for tag in [7, u64::MAX] {
        // By now the loop sleeps.
        thread::sleep(Duration::from_millis(20));
        talkers.connect(address, tag);
        let mut theirs = accept(&listener);
        theirs.expect(format!("{tag}\n").as_bytes());
        let (began, News::Began(peer, _)) = talkers.next() else { panic!("it is begun first") };
        assert_eq!((began, peer), (tag, Address::Ip(address)));
        assert_eq!(talkers.next(), (tag, News::Opened));
        theirs.send(b"hello");
        theirs.expect(b"hello");
        theirs.half_close();
        assert_eq!(theirs.read_to_end(), b"");
        assert_eq!(talkers.next(), (tag, News::Closed(Reason::Finished)));
    }
    let (ending, stats) = talkers.server.stop();
    assert_eq!((ending, stats.accepted, stats.peak), (Ending::Drained, 0, 1));
}

#[test]
fn one_connection_more_than_the_queue_holds_is_an_error_and_none_of_the_others_is_lost() {
    let server = Server::new(loopback()).expect("the system has room");
    let (handle, address) = (server.handle(), closed_port());
    let tags = 1..=CONNECT_QUEUE as u64;
    tags.clone().for_each(|tag| handle.connect(address, tag).expect("the queue has room"));
    assert_eq!(handle.connect(address, 0), Err(ConnectQueueFull));

    let talkers = Talkers::run_bound(server);
    let (mut failed, mut closed) = (Vec::new(), Vec::new());
    while closed.len() < CONNECT_QUEUE {
        match talkers.next() {
            (tag, News::Failed(ErrorKind::ConnectionRefused)) => failed.push(tag),
            (tag, News::Closed(Reason::ConnectFailed)) => closed.push(tag),
            (_, News::Began(..)) => {}
            other => panic!("{other:?}"),
        }
    }
    failed.sort_unstable();
    closed.sort_unstable();
    assert_eq!((&failed, &closed), (&tags.clone().collect(), &tags.collect()));

    let listener = listener();
    talkers.connect(address_of(&listener), 9999);
    let mut theirs = accept(&listener);
    theirs.expect(b"9999\n");
    eventually("only this one is open", || talkers.server.stats().open == 1);
}

#[test]
fn an_attempt_that_the_system_refuses_fails_alone() {
    let (listener, talkers) = (listener(), Talkers::run(loopback()));
    // TCP has no multicast.
    talkers.connect(SocketAddr::from(([224, 0, 0, 1], 9)), 1);
    talkers.begun(1);
    assert!(matches!(talkers.next(), (1, News::Failed(_))));
    assert_eq!(talkers.next(), (1, News::Closed(Reason::ConnectFailed)));
    talkers.connect(address_of(&listener), 2);
    let mut theirs = accept(&listener);
    theirs.expect(b"2\n");
    eventually("only this one is open", || talkers.server.stats().open == 1);
    assert_eq!(talkers.server.stop().1.closed(Reason::ConnectFailed), 1);
}

#[test]
fn both_directions_count_against_the_connection_limit() {
    let (listener, talkers) = (listener(), Talkers::run(Config { max_connections: 2, ..loopback() }));
    let address = address_of(&listener);
    let mut client = Client::connect(talkers.server.port());
    client.expect(b"0\n");
    talkers.connect(address, 1);
    let mut theirs = accept(&listener);
    theirs.expect(b"1\n");
    assert_eq!(talkers.server.stats().open, 2);

    assert_eq!(Client::connect(talkers.server.port()).read_to_end(), FULL);
    talkers.connect(address, 2);
    let mut news = std::iter::repeat_with(|| talkers.next()).filter(|(tag, _)| *tag == 2);
    assert!(matches!(news.next(), Some((2, News::Began(..)))));
    assert_eq!(news.next(), Some((2, News::Failed(ErrorKind::QuotaExceeded))));
    assert_eq!(news.next(), Some((2, News::Closed(Reason::ConnectFailed))));

    drop(client);
    eventually("there is room", || talkers.server.stats().open == 1);
    talkers.connect(address, 3);
    accept(&listener).expect(b"3\n");
    theirs.send(b"still there?");
    theirs.expect(b"still there?");
}

/// The accepted ones may need them.
#[test]
fn outgoing_connections_drain_after_all_accepted_ones_have_ended() {
    let (listener, talkers) = (listener(), Talkers::run(loopback()));
    let mut client = Client::connect(talkers.server.port());
    client.expect(b"0\n");
    talkers.connect(address_of(&listener), 1);
    let mut theirs = accept(&listener);
    theirs.expect(b"1\n");

    talkers.handle.stop();
    assert_eq!(client.read_to_end(), b"");
    // This one is opened although the server stops.
    talkers.connect(address_of(&listener), 2);
    let mut late = accept(&listener);
    late.expect(b"2\n");
    for theirs in [&mut theirs, &mut late] {
        assert_eq!(theirs.receive_for(Duration::from_millis(100)), b"");
        theirs.send(b"still there?");
        theirs.expect(b"still there?");
    }
    drop(client);
    for mut theirs in [theirs, late] {
        assert_eq!(theirs.read_to_end(), b"");
    }
    let (ending, stats) = talkers.server.finish();
    assert_eq!((ending, stats.closed(Reason::Drained)), (Ending::Drained, 3), "{stats}");
}

#[test]
fn a_connection_that_is_asked_for_while_the_outgoing_ones_drain_drains_too() {
    let (listener, talkers) = (listener(), Talkers::run(loopback()));
    talkers.connect(address_of(&listener), 1);
    let mut theirs = accept(&listener);
    theirs.expect(b"1\n");
    talkers.handle.stop();
    assert_eq!(theirs.read_to_end(), b"");
    talkers.connect(address_of(&listener), 2);
    let mut late = accept(&listener);
    late.read_to_end();
    drop((theirs, late));
    let (ending, stats) = talkers.server.finish();
    assert_eq!((ending, stats.closed(Reason::Drained)), (Ending::Drained, 2), "{stats}");
}

/// The kernel does not answer a handshake while the listener's queue is full. Other systems refuse it.
#[cfg(target_os = "linux")]
mod hanging {
    use std::time::Instant;

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// A listener whose queue is full, and what fills it.
    fn full() -> (TcpListener, Client) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is left");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port is free");
        // A queue holds one connection more than its backlog.
        socket.listen(0).expect("the socket is bound");
        let listener = TcpListener::from(socket);
        let first = Client::connect(address_of(&listener).port());
        (listener, first)
    }

    #[test]
    fn a_connection_that_hangs_fails_after_the_time_out() {
        let timeout = Duration::from_millis(200);
        let talkers = Talkers::run(Config { connect_timeout: timeout, ..loopback() });
        let ((listener, _first), start) = (full(), Instant::now());
        talkers.connect(address_of(&listener), 1);
        talkers.begun(1);
        assert_eq!(talkers.next(), (1, News::Failed(ErrorKind::TimedOut)));
        assert_eq!(talkers.next(), (1, News::Closed(Reason::ConnectFailed)));
        assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
    }

    #[test]
    fn a_connection_that_hangs_ends_through_its_waker() {
        let (talkers, (listener, _first)) = (Talkers::run(loopback()), full());
        talkers.connect(address_of(&listener), 1);
        let waker = talkers.begun(1);
        // A wake is a hint. There is nothing to say yet.
        waker.wake();
        waker.end();
        assert_eq!(talkers.next(), (1, News::Closed(Reason::Ended)));
        assert_eq!(talkers.server.stop().1.closed(Reason::Ended), 1);
    }

    #[test]
    fn a_stop_does_not_wait_for_a_connection_that_hangs() {
        let hour = Duration::from_secs(3600);
        let config = Config { connect_timeout: hour, drain_timeout: hour, ..loopback() };
        let (talkers, (listener, _first)) = (Talkers::run(config), full());
        talkers.connect(address_of(&listener), 1);
        talkers.begun(1);
        talkers.handle.stop();
        assert_eq!(talkers.next(), (1, News::Closed(Reason::Drained)));
        assert_eq!(talkers.server.finish().0, Ending::Drained);
    }
}
