//! Several listeners on one loop: ports, the addresses of a name, Unix sockets, and a socket that existed before.

use std::io::ErrorKind;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use okloop::protocols::{BANNER, Framing};
use okloop::{Address, Client as NewClient, Origin, Server, Session, Step};

use crate::harness::{Client, Embedded, bind, loopback, session_of};

/// A session that says what it was told about its client, and ends.
fn introduced(client: &NewClient<'_>) -> impl Session + use<> {
    let local = client.local_addr().expect("the client is connected");
    let text = format!("{} at {:?}, {local}", client.peer, client.origin);
    session_of(move |_, output| {
        output.push(text.as_bytes());
        Step::Close
    })
}

#[test]
fn a_session_is_told_its_client_its_listener_and_its_own_end() {
    let mut server = Server::new(loopback()).expect("descriptors are left");
    server.listen("127.0.0.1", 0).expect("a port is free");
    server.listen("127.0.0.1", 0).expect("a port is free");
    let addresses = server.local_addrs().expect("bound sockets have addresses");
    let ports: Vec<u16> = addresses.iter().map(|address| address.ip().expect("TCP").port()).collect();
    assert_eq!(server.local_addr().expect("a bound socket has an address").port(), ports[0]);
    assert_ne!(ports[0], ports[1]);

    let _server = Embedded::run(server, |client| introduced(&client));
    for (listener, port) in [(0, ports[0]), (1, ports[1]), (0, ports[0])] {
        let mut client = Client::connect(port);
        let address = client.address();
        let expected = format!("{address} at Accepted({listener}), 127.0.0.1:{port}");
        assert_eq!(String::from_utf8_lossy(&client.read_to_end()), expected);
    }
}

/// In a drain, listeners end one after the other, and one that was passed in ends first.
#[test]
fn clients_that_a_stop_finds_in_the_queue_are_told_their_own_listener() {
    let mut server = Server::new(loopback()).expect("descriptors are left");
    server.adopt(TcpListener::bind("127.0.0.1:0").expect("a port is free")).expect("it is a listener");
    for _ in 0..2 {
        server.listen("127.0.0.1", 0).expect("a port is free");
    }
    let last = server.local_addrs().expect("bound sockets have addresses")[2].ip().expect("TCP");
    let (handle, mut clients, mut origins) = (server.handle(), Vec::new(), Vec::new());
    let new_session = |client: NewClient<'_>| {
        origins.push(client.origin);
        introduced(&client)
    };
    let stop = || {
        if clients.is_empty() {
            clients.extend((0..3).map(|_| TcpStream::connect(last).expect("the server listens")));
            handle.stop();
            for client in &clients {
                client.shutdown(Shutdown::Write).expect("it is connected");
            }
        }
    };
    server.run_with_tick(new_session, Duration::from_millis(10), stop).expect("poll works");
    assert_eq!(origins, [Origin::Accepted(2); 3]);
}

#[test]
fn a_name_is_served_on_all_of_its_addresses_that_this_machine_has() {
    let mut expected: Vec<IpAddr> = Vec::new();
    for address in ("localhost", 0).to_socket_addrs().expect("every machine knows this name") {
        if !expected.contains(&address.ip()) && TcpListener::bind(address).is_ok() {
            expected.push(address.ip());
        }
    }
    let server = bind(okloop::Config { host: "localhost".to_owned(), ..loopback() });
    let addresses = server.local_addrs().expect("bound sockets have addresses");
    let port = server.local_addr().expect("a bound socket has an address").port();
    let all: Vec<Address> = expected.iter().map(|&ip| Address::Ip(SocketAddr::new(ip, port))).collect();
    assert_eq!(addresses, all, "all have one port");

    let _server = Embedded::run_ok(server, Framing::Chunks);
    for ip in expected {
        let mut client = Client::from(TcpStream::connect((ip, port)).expect("the server listens"));
        client.expect(BANNER);
        client.ask(b"hello");
    }
}

#[test]
fn a_server_without_a_listener_has_no_address_and_can_be_stopped() {
    let server = Server::new(loopback()).expect("descriptors are left");
    assert_eq!(server.local_addr().expect_err("there is none").kind(), ErrorKind::NotConnected);
    assert_eq!(server.local_addrs().expect("there is nothing to ask"), []);
    let (ending, stats) = Embedded::run_ok(server, Framing::Chunks).stop();
    assert_eq!((ending, stats.accepted), (okloop::Ending::Drained, 0));
}

/// The client connects in the turn in which the server is told to stop, so it is still in the queue at the stop.
#[test]
fn clients_in_the_queue_of_an_adopted_listener_are_left_to_the_next_process() {
    let ours = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let address = ours.local_addr().expect("a bound socket has an address");
    let mut server = Server::new(loopback()).expect("descriptors are left");
    server.adopt(ours.try_clone().expect("a descriptor is left")).expect("it is a listening socket");
    assert_eq!(server.local_addr().expect("a bound socket has an address"), address);

    let handle = server.handle();
    let server = Embedded::run(server, move |_| {
        let handle = handle.clone();
        let mut late = None;
        session_of(move |input, output| {
            if input.is_empty() || late.is_some() {
                return Step::NeedInput;
            }
            late = TcpStream::connect(address).ok();
            handle.stop();
            output.push(input);
            Step::Close
        })
    });
    let mut client = Client::connect(address.port());
    client.send(b"stop");
    assert_eq!(client.read_to_end(), b"stop");
    drop(client);
    let (ending, stats) = server.finish();
    assert_eq!((ending, stats.accepted), (okloop::Ending::Drained, 1));
    ours.accept().expect("the late client waits in the queue");
}

#[cfg(unix)]
mod unix {
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;
    use std::{env, process, thread};

    use okloop::StartError;
    use okloop::protocols::PREFIX;

    use super::*;
    use crate::harness::{DEADLINE, chunks_of, numbered_lines};

    fn path(test: &str) -> PathBuf {
        env::temp_dir().join(format!("okloop-{}-{test}.sock", process::id()))
    }

    fn connect(path: &PathBuf) -> UnixStream {
        let client = UnixStream::connect(path).expect("the server listens");
        client.set_read_timeout(Some(*DEADLINE)).expect("the time-out is not zero");
        client
    }

    #[test]
    fn a_unix_socket_is_served_beside_a_port_and_its_file_is_removed_at_the_end() {
        let path = path("served");
        let mut server = bind(loopback());
        server.listen_unix(&path).expect("there is no such file");
        assert_eq!(server.local_addrs().expect("bound sockets have addresses")[1], Address::Unix);
        let server = Embedded::run_ok(server, Framing::Chunks);

        let mut client = connect(&path);
        client.write_all(b"hello").expect("the server takes what is sent");
        let mut answer = vec![0; BANNER.len() + PREFIX.len() + 5];
        client.read_exact(&mut answer).expect("the server answers");
        assert_eq!(answer, [BANNER, PREFIX, b"hello"].concat());
        Client::greeted(server.port()).ask(b"hello");
        // More than the kernel's buffers hold in both directions.
        let payload = numbered_lines(2 << 20);
        let sent = payload.clone();
        let mut sender = client.try_clone().expect("a descriptor is left");
        let sending = thread::spawn(move || {
            sender.write_all(&sent).expect("the server takes what is sent");
            sender.shutdown(Shutdown::Write).expect("the connection is open");
        });
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("the server closes in order");
        sending.join().expect("everything was sent");
        chunks_of(&payload, &rest);
        drop(client);

        assert!(path.exists());
        let (ending, stats) = server.stop();
        assert_eq!((ending, stats.closed(okloop::Reason::Finished)), (okloop::Ending::Drained, 2));
        assert!(!path.exists(), "the file is left behind");
    }

    #[test]
    fn a_client_of_a_unix_socket_has_no_name() {
        let path = path("name");
        let mut server = Server::new(loopback()).expect("descriptors are left");
        server.listen_unix(&path).expect("there is no such file");
        assert_eq!(server.local_addr().expect_err("no IP address").kind(), ErrorKind::Unsupported);
        let _server = Embedded::run(server, |client| introduced(&client));
        let mut text = String::new();
        connect(&path).read_to_string(&mut text).expect("the server closes in order");
        assert_eq!(text, "unix socket at Accepted(0), unix socket");
    }

    #[test]
    fn a_unix_socket_whose_file_exists_is_an_error_and_the_file_stays() {
        let path = path("busy");
        let mut first = Server::new(loopback()).expect("descriptors are left");
        first.listen_unix(&path).expect("there is no such file");
        let mut second = Server::new(loopback()).expect("descriptors are left");
        let error = second.listen_unix(&path).expect_err("the file exists");
        let StartError::BindUnix(failed, reason) = &error else { panic!("{error:?}") };
        assert_eq!((failed, reason.kind()), (&path, ErrorKind::AddrInUse));
        assert!(error.to_string().ends_with(&format!("({})", path.display())), "{error}");
        drop(second);
        assert!(path.exists());
        drop(first);
        assert!(!path.exists(), "a server that never ran removes it too");
    }
}
