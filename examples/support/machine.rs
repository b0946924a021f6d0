//! The machine that figures were taken on, because a figure without its machine means nothing.

use std::fmt;
use std::fs;
use std::thread;

/// What a reader must know to compare these figures with her own.
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
    /// How many processes wanted a processor in the last minute, on average: what the machine was busy with when it was
    /// looked at.
    pub load_average: Option<f64>,
}

impl Machine {
    /// Looks around; what the system does not tell is "unknown".
    pub fn here() -> Self {
        let unknown = || String::from("unknown");
        let kilobytes = value("/proc/meminfo", "MemTotal", ':').and_then(|text| {
            let number = text.split_whitespace().next()?;
            number.parse::<u64>().ok()
        });
        Self {
            processor: value("/proc/cpuinfo", "model name", ':').unwrap_or_else(unknown),
            processors: thread::available_parallelism().map_or(1, usize::from),
            memory: kilobytes.unwrap_or(0) * 1024,
            system: value("/etc/os-release", "PRETTY_NAME", '=').unwrap_or_else(unknown),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |text| text.trim().to_owned()),
            load_average: fs::read_to_string("/proc/loadavg")
                .ok()
                .and_then(|text| text.split_whitespace().next()?.parse().ok()),
        }
    }

    /// Whether so much of it was used in the last minute that figures taken now would tell more of who used it, if it is
    /// still there.
    pub fn was_busy(&self) -> bool {
        let processors = u32::try_from(self.processors).map_or(f64::INFINITY, f64::from);
        self.load_average.is_some_and(|average| average > processors / 2.0)
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

/// The value of the first line `key SEPARATOR value` in a file of such lines, without quotes.
fn value(path: &str, key: &str, separator: char) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let (_, value) =
        text.lines().filter_map(|line| line.split_once(separator)).find(|(name, _)| name.trim() == key)?;
    Some(value.trim().trim_matches('"').to_owned())
}
