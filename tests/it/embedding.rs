//! The library in a program of its own, with a protocol of its own.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use okloop::protocols::{BANNER, Framing, OkSession, PREFIX};
use okloop::{Address, Buffer, Config, Ending, Reason, Server, Session, Sizes, StartError, Step, Waker};

use crate::harness::{Client, Embedded, bind, eventually, loopback, numbered_lines, port_of, session_of};

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
    for message in [&b"Tomorrow!\n"[..], b"\x15\xff\0", b""] {
        let config = Config { max_connections: 1, full_message: message.to_owned(), ..loopback() };
        let server = Embedded::start(config, Framing::Chunks);
        let _inside = Client::greeted(server.port());
        assert_eq!(Client::connect(server.port()).read_to_end(), message);
    }
}

#[test]
fn a_tick_beyond_the_end_of_the_clock_never_comes() {
    let server = bind(loopback());
    server.handle().stop();
    let tick = || panic!("it is due after an eternity");
    let ended = server.run_with_tick(|_| OkSession::new(Framing::Chunks), Duration::MAX, tick);
    assert_eq!(ended.expect("poll works").0, Ending::Drained);
}

#[test]
fn sessions_of_one_server_may_share_what_no_other_thread_sees() {
    let server = Embedded::run_by(bind(loopback()), |server| {
        let total = Rc::new(RefCell::new(0));
        server.run(|_| {
            let total = Rc::clone(&total);
            session_of(move |input, output| {
                if !input.is_empty() {
                    *total.borrow_mut() += input.len();
                    write!(output, "{} ", total.borrow());
                }
                Step::Consumed(input.len())
            })
        })
    });
    let mut clients = [(); 2].map(|()| Client::connect(server.port()));
    for (number, total) in [(0, "3 "), (1, "6 "), (0, "9 ")] {
        clients[number].send(b"abc");
        clients[number].expect(total.as_bytes());
    }
}

#[test]
fn one_server_may_have_sessions_of_several_types() {
    let mut count = 0;
    let server = Embedded::run(bind(loopback()), move |_| -> Box<dyn Session> {
        count += 1;
        if count % 2 == 0 { Box::new(OkSession::new(Framing::Lines)) } else { Box::new(upper()) }
    });
    for _ in 0..2 {
        let mut odd = Client::connect(server.port());
        odd.send(b"hello");
        odd.expect(b"HELLO");
        let mut even = Client::greeted(server.port());
        even.send(b"hel");
        even.send(b"lo\n");
        even.expect(b"OK...hello\n");
    }
}

#[test]
fn a_handle_reads_the_counters_of_a_running_server() {
    let server = Embedded::start(loopback(), Framing::Chunks);
    let stats = server.stats();
    assert_eq!((stats.open, stats.accepted, stats.bytes_in), (0, 0, 0));
    let mut clients = [(); 3].map(|()| Client::greeted(server.port()));
    clients[0].ask(b"hello");
    eventually("a turn is counted at its end", || server.stats().bytes_in == 5);
    let stats = server.stats();
    assert_eq!((stats.open, stats.peak, stats.accepted), (3, 3, 3));
    for mut client in clients {
        client.half_close();
        assert_eq!(client.read_to_end(), b"");
    }
    eventually("the ends are counted", || server.stats().closed(Reason::Finished) == 3);
    let stats = server.stats();
    assert_eq!((stats.open, stats.peak), (0, 3));
}

/// The client reads nothing before it has sent the request and its end of input.
#[test]
fn an_answer_of_any_length_goes_out_in_parts() {
    const LENGTH: usize = 4 << 20;
    let server = Embedded::run(bind(loopback()), |_| {
        let (whole, mut sent) = (numbered_lines(LENGTH), 0);
        session_of(move |input, output| {
            if input.is_empty() {
                return Step::NeedInput;
            }
            let part = &whole[sent..][..(LENGTH - sent).min(30_000)];
            output.push(part);
            sent += part.len();
            if sent < LENGTH {
                return Step::More;
            }
            sent = 0;
            Step::Consumed(1)
        })
    });
    let mut client = Client::connect(server.port());
    client.send(b"ab");
    client.half_close();
    let whole = numbered_lines(LENGTH);
    assert!(client.read_to_end() == [&whole[..], &whole].concat(), "every byte comes once, in its place");
}

/// It echoes what the output has room for, and discards the rest.
fn lossy(independent: bool) -> impl Session {
    struct Lossy(Sizes);
    impl Session for Lossy {
        fn sizes(&mut self) -> Sizes {
            self.0
        }

        fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
            let echoed = input.len().min(output.free());
            output.push(&input[..echoed]);
            Step::Consumed(input.len())
        }
    }
    let mut sizes = Sizes::default();
    sizes.independent = independent;
    Lossy(sizes)
}

#[test]
fn a_session_with_independent_directions_is_read_although_its_client_does_not_read() {
    const LENGTH: usize = 32 << 20;
    let payload = vec![b'x'; LENGTH];
    let server = Embedded::run(bind(loopback()), |_| lossy(true));
    let mut client = Client::connect(server.port());
    client.send(&payload);
    client.half_close();
    let received = client.read_to_end().len();
    assert!(received < LENGTH, "some was discarded");
    let (_, stats) = server.stop();
    assert_eq!((stats.bytes_in, stats.bytes_out), (LENGTH as u64, received as u64));

    let server = Embedded::run(bind(loopback()), |_| lossy(false));
    let mut client = Client::connect(server.port());
    assert!(client.send_until_full(&payload) < LENGTH);
}

/// A datagram arrives on the loop's thread, where the program reads it and wakes the sessions.
#[test]
fn a_server_watches_a_source_of_the_programs_own() {
    let loopback_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let source = mio::net::UdpSocket::bind(loopback_port).expect("a port is free");
    let address = source.local_addr().expect("a bound socket has an address");
    let news = Arc::new(Mutex::new((Vec::new(), Vec::<Waker>::new())));
    let mut server = bind(loopback());
    let (received, handle) = (Arc::clone(&news), server.handle());
    let when_readable = move |source: &mut mio::net::UdpSocket| {
        let mut datagram = [0; 100];
        while let Ok(count) = source.recv(&mut datagram) {
            let mut news = received.lock().expect("no holder of the lock panics");
            news.0.extend(&datagram[..count]);
            news.1.iter().for_each(Waker::wake);
            if &datagram[..count] == b"stop" {
                handle.stop();
            }
        }
    };
    server.watch(source, when_readable).expect("the source can be registered");
    let server = Embedded::run(server, move |client| {
        news.lock().expect("no holder of the lock panics").1.push(client.waker);
        let (news, mut told) = (Arc::clone(&news), 0);
        session_of(move |_, output| {
            let news = news.lock().expect("no holder of the lock panics");
            output.push(&news.0[told..]);
            told = news.0.len();
            Step::NeedInput
        })
    });
    let mut client = Client::connect(server.port());
    eventually("it has a session", || server.stats().open == 1);
    let sender = UdpSocket::bind(loopback_port).expect("a port is free");
    for text in [&b"rain"[..], b"sun", b"stop"] {
        sender.send_to(text, address).expect("it fits");
        client.expect(text);
    }
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    assert_eq!(server.finish().0, Ending::Drained);
}

fn upper() -> impl Session {
    session_of(|input, output| {
        input.make_ascii_uppercase();
        output.push(input);
        Step::Consumed(input.len())
    })
}
