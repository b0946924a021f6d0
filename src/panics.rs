//! What happens when a session panics: the panic is caught, and the log tells of it.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

use log::Level;

use crate::address::Address;
use crate::trace::{Event, step};

thread_local! {
    /// Whether this thread catches a panic now.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
    /// Where in the source the last panic was.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Lets the log alone tell of a session's panic. Call it once, at the start of the program.
///
/// Without this, the standard library also writes a report to standard error, before the panic is caught. It does so on
/// the loop's thread, so all sessions wait: for ever if standard error is a pipe that is full, and some 100 ms for the
/// first backtrace (`RUST_BACKTRACE=1`). With this, a panic of a session makes one line in the log, with its place in the
/// source and without a backtrace. Other panics are reported as before.
///
/// It sets the panic hook of the process ([`std::panic::set_hook`]). A hook that the program sets later replaces it.
pub fn log_panics() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if IS_CAUGHT.get() {
            PLACE.set(info.location().map(ToString::to_string));
        } else {
            report(info);
        }
    }));
}

/// Runs code of the session of the client `peer`. `None` if it panics: the log has told of it then.
pub(crate) fn catch<T>(peer: Address, run: impl FnOnce() -> T) -> Option<T> {
    IS_CAUGHT.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    IS_CAUGHT.set(false);
    let tell = |payload: Box<dyn Any + Send>| {
        step!(Level::Error, Event::Panicked { peer, report: report(&*payload, PLACE.take()) });
    };
    result.map_err(tell).ok()
}

/// One line. The text of a panic may hold what a client has sent, and no client may write a line of its own in the log.
fn report(payload: &(dyn Any + Send), place: Option<String>) -> String {
    let place = place.map_or_else(String::new, |place| format!(" at {place}"));
    format!("panicked{place}: {}", text_of(payload).replace(char::is_control, " "))
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_a_panic_has_one_line() {
        assert_eq!(report(&"a\r\nb", Some("src/a.rs:1:2".to_owned())), "panicked at src/a.rs:1:2: a  b");
        assert_eq!(report(&"a mistake".to_owned(), None), "panicked: a mistake");
        assert_eq!(report(&1, None), "panicked: no text");
    }

    #[test]
    fn a_panic_is_none() {
        assert_eq!(catch(Address::Unix, || 1), Some(1));
        assert_eq!(catch(Address::Unix, || panic::resume_unwind(Box::new(1))), None::<()>);
    }
}
