//! Clients that are slow, strange or gone, each beside others who must not notice.

use okloop::Config;
use okloop::protocol::{BANNER, Framing, PREFIX};
use okloop::reason::Reason;
use socket2::SockRef;

use crate::harness::{Client, Embedded, Process, eventually, loopback, numbered_lines};
use crate::vitals::{Vitals, while_stopped};

#[test]
fn a_reset_at_any_moment_ends_that_session_and_no_other() {
    let server = Embedded::start(loopback());
    let port = server.port();
    let mut witness = Client::greeted(port);
    let much = vec![b'x'; 64 << 20];
    let moments: [fn(&mut Client, &[u8]); 5] = [
        |_, _| {},
        |client, _| client.expect(BANNER),
        |client, _| client.send(b"sent and gone"),
        |client, much| client.send(&much[..1 << 20]),
        // The server is in the middle of a write for which there is no room, and has stopped reading.
        |client, much| _ = client.send_until_full(much),
    ];
    for _ in 0..3 {
        for moment in moments {
            let mut client = Client::connect(port);
            moment(&mut client, &much);
            client.reset();
            witness.ask(b"still there?");
        }
    }
    drop(witness);
    let (_, stats) = server.stop();
    assert_eq!((stats.accepted, stats.closed(Reason::Reset), stats.closed(Reason::Failed)), (16, 15, 0));
}

#[test]
fn thousands_who_send_and_reset_leave_nothing_behind() {
    let server = Process::okloop(&[]);
    let port = server.port();
    let vitals = Vitals::of(&server);
    let before = vitals.open_files();
    for _ in 0..2000 {
        let mut client = Client::connect(port);
        client.send(b"sent and gone");
        client.reset();
    }
    eventually("their files are closed", || vitals.open_files() == before);
    Client::greeted(port).ask(b"still there?");
}

/// Held still meanwhile, the server finds the bytes and the end behind them in a single event. One that goes by the
/// short read alone waits for ever for another.
#[test]
fn bytes_and_the_end_of_input_in_one_event_are_answered_thousands_of_times() {
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

/// Telnet's Synch is urgent data. A read stops short in front of it, although more follows.
#[test]
fn urgent_data_is_answered_in_its_place_without_waiting_for_more() {
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
        client.send(b"first of all");
    });
    client.expect(b"OK...\xf2first of all");

    synch(&mut client);
    client.expect(b"OK...\xf2");
    client.ask(b"and long after");
    while_stopped(&server, || {
        client.send(b"and the end");
        synch(&mut client);
        client.half_close();
    });
    assert_eq!(client.read_to_end(), b"OK...and the endOK...\xf2");
}

#[test]
fn clients_that_send_a_byte_now_and_then_hold_up_nobody() {
    let server = Embedded::start(Config { framing: Framing::Lines, ..loopback() });
    let mut slow: Vec<Client> = (0..100).map(|_| Client::greeted(server.port())).collect();
    let mut brisk = Client::greeted(server.port());
    let line = b"a line that takes its time\r\n";
    for byte in line {
        for client in &mut slow {
            client.send(&[*byte]);
        }
        brisk.ask(b"a line at once\n");
    }
    for client in &mut slow {
        client.expect(&[PREFIX, line].concat());
    }
}
