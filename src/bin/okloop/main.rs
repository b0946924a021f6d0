//! The command: arguments, log, limits and signals. [`okloop::Server`] does the rest.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use log::{info, warn};
use okloop::protocols::{Either, Telnet};
use okloop::{Ending, Server};

use crate::arguments::Arguments;

mod arguments;
mod logging;
mod open_files;
mod process;

fn main() -> ExitCode {
    let result = serve();
    // The log comes before the error that it led to.
    log::logger().flush();
    result.unwrap_or_else(|error| {
        // Not `eprintln!`, which panics if standard error is closed.
        let _ = writeln!(io::stderr(), "{error}");
        ExitCode::FAILURE
    })
}

fn serve() -> Result<ExitCode, Box<dyn Error>> {
    // First: until then, any signal ends the process. If there is no file for it, the error below says how many are needed.
    let signals = process::signals_to_watch();
    process::survive_file_size_limit()?;
    let arguments = Arguments::from_command_line();
    logging::init(arguments.log_level)?;
    let limit = process::raise_file_limit()?;
    let own = if signals.is_ok() { process::SIGNAL_FILES } else { 0 };
    let room = open_files::room(limit, open_files::count_open(limit) - own)?;
    let config = arguments.config(room);
    info!("Limits: {limit} open files, {} connections", config.max_connections);
    // Such a limit is obeyed: the operator prefers clients that wait to clients that are refused.
    if config.max_connections > room.connections {
        warn!("The open files allow {} connections; more clients wait in the accept queue", room.connections);
    }
    let mut server = Server::bind(config)?;
    process::watch(&mut server, signals?)?;
    let (ending, stats) = server.run(|_| match arguments.session() {
        session if arguments.telnet => Either::Left(Telnet::new(session)),
        session => Either::Right(session),
    })?;
    // The ends of the last sessions may have filled the log's queue, and a line that finds it full is dropped.
    log::logger().flush();
    info!("{stats}");
    Ok(match ending {
        Ending::Forced => ExitCode::FAILURE,
        // Also if the drain time-out ended some sessions. The counter `drain_timeout` says how many.
        _ => ExitCode::SUCCESS,
    })
}
