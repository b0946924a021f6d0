//! The servers on trial: this project's own, and those of the command line.

use std::env;
use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::protocol::{Answer, Framing, Protocol};

/// A server, how it is reached, and what it promises.
#[derive(Debug, Clone, Serialize)]
pub struct Server {
    pub name: String,
    pub origin: Origin,
    pub protocol: Protocol,
    /// An argument more in one case: the case's name, and the argument.
    pub more: Option<(&'static str, &'static str)>,
}

/// Where a server comes from.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A program and its arguments, in which `{port}` stands for the port.
    Command(Vec<String>),
    /// It runs already.
    Address(SocketAddr),
}

/// A server that the sources hold.
struct Example {
    name: &'static str,
    protocol: Promise,
    more: Option<(&'static str, &'static str)>,
}

/// A protocol's banner, prefix, framing and answer.
type Promise = (&'static [u8], &'static [u8], Framing, Answer);

const OK: Promise = (okloop::BANNER, okloop::PREFIX, Framing::Chunks, Answer::Same);

/// The examples that are servers, from the first rung to the last.
const EXAMPLES: [Example; 10] = [
    example("echo_once", (b"", b"", Framing::Chunks, Answer::Same)),
    example("one_at_a_time", (b"", okloop::PREFIX, Framing::Chunks, Answer::Same)),
    example("thread_per_connection", OK),
    example("poll_all", OK),
    example("tiny_event_loop", OK),
    example("loop_backpressure", OK),
    example("loop_fair", OK),
    // A time-out of 1 s: the case does not wait for the default of 300 s.
    Example { more: Some(("vanished", "1")), ..example("loop_deadlines", OK) },
    example("upper", (b"", b"", Framing::Chunks, Answer::Upper)),
    example("line_server", (b"Type lines, then quit\n", b"{n}: ", Framing::WholeLines, Answer::Trimmed)),
];

/// The command with each framing, and the arguments for it.
const OKLOOP: [(&str, Framing, &str); 2] =
    [("okloop", Framing::Chunks, ""), ("okloop --framing lines", Framing::Lines, " --framing lines")];

const fn example(name: &'static str, protocol: Promise) -> Example {
    Example { name, protocol, more: None }
}

/// The servers of this project that its sources hold, all of them or those with these names, built as this program was.
pub fn of_the_project(names: &[String]) -> Result<Vec<Server>, String> {
    let directory = build()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let there = EXAMPLES.iter().filter(|example| root.join(example.name).with_extension("rs").exists());
    let mut servers: Vec<Server> = there
        .map(|example| {
            let program = directory.join("examples").join(example.name);
            Server { more: example.more, ..server(example.name, &program, "{port}", example.protocol) }
        })
        .collect();
    let (banner, prefix, _, answer) = OK;
    for (name, framing, more) in OKLOOP {
        let arguments = format!("--host 127.0.0.1 --port {{port}} --drain-timeout 2{more}");
        servers.push(server(name, &directory.join("okloop"), &arguments, (banner, prefix, framing, answer)));
    }
    servers.retain(|server| names.is_empty() || names.contains(&server.name));
    Ok(servers)
}

fn server(name: &str, program: &Path, arguments: &str, promise: Promise) -> Server {
    let (banner, prefix, framing, answer) = promise;
    let program = program.to_string_lossy().into_owned();
    let words = arguments.split(' ').map(str::to_owned);
    let origin = Origin::Command([program].into_iter().chain(words).collect());
    let protocol =
        Protocol { banner: banner.to_vec(), prefix: prefix.to_vec(), framing, answer, chunk: okloop::CHUNK };
    Server { name: name.to_owned(), origin, protocol, more: None }
}

/// Has cargo build the command and the examples with the profile and into the place of this program.
fn build() -> Result<PathBuf, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let directory = program.parent().ok_or("this program is in no directory")?;
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "okloop", "--bins", "--examples"]);
    command
        .args(["--manifest-path", manifest, "--profile", profile, "--target-dir"])
        .arg(directory.join(".."));
    match command.status() {
        Ok(status) if status.success() => Ok(directory.to_owned()),
        Ok(status) => Err(format!("cargo build: {status}")),
        Err(error) => Err(format!("cargo does not start: {error}")),
    }
}

/// A `--server` of the command line: `name=command`.
pub fn parse(text: &str) -> Result<(String, Vec<String>), String> {
    let (name, command) = text.split_once('=').ok_or("a server is name=command")?;
    let words = shell_words::split(command).map_err(|error| error.to_string())?;
    if name.is_empty() || words.is_empty() {
        return Err("a server is name=command".to_owned());
    }
    if !words.iter().any(|word| word.contains("{port}")) {
        return Err("the command needs {port}, in whose place the port is put".to_owned());
    }
    Ok((name.to_owned(), words))
}

/// A `--project` of the command line.
pub fn project_name(text: &str) -> Result<String, String> {
    let mut names = EXAMPLES.iter().map(|example| example.name).chain(OKLOOP.map(|(name, ..)| name));
    if names.any(|name| name == text) {
        Ok(text.to_owned())
    } else {
        Err("no server of this project has this name".to_owned())
    }
}

/// A `--connect` of the command line.
pub fn resolve(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.next().ok_or_else(|| "the name has no address".to_owned())
}
