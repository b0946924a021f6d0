//! Open files, the connection cap, the queue of those who knock, the time-outs, and a port that servers share.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use okloop::config::MAX_REFUSALS;
use okloop::protocol::{BANNER, FULL};
use okloop::{Config, Server};

use crate::harness::{Client, DEADLINE, Embedded, Process, binary, inherited_files, loopback, port_of};

#[test]
fn the_limits_in_force_are_told_at_the_start() {
    for (soft, hard, arguments, connections) in [
        (64, 64, &[][..], room(64)),
        // The soft limit is raised.
        (64, 80, &[], room(80)),
        (64, 64, &["--max-connections", "5"], 5),
    ] {
        let limits = format!("Limits: {hard} open files, {connections} connections");
        start_limited(soft, hard, arguments).line_with(&limits);
    }
}

#[test]
fn a_cap_that_the_open_files_do_not_allow_is_warned_of() {
    let server = start_limited(64, 64, &["--max-connections", "100"]);
    let warning = server.line_with(&format!("The open files allow {} connections", room(64)));
    assert!(warning.contains("WARN"), "{warning}");
}

#[test]
fn a_client_over_the_cap_is_told_so_and_ended_in_order() {
    let server = Embedded::start(capped(2));
    let mut inside = [Client::greeted(server.port()), Client::greeted(server.port())];
    for _ in 0..50 {
        assert_eq!(Client::connect(server.port()).read_to_end(), FULL);
    }
    for client in &mut inside {
        client.ask(b"still there?");
    }
    drop(inside);
    let (_, stats) = server.stop();
    assert_eq!((stats.peak, stats.accepted, stats.refused), (2, 52, 50));
}

#[test]
fn the_refusal_reads_as_a_line() {
    let text = std::str::from_utf8(FULL).expect("the refusal is text");
    assert_eq!(text, "The server is full. Please try again later\n");
}

#[test]
fn a_refusal_reaches_clients_who_have_already_sent_something() {
    let server = Server::bind(capped(1)).expect("a port is free");
    let mut inside = Client::connect(port_of(&server));
    // Their words wait unread when the server accepts them. Closing then would be a reset.
    let refused: Vec<Client> = (0..MAX_REFUSALS)
        .map(|_| {
            let mut client = Client::connect(port_of(&server));
            client.send(&[b'x'; 10_000]);
            client
        })
        .collect();
    let _server = Embedded::run(server);
    inside.expect(BANNER);
    for mut client in refused {
        client.expect(FULL);
        client.send(b"is that so?");
        client.half_close();
        assert_eq!(client.read_to_end(), b"");
    }
}

#[test]
fn a_refused_client_who_does_not_leave_holds_no_place() {
    let server = Embedded::start(capped(1));
    let mut inside = Client::greeted(server.port());
    let mut stubborn = Client::connect(server.port());
    assert_eq!(stubborn.read_to_end(), FULL);
    inside.half_close();
    inside.read_to_end();
    Client::greeted(server.port()).ask(b"a place at last");
}

#[test]
fn a_refused_client_who_does_not_leave_is_cut_off() {
    // Its silence is no reason to end it before its time.
    let server = start(&["--max-connections", "1", "--idle-timeout", "1.5", "--log-level", "debug"]);
    let _inside = Client::greeted(server.port());
    let stubborn = Client::connect(server.port());
    server.line_with(&format!("{} closed: refused", stubborn.address()));
}

#[test]
fn with_too_few_open_files_to_begin_it_says_so() {
    for limit in [1, 5, 7].map(limit_with) {
        let open = inherited_files(limit);
        let finished = start_limited(limit, limit, &[]).finish();
        let complaint = format!(
            "Too few open files: the limit is {limit}, {open} are open, and the server needs 8 more\n"
        );
        let (status, stdout) = (finished.status, &finished.stdout[..]);
        assert_eq!((status, stdout, finished.stderr), (Some(1), &b""[..], complaint));
    }
}

#[test]
fn with_few_open_files_as_many_are_served_as_promised_and_the_others_are_told() {
    for (free, connections) in [(8, 1), (9, 2), (17, 6), (27, 11)] {
        let limit = limit_with(free);
        let server = start_limited(limit, limit, &[]);
        server.line_with(&format!("Limits: {limit} open files, {connections} connections"));
        let mut inside: Vec<Client> = (0..connections).map(|_| Client::greeted(server.port())).collect();
        // They stay: each of the last ones ends an older refusal.
        let mut outside: Vec<Client> = (0..40).map(|_| Client::connect(server.port())).collect();
        for client in &mut outside {
            client.expect(FULL);
        }
        for client in &mut inside {
            client.ask(b"still there?");
        }
        server.signal(Signal::SIGUSR1);
        let accepted = connections + 40;
        server.line_with(&format!("peak {connections}, accepted {accepted}, refused 40, accept pauses 0,"));
    }
}

#[test]
fn files_that_are_open_at_the_start_are_not_promised_to_sessions() {
    let seven = "exec 3</dev/null 4<&3 5<&3 6<&3 7<&3 8<&3 9<&3";
    let script = format!("{seven}; ulimit -n 64; exec \"$0\" --host 127.0.0.1 --port 0");
    let mut command = Command::new("sh");
    let server = Process::spawn(command.args(["-c", &script]).arg(binary("okloop")).env_remove("RUST_LOG"));
    let connections = room(64) - 7;
    server.line_with(&format!("Limits: 64 open files, {connections} connections"));
    let _inside: Vec<Client> = (0..connections).map(|_| Client::greeted(server.port())).collect();
    assert_eq!(Client::connect(server.port()).read_to_end(), FULL);
}

#[test]
fn a_crowd_at_a_full_server_does_not_use_up_its_open_files() {
    let server = start_limited(64, 64, &[]);
    let mut inside: Vec<Client> = (0..room(64)).map(|_| Client::greeted(server.port())).collect();
    let crowd: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = Client::connect(server.port());
            client.expect(FULL);
            client
        })
        .collect();
    for client in &mut inside {
        client.ask(b"still there?");
    }
    drop(crowd);
    server.signal(Signal::SIGUSR1);
    let (peak, accepted) = (room(64), room(64) + 200);
    server.line_with(&format!("peak {peak}, accepted {accepted}, refused 200, accept pauses 0,"));
}

#[test]
fn a_place_that_frees_up_is_given_to_the_next() {
    let server = Embedded::start(capped(1));
    for _ in 0..50 {
        let mut inside = Client::greeted(server.port());
        assert_eq!(Client::connect(server.port()).read_to_end(), FULL);
        inside.half_close();
        assert_eq!(inside.read_to_end(), b"");
    }
}

#[test]
fn the_queue_of_those_who_knock_is_as_long_as_asked() {
    let queued = |backlog| {
        let server = Server::bind(Config { backlog, ..loopback() }).expect("a port is free");
        let address = SocketAddr::from(([127, 0, 0, 1], port_of(&server)));
        // Nobody accepts: a handshake that finds the queue full is not completed.
        let knock = |_| TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok();
        (0..20).map_while(knock).collect::<Vec<_>>().len()
    };
    assert_eq!(queued(20), 20);
    // Linux lets one more in than asked.
    assert_eq!(queued(3), 4);
}

#[test]
fn an_idle_session_is_ended_where_that_is_asked_for() {
    let server = start(&["--idle-timeout", "0.2"]);
    let mut client = Client::greeted(server.port());
    server.line_with(&format!("{} closed: idle time-out", client.address()));
    assert_eq!(client.read_to_end(), b"");
}

#[test]
fn a_client_that_does_not_read_is_ended_where_that_is_asked_for() {
    let server = start(&["--write-timeout", "0.2"]);
    let mut client = TcpStream::connect(("127.0.0.1", server.port())).expect("the server listens");
    client.set_write_timeout(Some(DEADLINE)).expect("the time-out is not zero");
    let address = client.local_addr().expect("a connected socket has an address");
    while client.write_all(&[b'x'; 10_000]).is_ok() {}
    server.line_with(&format!("{address} closed: write time-out"));
}

#[test]
fn a_client_that_does_not_end_is_cut_off_where_that_is_asked_for() {
    let server = start(&["--drain-timeout", "0.2"]);
    let client = Client::greeted(server.port());
    server.signal(Signal::SIGTERM);
    server.line_with(&format!("{} closed: cut", client.address()));
    assert_eq!(server.finish().status, Some(0));
}

#[test]
fn two_servers_share_a_port_where_both_ask_for_it() {
    let first = start(&["--reuse-port"]);
    let port = first.port();
    let second = start(&["--reuse-port", "--port", &port.to_string()]);
    assert_eq!(second.port(), port);
    // The kernel spreads clients by their port numbers: that all 64 of them go to one server is a matter of 2⁻⁶³.
    for _ in 0..64 {
        Client::greeted(port).ask(b"hello");
    }
    first.line_with("Connected with");
    second.line_with("Connected with");

    drop(first);
    for _ in 0..64 {
        Client::greeted(port).ask(b"hello");
    }
}

#[test]
fn a_port_is_not_shared_with_a_server_that_does_not_ask_for_it() {
    for (first, second) in [(&["--reuse-port"][..], &[][..]), (&[], &["--reuse-port"])] {
        let first = start(first);
        let port = first.port().to_string();
        let finished = start(&[second, &["--port", &port]].concat()).finish();
        assert_eq!(finished.status, Some(1));
        assert!(finished.stderr.contains("Address already in use"), "{}", finished.stderr);
    }
}

fn capped(max_connections: usize) -> Config {
    Config { max_connections: Some(max_connections), ..loopback() }
}

/// Starts the command on loopback, on a port that the system chooses unless the arguments do.
fn start(arguments: &[&str]) -> Process {
    let port: &[&str] = if arguments.contains(&"--port") { &[] } else { &["--port", "0"] };
    Process::start("okloop", &[&["--host", "127.0.0.1"], port, arguments].concat())
}

/// How many sessions there is room for: the server itself opens five files, one more is a client that was just accepted,
/// and the others are refusals.
fn room(limit: usize) -> usize {
    limit - inherited_files(limit) - 5 - 1 - MAX_REFUSALS
}

/// The limit of open files with which a process can open so many files.
fn limit_with(free: usize) -> usize {
    (free + 3..1024).find(|&limit| limit - inherited_files(limit) == free).expect("few files are open")
}

/// Starts the server with these limits of open files.
fn start_limited(soft: usize, hard: usize, arguments: &[&str]) -> Process {
    let script = "ulimit -Sn \"$1\" && ulimit -Hn \"$2\" && shift 2 && exec \"$0\" --port 0 \"$@\"";
    Process::spawn(
        Command::new("sh")
            .args(["-c", script])
            .arg(binary("okloop"))
            .args([soft, hard].map(|limit| limit.to_string()))
            .args(arguments)
            .env_remove("RUST_LOG"),
    )
}
