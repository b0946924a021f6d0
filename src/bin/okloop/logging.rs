//! The log, off the loop's path.
//!
//! Standard output may be slow (a stalled `less`), full (`/dev/full`) or closed (`okloop | head -1`). `simple_logger`
//! prints with `println!`, which waits for the first and panics at the others. The loop must do neither: it writes its
//! lines into a queue, and a thread prints them.
//!
//! ```text
//!   the loop's thread                       the writer's thread
//!   info!(…) ──► queue: Lines ◄── swap ──► batch: Lines ──► simple_logger ──► standard output
//! ```
//!
//! The memory of both `Lines` is reserved at the start. A line that finds the queue full is dropped, and so is a line
//! that cannot be printed. Dropped lines are counted, and the count is logged when lines can be printed again.
//!
//! To wake a thread costs a system call, and the log would pay it for each line. After a batch the writer therefore
//! pauses for [`PAUSE`] and then looks again. A line that comes meanwhile wakes no thread. Only a writer that found the
//! queue empty waits to be woken, so a silent server makes no system call.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};
use simple_logger::SimpleLogger;
use time::OffsetDateTime;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

/// The most lines that wait in the queue (lines). As many again may be in the batch that the writer prints.
const LINES: usize = 1024;

/// The most text that waits in the queue (bytes): enough for [`LINES`] lines of level trace.
const TEXT: usize = 128 * LINES;

/// The longest line, without its time and level (bytes). The longest that the server logs, the counters, has some 400.
/// Standard output has a buffer of 1024 bytes (`std::io::LineWriter`). A line that fits stays there whole if printing
/// fails, and is printed later.
const LINE: usize = 768;

/// How long the writer pauses after a batch: the longest that a line waits to be printed. At 20,000 sessions a second,
/// one pause collects 200 lines.
const PAUSE: Duration = Duration::from_millis(10);

/// How often the start of the writer's thread is tried again: with the next line, then after the shortest of these
/// times, then after twice that time, up to the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

/// How long [`Log::flush`] waits for the writer.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The time as `simple_logger` prints it.
const TIME: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z ");

const WRITER: &str = "log writer";

/// Logs from now on, to standard output, lines as severe as `level` or more.
///
/// # Errors
///
/// If the process has a logger already.
pub fn init(level: LevelFilter) -> Result<(), SetLoggerError> {
    log::set_boxed_logger(Box::new(Logger { level, shared: Arc::new(Shared::new()) }))?;
    log::set_max_level(level);
    silence_panics_of_writer();
    okloop::log_panics();
    Ok(())
}

thread_local! {
    static ONLY_WARNINGS: Cell<bool> = const { Cell::new(false) };
}

/// Logs warnings and errors only of what the calling thread does.
pub fn only_warnings_of_this_thread() {
    ONLY_WARNINGS.set(true);
}

/// The `log` crate's side: what the loop calls.
struct Logger {
    level: LevelFilter,
    shared: Arc<Shared>,
}

/// What the loop's thread and the writer's thread both use.
struct Shared {
    /// Locked for as long as it takes to append a line or to swap two `Lines`, never while a line is printed.
    state: Mutex<State>,
    /// The writer has lines to print.
    filled: Condvar,
    /// The writer has printed a batch.
    printed: Condvar,
}

struct State {
    queue: Lines,
    /// The writer's memory, until the writer starts and takes it.
    batch: Lines,
    writer: Writer,
    retry: Retry,
}

/// What the writer's thread does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// There is no such thread. The first line starts it. A server that logs nothing has one thread only, and in a
    /// process with one thread the kernel need not guard the table of open files against a second at each system call
    /// (`fdget`): 1 to 2 % of what an answer costs.
    Absent,
    /// It found the queue empty, and waits to be woken.
    Waiting,
    /// It has taken a batch, or is about to.
    Printing,
    /// It looks at the queue again after [`PAUSE`].
    Pausing,
}

impl Log for Logger {
    /// mio tells of each registration at level trace; the server does so too, and says whose it is.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = if ONLY_WARNINGS.get() { self.level.min(LevelFilter::Warn) } else { self.level };
        metadata.level() <= level && !metadata.target().starts_with("mio::")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut state = self.shared.lock();
        state.queue.push(SystemTime::now(), record);
        match state.writer {
            Writer::Absent if state.retry.is_due() => self.start_writer(state),
            Writer::Waiting => {
                state.writer = Writer::Printing;
                drop(state);
                self.shared.filled.notify_one();
            }
            Writer::Pausing if state.queue.entries.len() == LINES / 2 => {
                drop(state);
                self.shared.filled.notify_one();
            }
            Writer::Absent | Writer::Printing | Writer::Pausing => {}
        }
    }

    /// Waits until the queue is empty, at most [`FLUSH_TIMEOUT`]: for the end of the program, not for the loop.
    fn flush(&self) {
        let state = self.shared.lock();
        if state.writer == Writer::Absent && !state.queue.is_empty() {
            self.start_writer(state);
        } else {
            drop(state);
        }
        let is_unprinted = |state: &mut State| match state.writer {
            Writer::Absent => false,
            Writer::Printing => true,
            Writer::Waiting | Writer::Pausing => !state.queue.is_empty(),
        };
        // Either all lines are printed, or the time is up.
        let _ = self.shared.printed.wait_timeout_while(self.shared.lock(), FLUSH_TIMEOUT, is_unprinted);
    }
}

impl Logger {
    /// Starts the writer's thread. If the system has no room for a thread, the lines wait in the queue. Standard error
    /// is told once: a supervisor may wait for a line.
    fn start_writer(&self, mut state: MutexGuard<'_, State>) {
        let logger = SimpleLogger::new().with_level(self.level).without_timestamps();
        let shared = Arc::clone(&self.shared);
        let writer = move || write_lines(&shared, Printer { logger, dropped: 0 });
        match thread::Builder::new().name(WRITER.to_owned()).spawn(writer) {
            Ok(_) => state.writer = Writer::Printing,
            Err(error) => {
                let is_first = state.retry.after.is_none();
                state.retry.delay_after_failure();
                drop(state);
                if is_first {
                    // `eprintln!` would panic if standard error is closed.
                    let _ = writeln!(io::stderr(), "No log yet: its thread cannot start: {error}");
                }
            }
        }
    }
}

impl Shared {
    fn new() -> Self {
        let retry = Retry { after: None, delay: Duration::ZERO };
        let (queue, batch) = (Lines::reserved(), Lines::reserved());
        let state = Mutex::new(State { queue, batch, writer: Writer::Absent, retry });
        Self { state, filled: Condvar::new(), printed: Condvar::new() }
    }

    /// No holder of the lock leaves the state half changed, so a panic of one does no harm to the next.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When to try again to start the writer's thread.
struct Retry {
    /// Not before this time. `None` if no try has failed.
    after: Option<Instant>,
    delay: Duration,
}

impl Retry {
    fn is_due(&self) -> bool {
        self.after.is_none_or(|after| after <= Instant::now())
    }

    fn delay_after_failure(&mut self) {
        self.after = Some(Instant::now() + self.delay);
        self.delay = (2 * self.delay).clamp(RETRY.0, RETRY.1);
    }
}

/// Lines, in memory that never grows.
#[derive(Default)]
struct Lines {
    /// The target and the text of each line, one after the other.
    text: String,
    entries: Vec<Entry>,
    /// How many lines found no room since these.
    dropped: u64,
}

/// What is known of a line beside its text.
struct Entry {
    time: SystemTime,
    level: Level,
    /// Where in [`Lines::text`] its text begins, behind its target.
    middle: usize,
    end: usize,
}

impl Lines {
    fn reserved() -> Self {
        Self { text: String::with_capacity(TEXT), entries: Vec::with_capacity(LINES), dropped: 0 }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.dropped == 0
    }

    fn push(&mut self, time: SystemTime, record: &Record<'_>) {
        if self.entries.len() == LINES || self.text.len() > TEXT - LINE {
            self.dropped += 1;
            return;
        }
        let mut line = Bounded { room: LINE, text: &mut self.text };
        // An error means that the line was cut.
        let _ = line.write_str(record.target());
        let middle = line.text.len();
        let _ = line.write_fmt(*record.args());
        self.entries.push(Entry { time, level: record.level(), middle, end: self.text.len() });
    }

    fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
        self.dropped = 0;
    }
}

/// Appends to a text as much as there is room for. What goes beyond it is cut off, and `…` takes its place.
struct Bounded<'a> {
    text: &'a mut String,
    /// How many bytes may still come, with the `…`; none after a cut.
    room: usize,
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        const CUT: char = '…';
        let room = self.room.checked_sub(CUT.len_utf8()).ok_or(fmt::Error)?;
        if part.len() <= room {
            self.text.push_str(part);
            self.room -= part.len();
            return Ok(());
        }
        let fits = (0..=room).rev().find(|&length| part.is_char_boundary(length)).unwrap_or(0);
        self.text.push_str(&part[..fits]);
        self.text.push(CUT);
        self.room = 0;
        Err(fmt::Error)
    }
}

/// The writer's thread.
fn write_lines(shared: &Shared, mut printer: Printer) -> ! {
    let mut state = shared.lock();
    let mut batch = mem::take(&mut state.batch);
    loop {
        if state.queue.is_empty() {
            state.writer = Writer::Waiting;
            let is_empty = |state: &mut State| state.queue.is_empty();
            state = shared.filled.wait_while(state, is_empty).unwrap_or_else(PoisonError::into_inner);
        }
        state.writer = Writer::Printing;
        mem::swap(&mut state.queue, &mut batch);
        drop(state);
        printer.print(&batch);
        batch.clear();
        state = shared.lock();
        state.writer = Writer::Pausing;
        shared.printed.notify_all();
        if state.queue.entries.len() < LINES / 2 {
            state = shared.filled.wait_timeout(state, PAUSE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Prints lines with `simple_logger`, and lives on when that panics.
struct Printer {
    logger: SimpleLogger,
    /// Lines that were dropped since the count was last logged.
    dropped: u64,
}

impl Printer {
    fn print(&mut self, batch: &Lines) {
        let mut start = 0;
        for line in &batch.entries {
            let (target, text) = (&batch.text[start..line.middle], &batch.text[line.middle..line.end]);
            start = line.end;
            if !self.print_dropped() || !self.print_line(line.time, line.level, target, text) {
                self.dropped += 1;
            }
        }
        self.dropped += batch.dropped;
        self.print_dropped();
    }

    /// Logs how many lines were dropped, if any. Returns whether the next line can be printed.
    fn print_dropped(&mut self) -> bool {
        let text = match self.dropped {
            0 => return true,
            count => format!("{count} log lines were dropped"),
        };
        let is_printed = self.print_line(SystemTime::now(), Level::Warn, module_path!(), &text);
        if is_printed {
            self.dropped = 0;
        }
        is_printed
    }

    /// Prints a line with the time at which it was logged: `simple_logger` would print the present time. Returns whether
    /// the line is on its way.
    ///
    /// If `println!` fails, it panics, but standard output keeps the line in its buffer. The line is not lost: the next
    /// call writes it first. It is the next line that is dropped, if the one before is still there.
    fn print_line(&self, time: SystemTime, level: Level, target: &str, text: &str) -> bool {
        if io::stdout().flush().is_err() {
            return false;
        }
        let print = || {
            // Appending to an empty buffer does not fail.
            let _ = OffsetDateTime::from(time).format_into(&mut io::stdout(), TIME);
            self.logger
                .log(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
        };
        let _ = panic::catch_unwind(AssertUnwindSafe(print));
        true
    }
}

/// A panic of `println!` in the writer is an expected failure. A report of it on standard error, for every line, would
/// help no reader. Panics elsewhere are reported as always.
fn silence_panics_of_writer() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() != Some(WRITER) {
            report(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(lines: &mut Lines, text: &str) {
        let mut builder = Record::builder();
        lines.push(SystemTime::UNIX_EPOCH, &builder.target("okloop").args(format_args!("{text}")).build());
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_between_two_characters() {
        // The middle of a character of two bytes is at the end of what fits.
        for text in ["é".repeat(LINE), format!("a{}", "é".repeat(LINE))] {
            let mut lines = Lines::reserved();
            push(&mut lines, &text);
            let line = &lines.text["okloop".len()..];
            let kept = line.strip_suffix('…').expect("the cut is marked");
            assert!(text.starts_with(kept));
            assert!((LINE - 1..=LINE).contains(&lines.text.len()), "{} bytes", lines.text.len());
        }
    }

    #[test]
    fn a_full_queue_drops_lines_counts_them_and_asks_for_no_memory() {
        for length in [1, 100, LINE] {
            let mut lines = Lines::reserved();
            let before = (lines.text.capacity(), lines.entries.capacity());
            for _ in 0..2 * LINES {
                push(&mut lines, &"x".repeat(length));
            }
            assert_eq!((lines.text.capacity(), lines.entries.capacity()), before);
            assert!(lines.dropped >= LINES as u64);
            assert_eq!(lines.entries.len() as u64 + lines.dropped, 2 * LINES as u64);
        }
    }

    #[test]
    fn a_failed_start_is_tried_again_immediately_and_then_ever_later_up_to_a_second() {
        let mut retry = Retry { after: None, delay: Duration::ZERO };
        assert!(retry.is_due());
        retry.delay_after_failure();
        assert!(retry.is_due(), "the next line tries again");
        for _ in 0..20 {
            retry.delay_after_failure();
        }
        assert!(!retry.is_due());
        assert_eq!(retry.delay, Duration::from_secs(1));
    }
}
