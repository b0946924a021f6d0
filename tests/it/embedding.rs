//! The library in a program of its own, with a protocol of its own.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use okloop::protocols::{BANNER, Framing, PREFIX};
use okloop::{Address, Buffer, Config, Ending, Reason, Server, Session, StartError, Step};

use crate::harness::{Client, Embedded, bind, loopback, port_of};

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[test]
fn clients_can_connect_to_a_bound_server_before_it_runs() {
    let server = bind(loopback());
    let address = server.local_addr().expect("a bound server has an address");
    assert_eq!(address, SocketAddr::from(([127, 0, 0, 1], address.port())));
    assert_ne!(address.port(), 0);

    let mut early = Client::connect(address.port());
    early.send(b"hello");
    let _server = Embedded::run_ok(server, Framing::Chunks);
    early.expect(&[BANNER, PREFIX, b"hello"].concat());
}

#[test]
fn a_stop_from_another_thread_returns_the_ending_and_the_counters() {
    let server = Embedded::start(loopback(), Framing::Chunks);
    let mut client = Client::greeted(server.port());
    client.ask(b"hello");
    client.half_close();
    assert_eq!(client.read_to_end(), b"");

    let (ending, stats) = server.stop();
    assert_eq!(ending, Ending::Drained);
    assert_eq!((stats.open, stats.peak, stats.accepted), (0, 1, 1));
    assert_eq!((stats.bytes_in, stats.bytes_out), (5, (BANNER.len() + PREFIX.len() + 5) as u64));
    assert_eq!((stats.closed(Reason::Finished), stats.closed(Reason::DrainTimeout)), (1, 0));
    assert!(stats.uptime > Duration::ZERO);
}

#[test]
fn a_server_without_sessions_stops_immediately() {
    let config = Config { drain_timeout: FOR_EVER, ..loopback() };
    assert_eq!(Embedded::start(config, Framing::Chunks).stop().0, Ending::Drained);
}

#[test]
fn stop_now_ends_a_drain() {
    let server = bind(Config { drain_timeout: FOR_EVER, ..loopback() });
    let handle = server.handle();
    let server = Embedded::run_ok(server, Framing::Chunks);
    let mut client = Client::greeted(server.port());
    handle.stop();
    assert_eq!(client.read_to_end(), b"", "the drain ends the server's output");
    handle.stop_now();
    let (ending, stats) = server.finish();
    assert_eq!((ending, stats.closed(Reason::Forced)), (Ending::Forced, 1));
}

#[test]
fn a_stop_before_the_start_is_not_lost() {
    let server = bind(loopback());
    server.handle().stop();
    assert_eq!(Embedded::run_ok(server, Framing::Chunks).finish().0, Ending::Drained);
}

#[test]
fn a_handle_may_outlive_its_server() {
    let server = bind(loopback());
    let handle = server.handle();
    let server = Embedded::run_ok(server, Framing::Chunks);
    Client::greeted(server.port()).ask(b"hello");
    let (_, stats) = server.stop();
    handle.stop();
    let mut last = handle.stats();
    assert!(last.uptime > stats.uptime);
    last.uptime = stats.uptime;
    assert_eq!(last, stats);
}

#[test]
fn a_dropped_server_frees_its_port() {
    let server = bind(loopback());
    let port = port_of(&server);
    drop(server);
    assert_eq!(port_of(&bind(Config { port, ..loopback() })), port);
}

#[test]
fn two_servers_run_in_one_process() {
    let [first, second] = [(); 2].map(|()| Embedded::start(loopback(), Framing::Chunks));
    let mut clients = [&first, &second].map(|server| Client::greeted(server.port()));
    for client in &mut clients {
        client.ask(b"hello");
    }
    drop(first);
    assert_eq!(clients[0].read_to_end(), b"");
    clients[1].ask(b"still there?");
    drop(clients);
    assert_eq!(second.stop().0, Ending::Drained);
}

#[test]
fn a_start_error_says_which_address_and_why() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let address = listener.local_addr().expect("a bound socket has an address");
    let result = Server::bind(Config { port: address.port(), ..loopback() }).map(drop);
    let Err(StartError::Bind(failed, error)) = result else { panic!("the port is in use") };
    assert_eq!((failed, error.kind()), (address, ErrorKind::AddrInUse));

    let config = Config { host: "no-such-host.invalid".to_owned(), ..loopback() };
    let error = Server::bind(config).map(drop).expect_err("this domain is reserved to be unknown");
    let StartError::Resolve(host, reason) = &error else { panic!("{error:?}") };
    assert_eq!(host, "no-such-host.invalid");
    assert_eq!(error.to_string(), format!("Hostname could not be resolved ({host}: {reason})"));
}

#[test]
fn a_new_session_is_told_the_address_of_its_client() {
    struct Mirror(Address);
    impl Session for Mirror {
        fn answer(&mut self, _input: &mut [u8], output: &mut Buffer) -> Step {
            output.push(self.0.to_string().as_bytes());
            Step::Close
        }
    }
    let server = Embedded::run(bind(loopback()), |client| Mirror(client.peer));
    let mut client = Client::connect(server.port());
    assert_eq!(client.read_to_end(), client.address().to_string().as_bytes());
}

#[test]
fn the_message_for_refused_clients_is_the_users_own() {
    let config = Config { max_connections: 1, full_message: "Tomorrow!\n".to_owned(), ..loopback() };
    let server = Embedded::start(config, Framing::Chunks);
    let _inside = Client::greeted(server.port());
    assert_eq!(Client::connect(server.port()).read_to_end(), b"Tomorrow!\n");
}
