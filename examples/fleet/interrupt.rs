//! Ctrl-C, seen by whoever waits.

use std::fs;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::child::ChildGuard;
use crate::failure::Failure;

/// How often a process is looked at that is about to end.
const GLANCE: Duration = Duration::from_millis(2);

/// Whether we are asked to end. Whoever waits looks at it each [`Interrupt::TICK`] and returns an error, which drops
/// every guard on its way to `main`: no process of the fleet is left behind.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// No wait is longer without a look.
    pub const TICK: Duration = Duration::from_millis(100);

    /// Catches from now on SIGINT, SIGTERM, and SIGHUP, which comes when the terminal is closed; unless somebody has
    /// us ignore that, as `nohup` does.
    pub fn catch() -> io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if signal != SIGHUP || !is_ignored(signal) {
                flag::register(signal, Arc::clone(&flag))?;
            }
        }
        Ok(Self(flag))
    }

    /// An error if we are asked to end.
    pub fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }

    /// Waits for the end of a process and returns how it ended; `None` if it still runs after `patience`.
    pub fn wait_for_end(
        &self,
        process: &ChildGuard,
        patience: Duration,
    ) -> Result<Option<ExitStatus>, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            self.check()?;
            match process.exit_status() {
                None if Instant::now() < deadline => thread::sleep(GLANCE),
                status => return Ok(status),
            }
        }
    }
}

/// Whether we were started with the signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn nobody_waits_longer_than_he_is_patient_or_is_allowed_to() {
        let sleeper = ChildGuard::spawn(Command::new("sleep").arg("3600")).unwrap();
        let interrupt = Interrupt(Arc::default());
        assert_eq!(interrupt.wait_for_end(&sleeper, GLANCE).unwrap(), None);

        interrupt.0.store(true, Ordering::Relaxed);
        let waiting = interrupt.wait_for_end(&sleeper, Duration::from_secs(3600));
        assert!(matches!(waiting, Err(Failure::Interrupted)));
    }
}
