//! The command line.

use std::env;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser};
use log::LevelFilter;
use okloop::Config;
use okloop::config::FULL_MESSAGE;
use okloop::protocols::{Framing, OkSession};

use crate::metrics::Endpoint;
use crate::open_files::Room;

/// Greets every telnet session and answers `OK...` and what it received: a single-threaded readiness loop.
///
#[cfg_attr(
    unix,
    doc = "SIGTERM, SIGINT or SIGHUP stops it after a drain; a second one, more than 200 ms after the first, ends it"
)]
#[cfg_attr(
    unix,
    doc = "immediately. SIGUSR1 logs the counters. SIGINT and SIGHUP stay ignored if they were at the start."
)]
#[cfg_attr(
    windows,
    doc = "Ctrl-C stops it after a drain; a second one, more than 200 ms after the first, ends it immediately."
)]
/// Exit status: 0 after a drain, 1 on a start-up error or a forced stop, 2 on bad arguments.
#[derive(Parser)]
#[command(version, allow_negative_numbers = true)]
pub struct Arguments {
    /// Address or name to listen on; `::` serves IPv6 and IPv4
    #[arg(long, value_name = "ADDR", default_value_t = Config::default().host, value_parser = NonEmptyStringValueParser::new())]
    host: String,

    /// TCP port; with 0 the system chooses one, and the log says which
    #[arg(short, long, value_name = "N", default_value_t = Config::default().port)]
    port: u16,

    /// Clients that may wait to be accepted; Linux lowers it to net.core.somaxconn
    #[arg(long, value_name = "N", default_value_t = Config::default().backlog, value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    backlog: u32,

    /// Most sessions at a time; other clients are told that the server is full [default: what the open files allow, at
    /// most 100,000]
    #[arg(long, value_name = "N", value_parser = connections)]
    max_connections: Option<usize>,

    /// What gets one answer: each chunk of up to 1024 bytes as it arrives, or each line
    #[arg(long, value_enum, default_value_t, hide_possible_values = true, value_name = "chunks|lines")]
    framing: Framing,

    /// For telnet terminals: take telnet commands out of the input, refuse all options, and end lines with CR LF
    #[arg(long)]
    pub telnet: bool,

    /// With lines, end sessions whose line is not whole this long after its first byte; 0: never, because people stop
    /// in the middle of a line
    #[arg(long, value_name = "SECONDS", default_value_t = Seconds::or_never(None))]
    line_timeout: Seconds,

    /// For a port that only a balancer can reach: each connection names its client in a PROXY header (version 1 or 2)
    #[arg(long)]
    pub proxy_protocol: bool,

    /// End sessions whose client is silent for this long after it has its answers; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = Seconds::or_never(Config::default().idle_timeout))]
    idle_timeout: Seconds,

    /// End sessions whose pending output makes no progress for this long; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = Seconds::or_never(Config::default().write_timeout))]
    write_timeout: Seconds,

    /// How long a client that was refused has to end the connection after it has everything
    #[arg(long, value_name = "SECONDS", default_value_t = Seconds(Config::default().linger_timeout))]
    linger_timeout: Seconds,

    /// How long a stopping server waits until clients have read their answers; 0: not at all
    #[arg(long, value_name = "SECONDS", default_value_t = Seconds(Config::default().drain_timeout))]
    drain_timeout: Seconds,

    /// Share the port with other okloop processes; the kernel spreads new sessions over them. A socket that a supervisor
    /// passes has its own setting
    #[arg(long, hide = !Config::CAN_REUSE_PORT)]
    reuse_port: bool,

    /// Serve counters for Prometheus (/metrics) and the server's health (/healthz) there, in a second thread. The last one
    /// of several counts
    #[arg(long, value_name = "ADDR:PORT", overrides_with = "metrics")]
    pub metrics: Option<Endpoint>,

    /// Serve nothing: ask the okloop whose metrics are there for its health. Exit status 0 if it serves, 1 otherwise
    #[arg(long, value_name = "ADDR:PORT", exclusive = true)]
    pub health: Option<Endpoint>,

    /// What to log; trace shows each iteration of the loop. `RUST_LOG` sets the default if it is one of these
    #[arg(long, value_name = "LEVEL", default_value = default_level(), ignore_case = true,
          value_parser = PossibleValuesParser::new(LEVELS).try_map(|level| level.parse::<LevelFilter>()))]
    pub log_level: LevelFilter,
}

impl Arguments {
    /// The arguments of this process, to which the supervisor has passed so many sockets. Bad ones end it.
    pub fn from_command_line(passed_sockets: usize) -> Self {
        let matches = Self::command().get_matches();
        let arguments = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        if arguments.reuse_port && !Config::CAN_REUSE_PORT {
            let reason = "--reuse-port: this system does not spread sessions over processes\n";
            clap::Error::raw(ErrorKind::InvalidValue, reason).exit();
        }
        let is_given = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
        if let (Some(name), true) = (["host", "port"].into_iter().find(is_given), passed_sockets > 0) {
            let reason =
                format!("--{name}: the server listens on the socket that it was passed (LISTEN_FDS)\n");
            clap::Error::raw(ErrorKind::ArgumentConflict, reason).exit();
        }
        arguments
    }

    /// A session of the protocol.
    pub fn session(&self) -> OkSession {
        let session = OkSession::new(self.framing);
        match self.line_timeout.unless_zero() {
            Some(timeout) => session.with_line_timeout(timeout),
            None => session,
        }
    }

    /// What these arguments ask for, with the limits that the open files set.
    pub fn config(&self, room: Room) -> Config {
        // The refusal goes through no layer.
        let newline = if self.telnet { "\r\n" } else { "\n" };
        let full_message = FULL_MESSAGE.replace('\n', newline).into_bytes();
        Config {
            host: self.host.clone(),
            port: self.port,
            backlog: self.backlog,
            max_connections: self.max_connections.unwrap_or(room.default_connections()),
            max_refusals: room.refusals,
            idle_timeout: self.idle_timeout.unless_zero(),
            write_timeout: self.write_timeout.unless_zero(),
            linger_timeout: self.linger_timeout.0,
            drain_timeout: self.drain_timeout.0,
            full_message,
            reuse_port: self.reuse_port,
            ..Config::default()
        }
    }
}

fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 connection".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(error.to_string()),
    }
}

/// A time in seconds, with a fraction if needed.
#[derive(Clone, Copy)]
struct Seconds(Duration);

impl Seconds {
    /// More than ten years is a typing error, and would exceed some clocks.
    const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

    fn or_never(timeout: Option<Duration>) -> Self {
        Self(timeout.unwrap_or_default())
    }

    fn unless_zero(self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs_f64())
    }
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
        match Duration::try_from_secs_f64(number) {
            // 0 means never, so a value that rounds to 0 is an error.
            Ok(time) if time <= Self::LONGEST && time.is_zero() == (number == 0.0) => Ok(Self(time)),
            _ => Err(format!("0, or from 1e-9 to {} seconds", Self::LONGEST.as_secs())),
        }
    }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The level that `RUST_LOG` names. The variable may hold a list of levels by module, for other programs; then it names
/// none.
fn default_level() -> &'static str {
    let variable = env::var("RUST_LOG").unwrap_or_default();
    LEVELS.into_iter().find(|level| level.eq_ignore_ascii_case(&variable)).unwrap_or("info")
}
