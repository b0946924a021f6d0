//! The handle that controls a running server.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::requests::{ConnectQueueFull, REPORT, STOP, STOP_NOW};
use crate::stats::Stats;
use crate::wakes::{Shared, Wakes};

/// Controls a server while it runs, from any thread, and from the turns of its sessions. It may outlive the server.
///
/// ```
/// use std::thread;
///
/// use okloop::protocols::{Framing, OkSession};
/// use okloop::{Config, Ending, Server};
///
/// let server = Server::bind(Config { host: "127.0.0.1".to_owned(), port: 0, ..Config::default() })?;
/// let handle = server.handle();
/// let running = thread::spawn(move || server.run(|_client| OkSession::new(Framing::Lines)));
/// println!("{} sessions are open", handle.stats().open);
/// handle.stop();
/// let (ending, stats) = running.join().expect("the loop does not panic")?;
/// assert_eq!((ending, stats.accepted), (Ending::Drained, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// A handle of the loop that has these wakes.
    pub(crate) fn new(wakes: &Wakes) -> Self {
        Self { shared: Arc::clone(wakes.shared()) }
    }

    fn ask(&self, request: u8) {
        self.shared.requests.ask(request);
        self.shared.wake_loop();
    }

    /// Stops the server in order: it closes the listening sockets, lets the sessions answer what has arrived, and waits
    /// until they end, at most [`Config::drain_timeout`](crate::Config::drain_timeout). A second call changes nothing.
    pub fn stop(&self) {
        self.ask(STOP);
    }

    /// Ends the server immediately, even while it drains: pending output is lost.
    pub fn stop_now(&self) {
        self.ask(STOP_NOW);
    }

    /// Whether the server was asked to stop. For a health check: it takes no more clients.
    pub fn is_stopping(&self) -> bool {
        self.shared.requests.is_stopping()
    }

    /// Lets the server log its counters, and the ten sessions whose pending output has made no progress for longest: the
    /// client's address, how much output, and for how long. Without [`Config::write_timeout`](crate::Config::write_timeout)
    /// the loop does not count this time, and names no session.
    pub fn report(&self) {
        self.ask(REPORT);
    }

    /// Opens an outgoing connection. The loop makes a session for it with the same factory that makes those of its clients,
    /// and gives it the tag ([`Origin::Outgoing`](crate::Origin::Outgoing)). The session may hand out its
    /// [`waker`](crate::Client::waker), with which another session can end it, even while it connects. When the connection
    /// is open, [`greet`](crate::Session::greet) is called, and all goes on as for an accepted one.
    ///
    /// A failure reaches the session ([`connect_failed`](crate::Session::connect_failed)).
    ///
    /// The address is an IP address: to ask a name server takes time. A thread may do it.
    ///
    /// When the server stops, it drains its outgoing connections after all accepted ones have ended.
    ///
    /// # Errors
    ///
    /// If [`CONNECT_QUEUE`](crate::config::CONNECT_QUEUE) connections are asked for and not begun yet.
    pub fn connect(&self, address: SocketAddr, tag: u64) -> Result<(), ConnectQueueFull> {
        self.shared.requests.connect(address, tag)?;
        self.shared.wake_loop();
        Ok(())
    }

    /// The counters. The loop goes on meanwhile, so they may be of slightly different moments. After the server's end they
    /// are its last ones.
    pub fn stats(&self) -> Stats {
        self.shared.counters.read()
    }
}
