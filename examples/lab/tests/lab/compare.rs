//! `lab compare` measures small loads on real servers and on bad ones, and leaves no process behind.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use memchr::memchr_iter;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use okloop::protocols::{BANNER, PREFIX};
use serde_json::Value;

use crate::browser::Page;
use crate::harness::{
    Finished, MARK, Running, lab, listening, marked, program, run, run_alone, start, start_alone,
};

/// The servers that come with the comparison, without the one that needs python3.
const SERVERS: [&str; 7] = [
    "okloop",
    "thread_per_connection",
    "poll_all",
    "tiny_event_loop",
    "threads_gathered",
    "tokio_one_thread",
    "tokio_all_threads",
];
/// Servers enough where a test is about something else.
const FEW: &str = "--only=okloop,tiny_event_loop";
const PICTURES: [&str; 6] = ["cpu", "memory", "rates", "fairness", "bulk", "churn"];
/// The chats of the comparison, for tests that are about something else.
const NO_CHAT: &str = "chat,chat_threads,chat_tokio,chat_asyncio";
const WORKLOADS: [&str; 6] = ["typing", "typing", "crowd", "churn", "bulk", "fairness"];

/// One run of the comparison, with a directory and a mark of its own.
struct Comparison {
    output: PathBuf,
    mark: String,
}

impl Comparison {
    fn new(name: &str) -> Self {
        let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("compare-{name}"));
        // It fails when there is nothing to remove.
        let _ = fs::remove_dir_all(&output);
        Self { output, mark: format!("compare-{name}-{}", std::process::id()) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.marked(lab(&["compare"]), arguments)
    }

    /// Children inherit the environment, so the mark tells them from all other processes.
    fn marked(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.arg("--output").arg(&self.output).args(arguments).env(MARK, &self.mark);
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        self.run_to(0, arguments)
    }

    fn run_to(&self, status: i32, arguments: &[&str]) -> Finished {
        let finished = run(&mut self.command(arguments));
        assert_eq!(finished.status, Some(status), "{}", finished.stderr);
        finished
    }

    fn results(&self) -> Value {
        let text = fs::read(self.output.join("results.json")).expect("the figures are written");
        serde_json::from_slice(&text).expect("the figures are JSON")
    }

    fn page(&self) -> String {
        fs::read_to_string(self.output.join("report.html")).expect("the report is written")
    }

    /// The processes of this run that are still there.
    fn left_over(&self) -> Vec<Pid> {
        marked(&self.mark)
    }
}

/// Ends a run as Ctrl-C does, when a line on standard error has `text` in it.
fn run_until(mut running: Running, text: &str) -> Finished {
    running.complaint_with(text);
    running.signal(Signal::SIGINT);
    let finished = running.finish();
    assert_eq!(finished.status, Some(130), "{}", finished.stderr);
    finished
}

/// The results of one server, in the order of the workloads.
fn results_of<'a>(results: &'a Value, server: &str) -> Vec<&'a Value> {
    let all = results["results"].as_array().expect("results are an array");
    all.iter().filter(|result| result["server"] == server).collect()
}

/// What the open loop found of one server.
fn sweep_of<'a>(results: &'a Value, server: &str) -> &'a Value {
    let all = results["open_loop"].as_array().expect("the open loop is an array");
    all.iter().find(|sweep| sweep["server"] == server).expect("it was swept")
}

#[test]
fn every_server_is_measured_under_every_load() {
    let comparison = Comparison::new("all");
    let arguments = ["--sessions", "1000,20", "--active", "8", "--rounds", "2", "--seconds", "0.05"];
    let arguments = [&arguments[..], &["--without", NO_CHAT]].concat();
    // As `cargo run` starts it: it has cargo build the servers.
    let finished = run_alone(comparison.command(&arguments).env("CARGO", env!("CARGO")));
    assert_eq!(finished.status, Some(0), "{}", finished.stderr);

    let results = comparison.results();
    assert_eq!(results["interrupted"], false);
    for server in SERVERS {
        let of_server = results_of(&results, server);
        let workloads: Vec<_> = of_server.iter().map(|result| &result["workload"]).collect();
        assert_eq!(workloads, WORKLOADS);
        assert_eq!((&of_server[0]["sessions"], &of_server[1]["sessions"]), (&20.into(), &1000.into()));
        for result in &of_server {
            assert_eq!(result["failure"], Value::Null, "{server}: {result:#}");
            assert_eq!(result["rounds"].as_array().map(Vec::len), Some(2));
            let expected: &[&str] = match result["workload"].as_str() {
                Some("typing") => &["latency_p50_us", "opening_us", "server_cpu_us_per_answer", "threads"],
                Some("crowd") => {
                    &["answers_per_second", "latency_p99_us", "server_cpu_us_per_answer", "load_cpus_busy"]
                }
                Some("churn") => &["answers_per_second", "latency_p99_us", "server_cpu_us_per_answer"],
                Some("bulk") => &["megabytes_per_second", "server_cpu_us_per_megabyte"],
                // Not answers/s: a flood may starve the active clients of the smallest loop to the end.
                _ => &["latency_p50_us", "latency_p99_us", "megabytes_per_second", "offered_per_second"],
            };
            if matches!(result["workload"].as_str(), Some("typing" | "crowd")) {
                // 0 of a server that never waits, because its next line is always there.
                let waits = result["median"]["voluntary_switches_per_answer"].as_f64();
                assert!(waits >= Some(0.0), "{server}: {result:#}");
            }
            for figure in expected {
                let median = result["median"][figure].as_f64();
                assert!(median > Some(0.0), "{server}: {figure} in {result:#}");
            }
        }
    }
    // The two architectures: a thread for each session, or one for all.
    let threads = |server: &str| results_of(&results, server)[1]["median"]["threads"].as_f64();
    assert_eq!(threads("thread_per_connection"), Some(1001.0));
    assert_eq!(threads("tiny_event_loop"), Some(1.0));
    let of_typing = |server: &str, place: usize, figure: &str| {
        results_of(&results, server)[place]["median"][figure].as_f64().unwrap_or(f64::NAN)
    };
    // The curve: poll(2) looks at a thousand sockets for each answer.
    let cost = |server: &str, place: usize| of_typing(server, place, "server_cpu_us_per_answer");
    assert!(cost("poll_all", 1) > 3.0 * cost("poll_all", 0), "{results:#}");
    assert!(cost("tiny_event_loop", 1) < 3.0 * cost("tiny_event_loop", 0), "{results:#}");
    // The kernel's memory: a stack of 16 KiB for each thread, and a socket for each session.
    let stacks = |server: &str| of_typing(server, 1, "kernel_stack_bytes_per_idle_session");
    assert!(stacks("thread_per_connection") > 12_000.0 && stacks("tiny_event_loop") < 4_000.0, "{results:#}");
    assert!(of_typing("tiny_event_loop", 1, "kernel_object_bytes_per_idle_session") > 1_000.0, "{results:#}");

    assert_eq!(results["okloop"], env!("CARGO_PKG_VERSION"));
    assert!(results["date"].as_str().is_some_and(|date| date.starts_with("20")), "{}", results["date"]);
    assert!(results["command_line"].as_array().is_some_and(|words| words.contains(&"1000,20".into())));

    // Each of them looks for its knee.
    for server in SERVERS {
        let of_server = sweep_of(&results, server);
        assert_eq!(of_server["failure"], Value::Null, "{of_server:#}");
        assert!(!of_server["rates"].as_array().expect("rates").is_empty(), "{of_server:#}");
    }
    let table = finished.stdout;
    // Above and below stand paths, which may be longer.
    let tables = table.split_once("## One client").and_then(|(_, tables)| tables.split_once("Pictures:"));
    let (tables, _) = tables.expect("there are tables");
    // Text has 100 columns. A table with great spreads needs some more.
    assert!(tables.lines().all(|line| line.chars().count() <= 120), "wider than 120: {tables}");
    for text in
        ["## Memory", "## A crowd", "## Churn", "## Bulk", " a flood", " answers/s ", "| **1,000 sessions** "]
    {
        assert!(table.contains(text), "{text} in {table}");
    }
    assert_stands_alone(&comparison, &SERVERS);
    assert!(comparison.page().contains("closed loop"));
    assert_eq!(comparison.left_over(), []);
}

/// The page shows every picture and needs nothing from anywhere.
fn assert_stands_alone(comparison: &Comparison, servers: &[&str]) {
    let page = comparison.page();
    for picture in PICTURES {
        let figure = figure(&page, picture);
        assert!(figure.contains("<svg ") && figure.contains("<figcaption>"), "{picture}");
        assert!(servers.iter().all(|server| figure.contains(server)), "{picture} names every server");
        assert!(comparison.output.join(format!("{picture}.svg")).exists(), "{picture}.svg");
    }
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for foreign in ["http:", "https:", "<script", "<link", "src=", "url(", "@import"] {
        assert!(!page.contains(foreign), "the page has {foreign}");
    }
}

fn figure<'a>(page: &'a str, name: &str) -> &'a str {
    let figure = page.split("<figure ").find(|figure| figure.starts_with(&format!("id=\"{name}\"")));
    let figure = figure.and_then(|figure| figure.split("</figure>").next());
    figure.unwrap_or_else(|| panic!("no picture {name}"))
}

#[test]
fn a_bad_server_has_a_row_that_says_so_and_the_others_go_on() {
    let comparison = Comparison::new("bad");
    let liar = start_server(|_, mut stream| {
        // The load gives up after the first wrong byte, and the session with it.
        let _ = stream.write_all(BANNER);
        while let Ok(1..) = stream.read(&mut [0; 1024]) {
            let _ = stream.write_all(b"NO...");
        }
    });
    let chatty = start_server(|_, mut stream| while stream.write_all(b"and furthermore ").is_ok() {});
    // The kernel accepts for it, but no program sends a banner.
    let mute_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let mute = mute_listener.local_addr().expect("it is bound").to_string();
    let finished = comparison.run_to(
        1,
        &[
            FEW,
            "--sessions=20",
            "--active=5",
            "--rounds=1",
            "--seconds=0.05",
            "--server=dies=false {port}",
            "--server=cries=printf 'the \\033[31mroof <i>is on fire\\n\\n' >&2; exit 3; {port}",
            "--server=missing=/no/such/server {port}",
            "--server=deaf=sh -c 'sleep 60 & sleep 60' {port}",
            // It goes to the background, twice.
            "--server=daemon=setsid sh -c 'setsid sleep 60 & sleep 60' & : {port}",
            "--connect",
            &liar,
            "--connect",
            &mute,
            "--connect",
            &chatty,
        ],
    );

    let results = comparison.results();
    for (server, reason) in [
        ("dies", "the server has ended (exit status: 1)"),
        (
            "cries",
            r#"the server has ended (exit status: 3), last output: "the \u{1b}[31mroof <i>is on fire""#,
        ),
        (
            "missing",
            "the server has ended (exit status: 127), last output: \"sh: 1: exec: /no/such/server: not found\"",
        ),
        ("deaf", "never listened on its port"),
        (&liar, "wrong answer: \"NO..."),
        ("daemon", "the server has ended (exit status: 0 (does it go to the background?))"),
        (&chatty, "wrong answer: \"and furthermore"),
        (&mute, "accepts connections, but sends no banner"),
    ] {
        for result in results_of(&results, server) {
            let failure = result["failure"].as_str().unwrap_or("no failure");
            assert!(failure.contains(reason), "{server}: {failure}");
            assert_eq!(result["rounds"], Value::Array(Vec::new()), "{server} has no figures");
        }
    }
    for server in ["okloop", "tiny_event_loop"] {
        assert!(results_of(&results, server).iter().all(|result| result["failure"] == Value::Null));
    }
    let complaints = ["error: dies: the server has ended (".to_owned(), format!("\n{liar}: wrong answer: ")];
    assert!(complaints.iter().all(|complaint| finished.stderr.contains(complaint)), "{}", finished.stderr);
    assert!(!comparison.page().contains("<i>"), "the page is not the server's");
    let table = finished.stdout;
    assert!(!table.contains('\x1b'), "the terminal is not the server's: {table}");
    let deaf = table.lines().find(|line| line.starts_with("| deaf ")).unwrap_or_default();
    assert!(deaf.contains("| never listened on its port "), "{table}");
    for server in ["dies", "cries", "missing", "deaf", &mute] {
        let tries = finished.stderr.lines().filter(|line| line.ends_with(&format!(": {server}")));
        assert_eq!(tries.count(), 1, "{server} is tried once: {}", finished.stderr);
    }
    assert_eq!(comparison.left_over(), []);
}

#[test]
fn a_chat_is_measured_with_one_speaker_with_several_and_beside_clients_that_never_read() {
    const CHATS: [&str; 3] = ["chat", "chat_threads", "chat_tokio"];
    const LOADS: [&str; 3] = [
        "1 speaker, 200 clients",
        "16 speakers, 200 clients",
        "16 speakers, 200 clients, 2 of them never read",
    ];
    let comparison = Comparison::new("chats");
    let few = ["--chat", "--without=chat_asyncio", "--sessions=200", "--rounds=1", "--seconds=0.05"];
    let finished = run_alone(&mut comparison.command(&few));
    assert_eq!(finished.status, Some(0), "{}", finished.stderr);
    let results = comparison.results();
    for server in CHATS {
        let of_server = results_of(&results, server);
        assert_eq!(of_server.iter().map(|result| &result["load"]).collect::<Vec<_>>(), LOADS);
        for result in of_server {
            assert_eq!(result["failure"], Value::Null, "{server}: {result:#}");
            for figure in [
                "deliveries_per_second",
                "server_cpu_us_per_delivery",
                "time_to_median_client_us",
                "latency_p99_us",
            ] {
                assert!(result["median"][figure].as_f64() > Some(0.0), "{server}: {figure} in {result:#}");
            }
            let times = ["time_to_median_client_us", "time_to_last_client_us"];
            let [median, last] = times.map(|figure| result["median"][figure].as_f64());
            assert!(median <= last, "{result:#}");
        }
    }
    let beside_slow_readers =
        |server: &str, figure: &str| results_of(&results, server)[2]["median"][figure].as_f64();
    // The room keeps the thousand lines of a kilobyte once, not for each of the clients that never read.
    let growth = beside_slow_readers("chat", "memory_growth_bytes");
    assert!(growth > Some(500_000.0) && growth < Some(8_000_000.0), "{growth:?}");
    // With threads all clients wait until a write to one of these clients has timed out.
    let slowest = beside_slow_readers("chat_threads", "latency_p99_us");
    assert!(slowest > Some(90_000.0), "{slowest:?}");
    for load in LOADS {
        assert!(finished.stdout.contains(&format!("| **{load}** ")), "{load} in {}", finished.stdout);
    }
    let page = comparison.page();
    let picture = figure(&page, "chat");
    assert!(CHATS.iter().all(|server| picture.contains(&format!(">{server}, 16 speakers: "))), "{picture}");
    assert_eq!(results["open_loop"], Value::Array(Vec::new()), "a chat has no answers to offered lines");
    assert_eq!(comparison.left_over(), []);
}

#[test]
fn a_chat_that_loses_doubles_displaces_or_changes_a_line_is_found() {
    type Change = fn(usize, &mut Vec<Vec<u8>>);
    let bad: [(Change, &str); 4] = [
        (
            |nth, lines| lines.truncate(usize::from(nth != 20)),
            "a line is lost: 99 clients did not get every line",
        ),
        (|_, lines| lines.push(lines[0].clone()), "a line twice"),
        (|_, lines| lines.reverse(), "a line before an earlier one"),
        (|_, lines| lines[0][70] ^= 1, "no speaker's line"),
    ];
    let servers = bad.map(|(change, reason)| (start_chat(change), reason));
    let right = start_chat(|_, _| {});
    let comparison = Comparison::new("bad-chats");
    let small = ["--chat", "--only=chat", "--sessions=100", "--rounds=1", "--seconds=0.05"];
    let added = servers.iter().map(|(server, _)| server).chain([&right]);
    let added: Vec<_> = added.map(|server| format!("--connect={server}")).collect();
    let arguments: Vec<&str> = small.into_iter().chain(added.iter().map(String::as_str)).collect();
    comparison.run_to(1, &arguments);
    let results = comparison.results();
    for (server, reason) in &servers {
        let of_server = results_of(&results, server);
        let mut failures = of_server.iter().filter_map(|result| result["failure"].as_str());
        assert!(failures.any(|failure| failure.contains(reason)), "{reason} in {of_server:#?}");
    }
    assert!(
        results_of(&results, &right).iter().all(|result| result["failure"] == Value::Null),
        "{results:#}"
    );
}

/// A chat in which `change` sees the lines of each read before they go to all others, and how many reads there were before.
fn start_chat(change: fn(usize, &mut Vec<Vec<u8>>)) -> String {
    type Room = Mutex<(usize, BTreeMap<usize, Sender<Vec<u8>>>)>;
    let room: &Room = Box::leak(Box::default());
    start_server(move |number, mut stream| {
        let mut client = stream.try_clone().expect("a socket can be duplicated");
        let (own, pieces) = channel::<Vec<u8>>();
        // A client that never reads holds up no other.
        thread::spawn(move || pieces.iter().try_for_each(|piece| client.write_all(&piece)));
        let _ = own.send(b"* Hello\n".to_vec());
        room.lock().expect("no holder panics").1.insert(number, own.clone());
        let mut input = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut input) {
            let mut room = room.lock().expect("no holder panics");
            if input[0] == b'/' {
                let commands = memchr_iter(b'\n', &input[..count]).count();
                let _ = own.send(b"* None\n".repeat(commands));
                continue;
            }
            let line = |line: &[u8]| [b"guest: ", line].concat();
            let mut lines: Vec<_> = input[..count].split_inclusive(|&byte| byte == b'\n').map(line).collect();
            change(room.0, &mut lines);
            room.0 += 1;
            let lines = lines.concat();
            let others = room.1.iter().filter(|(other, _)| **other != number);
            others.for_each(|(_, other)| drop(other.send(lines.clone())));
        }
        room.lock().expect("no holder panics").1.remove(&number);
    })
}

#[test]
fn a_server_that_dies_between_two_rates_has_no_knee_and_the_others_have_theirs() {
    static OPEN: AtomicUsize = AtomicUsize::new(0);
    static ANSWERED: AtomicUsize = AtomicUsize::new(0);
    let comparison = Comparison::new("mortal");
    // Only the open loop has so many sessions. This server answers some of its lines, and then ends all sessions.
    let mortal = start_server(|_, mut stream| {
        let is_crowd = OPEN.fetch_add(1, Ordering::Relaxed) > 100;
        let _ = stream.write_all(BANNER);
        let mut line = [0; 1024];
        while ANSWERED.load(Ordering::Relaxed) < 500
            && let Ok(count @ 1..) = stream.read(&mut line)
        {
            ANSWERED.fetch_add(usize::from(is_crowd), Ordering::Relaxed);
            let _ = stream.write_all(&[PREFIX, &line[..count]].concat());
        }
        OPEN.fetch_sub(1, Ordering::Relaxed);
    });
    let small = [FEW, "--sessions=1", "--rounds=1", "--seconds=0.05", "--connect", &mortal];
    let finished = run_alone(&mut comparison.command(&small));
    assert_eq!(finished.status, Some(1), "{}", finished.stderr);

    let results = comparison.results();
    for server in ["okloop", "tiny_event_loop"] {
        assert_eq!(sweep_of(&results, server)["failure"], Value::Null, "{results:#}");
        assert!(sweep_of(&results, server)["knee_per_second"].as_f64() > Some(0.0), "{results:#}");
    }
    let failure = sweep_of(&results, &mortal)["failure"].as_str().unwrap_or_default();
    assert!(failure.contains("closed"), "{results:#}");
    assert!(finished.stdout.contains(failure), "{}", finished.stdout);
    assert_eq!(results_of(&results, &mortal)[0]["failure"], Value::Null, "{results:#}");
}

/// A server that serves each client, the first being number 0, in a thread of its own; returns its address.
fn start_server(converse: impl Fn(usize, TcpStream) + Copy + Send + 'static) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            thread::spawn(move || converse(number, stream));
        }
    });
    address
}

#[test]
fn late_answers_lines_that_had_to_wait_and_all_processes_of_a_server_are_counted() {
    let comparison = Comparison::new("counted");
    // A few active clients wait for longer than the measurement takes.
    let starver = start_server(|number, stream| answer(stream, number % 7 == 2, Duration::from_millis(400)));
    // All of them do.
    let sluggard = start_server(|_, stream| answer(stream, true, Duration::from_millis(300)));
    let threads = program("examples/thread_per_connection");
    let pipeline = format!("--server=piped=cd / && NAME=value {} {{port}} | cat", threads.display());
    let small = [FEW, "--sessions=20", "--active=5", "--rounds=1", "--seconds=0.1"];
    let servers = ["--connect", &starver, "--connect", &sluggard, &pipeline];
    let running = start_alone(&mut comparison.command(&[&small[..], &servers].concat()));
    run_until(running, "growing rates");

    let results = comparison.results();
    for server in [&starver, &sluggard, "piped"] {
        for result in results_of(&results, server) {
            assert_eq!(result["failure"], Value::Null, "{result:#}");
        }
    }
    let late = &results_of(&results, &starver)[4]["median"];
    assert!(late["latency_max_us"].as_f64() >= Some(400_000.0), "{late:#}");

    let waiting = &results_of(&results, &sluggard)[4]["median"];
    assert_eq!(waiting["answers_per_second"], 0.0, "{waiting:#}");
    // 20 active clients, a line each 10 ms, for 0.1 s and what the last turn took longer.
    let due = waiting["offered_per_second"].as_f64();
    assert!(due > Some(1000.0) && due <= Some(2100.0), "{waiting:#}");
    // The first line of a client is answered after 300 ms, and the others, which are sent meanwhile, 300 ms later.
    let median = waiting["latency_p50_us"].as_f64();
    assert!(median >= Some(490_000.0) && median < Some(650_000.0), "{waiting:#}");

    let family = &results_of(&results, "piped")[0]["median"];
    // The shell and cat, the server's first thread, and one for each session.
    assert_eq!(family["threads"], 23.0, "{family:#}");
    for figure in
        ["server_cpu_us_per_answer", "memory_bytes_per_idle_session", "voluntary_switches_per_answer"]
    {
        assert!(family[figure].as_f64() > Some(0.1), "{family:#}");
    }
    assert_eq!(comparison.left_over(), []);
}

/// A right conversation, but `slowly` waits before each answer to a line of an active client.
fn answer(mut stream: TcpStream, slowly: bool, pause: Duration) {
    let _ = stream.write_all(BANNER);
    let mut line = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut line) {
        // A flood fills the whole buffer.
        if slowly && count < line.len() {
            thread::sleep(pause);
        }
        let _ = stream.write_all(&[PREFIX, &line[..count]].concat());
    }
}

#[test]
fn a_pause_of_the_laboratory_is_no_silence_of_the_server() {
    let comparison = Comparison::new("paused");
    let sluggard = start_server(|_, stream| answer(stream, true, Duration::from_millis(300)));
    let arguments = [FEW, "--sessions=20", "--active=5", "--rounds=1", "--seconds=1", "--connect", &sluggard];
    let mut running = start_alone(&mut comparison.command(&arguments));
    running.complaint_with(&format!("20 sessions: {sluggard}"));
    // The sessions are then open, and the load waits for answers.
    thread::sleep(Duration::from_millis(500));
    running.signal(Signal::SIGSTOP);
    // Longer than the load waits for a silent server.
    thread::sleep(Duration::from_secs(5));
    running.signal(Signal::SIGCONT);
    run_until(running, "crowd: ");
    let results = comparison.results();
    let paused = results_of(&results, &sluggard)[0];
    assert_eq!(paused["failure"], Value::Null, "{results:#}");
    assert_eq!(paused["rounds"].as_array().map(Vec::len), Some(1), "{results:#}");
}

#[test]
fn servers_are_selected_by_name_and_those_of_the_command_line_always_take_part() {
    let tiny = program("examples/tiny_event_loop");
    let mine = format!("--server=mine={} {{port}}", tiny.display());
    for (selection, expected) in [
        ("--only=tokio_one_thread,okloop", &["okloop", "tokio_one_thread", "mine"][..]),
        (
            &format!("--without=poll_all,asyncio,thread_per_connection,tokio_all_threads,{NO_CHAT}"),
            &["okloop", "tiny_event_loop", "threads_gathered", "tokio_one_thread", "mine"],
        ),
    ] {
        let comparison = Comparison::new("selected");
        comparison.run(&[selection, "--sessions=1", "--rounds=1", "--seconds=0.01", &mine]);
        let results = comparison.results();
        let servers = results["servers"].as_array().expect("servers are an array").iter();
        assert_eq!(servers.map(|server| &server["name"]).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn the_servers_of_the_laboratory_greet_and_answer_as_okloop_does() {
    let lab = program("lab");
    for name in ["threads_gathered", "tokio_one_thread", "tokio_all_threads"] {
        assert_converses(&format!("{name}={} serve {name} {{port}}", lab.display()));
    }
}

#[test]
#[ignore = "needs python3"]
fn the_server_on_asyncio_greets_and_answers_as_okloop_does() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/serve/asyncio_server.py");
    assert_converses(&format!("asyncio=python3 {script} {{port}}"));
}

#[test]
#[ignore = "needs python3"]
fn the_chat_on_asyncio_delivers_every_line() {
    let comparison = Comparison::new("asyncio-chat");
    comparison.run(&["--chat", "--only=chat_asyncio", "--sessions=100", "--rounds=1", "--seconds=0.05"]);
    let results = comparison.results();
    let of_chat = results_of(&results, "chat_asyncio");
    assert_eq!(of_chat.len(), 3);
    assert!(of_chat.iter().all(|result| result["failure"] == Value::Null), "{results:#}");
}

fn assert_converses(server: &str) {
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compare-conversation");
    let mut faults = lab(&["faults", "--only", "conversation", "--server", server]);
    let finished = run(faults.arg("--out").arg(output));
    assert_eq!(finished.status, Some(0), "{server}: {}{}", finished.stdout, finished.stderr);
    assert!(finished.stdout.contains("8 passes"), "{}", finished.stdout);
}

#[test]
fn the_documents_get_the_tables_and_their_pictures() {
    let comparison = Comparison::new("published");
    let documents = comparison.output.join("documents");
    let publish = format!("--publish={}", documents.display());
    comparison.run(&[FEW, "--sessions=10", "--rounds=1", "--seconds=0.01", &publish]);
    let read = |name: &str| fs::read_to_string(documents.join(name)).expect("it is published");
    let tables = read("compare.md");
    let row = tables.lines().find(|line| line.starts_with("| okloop "));
    let row = row.unwrap_or_else(|| panic!("no row of okloop in {tables}"));
    let head = tables.lines().find(|line| line.starts_with("| server ")).expect("a table has a head");
    assert_eq!(row.matches(" | ").count(), head.matches(" | ").count());
    for picture in ["cpu.svg", "memory.svg", "rates.svg"] {
        assert!(read(picture).starts_with("<svg "), "{picture}");
    }
}

#[test]
fn what_cannot_be_written_is_named_and_the_rest_is_written_and_shown() {
    let comparison = Comparison::new("unwritable");
    let arguments = [FEW, "--sessions=1", "--rounds=1", "--seconds=0.01"];
    let page = comparison.output.join("report.html");
    fs::create_dir_all(&page).expect("the directory can be made");
    let finished = run(&mut comparison.command(&arguments));
    assert_eq!(finished.status, Some(1), "{}", finished.stderr);
    let complaint = format!("{} could not be written: ", page.display());
    assert!(finished.stderr.contains(&complaint), "{}", finished.stderr);
    assert!(finished.stdout.contains("## Churn"));
    assert_eq!(results_of(&comparison.results(), "okloop").len(), 5);

    // With no directory at all nothing is begun.
    fs::remove_dir_all(&comparison.output).expect("it can be removed");
    fs::write(&comparison.output, "a file").expect("a file can be made");
    let finished = run(&mut comparison.command(&arguments));
    fs::remove_file(&comparison.output).expect("it can be removed");
    assert_eq!(finished.status, Some(1));
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    assert!(finished.stderr.contains(&*comparison.output.to_string_lossy()), "{}", finished.stderr);
}

#[test]
fn the_servers_are_for_this_machine_alone() {
    let comparison = Comparison::new("addresses");
    let servers = "--only=okloop,threads_gathered,tokio_one_thread,tokio_all_threads";
    let mut running =
        start(&mut comparison.command(&[servers, "--sessions=1", "--rounds=1", "--seconds=0.2"]));
    // All of them run then, beside each other, for some five seconds.
    running.complaint_with("/40: growing rates");
    let listeners = listening(&comparison.left_over());
    running.signal(Signal::SIGINT);
    let finished = running.finish();
    assert_eq!(listeners.len(), 4, "{listeners:?}\n{}\n{}", finished.stderr, finished.stdout);
    assert!(listeners.iter().all(|address| address.ip().is_loopback()), "{listeners:?}");
}

#[test]
fn a_copied_program_says_where_it_belongs() {
    let comparison = Comparison::new("copied");
    fs::create_dir_all(&comparison.output).expect("the directory can be made");
    let copy = comparison.output.join("lab");
    fs::copy(program("lab"), &copy).expect("the program can be copied");
    let finished = run(Command::new(copy).arg("compare"));
    assert_eq!(finished.status, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("beside itself, where cargo puts them"), "{}", finished.stderr);
}

#[test]
fn ctrl_c_ends_the_servers_and_writes_what_there_is() {
    let comparison = Comparison::new("interrupted");
    let arguments = [FEW, "--sessions=10", "--active=5", "--rounds=2", "--seconds=0.2"];
    // The first round is over, and the second will not be.
    let finished = run_until(start(&mut comparison.command(&arguments)), "34/60: ");
    let results = comparison.results();
    assert_eq!(results["interrupted"], true);
    assert!(results_of(&results, "okloop")[0]["median"]["server_cpu_us_per_answer"].as_f64() > Some(0.0));
    let table = finished.stdout;
    assert!(table.contains("Interrupted: these are the figures up to then."), "{table}");
    assert_stands_alone(&comparison, &[]);
    assert_eq!(comparison.left_over(), []);
}

#[test]
fn wrong_arguments_end_in_one_line_and_status_2() {
    let comparison = Comparison::new("arguments");
    for (argument, complaint) in [
        ("--sessions=0", "0 is not in 1..=1000000"),
        ("--sessions=ten", "invalid digit"),
        ("--rounds=0", "0 is not in 1..=100"),
        ("--seconds=-1", "from 0.01 to 3600 seconds"),
        ("--server=python", "NAME=COMMAND is expected"),
        ("--server=python=python3 server.py", "the command has no {port} in it"),
        ("--server=../python=python3 {port}", "a name has only letters"),
        ("--server=okloop=another {port}", "two servers are called okloop"),
        ("--connect=192.0.2.1:8888", "not on loopback; --remote says that you mean it"),
        ("--connect=localhost", "invalid socket address"),
        ("--only=nobody", "no server is called nobody; there are okloop, thread_per_connection, "),
        ("--without=okloop,tokio", "no server is called tokio; there are okloop, "),
        ("--nonsense", "unexpected argument '--nonsense'"),
    ] {
        let finished = run(&mut comparison.command(&[argument]));
        assert_eq!(finished.status, Some(2), "{argument}: {}", finished.stderr);
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
        assert!(finished.stderr.contains(complaint), "{argument}: {}", finished.stderr);
    }
    assert!(!comparison.output.exists(), "nothing was begun");
}

#[test]
#[ignore = "needs chromium"]
fn a_browser_draws_every_picture() {
    let comparison = Comparison::new("browser");
    let few = "--only=okloop,tiny_event_loop,chat,chat_tokio";
    comparison.run(&[few, "--sessions=10,20,40", "--active=5", "--rounds=2", "--seconds=0.05"]);
    let mut page = Page::open(&comparison.output.join("report.html"));
    page.stands_alone();
    let page = page.run("document.documentElement.outerHTML");
    let page = page.as_str().expect("a text");
    for picture in PICTURES.into_iter().chain(["chat"]) {
        let figure = figure(page, picture);
        assert!(figure.contains("</svg>"), "{picture} is parsed as a picture: {figure}");
        let marks = ["<polyline", "<circle", "<rect"].map(|mark| figure.matches(mark).count());
        // The paper, and something for each server.
        assert!(marks.iter().sum::<usize>() > 2, "{picture} has lines and points: {marks:?}");
    }
}
