//! A client process's way to its parent: orders on standard input, reports on standard output.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use mio::{Registry, Token, Waker};

use crate::fleet::message::{Order, Report};
use crate::support::{Failure, try_to_say};

/// The orders, in their order, and what wakes the loop for them: a dropped waker would take its last wake with it.
pub type Orders = (Receiver<Order>, Arc<Waker>);

/// Reads orders in a thread of its own, which wakes the loop for each and for their end.
pub fn follow(registry: &Registry, token: Token) -> io::Result<Orders> {
    let waker = Arc::new(Waker::new(registry, token)?);
    let (sender, received) = channel();
    let orders = (received, Arc::clone(&waker));
    thread::spawn(move || {
        let lines = io::stdin().lines().map_while(Result::ok);
        for order in lines.map_while(|line| serde_json::from_str(&line).ok()) {
            if sender.send(order).is_err() {
                return;
            }
            // After a failed wake, the next one brings this order too.
            let _ = waker.wake();
        }
        drop(sender);
        let _ = waker.wake();
    });
    Ok(orders)
}

/// Sends a report to the parent.
pub fn report(report: &Report) -> Result<(), Failure> {
    try_to_say(serde_json::to_string(report).expect("a report has no keys but strings"))
}
