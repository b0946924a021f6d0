//! The highest rate that a server holds: open loops of growing rates, up to the knee.
//!
//! The **knee** is the highest offered rate at which 99 % of the lines are answered within 10 ms after they were due.
//! Below it the latency hardly depends on the rate. Above it lines come faster than they are answered, and the queue
//! grows without end.
//!
//! The rates double until one is missed. Then the search halves the distance, in steps of 4 %. A rate is missed if it is
//! missed twice: a pause of the machine is not the server's limit.

use std::time::Duration;

use crate::compare::contender::Contender;
use crate::compare::load::{OpenLoad, Schedule, Slice};
use crate::compare::measure::Bench;
use crate::support::failure::Failure;
use crate::support::processors::OwnProcessor;

/// How many sessions send. With fewer, each of a saturated server's answers covers several lines, because they wait in
/// the same session. With more, the limit of open files of some systems is reached.
pub const SESSIONS: usize = 1000;
/// 99 of 100 lines must be answered within this time.
pub const LIMIT: Duration = Duration::from_millis(10);
/// The load is late if 1 of 100 lines is sent later than this.
pub const LATE: Duration = Duration::from_millis(1);
/// The quantile of both.
const QUANTILE: f64 = 0.99;
/// The first rate (lines a second).
const FIRST: f64 = 4000.0;
/// The search divides each doubling in so many steps: 4 % each.
const STEPS: u32 = 16;
/// The last rate is `FIRST` doubled so often: 1,024,000 lines a second, more than any load sends.
const DOUBLINGS: u32 = 8;

/// What one server did at each rate.
#[derive(Debug)]
pub struct Sweep {
    /// The rates, in order. A rate that was played twice has its better result.
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
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knee {
    /// The highest rate that was held; none if not even the first one was.
    pub rate: Option<f64>,
    /// Whether the server may hold more, because the load could not send more in time.
    pub is_limit_of_load: bool,
}

/// Starts the contender beside the load, and searches its knee in slices of this time.
pub fn sweep(bench: &mut Bench, contender: &Contender, time: Duration) -> Result<Sweep, Failure> {
    let processor = OwnProcessor::take()?;
    let log = bench.log(contender, "open loop");
    let server = processor.beside(|| contender.start(log, &bench.interrupt))?;
    let mut points = Vec::new();
    let knee = OpenLoad::gather(server.address, SESSIONS, &mut bench.sources, &bench.interrupt)
        .and_then(|mut load| {
            search(|rate| {
                let point = play_twice_if_missed(&mut load, rate, time)?;
                let verdict = point.verdict;
                points.push(point);
                Ok(verdict)
            })
        })
        .map_err(|failure| server.explain(failure))?;
    points.sort_by(|one: &Point, other| one.rate.total_cmp(&other.rate));
    Ok(Sweep { points, knee })
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

impl Slice {
    fn verdict(&self) -> Verdict {
        let is_later = |latencies: &hdrhistogram::Histogram<u64>, limit: Duration| {
            u128::from(latencies.value_at_quantile(QUANTILE)) > limit.as_nanos()
        };
        if is_later(&self.lateness, LATE) {
            Verdict::LoadWasLate
        } else if is_later(&self.latency, LIMIT) {
            Verdict::Missed
        } else {
            Verdict::Held
        }
    }
}

/// Searches the highest rate that `play` finds held.
fn search<E>(mut play: impl FnMut(f64) -> Result<Verdict, E>) -> Result<Knee, E> {
    let rate = |step: u32| FIRST * (f64::from(step) / f64::from(STEPS)).exp2();
    let mut held = None;
    // The least step that was not held, and why not.
    let mut missed = None;
    for step in (0..=DOUBLINGS).map(|doubling| doubling * STEPS) {
        match play(rate(step))? {
            Verdict::Held => held = Some(step),
            verdict => {
                missed = Some((step, verdict));
                break;
            }
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
    Ok(Knee { rate: held.map(rate), is_limit_of_load })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// A search on a server, and a load, with these limits (lines a second); also, how many rates it took.
    fn search_with(server: f64, load: f64) -> (Knee, usize) {
        let mut played = 0;
        let knee = search(|rate| {
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
            let (knee, played) = search_with(server, f64::INFINITY);
            let rate = knee.rate.expect("the first rate is held");
            assert!(rate <= server && server < rate * 1.05, "{rate} instead of {server}");
            assert!(!knee.is_limit_of_load);
            assert!(played <= 13, "{played} slices");
        }
    }

    #[test]
    fn a_load_that_is_late_is_not_the_servers_limit() {
        let (knee, _) = search_with(300_000.0, 150_000.0);
        assert!(knee.is_limit_of_load);
        assert!(knee.rate.is_some_and(|rate| rate <= 150_000.0 && 150_000.0 < rate * 1.05), "{knee:?}");
        let (endless, _) = search_with(f64::INFINITY, f64::INFINITY);
        assert_eq!(endless, Knee { rate: Some(1_024_000.0), is_limit_of_load: true });
        // The load could send twice as much, but the server gave up before.
        assert!(!search_with(150_000.0, 300_000.0).0.is_limit_of_load);
    }

    #[test]
    fn a_server_that_misses_the_first_rate_has_no_knee() {
        let (knee, played) = search_with(3_000.0, f64::INFINITY);
        assert_eq!((knee, played), (Knee { rate: None, is_limit_of_load: false }, 1));
    }
}
