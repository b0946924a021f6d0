//! The search for a server's knee. Knows no server and no socket.
//!
//! The **knee** is the offered rate at which half of the slices are held. A slice is held if half of its lines are answered
//! within 1 ms after they were due. Above the knee lines come faster than they are answered, and the queue grows as long
//! as they come, so soon every line is late. Below it only some are: after a pause of the machine, or because the
//! scheduler chose other threads.
//!
//! A **staircase** finds it, as in a hearing test: up one step after a slice that was held, down one step after another. It
//! follows the machine, which is not equally fast all the time. The median of its steps is the knee.
//!
//! ```text
//!  rate        climb       staircase
//!               ×
//!              ╱ ╲   ×     ×   ×           × missed
//!             ●   ╲ ╱ ╲   ╱ ╲ ╱ ╲          ● held
//!            ╱     ●   ╲ ╱   ●   ●
//!           ●           ●
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::compare::load::Heard;
use crate::compare::rounds::Summary;

/// Half of the lines must be answered within this time after they were due. With a longer limit, several lines of
/// one session wait together, and one answer serves them all.
const LIMIT: Duration = Duration::from_millis(1);
/// The load is late if half of the lines are sent later than this.
const LATE: Duration = Duration::from_micros(250);
/// The quantile of both.
const QUANTILE: f64 = 0.5;
/// The first rate (lines a second).
pub const FIRST: f64 = 4000.0;
/// The steps that double the rate: 4 % each.
const OCTAVE: u32 = 16;
/// The last step: 1,024,000 lines a second, more than any load sends.
const LAST: u32 = 8 * OCTAVE;
/// The first stride of the staircase.
const STRIDE: u32 = 4;

/// What a slice showed, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The server did not answer in time.
    Missed,
    /// The load did not send in time. It says nothing about the server.
    LoadWasLate,
    /// The server answered in time.
    Held,
}

/// One server's search, over all rounds.
#[derive(Debug, Default)]
pub struct Search {
    /// Everything that was played, by its step.
    played: BTreeMap<u32, Vec<Played>>,
    /// The step of the climb; none after it.
    climb: Option<u32>,
    /// The staircase, after the first climb.
    staircase: Option<Staircase>,
}

#[derive(Debug)]
struct Staircase {
    next: u32,
    stride: u32,
    /// The steps since its direction changed first, each with its verdict.
    taken: Vec<(u32, Verdict)>,
    /// Whether its last step was up.
    was_up: Option<bool>,
}

/// The end of a search.
#[derive(Debug)]
pub struct Sweep {
    /// The rates that were played, in order.
    pub points: Vec<Point>,
    /// The knee.
    pub knee: Knee,
}

/// One rate.
#[derive(Debug)]
pub struct Point {
    /// Lines a second, on average.
    pub rate: f64,
    /// What became of them, slice by slice.
    pub slices: Vec<Played>,
    /// Whether the rate is the first one, or that one doubled some times.
    pub is_of_climb: bool,
}

/// What a search keeps of a slice: one of its three histograms, because each needs a quarter of a megabyte.
#[derive(Debug)]
pub struct Played {
    /// For each line, from when it was due to the last byte of its answer (nanoseconds).
    pub latency: Histogram<u64>,
    /// What the slice showed.
    pub verdict: Verdict,
}

/// Where a server's limit is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knee {
    /// The rate at which half of the slices were held (lines a second); none if the first rate was not.
    pub rate: Option<f64>,
    /// Whether the server may hold more, because the load could not send more in time, or was not asked to.
    pub is_limit_of_load: bool,
}

impl Search {
    /// Begins a round: its rates double from the first one until one is missed. Then the staircase goes on.
    pub fn begin_round(&mut self) {
        self.climb = Some(0);
    }

    /// The rate of the next slice (lines a second).
    pub fn next_rate(&self) -> f64 {
        rate(self.next_step())
    }

    fn next_step(&self) -> u32 {
        self.climb.or(self.staircase.as_ref().map(|staircase| staircase.next)).unwrap_or_default()
    }

    /// Notes what became of the slice with the next rate.
    pub fn note(&mut self, slice: Heard) {
        let (step, verdict) = (self.next_step(), slice.verdict());
        self.played.entry(step).or_default().push(Played { latency: slice.latency, verdict });
        if self.climb.is_none() {
            self.staircase.iter_mut().for_each(|staircase| staircase.take(verdict));
        } else if verdict == Verdict::Held && step < LAST {
            self.climb = Some(step + OCTAVE);
        } else {
            self.climb = None;
            let next = step.saturating_sub(OCTAVE / 2);
            let staircase = || Staircase { next, stride: STRIDE, taken: Vec::new(), was_up: None };
            self.staircase.get_or_insert_with(staircase);
        }
    }

    /// What was found; none if nothing was played.
    pub fn finish(self) -> Option<Sweep> {
        let knee = self.knee();
        let point = |(step, slices)| Point { rate: rate(step), slices, is_of_climb: step % OCTAVE == 0 };
        let points: Vec<_> = self.played.into_iter().map(point).collect();
        (!points.is_empty()).then_some(Sweep { points, knee })
    }

    fn knee(&self) -> Knee {
        let taken = self.staircase.as_ref().map_or(&[][..], |staircase| &staircase.taken);
        let Some((step, verdict)) = middle(taken) else {
            // The rate was never too high, or always, or only a part of the search was played.
            let is_held = |slice: &Played| slice.verdict == Verdict::Held;
            let held = self.played.iter().rfind(|(_, slices)| slices.iter().any(is_held));
            return Knee { rate: held.map(|(step, _)| rate(*step)), is_limit_of_load: held.is_some() };
        };
        let is_any_held = step > 0 || verdict == Verdict::Held;
        let count = |wanted| taken.iter().filter(|(_, verdict)| *verdict == wanted).count();
        Knee {
            rate: is_any_held.then(|| rate(step)),
            is_limit_of_load: count(Verdict::LoadWasLate) > count(Verdict::Missed),
        }
    }
}

impl Staircase {
    fn take(&mut self, verdict: Verdict) {
        let is_up = verdict == Verdict::Held;
        if self.was_up.is_some_and(|was_up| was_up != is_up) {
            self.stride = (self.stride / 2).max(1);
        }
        if self.stride < STRIDE {
            self.taken.push((self.next, verdict));
        }
        self.was_up = Some(is_up);
        self.next =
            if is_up { (self.next + self.stride).min(LAST) } else { self.next.saturating_sub(self.stride) };
    }
}

impl Point {
    /// How many slices had this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.slices.iter().filter(|slice| slice.verdict == verdict).count()
    }

    /// Whether half of the slices were held.
    pub fn is_held(&self) -> bool {
        2 * self.count(Verdict::Held) >= self.slices.len()
    }

    /// The median of the slices' quantiles of the latency (microseconds). Unlike the quantile of all lines together, it
    /// does not show a pause of the machine in one slice of three.
    pub fn latency(&self, quantile: f64) -> f64 {
        let of_slice = |slice: &Played| slice.latency.value_at_quantile(quantile) as f64 / 1e3;
        Summary::of(self.slices.iter().map(of_slice).collect()).map_or(f64::NAN, |summary| summary.median)
    }
}

impl Heard {
    /// Answers that come too long after their lines were sent are the server's fault, however late the load was.
    fn verdict(&self) -> Verdict {
        let is_later = |latencies: &Histogram<u64>, limit: Duration| {
            u128::from(latencies.value_at_quantile(QUANTILE)) > limit.as_nanos()
        };
        if is_later(&self.answering, LIMIT) {
            Verdict::Missed
        } else if is_later(&self.lateness, LATE) {
            Verdict::LoadWasLate
        } else if is_later(&self.latency, LIMIT) {
            Verdict::Missed
        } else {
            Verdict::Held
        }
    }
}

/// The median. Of two in the middle the lower one, which was held more often.
fn middle(taken: &[(u32, Verdict)]) -> Option<(u32, Verdict)> {
    let mut taken = taken.to_vec();
    taken.sort_unstable();
    taken.get(taken.len().saturating_sub(1) / 2).copied()
}

/// The rate of a step (lines a second).
fn rate(step: u32) -> f64 {
    FIRST * (f64::from(step) / f64::from(OCTAVE)).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::latency;

    /// A slice in which the load and the server were late by these times (microseconds).
    fn slice(lateness: u64, answering: u64) -> Heard {
        let of = |microseconds| {
            let mut latencies = latency::histogram();
            latency::record(&mut latencies, Duration::from_micros(microseconds));
            latencies
        };
        let (latency, lateness, answering) = (of(lateness + answering), of(lateness), of(answering));
        Heard { latency, lateness, answering, ..Heard::nothing() }
    }

    /// Three rounds of a search on a server, and a load, that hold these rates (lines a second) in each slice.
    fn search(server: impl Fn(usize) -> f64, load: f64) -> Sweep {
        let mut search = Search::default();
        for nth in 0..60 {
            if nth % 20 == 0 {
                search.begin_round();
            }
            let rate = search.next_rate();
            search.note(if rate > server(nth) {
                slice(0, 2000)
            } else if rate > load {
                slice(500, 0)
            } else {
                slice(0, 0)
            });
        }
        search.finish().expect("slices were played")
    }

    #[test]
    fn the_knee_is_found_to_one_step() {
        for limit in [4_000.0, 5_555.0, 61_803.0, 200_000.0, 999_999.0] {
            let knee = search(|_| limit, f64::INFINITY).knee;
            let rate = knee.rate.expect("the first rate is held");
            assert!((rate / limit).log2().abs() <= 1.01 / f64::from(OCTAVE), "{rate} instead of {limit}");
            assert!(!knee.is_limit_of_load);
        }
    }

    #[test]
    fn a_machine_that_is_slow_at_times_moves_the_knee_little() {
        let slow_for_a_while = |nth: usize| if (25..33).contains(&nth) { 50_000.0 } else { 100_000.0 };
        let slow_in_some_slices = |nth: usize| if nth.is_multiple_of(5) { 50_000.0 } else { 100_000.0 };
        for server in [&slow_for_a_while as &dyn Fn(usize) -> f64, &slow_in_some_slices] {
            let rate = search(server, f64::INFINITY).knee.rate.expect("the first rate is held");
            assert!((90_000.0..105_000.0).contains(&rate), "{rate}");
        }
    }

    #[test]
    fn a_load_that_is_late_is_not_the_servers_limit() {
        let knee = search(|_| 300_000.0, 150_000.0).knee;
        assert!(knee.is_limit_of_load);
        assert!(knee.rate.is_some_and(|rate| (140_000.0..160_000.0).contains(&rate)), "{knee:?}");
        assert!(!search(|_| 150_000.0, 300_000.0).knee.is_limit_of_load);
        let endless = Knee { rate: Some(rate(LAST)), is_limit_of_load: true };
        assert_eq!(search(|_| f64::INFINITY, f64::INFINITY).knee, endless);
    }

    #[test]
    fn a_server_that_misses_the_first_rate_has_no_knee() {
        let none = Knee { rate: None, is_limit_of_load: false };
        assert_eq!(search(|_| 3_000.0, f64::INFINITY).knee, none);
        for lucky in 0..5 {
            let server = |nth| if nth % 5 == lucky { 4_000.0 } else { 3_000.0 };
            assert_eq!(search(server, f64::INFINITY).knee, none);
        }
        assert!(Search::default().finish().is_none());
    }

    #[test]
    fn each_rate_counts_once_with_all_its_slices() {
        let sweep = search(|_| 30_000.0, f64::INFINITY);
        assert!(sweep.points.is_sorted_by(|one, other| one.rate < other.rate));
        let of_climb = sweep.points.iter().filter(|point| point.is_of_climb);
        let of_climb: Vec<_> =
            of_climb.map(|point| (point.rate, point.is_held(), point.slices.len())).collect();
        assert_eq!(of_climb[..3], [(4e3, true, 3), (8e3, true, 3), (16e3, true, 3)]);
        assert_eq!((of_climb.len(), of_climb[3].0, of_climb[3].1), (4, 32e3, false));
        assert_eq!(sweep.points.iter().map(|point| point.slices.len()).sum::<usize>(), 60);
    }

    #[test]
    fn a_late_load_is_told_from_a_late_server() {
        assert_eq!(slice(0, 900).verdict(), Verdict::Held);
        assert_eq!(slice(0, 1100).verdict(), Verdict::Missed);
        assert_eq!(slice(2000, 100).verdict(), Verdict::LoadWasLate);
        // The server would have been late without the load's help.
        assert_eq!(slice(2000, 1100).verdict(), Verdict::Missed);
    }
}
