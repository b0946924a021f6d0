//! Ctrl-C, and the other signals that ask for an end.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use procfs::process::Process;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::support::{ChildGuard, Failure};

/// Whether the operator asks for an end. A wait checks it each [`Interrupt::TICK`] and returns an error, which drops
/// every guard on its way to `main`. So no process is left behind.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// No wait is longer without a check.
    pub const TICK: Duration = Duration::from_millis(100);

    /// Catches SIGINT, SIGTERM, and SIGHUP, which comes when the terminal closes. An ignored SIGHUP stays ignored, as
    /// `nohup` wants it.
    pub fn catch() -> Result<Self, Failure> {
        let interrupt = Self::default();
        interrupt.register().map_err(Failure::system("The signals"))?;
        Ok(interrupt)
    }

    fn register(&self) -> io::Result<()> {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if signal != SIGHUP || !is_ignored(signal) {
                flag::register(signal, Arc::clone(&self.asked))?;
            }
        }
        Ok(())
    }

    /// Whether the operator has asked for an end.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// An error if the operator has asked for an end.
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_asked() { Err(Failure::Interrupted) } else { Ok(()) }
    }

    /// Waits for this time. An error if the operator asks for an end before it is over.
    pub fn wait(&self, time: Duration) -> Result<(), Failure> {
        let sleep = |left| {
            thread::sleep(left);
            None::<()>
        };
        self.until(time, sleep).map(drop)
    }

    /// Waits for the end of a process and returns how it ended; `None` if it still runs after `patience`.
    pub fn wait_for_end(
        &self,
        process: &ChildGuard,
        patience: Duration,
    ) -> Result<Option<ExitStatus>, Failure> {
        self.until(patience, |left| process.exit_within(left))
    }

    /// Waits for what `look` finds; it may wait for the given time. `None` if that is nothing in all of `patience`.
    pub fn until<T>(
        &self,
        patience: Duration,
        mut look: impl FnMut(Duration) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            self.check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            match look(left.min(Self::TICK)) {
                None if !left.is_zero() => {}
                found => return Ok(found),
            }
        }
    }
}

/// Whether this program was started with the signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign & (1 << (signal - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_wait_ends_with_its_patience_or_with_an_interrupt() {
        const GLANCE: Duration = Duration::from_millis(2);
        let sleeper = ChildGuard::spawn(Command::new("sleep").arg("3600")).unwrap();
        let interrupt = Interrupt::default();
        assert_eq!(interrupt.wait_for_end(&sleeper, GLANCE).unwrap(), None);
        let began = Instant::now();
        assert_eq!(interrupt.wait(GLANCE), Ok(()));
        assert!(began.elapsed() >= GLANCE);

        interrupt.asked.store(true, Ordering::Relaxed);
        let waiting = interrupt.wait_for_end(&sleeper, Duration::from_secs(3600));
        assert_eq!(waiting, Err(Failure::Interrupted));
        assert_eq!(interrupt.wait(Duration::from_secs(3600)), Err(Failure::Interrupted));
    }
}
