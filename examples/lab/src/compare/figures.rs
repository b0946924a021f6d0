//! The figures of a measurement, each with its name, its unit and its form for a reader.

use std::collections::BTreeMap;

use crate::support::{bytes, microseconds, thousands};

/// Something that is measured: its name in `results.json`, with the unit of the number; its name at the head of a column; and
/// how a number of this kind is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Figure {
    pub key: &'static str,
    pub title: &'static str,
    unit: Unit,
    /// Whether a reader compares servers by it.
    pub is_compared: bool,
}

impl Figure {
    /// Answers, or visits, in a second.
    pub const ANSWERS_PER_SECOND: Self = Self::new("answers_per_second", "answers/s", Unit::Whole).compared();
    /// The lines that were due in a second.
    pub const OFFERED_PER_SECOND: Self = Self::new("offered_per_second", "offered", Unit::Whole);
    /// Megabytes of a flood's text answered in a second.
    pub const MEGABYTES_PER_SECOND: Self = Self::new("megabytes_per_second", "MB/s", Unit::Whole).compared();
    /// Half of the answers took no longer.
    pub const MEDIAN: Self = Self::new("latency_p50_us", "p50", Unit::Microseconds).compared();
    /// 99 of 100 answers took no longer.
    pub const P99: Self = Self::new("latency_p99_us", "p99", Unit::Microseconds).compared();
    /// The slowest answer.
    pub const SLOWEST: Self = Self::new("latency_max_us", "max", Unit::Microseconds);
    /// From the first connect to the last banner.
    pub const OPENING: Self = Self::new("opening_us", "opening", Unit::Microseconds);
    /// The server's processor time for an answer.
    pub const PROCESSOR_PER_ANSWER: Self =
        Self::new("server_cpu_us_per_answer", "CPU/answer", Unit::Microseconds).compared();
    /// The server's processor time for a megabyte.
    pub const PROCESSOR_PER_MEGABYTE: Self =
        Self::new("server_cpu_us_per_megabyte", "CPU/MB", Unit::Microseconds).compared();
    /// The lines of a chat that clients got in a second.
    pub const DELIVERIES_PER_SECOND: Self =
        Self::new("deliveries_per_second", "deliveries/s", Unit::Whole).compared();
    /// The server's processor time for one line that one client gets.
    pub const PROCESSOR_PER_DELIVERY: Self =
        Self::new("server_cpu_us_per_delivery", "CPU/delivery", Unit::Microseconds).compared();
    /// From when the lines of a round were said until half of the clients had them: the median of the rounds.
    pub const TO_HALF: Self = Self::new("time_to_median_client_us", "median", Unit::Microseconds);
    /// The same until the last client had them.
    pub const TO_LAST: Self = Self::new("time_to_last_client_us", "last", Unit::Microseconds);
    /// By how much the server's memory grew while the chat was spoken.
    pub const GROWTH: Self = Self::new("memory_growth_bytes", "growth", Unit::Bytes);
    /// By how much the server's memory grew when all sessions were open and idle, for each session.
    pub const MEMORY_PER_SESSION: Self = Self::new("memory_bytes_per_idle_session", "process", Unit::Bytes);
    /// By how much the kernel stacks of all threads grew then, for each session.
    pub const STACKS_PER_SESSION: Self =
        Self::new("kernel_stack_bytes_per_idle_session", "kernel stacks", Unit::Bytes);
    /// The same for the page tables.
    pub const PAGE_TABLES_PER_SESSION: Self =
        Self::new("page_table_bytes_per_idle_session", "page tables", Unit::Bytes);
    /// The same for the kernel's objects: sockets, files, entries in epoll, threads. The load's end is not in it.
    pub const OBJECTS_PER_SESSION: Self =
        Self::new("kernel_object_bytes_per_idle_session", "kernel objects", Unit::Bytes);
    /// The server's memory then.
    pub const MEMORY: Self = Self::new("memory_bytes", "memory", Unit::Bytes);
    /// The server's threads then.
    pub const THREADS: Self = Self::new("threads", "threads", Unit::Whole);
    /// How often a thread of the server went to wait, for each answer.
    pub const VOLUNTARY_SWITCHES: Self = Self::new("voluntary_switches_per_answer", "switches", Unit::Ratio);
    /// How often a thread of the server had to give way to another, for each answer.
    pub const INVOLUNTARY_SWITCHES: Self =
        Self::new("involuntary_switches_per_answer", "forced", Unit::Ratio);
    /// How many processors the server kept busy.
    pub const SERVER_PROCESSORS: Self = Self::new("server_cpus_busy", "CPUs", Unit::Ratio);
    /// How many processors the load kept busy.
    pub const LOAD_PROCESSORS: Self = Self::new("load_cpus_busy", "load", Unit::Ratio);
    /// How many answers, or visits, the latencies count.
    pub const SAMPLES: Self = Self::new("latency_samples", "answers", Unit::Whole);

    const fn new(key: &'static str, title: &'static str, unit: Unit) -> Self {
        Self { key, title, unit, is_compared: false }
    }

    const fn compared(self) -> Self {
        Self { is_compared: true, ..self }
    }

    /// A number of this kind as text.
    pub fn show(self, number: f64) -> String {
        match self.unit {
            Unit::Whole => thousands(number),
            Unit::Microseconds => microseconds(number),
            Unit::Bytes => bytes(number),
            Unit::Ratio => format!("{number:.2}"),
        }
    }
}

/// How a figure is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
        assert_eq!(Figure::ANSWERS_PER_SECOND.show(1_234_567.4), "1,234,567");
        assert_eq!(Figure::MEDIAN.show(12_345.0), "12.3 ms");
        assert_eq!(Figure::MEMORY_PER_SESSION.show(12_345.0), "12.1 KiB");
        assert_eq!(Figure::OPENING.show(1_500_000.0), "1.50 s");
    }
}
