//! The library as a program uses it that has a server among other things.

use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use okloop::protocol::{BANNER, PREFIX};
use okloop::reason::Reason;
use okloop::{Config, Ending, Server, StartError};

use crate::harness::{Client, Embedded, loopback, port_of};

#[test]
fn a_bound_server_has_an_address_and_clients_can_connect_before_it_runs() {
    let server = Server::bind(loopback()).expect("a port is free");
    let address = server.local_addr().expect("a bound server has an address");
    assert_eq!(address, SocketAddr::from(([127, 0, 0, 1], address.port())));
    assert_ne!(address.port(), 0);

    let mut early = Client::connect(address.port());
    early.send(b"hello");
    let _server = Embedded::run(server);
    early.expect(&[BANNER, PREFIX, b"hello"].concat());
}

#[test]
fn another_thread_stops_the_server_and_is_given_its_ending_and_counters() {
    let server = Embedded::start(loopback());
    let mut client = Client::greeted(server.port());
    client.ask(b"hello");
    client.half_close();
    assert_eq!(client.read_to_end(), b"");

    let (ending, stats) = server.stop();
    assert_eq!(ending, Ending::Drained);
    assert_eq!((stats.open, stats.peak, stats.accepted, stats.refused), (0, 1, 1, 0));
    assert_eq!((stats.bytes_in, stats.bytes_out), (5, (BANNER.len() + PREFIX.len() + 5) as u64));
    assert_eq!((stats.closed(Reason::Finished), stats.closed(Reason::Cut)), (1, 0));
    assert!(stats.uptime > Duration::ZERO);
}

#[test]
fn a_server_without_sessions_stops_at_once() {
    let config = Config { drain_timeout: Duration::from_secs(3600), ..loopback() };
    assert_eq!(Embedded::start(config).stop().0, Ending::Drained);
}

#[test]
fn a_second_stop_cuts_off_who_is_still_there() {
    let config = Config { drain_timeout: Duration::from_secs(3600), ..loopback() };
    let server = Server::bind(config).expect("a port is free");
    let handle = server.handle();
    let server = Embedded::run(server);
    let _silent = Client::greeted(server.port());
    for stop in [handle.clone(), handle] {
        stop.stop().expect("the loop can be woken");
    }
    let (ending, stats) = server.finish();
    assert_eq!((ending, stats.closed(Reason::Cut)), (Ending::Forced, 1));
}

#[test]
fn a_stop_before_the_start_is_not_lost() {
    let server = Server::bind(loopback()).expect("a port is free");
    server.handle().stop().expect("the loop can be woken");
    assert_eq!(Embedded::run(server).finish().0, Ending::Drained);
}

#[test]
fn a_handle_may_outlive_its_server() {
    let server = Server::bind(loopback()).expect("a port is free");
    let handle = server.handle();
    Embedded::run(server).stop();
    handle.stop().expect("a stop too late does no harm");
}

#[test]
fn a_server_that_is_dropped_gives_its_port_back() {
    let server = Server::bind(loopback()).expect("a port is free");
    let port = port_of(&server);
    drop(server);
    let again = Server::bind(Config { port, ..loopback() });
    assert_eq!(again.map(|server| port_of(&server)).expect("the port is free again"), port);
}

#[test]
fn two_servers_live_in_one_process() {
    let servers = [Embedded::start(loopback()), Embedded::start(loopback())];
    let mut clients = servers.each_ref().map(|server| Client::greeted(server.port()));
    for client in &mut clients {
        client.ask(b"hello");
    }
    let [first, second] = servers;
    drop(first);
    assert_eq!(clients[0].read_to_end(), b"");
    clients[1].ask(b"still there?");
    drop(clients);
    assert_eq!(second.stop().0, Ending::Drained);
}

#[test]
fn a_busy_port_is_an_error_that_says_which_and_why() {
    let busy = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let address = busy.local_addr().expect("a bound socket has an address");
    let result = Server::bind(Config { port: address.port(), ..loopback() });
    let Err(StartError::Bind(failed, error)) = &result.map(|_| ()) else { panic!("the port is ours") };
    assert_eq!((*failed, error.kind()), (address, ErrorKind::AddrInUse));
}

#[test]
fn an_unknown_host_is_an_error_that_says_which_and_why() {
    let config = Config { host: "no-such-host.invalid".to_owned(), ..loopback() };
    let error = Server::bind(config).map(|_| ()).expect_err("the top-level domain is reserved to be unknown");
    assert!(matches!(&error, StartError::Resolve(host, _) if host == "no-such-host.invalid"), "{error:?}");
    assert!(error.source().is_some(), "what the resolver said is kept");
}
