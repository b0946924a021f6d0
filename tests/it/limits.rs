//! The connection limit, the accept queue, the time-outs' options, and a port that servers share.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use okloop::protocols::Framing;
use okloop::{Config, Reason};

use crate::harness::{Client, DEADLINE, Embedded, FULL, Process, bind, loopback, port_of};
use crate::vitals::{Vitals, while_stopped};

#[test]
fn a_client_above_the_limit_gets_one_line_and_a_clean_close() {
    let server = Embedded::start(limited(2), Framing::Chunks);
    let mut inside = [Client::greeted(server.port()), Client::greeted(server.port())];
    for _ in 0..50 {
        assert_eq!(
            Client::connect(server.port()).read_to_end(),
            b"The server is full. Please try again later\n"
        );
    }
    for client in &mut inside {
        client.ask(b"still there?");
    }
    drop(inside);
    let (_, stats) = server.stop();
    assert_eq!((stats.peak, stats.accepted, stats.closed(Reason::Refused)), (2, 52, 50));
}

#[test]
fn the_message_reaches_refused_clients_that_have_already_sent_something() {
    let server = Process::okloop(&["--max-connections", "1"]);
    let port = server.port();
    let mut inside = Client::greeted(port);
    let connect = |_| {
        let mut client = Client::connect(port);
        client.send(&[b'x'; 10_000]);
        client
    };
    // The server accepts them with unread input. If it closed then, the kernel would send a reset.
    let refused: Vec<Client> =
        while_stopped(&server, || (0..Config::default().max_refusals).map(connect).collect());
    inside.ask(b"still there?");
    for mut client in refused {
        client.expect(FULL);
        client.send(b"more input");
        client.half_close();
        assert_eq!(client.read_to_end(), b"");
    }
}

#[test]
fn a_refused_client_is_counted_once_as_refused_however_it_ends() {
    let config = Config { linger_timeout: Duration::from_millis(300), ..limited(1) };
    let server = Embedded::start(config, Framing::Chunks);
    let mut inside = Client::greeted(server.port());
    let refused = || {
        let mut client = Client::connect(server.port());
        client.expect(FULL);
        client
    };
    let ends: [fn(Client); 3] = [drop, Client::reset, |mut client| {
        client.half_close();
        client.read_to_end();
    }];
    for end in ends {
        end(refused());
    }
    let late = refused();
    inside.ask(b"still there?");
    drop(inside);
    // The last one ends at the time-out.
    let (_, stats) = server.stop();
    drop(late);
    assert_eq!((stats.accepted, stats.closed(Reason::Refused), stats.closed(Reason::Finished)), (5, 4, 1));
}

/// One more closes the oldest of them. Clients that do not end their connections cannot fill the table.
#[test]
fn at_most_max_refusals_clients_are_refused_at_the_same_time() {
    let most = Config::default().max_refusals;
    let server = start(&["--max-connections", "1"]);
    let mut inside = Client::greeted(server.port());
    let vitals = Vitals::of(&server);
    let before = vitals.open_files();
    let refused: Vec<Client> = (0..3 * most)
        .map(|_| {
            let mut client = Client::connect(server.port());
            client.expect(FULL);
            client
        })
        .collect();
    inside.ask(b"still there?");
    let open = vitals.open_files() - before;
    assert!(open <= most, "{open} refused clients are open");
    drop(refused);
}

#[test]
fn a_refused_client_takes_no_place_and_is_closed_at_its_time_out() {
    // Its silence does not end it earlier: the idle time-out is shorter.
    const LINGER: Duration = Duration::from_millis(500);
    let time_outs = ["--idle-timeout", "0.2", "--linger-timeout", "0.5"];
    let server = start(&[&["--max-connections", "1", "--log-level", "debug"][..], &time_outs].concat());
    let mut inside = Client::greeted(server.port());
    let mut refused = Client::connect(server.port());
    assert_eq!(refused.read_to_end(), FULL);
    let since = Instant::now();
    inside.half_close();
    inside.read_to_end();
    let mut next = Client::greeted(server.port());
    next.ask(b"the place is free");
    server.line_with(&format!("{} closed: refused", refused.address()));
    assert!(since.elapsed() > LINGER / 2, "{:?}", since.elapsed());
}

#[test]
fn a_freed_place_goes_to_the_next_client() {
    let server = Embedded::start(limited(1), Framing::Chunks);
    for _ in 0..50 {
        let mut inside = Client::greeted(server.port());
        assert_eq!(Client::connect(server.port()).read_to_end(), FULL);
        inside.half_close();
        assert_eq!(inside.read_to_end(), b"");
    }
}

#[test]
fn the_accept_queue_is_as_long_as_the_backlog() {
    let queued = |backlog| {
        let server = bind(Config { backlog, ..loopback() });
        let address = SocketAddr::from(([127, 0, 0, 1], port_of(&server)));
        // The server does not run. If the queue is full, the kernel does not complete the handshake.
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok();
        (0..20).map_while(connect).collect::<Vec<_>>().len()
    };
    assert_eq!(queued(20), 20);
    // Linux allows one more than the backlog.
    assert_eq!(queued(3), 4);
}

#[test]
fn each_time_out_has_an_option_and_a_line_in_the_log() {
    let server = start(&["--idle-timeout", "0.2", "--linger-timeout", "0.1"]);
    let mut client = Client::greeted(server.port());
    server.line_with(&format!("{} closed: idle_timeout", client.address()));
    assert_eq!(client.read_to_end(), b"");

    let server = start(&["--write-timeout", "0.2"]);
    let mut client = TcpStream::connect(("127.0.0.1", server.port())).expect("the server listens");
    client.set_write_timeout(Some(*DEADLINE)).expect("the time-out is not zero");
    let address = client.local_addr().expect("a connected socket has an address");
    while client.write_all(&[b'x'; 10_000]).is_ok() {}
    server.line_with(&format!("{address} closed: write_timeout"));

    let server = start(&["--drain-timeout", "0.2"]);
    let client = Client::greeted(server.port());
    server.signal(Signal::SIGTERM);
    server.line_with(&format!("{} closed: drain_timeout", client.address()));
    assert_eq!(server.finish().status, Some(0));
}

#[test]
fn two_servers_share_a_port_if_both_ask_for_it() {
    let first = start(&["--reuse-port"]);
    let port = first.port();
    let second = start(&["--reuse-port", "--port", &port.to_string()]);
    assert_eq!(second.port(), port);
    // The kernel chooses by the clients' port numbers. With 64 clients, one server gets none with probability 2⁻⁶³.
    for _ in 0..64 {
        Client::greeted(port).ask(b"hello");
    }
    first.line_with("Connected with");
    second.line_with("Connected with");

    drop(first);
    for _ in 0..64 {
        Client::greeted(port).ask(b"hello");
    }
}

#[test]
fn a_port_is_not_shared_if_only_one_server_asks_for_it() {
    for (first, second) in [(&["--reuse-port"][..], &[][..]), (&[], &["--reuse-port"])] {
        let first = start(first);
        let port = first.port().to_string();
        let finished = start(&[second, &["--port", &port]].concat()).finish();
        assert_eq!(finished.status, Some(1));
        assert!(finished.stderr.contains("Address already in use"), "{}", finished.stderr);
    }
}

fn limited(max_connections: usize) -> Config {
    Config { max_connections, ..loopback() }
}

/// Starts the command on loopback, on a port that the system chooses unless the arguments do.
fn start(arguments: &[&str]) -> Process {
    let port: &[&str] = if arguments.contains(&"--port") { &[] } else { &["--port", "0"] };
    Process::start("okloop", &[&["--host", "127.0.0.1"], port, arguments].concat())
}
