//! Clients that reset, or are slow, or send urgent data. The other clients notice nothing.

use okloop::Reason;
use okloop::protocols::{BANNER, Framing, PREFIX};
use socket2::SockRef;

use crate::harness::{Client, Embedded, Process, eventually, loopback, numbered_lines};
use crate::vitals::{Vitals, while_stopped};

#[test]
fn a_reset_at_any_moment_ends_that_session_and_no_other() {
    let server = Embedded::start(loopback(), Framing::Chunks);
    let port = server.port();
    let mut witness = Client::greeted(port);
    let flood = vec![b'x'; 64 << 20];
    let moments: [fn(&mut Client, &[u8]); 5] = [
        |_, _| {},
        |client, _| client.expect(BANNER),
        |client, _| client.send(b"a few words"),
        |client, flood| client.send(&flood[..1 << 20]),
        // The server has stopped reading, and its output waits for room.
        |client, flood| _ = client.send_until_full(flood),
    ];
    for _ in 0..2 {
        for moment in moments {
            let mut client = Client::connect(port);
            moment(&mut client, &flood);
            client.reset();
            witness.ask(b"still there?");
        }
    }
    drop(witness);
    let (_, stats) = server.stop();
    assert_eq!((stats.accepted, stats.closed(Reason::Reset), stats.closed(Reason::Failed)), (11, 10, 0));
}

#[test]
fn two_thousand_clients_that_send_and_reset_leave_no_open_file() {
    let server = Process::okloop(&[]);
    let port = server.port();
    let vitals = Vitals::of(&server);
    let before = vitals.open_files();
    for _ in 0..2000 {
        let mut client = Client::connect(port);
        client.send(b"a few words");
        client.reset();
    }
    eventually("their files are closed", || vitals.open_files() == before);
    Client::greeted(port).ask(b"still there?");
}

/// The server is stopped meanwhile, and finds the bytes and the end of input in one event. After a short read it must
/// read again here, because no second event comes.
#[test]
fn bytes_and_the_end_of_input_in_one_event_are_answered() {
    let server = Process::okloop(&[]);
    for round in 0..10 {
        let mut clients: Vec<Client> = (0..300).map(|_| Client::greeted(server.port())).collect();
        let message = numbered_lines(1 + 50 * round);
        while_stopped(&server, || {
            for client in &mut clients {
                client.send(&message);
                client.half_close();
            }
        });
        for client in &mut clients {
            assert_eq!(client.read_to_end(), [PREFIX, &message].concat());
        }
    }
}

/// Telnet's Synch is urgent data. A read stops before the urgent byte, although more follows. The byte keeps its place in
/// the stream.
#[test]
fn the_bytes_around_urgent_data_are_answered_without_another_event() {
    let server = Process::okloop(&[]);
    let mut client = Client::greeted(server.port());
    let synch = |client: &mut Client| {
        let sent = SockRef::from(client.stream()).send_out_of_band(b"\xf2");
        assert_eq!(sent.expect("there is room for a byte"), 1);
    };
    while_stopped(&server, || {
        client.send(b"before");
        synch(&mut client);
        client.send(b"after");
    });
    client.expect(b"OK...beforeOK...\xf2after");

    while_stopped(&server, || {
        synch(&mut client);
        client.send(b"only after");
    });
    client.expect(b"OK...\xf2only after");

    synch(&mut client);
    client.expect(b"OK...\xf2");
    client.ask(b"long after");
    while_stopped(&server, || {
        client.send(b"the end");
        synch(&mut client);
        client.half_close();
    });
    assert_eq!(client.read_to_end(), b"OK...the endOK...\xf2");
}

#[test]
fn clients_that_send_one_byte_now_and_then_delay_no_other() {
    let server = Embedded::start(loopback(), Framing::Lines);
    let mut slow: Vec<Client> = (0..100).map(|_| Client::greeted(server.port())).collect();
    let mut quick = Client::greeted(server.port());
    let line = b"a slow line\r\n";
    for byte in line {
        for client in &mut slow {
            client.send(&[*byte]);
        }
        quick.ask(b"a quick line\n");
    }
    for client in &mut slow {
        client.expect(&[PREFIX, line].concat());
    }
}
