//! What an answer costs beside its system calls: nothing from the allocator.

use std::thread;

use okloop::{Config, Server};

use crate::harness::Client;

/// How often the loop's thread asks the allocator for memory, from its start to its end, with one client that is given
/// so many answers.
fn allocations_with(answers: usize) -> u64 {
    let config = Config { host: "127.0.0.1".to_owned(), port: 0, ..Config::default() };
    let server = Server::bind(config).expect("a port is free");
    let port = server.local_addr().expect("a bound server has an address").port();
    let handle = server.handle();
    let run = || {
        server.run().expect("polling works");
    };
    let running = thread::spawn(move || allocation_counter::measure(run).count_total);
    let mut client = Client::greeted(port);
    for number in 0..answers {
        client.ask(format!("line {number:05}\n").as_bytes());
    }
    client.half_close();
    assert_eq!(client.read_to_end(), b"");
    handle.stop().expect("the loop can be woken");
    running.join().expect("the loop does not panic")
}

#[test]
fn five_thousand_answers_allocate_no_more_than_five() {
    assert_eq!(allocations_with(5_000), allocations_with(5));
}
