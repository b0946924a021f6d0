//! Growing rates: all servers beside each other, each with an open loop, take turns slice by slice.
//!
//! A machine may be slow for a second or for a minute. Servers that are measured a minute apart would then differ. Here
//! each has a slice in every turn, so all of them meet the same machine. Between its slices a server is idle.

use std::time::Duration;

use crate::compare::load::Load;
use crate::compare::measure::{Bench, OTHER_FILES};
use crate::compare::rounds::{self, Cell};
use crate::compare::search::Search;
use crate::compare::workload::{Kind, Role, Workload};
use crate::support::load::schedule::poisson;
use crate::support::{Candidate, Descendants, Failure, OwnProcessor, Server};

/// How many slices each server has in a round.
pub const TURNS: usize = 20;
/// A slice is this part of the time of other measurements.
const SLICES: u32 = 3;
/// How many sessions send, if the limit of open files allows it. With fewer, each of a saturated server's answers covers
/// several lines, because they wait in the same session.
const SESSIONS: usize = 1000;

/// A server in the round, with its load and its search.
struct Entrant<'a> {
    server: Server,
    load: Load<'a>,
    search: &'a mut Result<Search, Failure>,
}

/// How many sessions send to each of `servers` servers: the load holds all of them.
pub fn sessions(file_limit: u64, servers: usize) -> usize {
    let files = usize::try_from(file_limit.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    (files / servers.max(1)).clamp(1, SESSIONS)
}

/// One round. `begin` is called before each turn.
pub fn play_round(
    bench: &Bench,
    contenders: &[Candidate],
    measured: &[Cell],
    searches: &mut [Result<Search, Failure>],
    mut begin: impl FnMut(usize),
) {
    // The lines of a chat have no answers.
    let swept = |nth: &usize| !contenders[*nth].is_chat;
    let servers = (0..contenders.len()).filter(swept).count();
    for (nth, search) in searches.iter_mut().enumerate().filter(|(nth, _)| swept(nth)) {
        if let Some(failure) = rounds::final_failure(measured, nth) {
            *search = Err(failure);
        }
    }
    let _descendants = Descendants;
    let processor = match OwnProcessor::take() {
        Ok(processor) => processor,
        Err(failure) => {
            let not_failed = searches.iter_mut().filter(|search| search.is_ok());
            return not_failed.for_each(|search| *search = Err(failure.clone()));
        }
    };
    let workload = Workload::new(Kind::Rates, [(Role::Lines, sessions(bench.file_limit, servers))]);
    let mut entrants = Vec::new();
    for (contender, search) in contenders.iter().zip(searches).filter(|(contender, _)| !contender.is_chat) {
        let Ok(found) = search else { continue };
        found.begin_round();
        let started = processor.beside(|| bench.start(contender, "open loop")).and_then(|server| {
            let mut load = Load::new(server.address, &workload, &bench.sources, &bench.interrupt)?;
            load.gather().map_err(|failure| server.explain(failure))?;
            Ok((load, server))
        });
        match started {
            Ok((load, server)) => entrants.push(Entrant { server, load, search }),
            Err(Failure::Interrupted) => return,
            Err(failure) => *search = Err(failure),
        }
    }
    let time = bench.time / SLICES;
    for turn in 0..TURNS {
        begin(turn);
        // A server that fails ends here, so that it disturbs no other.
        entrants.retain_mut(|entrant| entrant.play(workload.sessions(), time));
        if bench.interrupt.is_asked() {
            return;
        }
        // Another server is first in each turn.
        let first = 1.min(entrants.len());
        entrants.rotate_left(first);
    }
}

impl Entrant<'_> {
    /// One slice. Returns whether the server is still in the round.
    fn play(&mut self, sessions: usize, time: Duration) -> bool {
        let Ok(search) = self.search else { return false };
        let lines = poisson(search.next_rate(), sessions, time);
        match self.load.play_lines(time, lines, false).and_then(|()| self.load.part()) {
            Ok(heard) => search.note(heard),
            Err(Failure::Interrupted) => {}
            Err(failure) => {
                *self.search = Err(self.server.explain(failure));
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sessions_fit_in_the_open_files_of_the_load() {
        assert_eq!(sessions(20_000, 8), SESSIONS);
        assert_eq!(sessions(4096, 8), 507);
        assert_eq!(sessions(u64::MAX, 0), SESSIONS);
        assert_eq!(sessions(0, 8), 1);
    }
}
