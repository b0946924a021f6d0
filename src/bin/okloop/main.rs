//! The command: arguments, logger, signals; then [`okloop::Server`] does the rest.

use std::env;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use log::{LevelFilter, info, warn};
use okloop::{Config, Ending, Framing, OkSession, Server, Session, platform};

mod logging;

/// Greets every telnet session and answers `OK...` to whatever it is sent: a single-threaded readiness loop.
///
/// SIGTERM and the first SIGINT stop it after a drain, the second at once; SIGUSR1 logs the counters. Exit status: 0
/// after a drain, 1 on a start-up error or after a second signal, 2 on bad arguments.
#[derive(Parser)]
#[command(version, allow_negative_numbers = true)]
struct Arguments {
    /// Address or name to listen on; `::` serves IPv6 and IPv4
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0", value_parser = NonEmptyStringValueParser::new())]
    host: String,

    /// TCP port; 0 lets the system choose, and the log says which
    #[arg(short, long, value_name = "N", default_value_t = 8888)]
    port: u16,

    /// Clients that may wait to be accepted (the system's own limit is net.core.somaxconn)
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    backlog: u32,

    /// Sessions at once; any more are told that the server is full [default: open-file limit less 32]
    #[arg(long, value_name = "N", value_parser = connections)]
    max_connections: Option<usize>,

    /// What is answered as one: each chunk of up to 1024 bytes as it comes, or each line
    #[arg(long, default_value = "chunks")]
    framing: Framing,

    /// End sessions that have been silent for this long, and are owed nothing; 0: never
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    idle_timeout: Duration,

    /// End sessions whose client takes nothing more of what it is owed for this long; 0: never
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    write_timeout: Duration,

    /// How long a stopping server waits for owed answers to be read; 0: not at all
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    drain_timeout: Duration,

    /// Share the port with other okloop processes; the kernel spreads new sessions over them
    #[arg(long, hide = !platform::CAN_SHARE_PORT)]
    reuse_port: bool,

    /// Lines to log; trace tells each turn of the loop. `RUST_LOG` sets the default, if it is one of these
    #[arg(long, value_name = "LEVEL", default_value = default_level(), ignore_case = true,
          value_parser = PossibleValuesParser::new(LEVELS).try_map(|level| level.parse::<LevelFilter>()))]
    log_level: LevelFilter,
}

impl From<Arguments> for Config {
    fn from(arguments: Arguments) -> Self {
        let unless_zero = |timeout: Duration| (!timeout.is_zero()).then_some(timeout);
        Self {
            host: arguments.host,
            port: arguments.port,
            backlog: arguments.backlog,
            max_connections: arguments.max_connections.unwrap_or(10_000),
            idle_timeout: unless_zero(arguments.idle_timeout),
            write_timeout: unless_zero(arguments.write_timeout),
            drain_timeout: arguments.drain_timeout,
            reuse_port: arguments.reuse_port,
            ..Self::default()
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.reuse_port && !platform::CAN_SHARE_PORT {
        let reason = "--reuse-port: this system does not spread sessions over processes\n";
        clap::Error::raw(ErrorKind::InvalidValue, reason).exit();
    }
    let result = serve(arguments);
    // What led to it is told first.
    log::logger().flush();
    result.unwrap_or_else(|error| {
        // `eprintln!` would panic where nobody can be told.
        let _ = writeln!(io::stderr(), "{error}");
        ExitCode::FAILURE
    })
}

fn serve(arguments: Arguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    platform::survive_file_size_limit()?;
    logging::init(arguments.log_level)?;
    // Every session is an open file, so take as many as the hard limit allows: that needs no privilege.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        warn!("The limit of open files stays as it is: {error}");
    }
    let framing = arguments.framing;
    run(arguments.into(), move |_| OkSession::new(framing))
}

fn run<S: Session>(
    config: Config,
    new_session: impl FnMut(SocketAddr) -> S + Send + 'static,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut server = Server::bind(config, new_session)?;
    server.watch_signals()?;
    let (ending, stats) = server.run()?;
    // The last sessions' ends may have filled the queue, and a line that finds it full is dropped.
    log::logger().flush();
    info!("{stats}");
    Ok(match ending {
        Ending::Drained => ExitCode::SUCCESS,
        Ending::Forced => ExitCode::FAILURE,
    })
}

fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 connection".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(error.to_string()),
    }
}

/// Seconds, with a fraction if need be, down to a nanosecond and up to ten years: more than that is a slip of the finger,
/// and would overflow somebody's clock.
fn seconds(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(number) {
        // 0 has a meaning of its own, which what is rounded to it was not to have.
        Ok(duration) if duration <= LONGEST && duration.is_zero() == (number == 0.0) => Ok(duration),
        _ => Err(format!("0, or from 1e-9 to {} seconds", LONGEST.as_secs())),
    }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The level that `RUST_LOG` names. A list of levels by module, which it may well hold for other programs, names none.
fn default_level() -> &'static str {
    let variable = env::var("RUST_LOG").unwrap_or_default();
    LEVELS.into_iter().find(|level| level.eq_ignore_ascii_case(&variable)).unwrap_or("info")
}
