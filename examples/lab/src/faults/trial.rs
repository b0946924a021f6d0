//! One server on trial in one case, and what most cases do with it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::case::{Stop, cannot_run};
use super::child::Child;
use super::client::Client;
use super::protocol::Protocol;

/// How long one case may take.
pub const LIMIT: Duration = Duration::from_secs(30);

/// How many clients of a crowd connect together: no more than the shortest accept queue that servers ask for.
const WAVE: usize = 5;

/// One server in one case.
#[derive(Debug)]
pub struct Trial {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it promises.
    pub protocol: Protocol,
    /// How long a client waits for the next byte.
    pub patience: Duration,
    /// When the case must have ended.
    pub deadline: Instant,
    /// The process, if it was started here.
    pub child: Option<Child>,
}

impl Trial {
    /// The process.
    pub fn process(&self) -> Result<&Child, Stop> {
        self.child.as_ref().ok_or_else(|| cannot_run("only the address of the server is known"))
    }

    /// Runs `act` while the server is stopped, if it was started here. Otherwise both go on.
    pub fn while_stopped<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.child {
            Some(child) => child.while_stopped(act),
            None => act(),
        }
    }

    /// One more client is greeted and answered.
    pub fn serves_the_next(&self) -> Result<(), Stop> {
        let after = |stop| match stop {
            Stop::Fails(mut failure) => {
                failure.expected = format!("the next client is served: {}", failure.expected);
                Stop::Fails(failure)
            }
            stop => stop,
        };
        let client = Client::greeted(self).map_err(after)?;
        client.ask(b"are you there?\n").map_err(after)
    }

    /// Connects this many clients, each greeted and answered once; all stay open.
    pub fn crowd(&self, count: usize) -> Result<Vec<Client<'_>>, Stop> {
        let mut clients = Vec::with_capacity(count);
        while clients.len() < count {
            let start = clients.len();
            for _ in start..count.min(start + WAVE) {
                clients.push(Client::connect(self)?);
            }
            for client in &clients[start..] {
                client.greeting()?;
                client.send(b"hello\n")?;
            }
            clients[start..].iter().try_for_each(|client| client.answer_to(b"hello\n"))?;
        }
        Ok(clients)
    }

    /// How long the answers take that these clients get one after the other, during this time; sorted.
    pub fn answer_times(clients: &[Client<'_>], duration: Duration) -> Result<Vec<Duration>, Stop> {
        let end = Instant::now() + duration;
        let mut times = Vec::new();
        while Instant::now() < end {
            for client in clients {
                let asked = Instant::now();
                client.ask(b"a few words\n")?;
                times.push(asked.elapsed());
            }
        }
        times.sort_unstable();
        Ok(times)
    }

    /// Waits until `holds`, no longer than a client waits.
    pub fn eventually(&self, mut holds: impl FnMut() -> Result<bool, Stop>) -> Result<bool, Stop> {
        let deadline = Instant::now() + self.patience;
        while !holds()? {
            if Instant::now() > deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(true)
    }
}

/// The 99th percentile of sorted times.
pub fn p99(times: &[Duration]) -> Duration {
    times.get((times.len() * 99 / 100).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}
