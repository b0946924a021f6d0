//! `--proxy-protocol`, with clients that send the header themselves. `balancer.rs` has the real `HAProxy`.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use okloop::Reason;
use okloop::config::PROXY_HEADER_TIMEOUT;
use okloop::protocols::BANNER;

use crate::harness::{Client, FULL, Process, TELNET_BANNER, eventually, lossy};

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 8888\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x13\x89\x22\xb8";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

#[test]
fn the_log_names_the_client_and_its_balancer_once() {
    let server = start(&["--log-level", "debug"]);
    for (header, address) in [(V1, "192.0.2.1:5000"), (V2, "192.0.2.1:5001")] {
        let mut client = Client::connect(server.port());
        let balancer = client.address();
        // A line that arrives with the header is answered too.
        client.send(&[header, b"hello"].concat());
        client.expect(&[BANNER, b"OK...hello"].concat());
        server.line_with(&format!("Connected with {address} through {balancer}"));
        client.half_close();
        client.read_to_end();
        server.line_with(&format!("{address} closed: finished"));
    }
    let log = lossy(&server.stdout());
    assert_eq!(log.matches("Connected with ").count(), 2, "{log}");
}

#[test]
fn a_balancers_own_check_is_served_without_a_clients_address() {
    let server = start(&[]);
    let mut client = Client::connect(server.port());
    client.send(LOCAL);
    client.expect(BANNER);
    server.line_with(&format!("Connected with {}, a proxy that names no client", client.address()));
}

#[test]
fn telnet_and_lines_work_inside() {
    let server = start(&["--telnet", "--framing", "lines"]);
    let mut client = Client::connect(server.port());
    for byte in [V2, b"he\xff\xf1llo\r\nhalf"].concat() {
        client.send(&[byte]);
    }
    client.expect(&[TELNET_BANNER, b"OK...hello\r\n"].concat());
    client.half_close();
    assert_eq!(client.read_to_end(), b"OK...half");
}

#[test]
fn a_connection_without_a_header_gets_nothing_and_its_end_is_counted() {
    let server = start(&[]);
    for input in [&b"hello\r\nhow are you\r\n"[..], b"PROXY TCP9 192.0.2.1 192.0.2.2 5000 8888\r\n"] {
        let mut client = Client::connect(server.port());
        client.send(input);
        expect_no_byte(&client);
    }
    let mut client = Client::connect(server.port());
    client.send(&V1[..20]);
    client.half_close();
    expect_no_byte(&client);
    eventually("all of them are counted", || server.stats().closed(Reason::InvalidInput) == 3);
    let log = lossy(&server.stdout());
    assert!(!log.contains("Connected with "), "{log}");
}

#[test]
#[ignore = "waits for the header's deadline, five seconds"]
fn half_a_header_that_is_never_completed_ends_the_connection() {
    let server = start(&[]);
    let began = Instant::now();
    let clients = [&b""[..], b"P", &V1[..30], &V2[..20]].map(|part| {
        let mut client = Client::connect(server.port());
        client.send(part);
        client
    });
    // A byte now and then does not help.
    let mut slow = Client::connect(server.port());
    for byte in &V1[..8] {
        slow.send(&[*byte]);
        std::thread::sleep(Duration::from_millis(500));
    }
    clients.iter().for_each(expect_no_byte);
    expect_no_byte(&slow);
    let waited = began.elapsed();
    assert!(waited >= PROXY_HEADER_TIMEOUT && waited < 2 * PROXY_HEADER_TIMEOUT, "{waited:?}");
    eventually("all of them are counted", || server.stats().closed(Reason::InvalidInput) == 5);
}

#[test]
fn a_full_server_says_so_before_the_header() {
    let server = start(&["--max-connections", "1"]);
    let mut inside = Client::connect(server.port());
    inside.send(V1);
    inside.expect(BANNER);
    let mut outside = Client::connect(server.port());
    outside.expect(FULL);
    outside.half_close();
    assert_eq!(outside.read_to_end(), b"");
}

#[test]
fn a_drain_ends_connections_that_have_no_header_yet() {
    let server = start(&[]);
    let mut early = Client::connect(server.port());
    early.send(&V1[..20]);
    let mut late = Client::connect(server.port());
    late.send(V1);
    late.expect(BANNER);
    eventually("both are open", || server.stats().bytes_in == 20 + V1.len() as u64);
    server.signal(Signal::SIGTERM);
    for client in [&mut early, &mut late] {
        assert_eq!(client.read_to_end(), b"");
    }
    drop((early, late));
    assert_eq!(server.finish().stats().closed(Reason::Drained), 2);
}

fn start(arguments: &[&str]) -> Process {
    Process::okloop(&[&["--proxy-protocol"], arguments].concat())
}

/// The connection ends without a byte. What the client has sent is not read whole, so its end may be a reset.
fn expect_no_byte(client: &Client) {
    match client.stream().read(&mut [0]) {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}
