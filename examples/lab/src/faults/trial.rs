//! One server on trial in one case, and what most cases do with it.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::case::{Checked, Stop, cannot_run};
use super::client::Client;
use crate::support::{ChildGuard, Interrupt, Process, Protocol, Server, usage};

/// How long one case may take.
pub const LIMIT: Duration = Duration::from_secs(30);

/// How many clients of a crowd connect together: no more than the shortest accept queue that servers ask for.
const WAVE: usize = 5;

/// One server in one case.
#[derive(Debug)]
pub struct Trial {
    /// The server.
    pub server: Server,
    /// What it promises.
    pub protocol: Protocol,
    /// How long a client waits for the next byte.
    pub patience: Duration,
    /// When the case must have ended.
    pub deadline: Instant,
    /// Ctrl-C.
    pub interrupt: Interrupt,
}

impl Trial {
    /// The process.
    pub fn process(&self) -> Checked<&Process> {
        self.server.process.as_ref().ok_or_else(|| cannot_run("only the address of the server is known"))
    }

    /// The process, for signals and its end.
    pub fn guard(&self) -> Checked<&ChildGuard> {
        Ok(&self.process()?.guard)
    }

    /// What /proc tells about the process.
    pub fn look<T>(&self, figure: fn(u32) -> Option<T>) -> Checked<T> {
        figure(self.guard()?.id()).ok_or_else(|| cannot_run("/proc does not tell it"))
    }

    /// The memory that the process has in use (bytes).
    pub fn memory(&self) -> Checked<u64> {
        let [resident, _] = self.look(usage::memory)?;
        Ok(resident)
    }

    /// Runs `act` while the server is stopped, if it was started here: it then finds everything that the clients did in
    /// one batch of events. Otherwise both go on.
    pub fn while_stopped<T>(&self, act: impl FnOnce() -> T) -> T {
        let Ok(guard) = self.guard() else { return act() };
        // Both signals can fail only for a process that has ended, which the case then sees.
        let _ = guard.signal(Signal::SIGSTOP);
        let deadline = Instant::now() + Duration::from_secs(2);
        while usage::is_stopped(guard.id()) == Some(false) && Instant::now() < deadline {
            thread::sleep(Duration::from_micros(200));
        }
        let result = act();
        let _ = guard.signal(Signal::SIGCONT);
        result
    }

    /// The outcome, and how the process ended if that is why the case fails. A moment later the kernel may show it.
    pub fn explained<T>(&self, mut outcome: Checked<T>) -> Checked<T> {
        if let Err(Stop::Fails(failure)) = &mut outcome
            && let Some(death) = self.server.death_within(Duration::from_millis(20))
            && !failure.came.contains(&death)
        {
            failure.came.extend(["; ", &death]);
        }
        outcome
    }

    /// One more client is greeted and answered.
    pub fn serves_the_next(&self) -> Checked {
        let mut served = Client::greeted(self).and_then(|client| client.ask(b"are you there?\n"));
        if let Err(Stop::Fails(failure)) = &mut served {
            failure.expected.insert_str(0, "the next client is served: ");
        }
        served
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
    pub fn answer_times(clients: &[Client<'_>], duration: Duration) -> Checked<Vec<Duration>> {
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
    pub fn eventually(&self, mut holds: impl FnMut() -> Checked<bool>) -> Checked<bool> {
        let deadline = Instant::now() + self.patience;
        while !holds()? {
            if Instant::now() > deadline {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(true)
    }
}

/// The 99th percentile of sorted times.
pub fn p99(times: &[Duration]) -> Duration {
    times.get(times.len() * 99 / 100).copied().unwrap_or_default()
}
