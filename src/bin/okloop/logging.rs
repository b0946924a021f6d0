//! The log, off the loop's path.
//!
//! The terminal is a peer too: it may be slow (a stalled `less`), full (`/dev/full`) or gone (`okloop | head -1`), and
//! `simple_logger` prints with `println!`, which waits for the first and panics at the others. So the loop only puts
//! lines in a bounded queue, and a thread of its own prints them. A line that finds the queue full, or that cannot be
//! printed, is dropped and counted, and the count is logged when there is room again.
//!
//! The time in a line is when it was printed.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};
use simple_logger::SimpleLogger;

/// Log lines that wait for the terminal (lines); what comes on top is dropped and counted.
const LOG_QUEUE: usize = 1024;

/// How long the log lines before the last counters may take at exit, and the counters themselves once more.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

const WRITER: &str = "log writer";

/// Logs from now on, to standard output, lines as severe as `level` or more.
///
/// # Errors
///
/// If the process has a logger already.
pub fn init(level: LevelFilter) -> Result<(), SetLoggerError> {
    log::set_boxed_logger(Box::new(Queue { level, writer: OnceLock::new(), dropped: Arc::default() }))?;
    log::set_max_level(level);
    silence_panics_of_writer();
    Ok(())
}

/// The `log` crate's side: what the loop calls. Never waits.
struct Queue {
    level: LevelFilter,
    /// The way to the writer's thread, which the first line starts; `None` if it could not be started. A server that
    /// has nothing to say has one thread only, and in a process with one thread the kernel need not guard the table of
    /// open files against a second at each system call (`fdget`): 1 to 2 % of what an answer costs.
    writer: OnceLock<Option<SyncSender<Message>>>,
    dropped: Arc<AtomicU64>,
}

enum Message {
    Line {
        level: Level,
        target: String,
        text: String,
    },
    /// Answered when all lines before it are through.
    Flush(SyncSender<()>),
}

impl Log for Queue {
    /// mio tells of each registration at level trace; the server does so too, and says whose it is.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level && !metadata.target().starts_with("mio::")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (level, target) = (record.level(), record.target().to_owned());
        let line = Message::Line { level, target, text: record.args().to_string() };
        let writer = self.writer.get_or_init(|| self.start_writer());
        if writer.as_ref().is_none_or(|writer| writer.try_send(line).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until the queue is empty, at most [`LOG_FLUSH_TIMEOUT`]: for the end of the program, not for the loop.
    fn flush(&self) {
        let Some(Some(writer)) = self.writer.get() else { return };
        let deadline = Instant::now() + LOG_FLUSH_TIMEOUT;
        let (done, flushed) = sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(unsent)) = writer.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = unsent;
            thread::sleep(Duration::from_millis(1));
        }
        // An error means that the time is up, or the writer gone: either way there is nothing left to wait for.
        let _ = flushed.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Queue {
    fn start_writer(&self) -> Option<SyncSender<Message>> {
        let printer = SimpleLogger::new().with_level(self.level).with_utc_timestamps();
        let (sender, lines) = sync_channel(LOG_QUEUE);
        let dropped = Arc::clone(&self.dropped);
        let thread = thread::Builder::new().name(WRITER.to_owned());
        thread.spawn(move || write_lines(&lines, &dropped, |record| printer.log(record))).ok()?;
        Some(sender)
    }
}

/// The writer's thread: prints every line, and lives on when printing panics.
fn write_lines(lines: &Receiver<Message>, dropped: &AtomicU64, print: impl Fn(&Record<'_>)) {
    let try_print = |level: Level, target: &str, text: &str| {
        panic::catch_unwind(AssertUnwindSafe(|| {
            print(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
        }))
        .is_ok()
    };
    for message in lines {
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0
            && !try_print(Level::Warn, module_path!(), &format!("{missing} log lines were dropped"))
        {
            dropped.fetch_add(missing, Ordering::Relaxed);
        }
        match message {
            Message::Line { level, target, text } => {
                if !try_print(level, &target, &text) {
                    dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            // The asker may have given up waiting.
            Message::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

/// A panic of `println!` in the writer is an expected failure that is counted; a report of it for every line on
/// standard error would help nobody. Panics elsewhere are reported as always.
fn silence_panics_of_writer() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() != Some(WRITER) {
            report(info);
        }
    }));
}
