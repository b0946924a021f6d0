//! The command: arguments, log, limits and signals. [`okloop::Server`] does the rest.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use log::{info, warn};
use okloop::protocols::{Either, Proxy, Telnet};
use okloop::{Client, Ending, Server, Session};

use crate::arguments::Arguments;
use crate::metrics::Source;
use crate::supervisor::Sockets;

mod arguments;
mod http;
mod logging;
mod metrics;
mod open_files;
mod process;
mod supervisor;

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
    let sockets = Sockets::passed();
    let arguments = Arguments::from_command_line(sockets.len());
    if let Some(endpoint) = &arguments.health {
        writeln!(io::stdout(), "{}", metrics::check(endpoint)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    logging::init(arguments.log_level)?;
    let limit = process::raise_file_limit()?;
    let own = sockets.len().min(1) + if signals.is_ok() { process::SIGNAL_FILES } else { 0 };
    let metrics = arguments.metrics.clone();
    let others = metrics.as_ref().map_or(0, |_| metrics::FILES);
    let room = open_files::room(limit, open_files::count_open(limit) - own, others)?;
    let config = arguments.config(room);
    info!("Limits: {limit} open files, {} connections", config.max_connections);
    // Such a limit is obeyed: the operator prefers clients that wait to clients that are refused.
    if config.max_connections > room.connections {
        warn!("The open files allow {} connections; more clients wait in the accept queue", room.connections);
    }
    let max_connections = config.max_connections;
    let mut server = if sockets.len() == 0 {
        Server::bind(config)?
    } else {
        let mut server = Server::new(config)?;
        sockets.adopt_by(&mut server)?;
        server
    };
    process::watch(&mut server, signals?)?;
    if let Some(endpoint) = metrics {
        metrics::serve(endpoint, Source { handle: server.handle(), max_connections, files: limit })?;
    }
    let new_inner = || match arguments.session() {
        session if arguments.telnet => Either::Left(Telnet::new(session)),
        session => Either::Right(session),
    };
    let sizes = new_inner().sizes();
    let new_session = |_: Client<'_>| {
        if arguments.proxy_protocol {
            Either::Left(Proxy::new(sizes, move |_| new_inner()))
        } else {
            Either::Right(new_inner())
        }
    };
    supervisor::ready();
    let (ending, stats) = match supervisor::watchdog_period() {
        None => server.run(new_session)?,
        Some(period) => server.run_with_tick(new_session, period, supervisor::watchdog)?,
    };
    // The ends of the last sessions may have filled the log's queue, and a line that finds it full is dropped.
    log::logger().flush();
    info!("{stats}");
    Ok(match ending {
        Ending::Forced => ExitCode::FAILURE,
        // Also if the drain time-out ended some sessions. The counter `drain_timeout` says how many.
        _ => ExitCode::SUCCESS,
    })
}
