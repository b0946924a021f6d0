//! One client's flood beside other clients' short messages.

use std::time::{Duration, Instant};

use okloop::config::READ_BUDGET;

use crate::alone;
use crate::harness::{Client, Flood, Process};
use crate::vitals::while_stopped;

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

/// The number at the start of "n bytes".
fn bytes(text: &str) -> usize {
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
