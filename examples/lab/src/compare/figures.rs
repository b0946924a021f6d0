//! The figures of a measurement. Each is declared once: its name, its unit, how it is made, and which tables show it.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use self::Unit::{Bytes, Ratio, Time, Whole};
use crate::compare::family::Used;
use crate::compare::load::Heard;
use crate::compare::workload::Kind::{self, Bulk, Chat, Churn, Crowd, Fairness, Typing};
use crate::support::{bytes, in_microseconds, microseconds, thousands};

/// One measurement's figures, by their keys.
pub type Figures = BTreeMap<&'static str, f64>;

/// What was seen of a server under one workload.
pub struct Measured<'a> {
    pub kind: Kind,
    pub sessions: f64,
    /// What the clients heard.
    pub heard: &'a Heard,
    /// What the flood heard. Where no other client is beside it, it is the client.
    pub flood: &'a Heard,
    /// From the first connect to the last banner.
    pub opening: Duration,
    /// The server's threads, with all sessions open and idle.
    pub threads: Option<u64>,
    /// The server's memory before the first session, then, and at the end (bytes).
    pub memory: [Option<f64>; 3],
    /// By how much the kernel's memory grew until then, for each session.
    pub kernel: Option<[f64; 3]>,
    /// What the kernel holds for the load's end of a session (bytes).
    pub end_of_session: Option<f64>,
    /// What the server used for all answers, also for those that came late.
    pub used: Used,
    /// The processor time of the load.
    pub load: Duration,
}

/// Something that is measured.
pub struct Figure {
    /// The workloads for which it is made, and whose tables show it.
    pub kinds: Kinds,
    /// Its name in `results.json`, with the unit of the number.
    pub key: Name,
    /// Its name at the head of a column.
    pub title: Name,
    unit: Unit,
    make: Make,
    /// Whether a reader compares servers by it.
    pub is_compared: bool,
    /// Whether the load may have set it.
    pub is_speed: bool,
    /// Whether it is the server's processor time: a table shows it also as a share of the first server's.
    pub is_cost: bool,
}

/// How a figure is written.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Whole,
    Time,
    Bytes,
    Ratio,
}

/// The columns of the tables, in their order.
pub const COLUMNS: &[Figure] = &[
    speed(&[Crowd], "answers_per_second", "answers/s", |m| Some(m.answers())),
    speed(&[Churn], "answers_per_second", "visits/s", |m| Some(m.answers())),
    compared(&[Fairness], "answers_per_second", "answered", Whole, |m| Some(m.answers())),
    shown(&[Fairness], "offered_per_second", "offered", Whole, |m| {
        Some(m.each_second(m.heard.latency.len() as f64))
    }),
    speed(&[Chat], "deliveries_per_second", "deliveries/s", |m| {
        Some(m.each_second(m.heard.delivered.in_time()))
    }),
    cost(&[Chat], "server_cpu_us_per_delivery", "CPU/delivery", |m| m.cpu(m.heard.delivered.all())),
    shown(&[Chat], "time_to_median_client_us", "median", Time, |m| quantile(&m.heard.to_half, 0.5)),
    shown(&[Chat], "time_to_last_client_us", "last", Time, |m| quantile(&m.heard.to_last, 0.5)),
    cost(&[Typing, Crowd], "server_cpu_us_per_answer", "CPU/answer", cpu_per_answer),
    cost(&[Churn], "server_cpu_us_per_answer", "CPU/visit", cpu_per_answer),
    compared(&[Typing, Churn, Fairness], "latency_p50_us", "p50", Time, |m| m.latency(0.5)),
    compared(&[Crowd, Churn, Fairness], "latency_p99_us", "p99", Time, |m| m.latency(0.99)),
    compared(&[Chat], "latency_p99_us", "command", Time, |m| m.latency(0.99)),
    shown(&[Churn, Fairness], "latency_max_us", "max", Time, |m| m.latency(1.0)),
    speed(&[Bulk, Fairness], "megabytes_per_second", "MB/s", |m| {
        Some(m.each_second(m.flood.streamed.in_time() / MB))
    }),
    cost(&[Bulk], "server_cpu_us_per_megabyte", "CPU/MB", |m| m.cpu(m.flood.streamed.all() / MB)),
    shown(&[Typing], "opening_us", "opening", Time, |m| Some(in_microseconds(m.opening))),
    shown(&[Typing], "threads", "threads", Whole, |m| m.threads.map(|threads| threads as f64)),
    shown(&[Crowd, Bulk], "server_cpus_busy", "CPUs", Ratio, |m| Some(m.busy(m.used.0?))),
    // A thread that ends takes its count with it, so churn has no such figure.
    shown(&[Typing, Crowd], "voluntary_switches_per_answer", "switches", Ratio, switches),
    shown(&[Crowd, Churn, Bulk, Fairness], "load_cpus_busy", "load", Ratio, |m| Some(m.busy(m.load))),
    shown(&[Chat], "memory_growth_bytes", "growth", Bytes, |m| m.grown(1).map(|grown| grown.max(0.0))),
];

/// What an idle session costs: the server's part first, then the kernel's. The load's end is not in it.
pub const MEMORY: &[Figure] = &[
    shown(&[Typing], "memory_bytes_per_idle_session", "process", Bytes, process),
    shown(&[Typing], "kernel_stack_bytes_per_idle_session", "kernel stacks", Bytes, |m| Some(m.kernel?[0])),
    shown(&[Typing], "page_table_bytes_per_idle_session", "page tables", Bytes, |m| Some(m.kernel?[1])),
    shown(&[Typing], "kernel_object_bytes_per_idle_session", "kernel objects", Bytes, objects),
    shown(&[Typing], "bytes_per_idle_session", "sum", Bytes, |m| {
        Some(process(m)? + m.kernel?[0] + m.kernel?[1] + objects(m)?)
    }),
];

const MB: f64 = 1e6;

type Kinds = &'static [Kind];
type Name = &'static str;
type Make = fn(&Measured<'_>) -> Option<f64>;

const fn shown(kinds: Kinds, key: Name, title: Name, unit: Unit, make: Make) -> Figure {
    Figure { kinds, key, title, unit, make, is_compared: false, is_speed: false, is_cost: false }
}

const fn compared(kinds: Kinds, key: Name, title: Name, unit: Unit, make: Make) -> Figure {
    Figure { is_compared: true, ..shown(kinds, key, title, unit, make) }
}

const fn speed(kinds: Kinds, key: Name, title: Name, make: Make) -> Figure {
    Figure { is_speed: true, ..compared(kinds, key, title, Whole, make) }
}

const fn cost(kinds: Kinds, key: Name, title: Name, make: Make) -> Figure {
    Figure { is_cost: true, ..compared(kinds, key, title, Time, make) }
}

fn cpu_per_answer(measured: &Measured<'_>) -> Option<f64> {
    measured.cpu(measured.heard.answers.all())
}

fn switches(measured: &Measured<'_>) -> Option<f64> {
    Some(measured.used.1? as f64 / measured.heard.answers.all())
}

fn process(measured: &Measured<'_>) -> Option<f64> {
    Some(measured.grown(0)? / measured.sessions)
}

fn objects(measured: &Measured<'_>) -> Option<f64> {
    Some(measured.kernel?[2] - measured.end_of_session?)
}

/// In microseconds.
fn quantile(times: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!times.is_empty()).then(|| times.value_at_quantile(quantile) as f64 / 1e3)
}

impl Measured<'_> {
    /// All figures that there are.
    pub fn figures(&self) -> Figures {
        let of_kind = COLUMNS.iter().chain(MEMORY).filter(|figure| figure.kinds.contains(&self.kind));
        let made = of_kind.filter_map(|figure| Some((figure.key, (figure.make)(self)?)));
        made.filter(|(_, number)| number.is_finite()).collect()
    }

    fn each_second(&self, count: f64) -> f64 {
        count / self.heard.time.as_secs_f64()
    }

    fn answers(&self) -> f64 {
        self.each_second(self.heard.answers.in_time())
    }

    /// The server's processor time for each.
    fn cpu(&self, count: f64) -> Option<f64> {
        self.used.0.map(|time| in_microseconds(time) / count)
    }

    fn latency(&self, part: f64) -> Option<f64> {
        quantile(&self.heard.latency, part)
    }

    /// How many processors were kept busy.
    fn busy(&self, time: Duration) -> f64 {
        self.each_second(time.as_secs_f64())
    }

    /// How much the server's memory has grown since it was looked at for the first or the second time.
    fn grown(&self, since: usize) -> Option<f64> {
        Some(self.memory[since + 1]? - self.memory[since]?)
    }
}

impl Figure {
    /// A number of this kind as text.
    pub fn show(&self, number: f64) -> String {
        match self.unit {
            Whole => thousands(number),
            Time => microseconds(number),
            Bytes => bytes(number),
            Ratio => format!("{number:.2}"),
        }
    }
}
