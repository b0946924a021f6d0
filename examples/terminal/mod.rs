//! What the examples need beside their sockets: the command's arguments, and lines on the terminal.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;
use std::{env, process};

/// The command's arguments, in the order in which `usage` names them. A name that starts with `--` is an option, which may
/// stand anywhere. A question for help, an unknown option or one argument too many ends the program.
pub fn arguments<const N: usize>(names: [&str; N]) -> [Option<OsString>; N] {
    let usage = format!("Usage: {} [{}]", env!("CARGO_CRATE_NAME"), names.join("] ["));
    let mut arguments = [const { None }; N];
    for argument in env::args_os().skip(1) {
        if argument == "--help" || argument == "-h" {
            say(usage);
            process::exit(0);
        }
        let is_option = argument.as_encoded_bytes().starts_with(b"-");
        let place = if is_option {
            names.iter().position(|name| argument == *name)
        } else {
            (0..N).find(|&index| arguments[index].is_none() && !names[index].starts_with("--"))
        };
        match place {
            Some(index) => arguments[index] = Some(argument),
            None if is_option => exit(2, format_args!("There is no option {}. {usage}", argument.display())),
            None => exit(2, usage),
        }
    }
    arguments
}

/// The port in an argument, or `default`. 0 lets the system choose.
pub fn port(argument: Option<OsString>, default: u16) -> u16 {
    number(argument, default)
        .unwrap_or_else(|text| exit(2, format_args!("The port is a number from 0 to 65535, not {text}")))
}

/// The seconds in an argument, or `default`.
#[allow(dead_code, reason = "only two of the examples have a time-out")]
pub fn seconds(argument: Option<OsString>, default: u16) -> Duration {
    match number(argument, default) {
        Ok(seconds @ 1..) => Duration::from_secs(seconds.into()),
        Ok(0) => exit(2, "The time-out is at least 1 second"),
        Err(text) => exit(2, format_args!("The time-out is a number of seconds from 1 to 65535, not {text}")),
    }
}

fn number(argument: Option<OsString>, default: u16) -> Result<u16, String> {
    let Some(text) = argument else { return Ok(default) };
    let text = text.to_string_lossy();
    text.parse().map_err(|_| text.into_owned())
}

/// Ends the program with one line that says why.
pub fn exit(status: i32, reason: impl Display) -> ! {
    complain(reason);
    process::exit(status)
}

/// Prints a line. `println!` would panic when stdout is a closed pipe or a full disk.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints a line to stderr. `eprintln!` would panic in the same cases.
pub fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
