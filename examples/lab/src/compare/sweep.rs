//! The highest rate that a server holds: open loops of growing rates, up to the knee.
//!
//! The **knee** is the highest offered rate at which half of the lines are answered within 1 ms after they were due.
//! Above it lines come faster than they are answered, and the queue grows as long as they come, so soon every line is
//! late. Below it only some are: after a pause of the machine, or because the scheduler chose other threads. That half of
//! the lines may be late, and that a rate is missed only if it is missed twice, keeps short pauses out of the knee.
//!
//! In the first round the rates double until one is missed. Then the search halves the distance, in steps of 4 %. A machine
//! may be slow for a minute. Each later round therefore tries again whether the server holds more.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::compare::contender::Contender;
use crate::compare::load::{OpenLoad, Schedule, Slice};
use crate::compare::measure::Bench;
use crate::compare::rounds::{self, Cell};
use crate::support::failure::Failure;
use crate::support::processors::OwnProcessor;

/// How many sessions send. With fewer, each of a saturated server's answers covers several lines, because they wait in
/// the same session. With more, the limit of open files of some systems is reached.
pub const SESSIONS: usize = 1000;
/// Half of the lines must be answered within this time after they were due. With a longer limit, several lines of
/// one session wait together, and one answer serves them all.
pub const LIMIT: Duration = Duration::from_millis(1);
/// The load is late if half of the lines are sent later than this.
pub const LATE: Duration = Duration::from_micros(250);
/// The quantile of both.
const QUANTILE: f64 = 0.5;
/// The first rate (lines a second).
const FIRST: f64 = 4000.0;
/// The search divides each doubling in so many steps: 4 % each.
const STEPS: u32 = 16;
/// The last step: 1,024,000 lines a second, more than any load sends.
const LAST: u32 = 8 * STEPS;

/// What one server did at each rate.
#[derive(Debug)]
pub struct Sweep {
    /// The rates, in order: those that were held, and those above the knee. One that was played again has its better
    /// result.
    pub points: Vec<Point>,
    /// The highest rate that was held.
    pub knee: Knee,
}

/// One rate.
#[derive(Debug)]
pub struct Point {
    /// Lines a second, on average.
    pub rate: f64,
    /// What became of them.
    pub slice: Slice,
    /// Whether the rate was held.
    pub verdict: Verdict,
}

/// What a rate showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The server answered in time.
    Held,
    /// The server did not.
    Missed,
    /// The load did not send in time. It says nothing about the server.
    LoadWasLate,
}

impl Verdict {
    /// Its name in `results.json`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Missed => "missed",
            Self::LoadWasLate => "load was late",
        }
    }
}

/// The end of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knee {
    /// The step of the highest rate that was held; none if not even the first one was.
    pub step: Option<u32>,
    /// Whether the server may hold more, because the load could not send more in time.
    pub is_limit_of_load: bool,
}

impl Knee {
    /// The highest rate that was held (lines a second).
    pub fn rate(&self) -> Option<f64> {
        self.step.map(rate)
    }
}

/// How a contender answers growing rates; none if it was not tried.
pub type Swept = Option<Result<Sweep, Failure>>;

/// One round: offers growing rates to each contender, above those that it held in earlier rounds. `begin` is called before
/// each search, with its place in the round.
pub fn play_round(
    bench: &mut Bench,
    contenders: &[Contender],
    measured: &[Cell],
    sweeps: &mut [Swept],
    mut begin: impl FnMut(&Contender, usize),
) {
    for (nth, (contender, swept)) in contenders.iter().zip(sweeps).enumerate() {
        if bench.interrupt.is_asked() {
            return;
        }
        let failure = rounds::final_failure(measured, nth);
        let earlier = match swept.take().or_else(|| failure.map(Err)) {
            Some(Err(failure)) => {
                *swept = Some(Err(failure));
                continue;
            }
            Some(Ok(earlier)) => Some(earlier),
            None => None,
        };
        begin(contender, nth);
        let held = earlier.as_ref().and_then(|earlier| earlier.knee.step);
        *swept = match (sweep(bench, contender, bench.time, held), earlier) {
            (Ok(later), Some(earlier)) => Some(Ok(earlier.and(later))),
            (Err(Failure::Interrupted), earlier) => earlier.map(Ok),
            (result, _) => Some(result),
        };
    }
}

/// Starts the contender beside the load, and searches its knee in slices of this time, above the step that it held in an
/// earlier round.
fn sweep(
    bench: &mut Bench,
    contender: &Contender,
    time: Duration,
    held: Option<u32>,
) -> Result<Sweep, Failure> {
    let processor = OwnProcessor::take()?;
    let log = bench.log(contender, "open loop");
    let server = processor.beside(|| contender.start(log, &bench.interrupt))?;
    let mut points = Vec::new();
    let knee = OpenLoad::gather(server.address, SESSIONS, &mut bench.sources, &bench.interrupt)
        .and_then(|mut load| {
            search(held, |rate| {
                let point = play_twice_if_missed(&mut load, rate, time)?;
                let verdict = point.verdict;
                points.push(point);
                Ok(verdict)
            })
        })
        .map_err(|failure| server.explain(failure))?;
    Ok(Sweep::of(points, knee))
}

impl Sweep {
    /// This round and a later one together.
    pub fn and(mut self, later: Self) -> Self {
        self.points.extend(later.points);
        Self::of(self.points, later.knee)
    }

    fn of(mut points: Vec<Point>, knee: Knee) -> Self {
        points.retain(|point| point.verdict == Verdict::Held || Some(point.rate) > knee.rate());
        points.sort_by(|one, other| one.rate.total_cmp(&other.rate).then(one.verdict.cmp(&other.verdict)));
        points.dedup_by(|later, first| later.rate.to_bits() == first.rate.to_bits());
        Self { points, knee }
    }
}

fn play_twice_if_missed(load: &mut OpenLoad<'_>, rate: f64, time: Duration) -> Result<Point, Failure> {
    let first = play(load, rate, time)?;
    if first.verdict == Verdict::Held {
        return Ok(first);
    }
    let second = play(load, rate, time)?;
    Ok(if second.verdict <= first.verdict { second } else { first })
}

fn play(load: &mut OpenLoad<'_>, rate: f64, time: Duration) -> Result<Point, Failure> {
    let slice = load.play(Schedule::new(rate, SESSIONS, time), time)?;
    let verdict = slice.verdict();
    Ok(Point { rate, slice, verdict })
}

impl Point {
    /// Whether it is the first rate, doubled some times.
    pub fn is_of_doubling(&self) -> bool {
        let doublings = (self.rate / FIRST).log2();
        (doublings - doublings.round()).abs() < 1e-6
    }
}

impl Slice {
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

/// The rate of a step (lines a second).
fn rate(step: u32) -> f64 {
    FIRST * (f64::from(step) / f64::from(STEPS)).exp2()
}

/// Searches the highest rate that `play` finds held: above the step `held`, if there is one.
fn search<E>(mut held: Option<u32>, mut play: impl FnMut(f64) -> Result<Verdict, E>) -> Result<Knee, E> {
    // Above a knee that is known, the strides begin small.
    let (mut step, mut stride) = held.map_or((0, STEPS), |held| (held + 1, 1));
    // The least step that was not held, and why not.
    let mut missed = None;
    while step <= LAST && missed.is_none() {
        match play(rate(step))? {
            Verdict::Held => {
                held = Some(step);
                step += stride;
                stride = (2 * stride).min(STEPS);
            }
            verdict => missed = Some((step, verdict)),
        }
    }
    if let (Some(low), Some((high, verdict))) = (&mut held, &mut missed) {
        while *high - *low > 1 {
            let middle = u32::midpoint(*low, *high);
            match play(rate(middle))? {
                Verdict::Held => *low = middle,
                other => (*high, *verdict) = (middle, other),
            }
        }
    }
    let is_limit_of_load = missed.is_none_or(|(_, verdict)| verdict == Verdict::LoadWasLate);
    Ok(Knee { step: held, is_limit_of_load })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::support::latency;

    /// A search on a server, and a load, with these limits (lines a second); also, how many rates it took.
    fn search_with(held: Option<u32>, server: f64, load: f64) -> (Knee, usize) {
        let mut played = 0;
        let knee = search(held, |rate| {
            played += 1;
            Ok::<_, Infallible>(match rate {
                _ if rate > load => Verdict::LoadWasLate,
                _ if rate > server => Verdict::Missed,
                _ => Verdict::Held,
            })
        });
        (knee.unwrap_or_else(|never| match never {}), played)
    }

    #[test]
    fn the_knee_is_found_to_one_step_in_few_slices() {
        for server in [4_000.0, 5_555.0, 61_803.0, 200_000.0, 999_999.0] {
            let (knee, played) = search_with(None, server, f64::INFINITY);
            let rate = knee.rate().expect("the first rate is held");
            assert!(rate <= server && server < rate * 1.05, "{rate} instead of {server}");
            assert!(!knee.is_limit_of_load);
            assert!(played <= 13, "{played} slices");
        }
    }

    #[test]
    fn a_load_that_is_late_is_not_the_servers_limit() {
        let (knee, _) = search_with(None, 300_000.0, 150_000.0);
        assert!(knee.is_limit_of_load);
        assert!(knee.rate().is_some_and(|rate| rate <= 150_000.0 && 150_000.0 < rate * 1.05), "{knee:?}");
        let (endless, _) = search_with(None, f64::INFINITY, f64::INFINITY);
        assert_eq!(endless, Knee { step: Some(LAST), is_limit_of_load: true });
        assert_eq!(endless.rate(), Some(1_024_000.0));
        // The load could send twice as much, but the server gave up before.
        assert!(!search_with(None, 150_000.0, 300_000.0).0.is_limit_of_load);
    }

    #[test]
    fn a_server_that_misses_the_first_rate_has_no_knee() {
        let (knee, played) = search_with(None, 3_000.0, f64::INFINITY);
        assert_eq!((knee, played), (Knee { step: None, is_limit_of_load: false }, 1));
    }

    #[test]
    fn a_later_round_finds_what_an_earlier_one_missed_and_never_less() {
        let (slow, _) = search_with(None, 50_000.0, f64::INFINITY);
        let (fast, _) = search_with(slow.step, 100_000.0, f64::INFINITY);
        assert_eq!(fast, search_with(None, 100_000.0, f64::INFINITY).0);
        // The machine is slow now.
        assert_eq!(search_with(fast.step, 10_000.0, f64::INFINITY), (fast, 1));
    }

    fn point(step: u32, verdict: Verdict) -> Point {
        let (latency, lateness, answering) =
            (latency::histogram(), latency::histogram(), latency::histogram());
        let slice = Slice { began: UNIX_EPOCH, time: Duration::ZERO, latency, lateness, answering };
        Point { rate: rate(step), slice, verdict }
    }

    #[test]
    fn a_rate_that_is_held_later_is_not_missed_and_each_rate_counts_once() {
        let points = vec![
            point(32, Verdict::LoadWasLate),
            point(0, Verdict::Held),
            point(16, Verdict::Missed),
            point(8, Verdict::Missed),
            point(32, Verdict::Missed),
            point(16, Verdict::Held),
        ];
        let sweep = Sweep::of(points, Knee { step: Some(16), is_limit_of_load: false });
        let kept: Vec<_> = sweep.points.iter().map(|point| (point.rate, point.verdict)).collect();
        assert_eq!(kept, [(rate(0), Verdict::Held), (rate(16), Verdict::Held), (rate(32), Verdict::Missed)]);
    }

    #[test]
    fn a_late_load_is_told_from_a_late_server() {
        let verdict = |lateness: u64, answering: u64| {
            let mut point = point(0, Verdict::Held);
            let us = Duration::from_micros;
            latency::record(&mut point.slice.lateness, us(lateness));
            latency::record(&mut point.slice.answering, us(answering));
            latency::record(&mut point.slice.latency, us(lateness + answering));
            point.slice.verdict()
        };
        assert_eq!(verdict(0, 900), Verdict::Held);
        assert_eq!(verdict(0, 1100), Verdict::Missed);
        assert_eq!(verdict(2000, 100), Verdict::LoadWasLate);
        // The server would have been late without the load's help.
        assert_eq!(verdict(2000, 1100), Verdict::Missed);
    }
}
