//! The figures of a measurement, each with its name, its unit and its form for a reader.

use std::collections::BTreeMap;

use crate::support::{bytes, microseconds, thousands};

/// Something that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Answers, or visits, in a second.
    AnswersPerSecond,
    /// The lines that were due in a second.
    OfferedPerSecond,
    /// Megabytes of a flood's text answered in a second.
    MegabytesPerSecond,
    /// Half of the answers took no longer.
    Median,
    /// 99 of 100 answers took no longer.
    P99,
    /// The slowest answer.
    Slowest,
    /// From the first connect to the last banner.
    Opening,
    /// The server's processor time for an answer.
    ProcessorPerAnswer,
    /// The server's processor time for a megabyte.
    ProcessorPerMegabyte,
    /// By how much the server's memory grew when all sessions were open and idle, for each session.
    MemoryPerSession,
    /// By how much the kernel stacks of all threads grew then, for each session.
    StacksPerSession,
    /// The same for the page tables.
    PageTablesPerSession,
    /// The same for the kernel's objects: sockets, files, entries in epoll, threads. The load's end is not in it.
    ObjectsPerSession,
    /// The server's memory then.
    Memory,
    /// The server's threads then.
    Threads,
    /// How often a thread of the server went to wait, for each answer.
    VoluntarySwitches,
    /// How often a thread of the server had to give way to another, for each answer.
    InvoluntarySwitches,
    /// How many processors the server kept busy.
    ServerProcessors,
    /// How many processors the load kept busy.
    LoadProcessors,
    /// How many answers, or visits, the latencies count.
    Samples,
}

impl Figure {
    /// Its name in `results.json`, its name at the head of a column, and its unit.
    fn names(self) -> (&'static str, &'static str, Unit) {
        match self {
            Self::AnswersPerSecond => ("answers_per_second", "answers/s", Unit::Whole),
            Self::OfferedPerSecond => ("offered_per_second", "offered/s", Unit::Whole),
            Self::MegabytesPerSecond => ("megabytes_per_second", "MB/s", Unit::Whole),
            Self::Median => ("latency_p50_us", "p50", Unit::Microseconds),
            Self::P99 => ("latency_p99_us", "p99", Unit::Microseconds),
            Self::Slowest => ("latency_max_us", "max", Unit::Microseconds),
            Self::Opening => ("opening_us", "opening", Unit::Microseconds),
            Self::ProcessorPerAnswer => ("server_cpu_us_per_answer", "CPU/answer", Unit::Microseconds),
            Self::ProcessorPerMegabyte => ("server_cpu_us_per_megabyte", "CPU/MB", Unit::Microseconds),
            Self::MemoryPerSession => ("memory_bytes_per_idle_session", "process", Unit::Bytes),
            Self::StacksPerSession => ("kernel_stack_bytes_per_idle_session", "kernel stacks", Unit::Bytes),
            Self::PageTablesPerSession => ("page_table_bytes_per_idle_session", "page tables", Unit::Bytes),
            Self::ObjectsPerSession => {
                ("kernel_object_bytes_per_idle_session", "kernel objects", Unit::Bytes)
            }
            Self::Memory => ("memory_bytes", "memory", Unit::Bytes),
            Self::Threads => ("threads", "threads", Unit::Whole),
            Self::VoluntarySwitches => ("voluntary_switches_per_answer", "switches", Unit::Ratio),
            Self::InvoluntarySwitches => ("involuntary_switches_per_answer", "forced", Unit::Ratio),
            Self::ServerProcessors => ("server_cpus_busy", "CPUs", Unit::Ratio),
            Self::LoadProcessors => ("load_cpus_busy", "load", Unit::Ratio),
            Self::Samples => ("latency_samples", "answers", Unit::Whole),
        }
    }

    /// Its name in `results.json`, with the unit of the number.
    pub fn key(self) -> &'static str {
        self.names().0
    }

    /// Its name at the head of a column.
    pub fn title(self) -> &'static str {
        self.names().1
    }

    /// Whether a reader compares servers by it.
    pub fn is_compared(self) -> bool {
        matches!(
            self,
            Self::AnswersPerSecond
                | Self::MegabytesPerSecond
                | Self::ProcessorPerAnswer
                | Self::ProcessorPerMegabyte
                | Self::P99
        )
    }

    /// A number of this kind as text.
    pub fn show(self, number: f64) -> String {
        match self.names().2 {
            Unit::Whole => thousands(number),
            Unit::Microseconds => microseconds(number),
            Unit::Bytes => bytes(number),
            Unit::Ratio => format!("{number:.2}"),
        }
    }
}

/// How a figure is written.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Whole,
    Microseconds,
    Bytes,
    Ratio,
}

/// One measurement's figures.
#[derive(Debug, Clone, Default)]
pub struct Figures(BTreeMap<Figure, f64>);

impl Figures {
    /// The figure, if it was measured.
    pub fn of(&self, figure: Figure) -> Option<f64> {
        self.0.get(&figure).copied()
    }

    /// Sets the figure, if there is one.
    pub fn note(&mut self, figure: Figure, number: impl Into<Option<f64>>) {
        self.0.extend(number.into().filter(|number| number.is_finite()).map(|number| (figure, number)));
    }

    /// All that were measured.
    pub fn all(&self) -> impl Iterator<Item = (Figure, f64)> {
        self.0.iter().map(|(figure, number)| (*figure, *number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_shown_with_its_unit() {
        assert_eq!(Figure::AnswersPerSecond.show(1_234_567.4), "1,234,567");
        assert_eq!(Figure::Median.show(12_345.0), "12.3 ms");
        assert_eq!(Figure::MemoryPerSession.show(12_345.0), "12.1 KiB");
        assert_eq!(Figure::Opening.show(1_500_000.0), "1.50 s");
    }
}
