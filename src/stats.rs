//! The counters: what the operator sees on SIGUSR1 and at exit.

use std::fmt;
use std::time::Duration;

use crate::reason::Reason;

/// What has been since the server's start, and what is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions open now (connections), without clients who are just being refused.
    pub open: usize,
    /// The most sessions that were open at once (connections).
    pub peak: usize,
    /// Connections accepted, the refused ones too.
    pub accepted: u64,
    /// Connections over the cap, told so.
    pub refused: u64,
    /// Times that accepting had to pause because the system had no room for one more.
    pub accept_pauses: u64,
    /// Bytes read from clients.
    pub bytes_in: u64,
    /// Bytes written to clients.
    pub bytes_out: u64,
    /// Time since the server was bound.
    pub uptime: Duration,
    /// Connections ended, by [`Reason`].
    pub(crate) closed: [u64; Reason::ALL.len()],
}

impl Stats {
    /// How many connections ended for this reason.
    pub fn closed(&self, reason: Reason) -> u64 {
        self.closed[reason as usize]
    }

    pub(crate) fn count_closed(&mut self, reason: Reason) {
        self.closed[reason as usize] += 1;
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "open {}, peak {}, accepted {}", self.open, self.peak, self.accepted)?;
        write!(f, ", refused {}, accept pauses {}, closed:", self.refused, self.accept_pauses)?;
        for reason in Reason::ALL {
            write!(f, " {} {},", reason, self.closed(reason))?;
        }
        write!(f, " bytes in {}, bytes out {}", self.bytes_in, self.bytes_out)?;
        write!(f, ", uptime {:.1} s", self.uptime.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_names_every_counter() {
        let mut stats =
            Stats { open: 1, peak: 2, accepted: 3, refused: 4, accept_pauses: 5, ..Stats::default() };
        (stats.bytes_in, stats.bytes_out, stats.uptime) = (6, 7, Duration::from_millis(8100));
        stats.count_closed(Reason::Reset);
        assert_eq!(
            stats.to_string(),
            "open 1, peak 2, accepted 3, refused 4, accept pauses 5, closed: finished 0, refused 0, reset 1, \
             vanished 0, idle time-out 0, write time-out 0, drained 0, cut 0, failed 0, bytes in 6, bytes out 7, \
             uptime 8.1 s"
        );
    }

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
