//! What happens when a session panics: the panic is caught, and the log tells of it.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

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

/// Calls `run`, and returns its panic as a text of one line.
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    IS_CAUGHT.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    IS_CAUGHT.set(false);
    result.map_err(|payload| {
        let place = PLACE.take().map_or_else(String::new, |place| format!(" at {place}"));
        // Its text may hold what a client has sent, and no client may write a line of its own in the log.
        format!("panicked{place}: {}", text_of(&*payload).replace(char::is_control, " "))
    })
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_text_of_one_line() {
        assert_eq!(catch(|| 1), Ok(1));
        let text = |run: fn()| catch(run).expect_err("it panics");
        assert!(text(|| panic!("a mistake")).ends_with(": a mistake"));
        assert!(text(|| panic!("{}", "a\r\nb")).ends_with(": a  b"));
        assert!(text(|| panic::panic_any(1)).ends_with(": no text"));
    }
}
