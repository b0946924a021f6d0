//! Which signals the server watches.

use std::fs;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

/// SIGTERM and SIGUSR1, and of SIGINT and SIGHUP those that were not ignored when the process started. A shell ignores
/// SIGINT for `okloop &` in a script, and `nohup` ignores SIGHUP, for the processes that they start.
///
/// Call it before the first handler is set.
pub fn to_watch() -> Vec<i32> {
    // Linux tells. Elsewhere SIGHUP keeps its effect: it is ignored under `nohup`, and ends the process otherwise.
    let status = fs::read_to_string("/proc/self/status");
    let ignored = status.ok().and_then(|status| ignored_in(&status)).unwrap_or(bit(SIGHUP));
    let not_ignored = [SIGINT, SIGHUP].into_iter().filter(|&signal| ignored & bit(signal) == 0);
    [SIGTERM, SIGUSR1].into_iter().chain(not_ignored).collect()
}

/// The set of ignored signals in the text of `/proc/self/status` (`SigIgn`, proc(5)).
fn ignored_in(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_the_ignored_signals_as_a_set_of_bits() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001003\nSigCgt:\t0000000100000002\n";
        let ignored = ignored_in(status).expect("there is a set");
        assert_eq!([SIGHUP, SIGINT, SIGTERM].map(|signal| ignored & bit(signal) != 0), [true, true, false]);
        assert_eq!(ignored_in("Name:\tokloop\n"), None);
    }
}
