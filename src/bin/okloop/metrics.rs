//! The counters for Prometheus, and the server's health: a second loop in a thread of its own.
//!
//! ```text
//!   the main thread                            the thread "metrics"
//!   the loop: sessions ──► counters ◄── Handle::stats ── the second loop: HTTP ◄── Prometheus, probes
//! ```
//!
//! A loop that is busy, or drains, is still seen. The counters are read without stopping it.

use std::error::Error;
use std::fmt::{Display, Write as _};
use std::io::{self, Read, Write as _};
use std::net::{TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};
use std::{fs, thread};

use log::{error, info};
use okloop::{Config, Handle, Reason, Server, StartError};
use strum::VariantArray;

use crate::http::{self, Http, Page};
use crate::{logging, open_files};

/// The most scrapers and probes at one time (connections).
const CONNECTIONS: usize = 16;

/// The files that the second loop needs: its listening socket, epoll, an eventfd, its clients with one that is refused and
/// one that was just accepted, and one that it reads.
pub const FILES: usize = 3 + CONNECTIONS + 2 + 1;

/// How long a client may be silent. Prometheus asks every minute by default, on one connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(150);

/// How long a client may take to read an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long [`check`] waits for each step.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Where metrics are served: `127.0.0.1:9100`, `[::1]:9100`, `localhost:9100`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').ok_or("an address, a colon and a port")?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().map_err(|error| format!("{port:?} is no port: {error}"))?;
        if host.is_empty() { Err("no address".to_owned()) } else { Ok(Self { host: host.to_owned(), port }) }
    }
}

/// What the pages tell of the server.
pub struct Source {
    pub handle: Handle,
    pub max_connections: usize,
    /// The limit of open files.
    pub files: usize,
}

/// Serves the metrics from now on, until the process ends.
///
/// # Errors
///
/// If the address is in use, or the system has no room.
pub fn serve(endpoint: Endpoint, source: Source) -> Result<(), Box<dyn Error>> {
    let (sender, started) = mpsc::channel();
    let serve = move || match bind(endpoint) {
        Ok(server) => {
            // The main thread waits for it.
            let _ = sender.send(server.local_addr().map_err(StartError::Setup));
            run(server, &source);
        }
        Err(error) => drop(sender.send(Err(error))),
    };
    thread::Builder::new().name("metrics".to_owned()).spawn(serve)?;
    let address = started.recv()?.map_err(|error| format!("--metrics: {error}"))?;
    info!("Metrics on http://{address}/metrics");
    Ok(())
}

fn bind(endpoint: Endpoint) -> Result<Server, StartError> {
    // The log tells of the sessions that are served, not of those that ask for metrics.
    logging::only_warnings_of_this_thread();
    Server::bind(Config {
        host: endpoint.host,
        port: endpoint.port,
        max_connections: CONNECTIONS,
        max_refusals: 1,
        full_message: http::FULL.into(),
        idle_timeout: Some(IDLE_TIMEOUT),
        write_timeout: Some(WRITE_TIMEOUT),
        ..Config::default()
    })
}

fn run(server: Server, source: &Source) {
    let page = |path: &str| source.page(path);
    if let Err(error) = server.run(|_| Http::new(page)) {
        error!("No more metrics: {error}");
    }
}

impl Source {
    fn page(&self, path: &str) -> Page {
        match path {
            "/metrics" => ("200 OK", self.metrics()),
            "/healthz" if self.handle.is_stopping() => ("503 Service Unavailable", "draining\n".to_owned()),
            "/healthz" => ("200 OK", "serving\n".to_owned()),
            _ => ("404 Not Found", "There are /metrics and /healthz\n".to_owned()),
        }
    }

    /// Prometheus' text format. Its names and units are those of "Metric and label naming" in Prometheus' documentation.
    fn metrics(&self) -> String {
        let (mut text, stats) = (Text::default(), self.handle.stats());
        text.gauge("okloop_sessions_open", "Sessions that are open.", stats.open);
        text.gauge("okloop_sessions_peak", "The most sessions that were open at one time.", stats.peak);
        text.gauge("okloop_sessions_max", "The most sessions that may be open.", self.max_connections);
        text.counter(
            "okloop_connections_accepted_total",
            "Connections accepted, refused ones included.",
            stats.accepted,
        );
        let name = "okloop_sessions_ended_total";
        text.head(name, "counter", "Connections ended, by reason.");
        for &reason in Reason::VARIANTS {
            text.line(&format!("{name}{{reason=\"{reason}\"}}"), stats.closed(reason));
        }
        text.counter(
            "okloop_accept_pauses_total",
            "Times that the system had no room for one more connection.",
            stats.accept_pauses,
        );
        text.counter("okloop_received_bytes_total", "Bytes read from clients.", stats.bytes_in);
        text.counter("okloop_sent_bytes_total", "Bytes written to clients.", stats.bytes_out);
        let started = SystemTime::now() - stats.uptime;
        if let Ok(started) = started.duration_since(SystemTime::UNIX_EPOCH) {
            let name = "process_start_time_seconds";
            text.gauge(name, "When the server began, since 1970.", started.as_secs());
        }
        text.gauge("process_max_fds", "The limit of open files.", self.files);
        if let Some(count) = open_files::count() {
            text.gauge("process_open_fds", "Open files.", count);
        }
        if let Some(bytes) = resident_memory() {
            text.gauge("process_resident_memory_bytes", "Resident memory.", bytes);
        }
        text.0
    }
}

/// Lines of Prometheus' text format.
#[derive(Default)]
struct Text(String);

impl Text {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.line(name, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "counter", help);
        self.line(name, value);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }
}

/// The memory of this process, where Linux tells it (`VmRSS`, proc(5)).
fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(1024 * kibibytes)
}

/// Asks the server whose metrics are served there for its health. Returns its answer if it is well.
///
/// # Errors
///
/// If the server does not answer, or drains.
pub fn check(endpoint: &Endpoint) -> Result<String, Box<dyn Error>> {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for address in (&endpoint.host[..], endpoint.port).to_socket_addrs()? {
        result = TcpStream::connect_timeout(&address, CHECK_TIMEOUT);
        if result.is_ok() {
            break;
        }
    }
    let mut stream = result?;
    stream.set_read_timeout(Some(CHECK_TIMEOUT))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: okloop\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(1024).read_to_string(&mut answer)?;
    let text = answer.lines().last().unwrap_or_default();
    if answer.starts_with("HTTP/1.1 200 ") { Ok(text.to_owned()) } else { Err(text.into()) }
}
