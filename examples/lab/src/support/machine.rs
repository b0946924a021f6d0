//! The machine on which figures were taken: a figure without its machine means nothing.

use std::fs;
use std::thread;

use procfs::{CpuInfo, Current, LoadAverage, Meminfo};

/// What a reader must know to compare these figures with others. What the system does not tell is "unknown".
pub fn description() -> String {
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    let processor = CpuInfo::current().ok().and_then(|info| Some(info.model_name(0)?.to_owned()));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    format!(
        "{}, {} processors, {} GiB, {}, Linux {}, load average before {:.1}",
        or_unknown(processor),
        processors(),
        Meminfo::current().map_or(0, |memory| memory.mem_total.div_ceil(1 << 30)),
        or_unknown(distribution()),
        or_unknown(kernel.map(|text| text.trim().to_owned())),
        load_average(),
    )
}

/// Whether other programs used so much of it in the last minute that they may disturb a measurement.
pub fn was_busy() -> bool {
    load_average() > processors() as f32 / 2.0
}

/// How many processors this process may use.
fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// How many processes wanted a processor in the last minute, on average.
fn load_average() -> f32 {
    LoadAverage::current().map_or(0.0, |average| average.one)
}

/// The name of the distribution, from os-release(5).
fn distribution() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}
