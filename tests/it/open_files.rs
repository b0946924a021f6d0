//! How many clients the command serves with few open files.

use std::process::Command;

use okloop::{Config, Reason};

use crate::harness::{Client, FULL, Process, binary, inherited_files};

#[test]
fn the_log_says_how_many_clients_the_open_files_allow() {
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
fn a_connection_limit_above_the_open_files_is_a_warning() {
    let server = start_limited(64, 64, &["--max-connections", "100"]);
    let warning = server.line_with(&format!("The open files allow {} connections", room(64)));
    assert!(warning.contains("WARN"), "{warning}");
}

#[test]
fn without_open_files_for_a_session_and_a_refusal_the_server_does_not_start() {
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
fn with_few_open_files_the_promised_number_is_served_and_all_others_get_the_message() {
    for (free, connections) in [(8, 1), (9, 2), (17, 6), (27, 11)] {
        let limit = limit_with(free);
        let server = start_limited(limit, limit, &[]);
        server.line_with(&format!("Limits: {limit} open files, {connections} connections"));
        serve_and_refuse(&server, connections, 40);
    }
}

#[test]
fn refusals_do_not_use_up_the_open_files() {
    serve_and_refuse(&start_limited(64, 64, &[]), room(64), 200);
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

/// Lets `connections` clients in, and `refused` more connect. None of them leaves: each of the last ones ends an older
/// refusal.
fn serve_and_refuse(server: &Process, connections: usize, refused: usize) {
    let mut inside: Vec<Client> = (0..connections).map(|_| Client::greeted(server.port())).collect();
    let mut outside: Vec<Client> = (0..refused).map(|_| Client::connect(server.port())).collect();
    for client in &mut outside {
        client.expect(FULL);
    }
    for client in &mut inside {
        client.ask(b"still there?");
    }
    let stats = server.stats();
    let expected = (connections as u64, (connections + refused) as u64, 0);
    assert_eq!((stats.peak, stats.accepted, stats.accept_pauses), expected);
    let refusals_at_once = Config::default().max_refusals as u64;
    assert!(stats.closed(Reason::Refused) + refusals_at_once >= refused as u64, "{stats}");
}

/// How many sessions there is room for: the server itself opens five files, one more is a client that was just
/// accepted, and the others are refusals.
fn room(limit: usize) -> usize {
    limit - inherited_files(limit) - 5 - 1 - Config::default().max_refusals
}

/// The limit of open files with which a process can open this many files.
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
