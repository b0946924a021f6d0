//! What reaches the loop from outside the network: another thread's [`Handle`], and the process's signals. Both are
//! readiness like everything else: an event wakes `poll`, and the loop asks what is wanted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use log::info;
use mio::{Interest, Registry, Token, Waker};
use signal_hook::consts::SIGUSR1;
use signal_hook_mio::v1_0::Signals;

/// What the loop is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// To stop: after a drain the first time, at once the second.
    Stop,
    /// To log the counters.
    Report,
}

/// Stops a running server from another thread.
#[derive(Debug, Clone)]
pub struct Handle {
    waker: Arc<Waker>,
    stops: Arc<AtomicUsize>,
}

impl Handle {
    /// Does what one SIGTERM does: the first call begins the drain, the second ends the server at once.
    ///
    /// # Errors
    ///
    /// If the loop could not be woken; it then sees this call together with the next one.
    pub fn stop(&self) -> io::Result<()> {
        self.stops.fetch_add(1, Ordering::Release);
        self.waker.wake()
    }
}

/// The loop's end of handles and signals.
pub struct Control {
    handle: Handle,
    signals: Option<Signals>,
}

impl Control {
    /// A control that wakes the loop with `token`.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let handle = Handle { waker: Arc::new(Waker::new(registry, token)?), stops: Arc::default() };
        Ok(Self { handle, signals: None })
    }

    /// A handle for another thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Turns these signals into requests that wake the loop with `token`.
    pub fn watch_signals(&mut self, registry: &Registry, token: Token, signals: &[i32]) -> io::Result<()> {
        let mut signals = Signals::new(signals)?;
        registry.register(&mut signals, token, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// What has been asked for since the last call.
    pub fn requests(&mut self) -> Vec<Request> {
        let stops = self.handle.stops.swap(0, Ordering::Acquire);
        let mut requests = vec![Request::Stop; stops];
        for signal in self.signals.iter_mut().flat_map(Signals::pending) {
            info!("Received {}", name(signal));
            requests.push(if signal == SIGUSR1 { Request::Report } else { Request::Stop });
        }
        requests
    }
}

fn name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("an unnamed signal")
}
