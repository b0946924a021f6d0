//! One client's flood beside other clients' short messages.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use okloop::config::READ_BUDGET;

use crate::alone;
use crate::harness::{Client, Flood, Process};
use crate::vitals::while_stopped;

/// Measured on two processors, which the server shares with the floods: 0.02 to 0.13 ms alone, 0.3 to 0.9 ms beside four
/// floods. A loop that reads a flood until its end makes it 100 to 3,000 ms.
#[test]
fn a_hundred_clients_get_prompt_answers_beside_floods() {
    let _alone = alone();
    let server = Process::okloop(&[]);
    let port = server.port();
    let mut clients: Vec<Client> = (0..100).map(|_| Client::greeted(port)).collect();
    let before = answer_time(&mut clients);
    let beside = {
        let _floods = [(); 4].map(|()| Flood::start(port));
        answer_time(&mut clients)
    };
    let bound = (20 * before).max(Duration::from_millis(50));
    assert!(beside < bound, "{beside:?} beside the floods, {before:?} before");
}

/// Measured beside four floods on two processors: 0.1 to 4 ms. `loop_backpressure`, whose turns have no limit, did not
/// answer within 30 s.
#[test]
fn fair_loops_answer_others_promptly_beside_floods() {
    let _alone = alone();
    for name in ["poll_all", "loop_fair", "loop_deadlines"] {
        let server = Process::start(name, &["0"]);
        let port = server.port();
        let mut client = Client::greeted(port);
        let floods = [(); 4].map(|()| Flood::start(port));
        let mut times: Vec<Duration> = (0..100)
            .map(|_| {
                let start = Instant::now();
                client.ask(b"a few words");
                start.elapsed()
            })
            .collect();
        times.sort();
        assert!(times[90] < Duration::from_millis(250), "{name}: {:?} at the 90th percentile", times[90]);
        drop(floods);
    }
}

/// Both have sent before the loop looks, the flood first. The order of the log needs no clock.
#[test]
fn a_flood_gets_one_read_budget_before_the_next_session_has_its_turn() {
    let _alone = alone();
    let server = Process::okloop(&["--log-level", "trace"]);
    let (mut flood, mut client) = (Client::greeted(server.port()), Client::greeted(server.port()));
    while_stopped(&server, || {
        flood.send_until_full(&vec![b'x'; 64 << 20]);
        client.send(b"hello");
    });
    client.expect(b"OK...hello");

    let turn = format!("{}: read 5 bytes", client.address());
    server.line_with(&turn);
    let log = String::from_utf8(server.stdout()).expect("the log is text");
    let before = log.lines().take_while(|line| !line.contains(&turn));
    let reads = format!("{}: read ", flood.address());
    let read: usize = before.filter_map(|line| line.split_once(&reads)).map(|(_, read)| bytes(read)).sum();
    assert!(
        (1..=2 * READ_BUDGET).contains(&read),
        "{read} bytes of the flood before the other session's turn"
    );
}

/// The 99th percentile of the time that an answer takes.
fn answer_time(clients: &mut [Client]) -> Duration {
    let mut microseconds = Histogram::<u64>::new(3).expect("three digits can be kept");
    for _ in 0..10 {
        for client in &mut *clients {
            let asked = Instant::now();
            client.ask(b"a few words");
            let took = u64::try_from(asked.elapsed().as_micros()).expect("less than a deadline");
            microseconds.record(took).expect("the histogram grows as needed");
        }
    }
    Duration::from_micros(microseconds.value_at_quantile(0.99))
}

/// The number at the start of "n bytes".
fn bytes(text: &str) -> usize {
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
