//! The command line: every option and its default, what it says to a mistake, and every way to write an address.

use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal::{SIGHUP, SIGINT};
use okloop::Config;
use okloop::protocols::{BANNER, Framing};

use crate::harness::{Client, Finished, Process, binary};

#[test]
fn help_describes_every_option_with_its_default() {
    let finished = okloop(&["--help"]);
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    let help = String::from_utf8(finished.stdout).expect("help is text");
    let sections = sections(&help);

    // The library and the command have the same defaults.
    let config = Config::default();
    let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs().to_string();
    let defaults = [
        ("--host <ADDR>", config.host),
        ("-p, --port <N>", config.port.to_string()),
        ("--backlog <N>", config.backlog.to_string()),
        ("--framing <chunks|lines>", format!("{:?}", Framing::default()).to_lowercase()),
        ("--max-connections <N>", "what the open files allow, at most 100,000".to_owned()),
        ("--line-timeout <SECONDS>", "0".to_owned()),
        ("--idle-timeout <SECONDS>", seconds(config.idle_timeout)),
        ("--write-timeout <SECONDS>", seconds(config.write_timeout)),
        ("--linger-timeout <SECONDS>", seconds(Some(config.linger_timeout))),
        ("--drain-timeout <SECONDS>", seconds(Some(config.drain_timeout))),
        ("--log-level <LEVEL>", "info".to_owned()),
    ];
    for (option, default) in &defaults {
        let section = sections.iter().find(|section| section.starts_with(option));
        let section = section.unwrap_or_else(|| panic!("{option} is not in {help}"));
        assert!(section.contains(&format!("[default: {default}]")), "{default} is not in {section}");
    }
    let others = [
        "--telnet",
        "--proxy-protocol",
        "--reuse-port",
        "--metrics <ADDR:PORT>",
        "--health <ADDR:PORT>",
        "-h, --help",
        "-V, --version",
    ];
    for option in others {
        assert!(sections.iter().any(|section| section.starts_with(option)), "{option} is not in {help}");
    }
    assert_eq!(sections.len(), defaults.len() + others.len(), "a test for each option: {sections:?}");
}

#[test]
fn version_is_the_packages() {
    let finished = okloop(&["--version"]);
    assert_eq!(finished.status, Some(0));
    assert_eq!(finished.stdout, concat!("okloop ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
}

#[test]
fn a_bad_argument_is_named_with_the_reason() {
    for (arguments, complaint) in [
        ("--port 70000", "'70000' for '--port <N>': 70000 is not in 0..=65535"),
        ("--port -1", "'-1' for '--port <N>': -1 is not in 0..=65535"),
        ("-p http", "'http' for '--port <N>'"),
        ("--backlog 0", "'0' for '--backlog <N>': 0 is not in 1..=2147483647"),
        ("--backlog -4096", "'-4096' for '--backlog <N>'"),
        ("--backlog 2147483648", "'2147483648' for '--backlog <N>'"),
        ("--max-connections 0", "'0' for '--max-connections <N>': at least 1 connection"),
        ("--max-connections -1", "'-1' for '--max-connections <N>'"),
        ("--max-connections many", "'many' for '--max-connections <N>'"),
        ("--framing words", "'words' for '--framing <chunks|lines>'"),
        ("--idle-timeout NaN", "'NaN' for '--idle-timeout <SECONDS>'"),
        ("--idle-timeout -0.5", "'-0.5' for '--idle-timeout <SECONDS>'"),
        ("--write-timeout inf", "'inf' for '--write-timeout <SECONDS>'"),
        ("--write-timeout 1e-10", "'1e-10' for '--write-timeout <SECONDS>': 0, or from 1e-9 to"),
        ("--write-timeout 1e99", "'1e99' for '--write-timeout <SECONDS>'"),
        ("--linger-timeout -1", "'-1' for '--linger-timeout <SECONDS>'"),
        ("--drain-timeout soon", "'soon' for '--drain-timeout <SECONDS>': not a number of seconds"),
        ("--drain-timeout -1", "'-1' for '--drain-timeout <SECONDS>'"),
        ("--metrics 9100", "'9100' for '--metrics <ADDR:PORT>': an address, a colon and a port"),
        ("--metrics :9100", "':9100' for '--metrics <ADDR:PORT>': no address"),
        ("--metrics 127.0.0.1:70000", "'127.0.0.1:70000' for '--metrics <ADDR:PORT>': \"70000\" is no port"),
        ("--health 127.0.0.1:9100 --telnet", "'--health <ADDR:PORT>' cannot be used with"),
        ("--log-level loud", "'loud' for '--log-level <LEVEL>'"),
        ("--host", "a value is required for '--host <ADDR>'"),
        ("--host=", "a value is required for '--host <ADDR>'"),
        ("--port 1 --port 2", "'--port <N>' cannot be used multiple times"),
        ("--reuse-port=yes", "unexpected value 'yes' for '--reuse-port'"),
        ("--prot 8888", "unexpected argument '--prot'"),
        ("8888", "unexpected argument '8888'"),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let finished = okloop(&arguments);
        assert_eq!((finished.status, &finished.stdout[..]), (Some(2), &b""[..]), "{arguments:?}");
        let first = finished.stderr.lines().next().unwrap_or_default();
        assert!(first.starts_with("error: ") && first.contains(complaint), "{arguments:?}: {first}");
    }
}

#[test]
fn a_busy_port_is_said_as_in_the_tutorial() {
    let busy = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let address = busy.local_addr().expect("a bound socket has an address");
    expect_start_error(
        &["--host", "127.0.0.1", "--port", &address.port().to_string()],
        &format!("Bind failed. Error Code: 98 Message: Address already in use ({address})"),
    );
}

#[test]
fn an_address_of_another_machine_cannot_be_bound() {
    // 192.0.2.0/24 is reserved for documentation (RFC 5737).
    expect_start_error(
        &["--host", "192.0.2.1", "--port", "8888"],
        "Bind failed. Error Code: 99 Message: Cannot assign requested address (192.0.2.1:8888)",
    );
}

#[test]
fn a_port_that_needs_privileges_is_refused_in_one_line() {
    if !matches!(TcpListener::bind(("127.0.0.1", 1)), Err(error) if error.raw_os_error() == Some(libc::EACCES))
    {
        return println!("skipped: whoever runs this test is allowed to bind port 1, or it is busy");
    }
    expect_start_error(
        &["--host", "127.0.0.1", "--port", "1"],
        "Bind failed. Error Code: 13 Message: Permission denied (127.0.0.1:1)",
    );
}

#[test]
fn an_unknown_host_is_said_as_in_the_tutorial() {
    // In brackets follows the resolver's own reason.
    expect_start_error(
        &["--host", "no-such-host.invalid", "--port", "0"],
        "Hostname could not be resolved (no-such-host.invalid: ",
    );
}

#[test]
fn the_default_host_and_a_name_are_reached_over_loopback() {
    expect_service(&[], &["127.0.0.1"]);
    expect_service(&["--host", "localhost"], &["localhost"]);
}

#[test]
fn an_ipv6_host_serves_ipv6_and_the_unspecified_one_serves_ipv4_too() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return println!("skipped: this machine has no IPv6");
    }
    expect_service(&["--host", "::1"], &["::1"]);
    expect_service(&["--host", "::"], &["::1", "127.0.0.1"]);
    expect_service(&["--host", "::ffff:127.0.0.1"], &["127.0.0.1"]);
}

#[test]
fn sighup_drains_the_server_as_sigterm_does() {
    let server = Process::okloop(&[]);
    let mut client = Client::greeted(server.port());
    server.signal(SIGHUP);
    assert_eq!(client.read_to_end(), b"");
    drop(client);
    let finished = server.finish();
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
}

/// As in `okloop &` in a script, and under `nohup`.
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    for (signal, name) in [(SIGINT, "INT"), (SIGHUP, "HUP")] {
        let script = format!("trap '' {name}; exec \"$0\" --host 127.0.0.1 --port 0");
        let mut command = Command::new("sh");
        let server =
            Process::spawn(command.args(["-c", &script]).arg(binary("okloop")).env_remove("RUST_LOG"));
        let mut client = Client::greeted(server.port());
        server.signal(signal);
        assert_eq!(server.stats().open, 1);
        client.ask(b"still there?");
        drop(client);
        let log = String::from_utf8(server.stop().stdout).expect("the log is text");
        assert!(!log.contains(&format!("Received SIG{name}")), "{log}");
    }
}

/// Runs the command to its end.
fn okloop(arguments: &[&str]) -> Finished {
    Process::start("okloop", arguments).finish()
}

/// The help's sections, one for each option: what stands there up to the next, on one line.
fn sections(help: &str) -> Vec<String> {
    let mut sections = Vec::new();
    for line in help.lines().map(str::trim) {
        if line.starts_with('-') {
            sections.push(line.to_owned());
        } else if let Some(section) = sections.last_mut() {
            *section += " ";
            *section += line;
        }
    }
    sections
}

/// Expects the server not to start, and to say so in one line that begins like this, and nothing else.
fn expect_start_error(arguments: &[&str], complaint: &str) {
    let finished = okloop(arguments);
    assert_eq!(finished.status, Some(1), "{arguments:?}");
    assert!(finished.stderr.starts_with(complaint), "{:?}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 1, "{:?}", finished.stderr);
}

/// Starts a server on a port that the system chooses, and expects an answer and the client's own address in the log
/// from each way to reach it.
fn expect_service(arguments: &[&str], reached_as: &[&str]) {
    let server = Process::start("okloop", &[arguments, &["--port", "0"]].concat());
    for host in reached_as {
        let stream = TcpStream::connect((*host, server.port()));
        let mut client = Client::from(stream.unwrap_or_else(|error| panic!("{host}: {error}")));
        client.expect(BANNER);
        client.ask(b"hello");
        server.line_with(&format!("Connected with {}", client.address()));
    }
}
