//! What the command needs of its process: signals, and limits.

#[cfg(unix)]
pub use unix::{
    SIGNAL_FILES, is_out_of_files, raise_file_limit, signals_to_watch, survive_file_size_limit, watch,
};
#[cfg(windows)]
pub use windows::{
    SIGNAL_FILES, is_out_of_files, raise_file_limit, signals_to_watch, survive_file_size_limit, watch,
};

use std::time::{Duration, Instant};

use okloop::Handle;

use crate::supervisor;

/// Requests to stop within this time are one request. GNU `timeout` sends SIGTERM to its child, then to the child's
/// process group, so the child gets it twice. A person who presses Ctrl-C again takes longer.
const STOP_WINDOW: Duration = Duration::from_millis(200);

/// What the operator's signals do: the first one stops the server in order, a later one immediately.
struct Stopper {
    handle: Handle,
    first: Option<Instant>,
}

impl Stopper {
    fn new(handle: Handle) -> Self {
        Self { handle, first: None }
    }

    fn stop(&mut self) {
        let now = Instant::now();
        match self.first {
            None => {
                self.first = Some(now);
                self.handle.stop();
                supervisor::stopping(self.handle.stats().open);
            }
            Some(first) if now - first > STOP_WINDOW => self.handle.stop_now(),
            Some(_) => {}
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use log::{info, warn};
    use okloop::Server;
    use rlimit::Resource;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
    use signal_hook::flag;
    use signal_hook::low_level::signal_name;
    use signal_hook_mio::v1_0;

    use super::Stopper;

    /// The files that signals need: the two ends of the socket pair that they come through.
    pub const SIGNAL_FILES: usize = 2;

    /// The signals that this process has taken over.
    pub struct Signals {
        arrived: v1_0::Signals,
        /// The server does not listen yet.
        is_starting: Arc<AtomicBool>,
    }

    /// Takes over SIGTERM and SIGUSR1, and of SIGINT and SIGHUP those that were not ignored when the process started. A
    /// shell ignores SIGINT for `okloop &` in a script, and `nohup` ignores SIGHUP, for the processes that they start.
    ///
    /// From here on SIGUSR1 waits until the server runs ([`watch`]). The others end a process that does not listen yet,
    /// immediately and with status 0: no client has anything to lose, and a name server may take minutes.
    pub fn signals_to_watch() -> io::Result<Signals> {
        // Linux tells. Elsewhere SIGHUP keeps its effect: it is ignored under `nohup`, and ends the process otherwise.
        let status = fs::read_to_string("/proc/self/status");
        let ignored = status.ok().and_then(|status| ignored_in(&status)).unwrap_or(bit(SIGHUP));
        let stops = [SIGTERM, SIGINT, SIGHUP].into_iter();
        let stops = stops.filter(|&signal| signal == SIGTERM || ignored & bit(signal) == 0);
        let is_starting = Arc::new(AtomicBool::new(true));
        for signal in stops.clone() {
            flag::register_conditional_shutdown(signal, 0, Arc::clone(&is_starting))?;
        }
        Ok(Signals { arrived: v1_0::Signals::new(stops.chain([SIGUSR1]))?, is_starting })
    }

    /// The set of ignored signals in the text of `/proc/self/status` (`SigIgn`, proc(5)).
    fn ignored_in(status: &str) -> Option<u64> {
        let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(set.trim(), 16).ok()
    }

    fn bit(signal: i32) -> u64 {
        1 << (signal - 1)
    }

    /// A signal is an event of the loop: SIGUSR1 reports, all others stop.
    pub fn watch(server: &mut Server, signals: Signals) -> io::Result<()> {
        signals.is_starting.store(false, Ordering::SeqCst);
        let (handle, mut stopper) = (server.handle(), Stopper::new(server.handle()));
        server.watch(signals.arrived, move |arrived| {
            for signal in arrived.pending() {
                info!("Received {}", signal_name(signal).unwrap_or("a signal"));
                match signal {
                    SIGUSR1 => handle.report(),
                    _ => stopper.stop(),
                }
            }
        })
    }

    /// Lets a write fail when the log's file has reached its limit (`ulimit -f`, setrlimit(2)). Without a handler,
    /// SIGXFSZ ends the process.
    pub fn survive_file_size_limit() -> io::Result<()> {
        flag::register(SIGXFSZ, Arc::default()).map(drop)
    }

    /// Raises the limit of open files to the hard limit, which needs no privilege, and returns it.
    pub fn raise_file_limit() -> io::Result<usize> {
        let limit = rlimit::increase_nofile_limit(u64::MAX).or_else(|error| {
            warn!("The limit of open files stays as it is: {error}");
            Resource::NOFILE.get_soft()
        })?;
        Ok(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// Whether the process has as many open files as its limit allows.
    pub fn is_out_of_files(error: &io::Error) -> bool {
        error.raw_os_error() == Some(libc::EMFILE)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn linux_tells_the_ignored_signals_as_a_set_of_bits() {
            let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001003\nSigCgt:\t0000000100000002\n";
            let ignored = ignored_in(status).expect("there is a set");
            assert_eq!(
                [SIGHUP, SIGINT, SIGTERM].map(|signal| ignored & bit(signal) != 0),
                [true, true, false]
            );
            assert_eq!(ignored_in("Name:\tokloop\n"), None);
        }
    }
}

/// Ctrl-C in the console. Windows has no signals: it calls a handler in a thread of its own (Microsoft,
/// "`SetConsoleCtrlHandler`"), and that thread uses a [`Handle`].
#[cfg(windows)]
#[expect(clippy::unnecessary_wraps, reason = "the functions of Unix can fail")]
mod windows {
    use std::io;
    use std::sync::{Mutex, PoisonError};

    use log::info;
    use okloop::Server;

    use super::Stopper;

    /// Windows calls a handler.
    pub const SIGNAL_FILES: usize = 0;

    /// Nothing: Ctrl-C keeps its effect until the server runs.
    pub fn signals_to_watch() -> io::Result<()> {
        Ok(())
    }

    /// Ctrl-C and Ctrl-Break stop the server. There is no signal for a report.
    pub fn watch(server: &mut Server, (): ()) -> io::Result<()> {
        let stopper = Mutex::new(Stopper::new(server.handle()));
        let stop = move || {
            info!("Received Ctrl-C");
            stopper.lock().unwrap_or_else(PoisonError::into_inner).stop();
        };
        ctrlc::set_handler(stop).map_err(io::Error::other)
    }

    /// Windows has no such limit.
    pub fn survive_file_size_limit() -> io::Result<()> {
        Ok(())
    }

    /// Windows has no limit of sockets either. This number is large enough for most servers.
    pub fn raise_file_limit() -> io::Result<usize> {
        Ok(16 * 1024)
    }

    /// It is never out of them.
    pub fn is_out_of_files(_: &io::Error) -> bool {
        false
    }
}
