//! Thousands of sessions connect, talk, stall, half-close, and reset. Every byte is checked. When all have ended, the
//! server has as many open files and as much memory as before.
//!
//! It takes a second, or `OKLOOP_SOAK_SECONDS`. `OKLOOP_SOAK_SEED` repeats the same random choices.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use okloop::Reason;
use okloop::protocols::{BANNER, CHUNK};
use socket2::SockRef;
use strum::VariantArray;

use crate::alone;
use crate::harness::{Client, Process, chunks_of, eventually, numbered_lines};
use crate::vitals::Vitals;

const CROWDS: u64 = 4;

/// The most sessions of one crowd that stall at the same time.
const STALLED: usize = 100;

#[test]
fn after_a_soak_the_server_has_the_memory_and_the_files_of_before() {
    let _alone = alone();
    let seed = setting("OKLOOP_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    println!("OKLOOP_SOAK_SEED={seed}");
    let time = Duration::from_secs(setting("OKLOOP_SOAK_SECONDS").unwrap_or(1));
    let server = Process::okloop(&[]);
    let vitals = Vitals::of(&server);

    let warm_up = soak(server.port(), seed, Duration::from_millis(500));
    eventually("all sessions have ended", || server.stats().open == 0);
    let (files, memory) = (vitals.open_files(), vitals.resident_memory());

    let sessions = warm_up + soak(server.port(), seed + CROWDS, time);
    eventually("all sessions have ended", || server.stats().open == 0);
    println!("{sessions} sessions");
    assert_eq!(vitals.open_files(), files);
    let grown = vitals.resident_memory().saturating_sub(memory);
    assert!(grown < 2 << 20, "{grown} bytes more than before");

    let stats = server.stats();
    let closed: u64 = Reason::VARIANTS.iter().map(|reason| stats.closed(*reason)).sum();
    assert_eq!((stats.accepted, closed), (sessions, sessions));
    assert_eq!((stats.closed(Reason::Failed), stats.accept_pauses), (0, 0));
}

/// Crowds of clients visit the server for this time. Returns how many sessions they had.
fn soak(port: u16, seed: u64, time: Duration) -> u64 {
    let end = Instant::now() + time;
    thread::scope(|scope| {
        let crowds: Vec<_> = (seed..seed + CROWDS)
            .map(|seed| scope.spawn(move || visit_until(end, port, Rng::with_seed(seed))))
            .collect();
        crowds.into_iter().map(|crowd| crowd.join().expect("every byte was right")).sum()
    })
}

fn visit_until(end: Instant, port: u16, mut random: Rng) -> u64 {
    let mut stalled = Vec::new();
    let mut visits = 0;
    while Instant::now() < end {
        let client = Client::connect(port);
        visits += 1;
        if let Some(client) = visit(client, &mut random) {
            stalled.push(client);
        }
        if stalled.len() > STALLED {
            let client = stalled.swap_remove(random.usize(..stalled.len()));
            go_on(client, &mut random);
        }
    }
    visits
}

/// One of nine ways to behave, at random. Returns a client that stalls.
fn visit(mut client: Client, random: &mut Rng) -> Option<Client> {
    match random.u8(..9) {
        0 => {}
        1 => client.reset(),
        2 => {
            client.send(&letters(random));
            client.reset();
        }
        3 => {
            client.expect(BANNER);
            client.send(&numbered_lines(random.usize(1..200_000)));
            // It resets in the middle of its answers.
            client.expect(b"OK...0\n1\n2\n"[..random.usize(1..8)].as_ref());
            client.reset();
        }
        4 => {
            let message = letters(random);
            client.send(&message);
            client.half_close();
            let received = client.read_to_end();
            let answers = received.strip_prefix(BANNER).expect("the banner comes first");
            chunks_of(&message, answers);
        }
        5 => {
            client.expect(BANNER);
            let message = numbered_lines(random.usize(1..100_000));
            chunks_of(&message, &client.exchange(&message));
        }
        6 => {
            client.expect(BANNER);
            let sent = SockRef::from(client.stream()).send_out_of_band(b"!");
            assert_eq!(sent.expect("there is room for a byte"), 1);
            client.expect(b"OK...!");
            go_on(client, random);
        }
        7 => {
            client.expect(BANNER);
            go_on(client, random);
        }
        _ => {
            client.expect(BANNER);
            return Some(client);
        }
    }
    None
}

/// Talks for a while, then half-closes or closes.
fn go_on(mut client: Client, random: &mut Rng) {
    for _ in 0..random.u8(..10) {
        client.ask(&letters(random));
    }
    if random.bool() {
        client.half_close();
        assert_eq!(client.read_to_end(), b"");
    }
}

/// A message of one chunk, without a byte of the prefix.
fn letters(random: &mut Rng) -> Vec<u8> {
    (0..random.usize(1..=CHUNK)).map(|_| random.u8(b'a'..=b'z')).collect()
}

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
