//! `lab fleet`, small.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use crate::harness::{Finished, Running, Turn, eventually, lab, lab_under, start};

#[test]
fn a_small_fleet_loses_no_session_while_one_process_drains() {
    let finished = run_fleet(&["--active", "30", "--seconds", "1"]);
    let said = &finished.stdout;
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""), "{said}");

    let shares = numbers(said_of(said, "Spread"));
    assert_eq!((shares[0], shares[1] + shares[2]), (300, 300), "{said}");
    // By chance one process gets all sessions once in 2³⁰⁰ times.
    let [drained, others] =
        [said_of(said, "Drained"), said_of(said, "Roll call")].map(|line| numbers(line)[0]);
    assert!(shares[1..].contains(&drained) && drained + others == 300, "{said}");
    assert!(numbers(said_of(said, "Active"))[2] > 30, "{said}");
    // A client process's own megabytes are not counted as its sessions'.
    let each = said_of(said, "          clients, resident").replace(',', "");
    assert!(numbers(&each)[0] < 8000, "{said}");
    assert!(said.ends_with("None of 300 sessions was lost\n"), "{said}");
}

#[test]
fn the_fleet_notices_that_a_process_was_killed() {
    let mut fleet = fleet(&["--seconds", "60"]);
    fleet.line_with("Spread");
    let servers = children(fleet.id(), "okloop");
    kill(servers[1], Signal::SIGKILL).expect("it runs");
    let finished = fleet.finish();
    let said = &finished.stdout;
    assert_eq!(finished.status, Some(1), "{said}");
    let (id, sessions) = (servers[1], numbers(said_of(said, "Spread"))[2]);
    assert_eq!(
        finished.stderr,
        format!(
            "error: okloop 1 (process {id}), with {sessions} sessions: the server has ended (signal: 9 (SIGKILL))\n"
        )
    );
}

#[test]
fn the_fleet_reports_lines_that_have_no_answer_yet() {
    let mut fleet = fleet(&["--active", "30", "--seconds", "2"]);
    fleet.line_with("Spread");
    let server = children(fleet.id(), "okloop")[1];
    kill(server, Signal::SIGSTOP).expect("it runs");
    let typing = fleet.line_with("Active");
    kill(server, Signal::SIGCONT).expect("it runs");
    let finished = fleet.finish();
    let said = &finished.stdout;
    assert_eq!(finished.status, Some(0), "{said}{}", finished.stderr);

    let (_, waiting) = typing.split_once("; ").unwrap_or_else(|| panic!("no line waits: {said}"));
    let (lines, oldest) = (numbers(waiting)[0], times(waiting)[0]);
    // By chance one process gets none of thirty active sessions once in 2³⁰ times. Each sends twenty lines in two seconds.
    assert!((10..=600).contains(&lines) && waiting.contains(" still waiting, the oldest for "), "{said}");
    // They waited for nearly the whole time.
    assert!(oldest >= Duration::from_millis(500), "{said}");
    let meanwhile = times(said_of(said, "          meanwhile, all active sessions"));
    assert!(meanwhile.iter().any(|&time| time >= oldest), "their time goes on: {said}");
}

#[test]
fn a_fleet_of_one_process_without_active_sessions_says_only_what_is_true() {
    let finished = run_fleet(&["--processes=1", "--active=0", "--seconds=0.1"]);
    let said = &finished.stdout;
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""), "{said}");
    assert_eq!(said_of(said, "Active"), "    none: all are idle");
    assert!(numbers(said_of(said, "Drained"))[0] == 300 && said.ends_with("None of 300 sessions was lost\n"));
    for nonsense in ["meanwhile", "Roll call", "the rest"] {
        assert!(!said.contains(nonsense), "{nonsense}: {said}");
    }
}

#[test]
fn a_port_on_which_another_program_listens_is_refused_even_if_it_would_share() {
    let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    other.set_reuse_port(true).unwrap();
    other.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    other.listen(1).unwrap();
    let port = other.local_addr().unwrap().as_socket().unwrap().port();
    let finished = run_fleet(&[&format!("--port={port}")]);
    assert_eq!((finished.status, &finished.stdout[..]), (Some(1), ""));
    assert_eq!(
        finished.stderr,
        format!("error: not possible here: the fleet cannot have 127.0.0.1:{port} to itself\n")
    );
}

#[test]
fn a_pair_of_ports_that_is_in_use_is_passed_over() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = listener.local_addr().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    // The first pair that the fleet would take for itself.
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 10_000)).into()).unwrap();
    socket.connect(&target.into()).unwrap();
    let _accepted = listener.accept().unwrap();
    drop(listener);
    let finished = run_fleet(&[&format!("--port={}", target.port()), "--seconds=0.1"]);
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""), "{}", finished.stdout);
}

#[test]
fn a_fleet_whose_output_is_not_read_ends_without_a_panic() {
    let _turn = Turn::beside_others();
    let (reader, writer) = io::pipe().unwrap();
    let mut command = lab(&arguments(&["--seconds=60"]));
    let mut fleet = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    // The command has the writer twice more.
    drop(command);
    let mut first = String::new();
    // The pipe closes with its reader, for both outputs.
    BufReader::new(reader).read_line(&mut first).unwrap();
    assert!(first.starts_with("Machine"), "{first}");
    let mut status = None;
    eventually("the fleet ends", || {
        status = fleet.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn an_interrupted_fleet_leaves_no_process_behind() {
    // The second is what comes when the terminal is closed.
    for signal in [Signal::SIGINT, Signal::SIGHUP] {
        let mut fleet = start(&mut lab_under("env --default-signal=HUP", &arguments(&["--seconds", "60"])));
        fleet.line_with("Opened");
        let children = [children(fleet.id(), "okloop"), children(fleet.id(), "lab")].concat();
        assert_eq!(children.len(), 4, "two servers and two client processes");
        fleet.signal(signal);
        let finished = fleet.finish();
        assert_eq!(finished.status, Some(130), "{signal}");
        assert_eq!(finished.stderr, "error: interrupted\n", "{signal}");
        assert!(children.iter().all(|&child| kill(child, None).is_err()), "they are gone");
    }
}

/// A server would hold 100,000 by default, however many open files it may have.
#[test]
fn each_server_may_hold_all_sessions() {
    let mut fleet = fleet(&["--seconds=60"]);
    fleet.line_with("Servers");
    for server in children(fleet.id(), "okloop") {
        let command = fs::read_to_string(format!("/proc/{server}/cmdline")).expect("it runs");
        assert!(command.contains("\0--max-connections\x00300\0"), "{command:?}");
    }
    fleet.signal(Signal::SIGINT);
    fleet.finish();
}

#[test]
fn a_fleet_under_nohup_outlives_its_terminal() {
    let mut fleet = start(&mut lab_under("env --ignore-signal=HUP", &arguments(&["--seconds", "1"])));
    fleet.line_with("Spread");
    fleet.signal(Signal::SIGHUP);
    assert_eq!(fleet.finish().status, Some(0));
}

#[test]
fn clients_end_with_a_fleet_that_was_killed() {
    let mut fleet = fleet(&["--seconds", "60"]);
    fleet.line_with("Opened");
    let _servers = Orphans(children(fleet.id(), "okloop"));
    let clients = children(fleet.id(), "lab");
    fleet.signal(Signal::SIGKILL);
    eventually("the clients see the end of their orders", || {
        clients.iter().all(|&client| kill(client, None).is_err())
    });
}

#[test]
fn what_this_machine_cannot_hold_is_known_before_any_process_starts() {
    let finished = run_fleet(&["--sessions", "100000000", "--processes", "1000"]);
    assert_eq!((finished.status, &finished.stdout[..]), (Some(1), ""));
    assert!(finished.stderr.starts_with("error: not possible here: "), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
}

#[test]
fn a_wrong_argument_of_the_fleet_ends_with_status_2() {
    for (option, value) in
        [("--sessions", "0"), ("--processes", "none"), ("--seconds", "-1"), ("--port", "65536")]
    {
        let finished = run_fleet(&[&format!("{option}={value}")]);
        assert_eq!(finished.status, Some(2), "{option} {value}");
        let expected = format!("error: invalid value '{value}' for '{option} ");
        assert!(finished.stderr.starts_with(&expected), "{}", finished.stderr);
    }
}

/// A fleet of two processes, 300 sessions and two client processes, unless the options say otherwise.
fn arguments<'a>(options: &[&'a str]) -> Vec<&'a str> {
    let small = ["--processes=2", "--sessions=300", "--clients=2", "--port=0"];
    let differs =
        |option: &&str| !options.iter().any(|given| given.split('=').next() == option.split('=').next());
    let small = small.into_iter().filter(differs);
    ["fleet"].into_iter().chain(small).chain(options.iter().copied()).collect()
}

/// Starts such a fleet.
fn fleet(options: &[&str]) -> Running {
    start(&mut lab(&arguments(options)))
}

/// Runs such a fleet to its end.
fn run_fleet(options: &[&str]) -> Finished {
    fleet(options).finish()
}

/// Servers whose fleet was killed. Nothing tells them, so they are ours to end.
struct Orphans(Vec<Pid>);

impl Drop for Orphans {
    fn drop(&mut self) {
        for &server in &self.0 {
            // It fails only when the server has ended already, which is as good.
            let _ = kill(server, Signal::SIGKILL);
        }
    }
}

/// The first line that begins with `name`, without it.
fn said_of<'a>(said: &'a str, name: &str) -> &'a str {
    let line = said.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no line {name:?} in {said}"))
}

fn numbers(line: &str) -> Vec<usize> {
    line.split(|character: char| !character.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

fn times(line: &str) -> Vec<Duration> {
    let words: Vec<_> = line.split([' ', ',', ';', '\n']).collect();
    let time = |pair: &[&str]| {
        let unit = [("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)].into_iter().find(|(unit, _)| *unit == pair[1])?;
        Some(Duration::from_secs_f64(pair[0].parse::<f64>().ok()? * unit.1))
    };
    words.windows(2).filter_map(time).collect()
}

/// The children of a process that run the program of this name.
fn children(parent: u32, program: &str) -> Vec<Pid> {
    let children =
        fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("the process runs");
    let is_program =
        |id: &&str| fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim() == program);
    let ids = children.split_whitespace().filter(is_program);
    ids.map(|id| Pid::from_raw(id.parse().expect("it is a number"))).collect()
}
