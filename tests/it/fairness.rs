//! One client's flood beside other clients' typing.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use okloop::config::READ_BUDGET;

use crate::harness::{Client, Process};
use crate::vitals::while_stopped;

/// Measured on two processors, which the server shares with the firehoses: 0.02 to 0.13 ms alone, 0.3 to 0.9 ms beside
/// four of them, some ten times as long. A loop that serves a firehose for as long as it flows makes it 100 to 3,000 ms.
#[test]
fn a_hundred_typists_are_answered_promptly_beside_firehoses() {
    let server = Process::okloop(&[]);
    let port = server.port();
    let mut typists: Vec<Client> = (0..100).map(|_| Client::greeted(port)).collect();
    let alone = answer_time(&mut typists);
    let beside = {
        let _firehoses = [(); 4].map(|()| Firehose::turn_on(port));
        answer_time(&mut typists)
    };
    let bound = (20 * alone).max(Duration::from_millis(50));
    assert!(beside < bound, "{beside:?} beside the firehoses, {alone:?} alone");
}

/// Both have sent when the loop comes to look, the firehose first. Who comes next in the log is no matter of time.
#[test]
fn a_flood_is_given_its_share_and_then_it_is_the_next_ones_turn() {
    let server = Process::okloop(&["--log-level", "trace"]);
    let (mut flood, mut typist) = (Client::greeted(server.port()), Client::greeted(server.port()));
    while_stopped(&server, || {
        flood.send_until_full(&vec![b'x'; 64 << 20]);
        typist.send(b"hello");
    });
    typist.expect(b"OK...hello");

    let typists_turn = format!("{}: read 5 bytes", typist.address());
    server.line_with(&typists_turn);
    let log = String::from_utf8(server.stdout()).expect("the log is text");
    let before = log.lines().take_while(|line| !line.contains(&typists_turn));
    let floods_turn = format!("{}: read ", flood.address());
    let share: usize =
        before.filter_map(|line| line.split_once(&floods_turn)).map(|(_, read)| bytes(read)).sum();
    assert!((1..=2 * READ_BUDGET).contains(&share), "{share} bytes of the flood before the typist's turn");
}

/// A client that sends as fast as it can and throws the answers away, until it is dropped.
struct Firehose(Client);

impl Firehose {
    fn turn_on(port: u16) -> Self {
        let client = Client::greeted(port);
        let (input, output) = (client.split(), client.split());
        let block = vec![b'x'; 1 << 16];
        thread::spawn(move || while input.stream().write_all(&block).is_ok() {});
        let mut answers = vec![0; 1 << 16];
        thread::spawn(move || while output.stream().read(&mut answers).is_ok_and(|count| count > 0) {});
        Self(client)
    }
}

impl Drop for Firehose {
    fn drop(&mut self) {
        // Both threads end by it. If it fails, the connection is gone and they have ended.
        let _ = self.0.stream().shutdown(Shutdown::Both);
    }
}

/// The 99th percentile of the time that an answer takes.
fn answer_time(typists: &mut [Client]) -> Duration {
    let mut microseconds = Histogram::<u64>::new(3).expect("three digits can be kept");
    for _ in 0..10 {
        for typist in &mut *typists {
            let asked = Instant::now();
            typist.ask(b"a few words");
            let took = u64::try_from(asked.elapsed().as_micros()).expect("less than an age");
            microseconds.record(took).expect("the histogram grows as needed");
        }
    }
    Duration::from_micros(microseconds.value_at_quantile(0.99))
}

/// The number at the beginning of "n bytes".
fn bytes(text: &str) -> usize {
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
