//! The loop answers without asking the allocator for memory.

use std::thread;

use okloop::protocols::{Framing, OkSession};

use crate::harness::{Client, bind, loopback, port_of};

/// How many times the loop's thread allocates, from start to end, with one client that gets this many answers.
fn allocations_with(answers: usize) -> u64 {
    let server = bind(loopback());
    let (port, handle) = (port_of(&server), server.handle());
    let run = || {
        server.run(|_| OkSession::new(Framing::Chunks)).expect("polling works");
    };
    let running = thread::spawn(move || allocation_counter::measure(run).count_total);
    let mut client = Client::greeted(port);
    for number in 0..answers {
        client.ask(format!("line {number:05}\n").as_bytes());
    }
    client.half_close();
    assert_eq!(client.read_to_end(), b"");
    handle.stop();
    running.join().expect("the loop does not panic")
}

#[test]
fn five_thousand_answers_allocate_no_more_than_five() {
    assert_eq!(allocations_with(5_000), allocations_with(5));
}
