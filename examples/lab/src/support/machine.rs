//! The machine on which figures were taken: a figure without its machine means nothing.

use std::fmt;
use std::fs;
use std::thread;

use procfs::{CpuInfo, Current, LoadAverage, Meminfo};

/// What a reader must know to compare these figures with others.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many processors this process may use.
    pub processors: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// The distribution.
    pub system: String,
    /// The kernel's version.
    pub kernel: String,
    /// How many processes wanted a processor in the last minute, on average, before the measurement.
    pub load_average: Option<f32>,
}

impl Machine {
    /// This machine. What the system does not tell is "unknown".
    pub fn here() -> Self {
        let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
        let processor = CpuInfo::current().ok();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        Self {
            processor: or_unknown(processor.and_then(|info| Some(info.model_name(0)?.to_owned()))),
            processors: thread::available_parallelism().map_or(1, usize::from),
            memory: Meminfo::current().map_or(0, |memory| memory.mem_total),
            system: or_unknown(distribution()),
            kernel: or_unknown(kernel.map(|text| text.trim().to_owned())),
            load_average: LoadAverage::current().ok().map(|average| average.one),
        }
    }

    /// Whether other programs used so much of it in the last minute that they may disturb a measurement.
    pub fn was_busy(&self) -> bool {
        self.load_average.is_some_and(|average| average > self.processors as f32 / 2.0)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gibibytes = self.memory.div_ceil(1 << 30);
        write!(
            f,
            "{}, {} processors, {gibibytes} GiB, {}, Linux {}",
            self.processor, self.processors, self.system, self.kernel
        )?;
        match self.load_average {
            Some(average) => write!(f, ", load average before {average:.1}"),
            None => Ok(()),
        }
    }
}

/// The name of the distribution, from os-release(5).
fn distribution() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}
