//! The order of the measurements, and their medians.
//!
//! A machine is not equally fast all the time. The servers therefore take turns within a round, and there are several
//! rounds. The reports show the median of a figure's values, with their spread.

use std::time::Duration;

use crate::compare::figures::Figures;
use crate::compare::measure::Bench;
use crate::compare::workload::{Kind, Workload};
use crate::support::{Candidate, Failure, in_microseconds};

/// A server that needs longer to open its sessions would take most of the time of the whole comparison.
const SLOW_OPENING: Duration = Duration::from_secs(3);

/// All measurements of one server under one workload.
#[derive(Debug)]
pub struct Cell {
    /// Which contender.
    pub contender: usize,
    /// What it was loaded with.
    pub workload: Workload,
    /// The figures of each round.
    pub runs: Vec<Figures>,
    /// Why there are no more. Earlier figures are kept, but no table shows them.
    pub failure: Option<Failure>,
}

/// The median of several values and their spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The median.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Cell {
    /// Whether the sessions took so long to open, or so many lines are said, that the measurement is made once.
    fn is_slow(&self) -> bool {
        let opening = self.runs.first().and_then(|run| run.get("opening_us"));
        let is_long = opening.is_some_and(|&opening| opening > in_microseconds(SLOW_OPENING));
        is_long || self.workload.least_lines > 0 && !self.runs.is_empty()
    }

    /// The figure with this key as a share of `other`'s in the same round, over all rounds.
    pub fn share_of(&self, other: &Self, key: &str) -> Option<Summary> {
        let share = |(own, others): (&Figures, &Figures)| Some(own.get(key)? / others.get(key)?);
        Summary::of(self.runs.iter().zip(&other.runs).map(share).collect::<Option<_>>()?)
    }

    /// The figure with this key over all rounds; none if one round lacks it.
    pub fn summary(&self, key: &str) -> Option<Summary> {
        Summary::of(self.runs.iter().map(|run| run.get(key).copied()).collect::<Option<_>>()?)
    }
}

impl Summary {
    /// Of these values; none of no values.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&least, &greatest) = (values.first()?, values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), least, greatest })
    }

    /// Half the distance between the least and the greatest, as a share of the median.
    pub fn spread(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.greatest - self.least) / 2.0 / self.median.abs() }
    }
}

/// One round: measures every contender under every workload. `begin` is called before each measurement, with its place in
/// the round.
pub fn play_round(
    bench: &Bench,
    contenders: &[Candidate],
    cells: &mut [Cell],
    round: usize,
    mut begin: impl FnMut(&Candidate, &Workload, usize),
) {
    for turn in 0..cells.len() {
        // Another server begins in each round: the first one may find a cooler processor.
        let of_workload = |cell: &Cell| cell.workload == cells[turn].workload;
        let first = cells.iter().position(of_workload).expect("the workload of this turn is there");
        let count = cells.iter().filter(|cell| of_workload(cell)).count();
        let at = first + (turn - first + round) % count;
        let nth = cells[at].contender;
        if cells[at].failure.is_some() || cells[at].is_slow() {
            continue;
        }
        if let Some(failure) = final_failure(cells, nth) {
            cells[at].failure = Some(failure);
            continue;
        }
        begin(&contenders[nth], &cells[at].workload, turn);
        match bench.measure(&contenders[nth], &cells[at].workload) {
            Ok(figures) => cells[at].runs.push(figures),
            Err(Failure::Interrupted) => return,
            Err(failure) => cells[at].failure = Some(failure),
        }
    }
}

/// Why the contender need not be tried again, if it failed for good.
pub fn final_failure(cells: &[Cell], contender: usize) -> Option<Failure> {
    let of_contender = cells.iter().filter(|cell| cell.contender == contender);
    of_contender
        .filter_map(|cell| cell.failure.clone())
        .find(|failure| matches!(failure, Failure::Unusable(_)))
}

/// The cells in the order of a round: for each workload, each contender for which it is.
pub fn empty_cells(contenders: &[Candidate], workloads: &[Workload]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for workload in workloads {
        for (contender, server) in contenders.iter().enumerate() {
            if server.is_chat == (workload.kind == Kind::Chat) {
                let workload = workload.clone();
                cells.push(Cell { contender, workload, runs: Vec::new(), failure: None });
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_median_and_the_spread() {
        let odd = Summary::of(vec![9.0, 10.0, 14.0]).unwrap();
        assert_eq!(odd, Summary { median: 10.0, least: 9.0, greatest: 14.0 });
        assert!((odd.spread() - 0.25).abs() < 1e-9);
        let even = Summary::of(vec![4.0, 2.0]).unwrap();
        assert_eq!(even, Summary { median: 3.0, least: 2.0, greatest: 4.0 });
        assert_eq!(Summary::of(vec![]), None);
    }

    #[test]
    fn a_share_is_that_of_the_same_round() {
        let cell = |values: &[f64]| Cell {
            contender: 0,
            workload: Workload::of_a_round(&[1], 1, 1000).remove(0),
            runs: values.iter().map(|&value| Figures::from([("cost", value)])).collect(),
            failure: None,
        };
        // The machine had half the speed in the second round.
        let (first, other) = (cell(&[2.0, 4.0, 2.0]), cell(&[3.0, 6.0, 4.0]));
        assert_eq!(other.share_of(&first, "cost"), Some(Summary { median: 1.5, least: 1.5, greatest: 2.0 }));
        assert_eq!(other.share_of(&first, "other"), None);
        assert_eq!(other.share_of(&cell(&[]), "cost"), None);
    }
}
