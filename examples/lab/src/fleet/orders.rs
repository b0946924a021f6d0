//! A client process's way to its parent: orders on standard input, reports on standard output.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use mio::{Registry, Token, Waker};

use crate::fleet::message::{Order, Report};
use crate::support::{Failure, try_to_say};

/// The orders, in their order.
#[derive(Debug)]
pub struct Orders {
    received: Receiver<Order>,
    ended: bool,
    /// A dropped waker would take its last wake with it.
    _waker: Arc<Waker>,
}

impl Orders {
    /// Reads orders in a thread of its own, which wakes the loop for each and for their end.
    pub fn follow(registry: &Registry, token: Token) -> io::Result<Self> {
        let waker = Arc::new(Waker::new(registry, token)?);
        let (sender, received) = channel();
        let orders = Self { received, ended: false, _waker: Arc::clone(&waker) };
        thread::spawn(move || {
            for order in
                io::stdin().lines().map_while(Result::ok).map_while(|line| serde_json::from_str(&line).ok())
            {
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

    /// The next order, if one has come.
    pub fn next(&mut self) -> Option<Order> {
        self.received.try_recv().inspect_err(|error| self.ended = *error == TryRecvError::Disconnected).ok()
    }

    /// Whether no more orders will come, because the parent has ended.
    pub fn have_ended(&self) -> bool {
        self.ended
    }
}

/// Sends a report to the parent.
pub fn report(report: &Report) -> Result<(), Failure> {
    try_to_say(serde_json::to_string(report).expect("a report has no keys but strings"))
}
