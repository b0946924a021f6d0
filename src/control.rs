//! What reaches the loop from outside the network: another thread's [`Handle`], and the signals of the process. Both
//! are readiness like everything else: an event ends `poll`, and the loop asks what is wanted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Registry, Token, Waker};

/// What the loop is asked to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// To stop after a drain; if the server drains already, to stop immediately.
    pub stop: bool,
    /// To stop immediately.
    pub stop_now: bool,
    /// To log the counters.
    pub report: bool,
}

/// Controls a running server from another thread.
#[derive(Debug, Clone)]
pub struct Handle {
    waker: Arc<Waker>,
    wanted: Arc<Wanted>,
}

#[derive(Debug, Default)]
struct Wanted {
    stop: AtomicBool,
    stop_now: AtomicBool,
    report: AtomicBool,
}

impl Handle {
    /// Does what SIGTERM does: the first call starts the drain, a later one ends the server immediately. Calls within
    /// a fifth of a second count as one ([`Handle::stop_now`] does not wait for that).
    ///
    /// # Errors
    ///
    /// If the loop could not be woken. It then sees this call together with the next one.
    pub fn stop(&self) -> io::Result<()> {
        self.ask(&self.wanted.stop)
    }

    /// Ends the server immediately: pending output is lost.
    ///
    /// # Errors
    ///
    /// As [`Handle::stop`].
    pub fn stop_now(&self) -> io::Result<()> {
        self.ask(&self.wanted.stop_now)
    }

    /// Lets the server log its counters.
    ///
    /// # Errors
    ///
    /// As [`Handle::stop`].
    pub fn report(&self) -> io::Result<()> {
        self.ask(&self.wanted.report)
    }

    fn ask(&self, what: &AtomicBool) -> io::Result<()> {
        what.store(true, Ordering::Release);
        self.waker.wake()
    }
}

/// The loop's end of handles and signals.
pub struct Control {
    handle: Handle,
    #[cfg(feature = "cli")]
    signals: Option<crate::platform::Signals>,
}

impl Control {
    /// A control that wakes the loop with `token`.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let handle = Handle { waker: Arc::new(Waker::new(registry, token)?), wanted: Arc::default() };
        Ok(Self {
            handle,
            #[cfg(feature = "cli")]
            signals: None,
        })
    }

    /// A handle for another thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Turns these signals into requests, and wakes the loop with `token`: SIGUSR1 reports, all others stop.
    #[cfg(feature = "cli")]
    pub fn watch_signals(&mut self, registry: &Registry, token: Token, signals: &[i32]) -> io::Result<()> {
        let signals = crate::platform::Signals::watch(registry, token, signals, &self.handle)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// What was asked for since the last call.
    pub fn requests(&mut self) -> Requests {
        let take = |what: &AtomicBool| what.swap(false, Ordering::Acquire);
        let wanted = &self.handle.wanted;
        #[cfg_attr(not(feature = "cli"), expect(unused_mut, reason = "only signals add to it"))]
        let mut requests = Requests {
            stop: take(&wanted.stop),
            stop_now: take(&wanted.stop_now),
            report: take(&wanted.report),
        };
        #[cfg(feature = "cli")]
        if let Some(signals) = &mut self.signals {
            signals.add_to(&mut requests);
        }
        requests
    }
}
