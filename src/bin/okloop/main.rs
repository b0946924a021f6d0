//! The command: arguments, log, limits and signals. [`okloop::Server`] does the rest.

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use log::{info, warn};
use okloop::{Config, Ending, OkSession, Server, Session, Telnet, platform};

use crate::arguments::Arguments;

mod arguments;
mod logging;
mod open_files;

fn main() -> ExitCode {
    let result = serve(Arguments::from_command_line());
    // The log comes before the error that it led to.
    log::logger().flush();
    result.unwrap_or_else(|error| {
        // Not `eprintln!`, which panics if standard error is closed.
        let _ = writeln!(io::stderr(), "{error}");
        ExitCode::FAILURE
    })
}

fn serve(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let signals = platform::signals_to_watch();
    platform::survive_file_size_limit()?;
    logging::init(arguments.log_level)?;
    let limit = platform::raise_file_limit()?;
    let room = open_files::room(limit, open_files::count_open(limit))?;
    let (framing, telnet, config) = (arguments.framing, arguments.telnet, arguments.config(room));
    info!("Limits: {limit} open files, {} connections", config.max_connections);
    // Such a limit is obeyed: the operator prefers clients that wait to clients that are refused.
    if config.max_connections > room.connections {
        warn!("The open files allow {} connections; more clients wait in the accept queue", room.connections);
    }
    let new_session = move |_| OkSession::new(framing);
    if telnet {
        run(config, &signals, move |peer| Telnet::new(new_session(peer)))
    } else {
        run(config, &signals, new_session)
    }
}

fn run<S: Session>(
    config: Config,
    signals: &[i32],
    new_session: impl FnMut(SocketAddr) -> S + Send + 'static,
) -> Result<ExitCode, Box<dyn Error>> {
    let mut server = Server::bind(config, new_session)?;
    server.watch_signals(signals)?;
    let (ending, stats) = server.run()?;
    // The ends of the last sessions may have filled the log's queue, and a line that finds it full is dropped.
    log::logger().flush();
    info!("{stats}");
    Ok(match ending {
        // Also if the drain time-out ended some sessions. The counter `drain_timeout` says how many.
        Ending::Drained => ExitCode::SUCCESS,
        Ending::Forced => ExitCode::FAILURE,
    })
}
