//! The figures of a measurement, each with its name, its unit and its form for a reader.

use std::time::Duration;

use indicatif::HumanFloatCount;

/// Something that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// 999 of 1000 answers took no longer.
    P999,
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
    /// All of them, in the order of the report.
    pub const ALL: [Self; 18] = [
        Self::AnswersPerSecond,
        Self::OfferedPerSecond,
        Self::MegabytesPerSecond,
        Self::Median,
        Self::P99,
        Self::P999,
        Self::Slowest,
        Self::Opening,
        Self::ProcessorPerAnswer,
        Self::ProcessorPerMegabyte,
        Self::MemoryPerSession,
        Self::Memory,
        Self::Threads,
        Self::VoluntarySwitches,
        Self::InvoluntarySwitches,
        Self::ServerProcessors,
        Self::LoadProcessors,
        Self::Samples,
    ];

    /// Its name in `results.json`, with the unit of the number.
    pub fn key(self) -> &'static str {
        match self {
            Self::AnswersPerSecond => "answers_per_second",
            Self::OfferedPerSecond => "offered_per_second",
            Self::MegabytesPerSecond => "megabytes_per_second",
            Self::Median => "latency_p50_us",
            Self::P99 => "latency_p99_us",
            Self::P999 => "latency_p999_us",
            Self::Slowest => "latency_max_us",
            Self::Opening => "opening_us",
            Self::ProcessorPerAnswer => "server_cpu_us_per_answer",
            Self::ProcessorPerMegabyte => "server_cpu_us_per_megabyte",
            Self::MemoryPerSession => "memory_bytes_per_idle_session",
            Self::Memory => "memory_bytes",
            Self::Threads => "threads",
            Self::VoluntarySwitches => "voluntary_switches_per_answer",
            Self::InvoluntarySwitches => "involuntary_switches_per_answer",
            Self::ServerProcessors => "server_cpus_busy",
            Self::LoadProcessors => "load_cpus_busy",
            Self::Samples => "latency_samples",
        }
    }

    /// Its name at the head of a column.
    pub fn title(self) -> &'static str {
        match self {
            Self::AnswersPerSecond => "answers/s",
            Self::OfferedPerSecond => "offered/s",
            Self::MegabytesPerSecond => "MB/s",
            Self::Median => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Slowest => "max",
            Self::Opening => "opening",
            Self::ProcessorPerAnswer => "CPU/answer",
            Self::ProcessorPerMegabyte => "CPU/MB",
            Self::MemoryPerSession => "memory/session",
            Self::Memory => "memory",
            Self::Threads => "threads",
            Self::VoluntarySwitches => "switches",
            Self::InvoluntarySwitches => "forced",
            Self::ServerProcessors => "CPUs",
            Self::LoadProcessors => "load",
            Self::Samples => "answers",
        }
    }

    /// A number of this kind as text.
    pub fn show(self, number: f64) -> String {
        match self {
            Self::AnswersPerSecond
            | Self::OfferedPerSecond
            | Self::MegabytesPerSecond
            | Self::Threads
            | Self::Samples => thousands(number),
            Self::Median
            | Self::P99
            | Self::P999
            | Self::Slowest
            | Self::Opening
            | Self::ProcessorPerAnswer
            | Self::ProcessorPerMegabyte => microseconds(number),
            Self::MemoryPerSession | Self::Memory => bytes(number),
            Self::VoluntarySwitches
            | Self::InvoluntarySwitches
            | Self::ServerProcessors
            | Self::LoadProcessors => format!("{number:.2}"),
        }
    }
}

/// One measurement's figures, as far as they exist.
#[derive(Debug, Clone, Default)]
pub struct Figures([Option<f64>; Figure::ALL.len()]);

impl Figures {
    /// The figure, if it was measured.
    pub fn of(&self, figure: Figure) -> Option<f64> {
        self.0[figure as usize]
    }

    /// Sets the figure, or that there is none.
    pub fn note(&mut self, figure: Figure, number: impl Into<Option<f64>>) {
        self.0[figure as usize] = number.into().filter(|number| number.is_finite());
    }
}

/// A duration in microseconds, the unit of the figures.
pub fn in_microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// A whole number with separated thousands.
pub fn thousands(number: f64) -> String {
    HumanFloatCount(number.round()).to_string()
}

fn microseconds(number: f64) -> String {
    match number {
        ..10.0 => format!("{number:.2} µs"),
        ..100.0 => format!("{number:.1} µs"),
        ..1000.0 => format!("{number:.0} µs"),
        ..10_000.0 => format!("{:.2} ms", number / 1e3),
        ..100_000.0 => format!("{:.1} ms", number / 1e3),
        ..1e6 => format!("{:.0} ms", number / 1e3),
        _ => format!("{:.2} s", number / 1e6),
    }
}

fn bytes(number: f64) -> String {
    match number.abs() {
        ..1024.0 => format!("{number:.0} B"),
        ..1_048_576.0 => format!("{:.1} KiB", number / 1024.0),
        _ => format!("{:.1} MiB", number / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_its_own_place() {
        for (place, figure) in Figure::ALL.into_iter().enumerate() {
            assert_eq!(figure as usize, place, "{figure:?}");
        }
    }

    #[test]
    fn a_figure_is_shown_with_its_unit() {
        assert_eq!(Figure::AnswersPerSecond.show(1_234_567.4), "1,234,567");
        assert_eq!(Figure::Median.show(12_345.0), "12.3 ms");
        assert_eq!(Figure::MemoryPerSession.show(12_345.0), "12.1 KiB");
        assert_eq!(Figure::Opening.show(1_500_000.0), "1.50 s");
    }
}
