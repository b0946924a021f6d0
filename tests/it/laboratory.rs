//! The laboratory measures small crowds on real servers and on bad ones, and nothing outlives it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use okloop::{BANNER, PREFIX};
use serde_json::Value;

use crate::harness::{Finished, Process, binary};

const LADDER: [&str; 3] = ["okloop", "thread_per_connection", "tiny_event_loop"];
const PICTURES: [&str; 9] =
    ["memory", "answers", "latency", "latency-p99", "cpu", "opening", "churn", "bulk", "fairness"];
const WORKLOADS: [&str; 5] = ["ping-pong", "ping-pong", "churn", "bulk", "fairness"];

/// One run of `compare`, with a directory and a mark of its own.
struct Laboratory {
    output: PathBuf,
    mark: String,
}

impl Laboratory {
    fn new(name: &str) -> Self {
        let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("laboratory-{name}"));
        // The first run on a machine finds nothing to remove.
        let _ = fs::remove_dir_all(&output);
        Self { output, mark: format!("laboratory-{name}-{}", std::process::id()) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("compare"));
        // Children inherit the environment, so the mark tells them from all other processes.
        command.arg("--output").arg(&self.output).args(arguments).env("LABORATORY_MARK", &self.mark);
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let finished = Process::spawn(&mut self.command(arguments)).finish();
        assert_eq!(finished.status, Some(0), "{}", finished.stderr);
        finished
    }

    fn results(&self) -> Value {
        let text = fs::read(self.output.join("results.json")).expect("the figures are written");
        serde_json::from_slice(&text).expect("the figures are JSON")
    }

    fn page(&self) -> String {
        fs::read_to_string(self.output.join("report.html")).expect("the report is written")
    }

    /// The processes that were started by this run and are still there.
    fn left_over(&self) -> Vec<PathBuf> {
        let processes = fs::read_dir("/proc").expect("Linux").filter_map(|entry| Some(entry.ok()?.path()));
        let is_ours = |process: &PathBuf| {
            let environment = fs::read(process.join("environ")).unwrap_or_default();
            environment.windows(self.mark.len()).any(|bytes| bytes == self.mark.as_bytes())
        };
        processes.filter(is_ours).collect()
    }
}

/// The results of one server, in the order of the workloads.
fn results_of<'a>(results: &'a Value, server: &str) -> Vec<&'a Value> {
    let all = results["results"].as_array().expect("results are an array");
    all.iter().filter(|result| result["server"] == server).collect()
}

#[test]
fn every_server_is_measured_under_every_load() {
    let laboratory = Laboratory::new("all");
    let finished =
        laboratory.run(&["--sessions", "40,20", "--active", "8", "--rounds", "2", "--seconds", "0.1"]);

    let results = laboratory.results();
    assert_eq!(results["interrupted"], false);
    for server in LADDER {
        let of_server = results_of(&results, server);
        let workloads: Vec<_> = of_server.iter().map(|result| &result["workload"]).collect();
        assert_eq!(workloads, WORKLOADS);
        assert_eq!((&of_server[0]["sessions"], &of_server[1]["sessions"]), (&20.into(), &40.into()));
        for result in &of_server {
            assert_eq!(result["failure"], Value::Null, "{server}: {result:#}");
            assert_eq!(result["rounds"].as_array().map(Vec::len), Some(2));
            let expected: &[&str] = match result["workload"].as_str() {
                Some("ping-pong") => &PING_PONG,
                Some("churn") => &["answers_per_second", "latency_p99_us", "server_cpu_us_per_answer"],
                Some("bulk") => &["megabytes_per_second", "server_cpu_us_per_megabyte"],
                // Not answers/s: the smallest loop lets a firehose starve the typists, who then wait to the end.
                _ => &["latency_p50_us", "latency_p99_us", "megabytes_per_second", "offered_per_second"],
            };
            for figure in expected {
                assert!(result["median"][figure].as_f64() > Some(0.0), "{server}: {figure} in {result:#}");
            }
        }
    }
    // What each architecture is made of: a thread a session, or one for all.
    let threads = |server: &str| results_of(&results, server)[1]["median"]["threads"].as_f64();
    assert_eq!(threads("thread_per_connection"), Some(41.0));
    assert_eq!(threads("tiny_event_loop"), Some(1.0));

    assert_eq!(results["okloop"], env!("CARGO_PKG_VERSION"));
    assert!(results["date"].as_str().is_some_and(|date| date.starts_with("20")), "{}", results["date"]);
    assert!(results["command_line"].as_array().is_some_and(|words| words.contains(&"40,20".into())));

    let table = String::from_utf8(finished.stdout).expect("the table is text");
    let measured = table.split("SYSTEM CALLS").next().unwrap_or_default();
    assert!(measured.lines().all(|line| line.chars().count() <= 100), "wider than 100: {measured}");
    for text in ["SPEED", "COST", "CHURN", "BULK", "FIREHOSE", "answers/s", "p99.9", "closed loop"] {
        assert!(table.contains(text), "{text} in {table}");
    }
    assert_stands_alone(&laboratory);
    assert_eq!(laboratory.left_over(), Vec::<PathBuf>::new());
}

const PING_PONG: [&str; 11] = [
    "answers_per_second",
    "latency_p50_us",
    "latency_p99_us",
    "latency_max_us",
    "latency_samples",
    "opening_us",
    "server_cpu_us_per_answer",
    "memory_bytes",
    "threads",
    "voluntary_switches_per_answer",
    "load_cpus_busy",
];

/// The page shows every picture and asks for nothing from anywhere.
fn assert_stands_alone(laboratory: &Laboratory) {
    let page = laboratory.page();
    for picture in PICTURES {
        let figure = page.split("<figure ").find(|figure| figure.starts_with(&format!("id=\"{picture}\"")));
        let figure = figure.unwrap_or_else(|| panic!("no picture {picture}"));
        assert!(figure.contains("<svg ") && figure.contains("<figcaption>"), "{picture}");
        assert!(LADDER.iter().all(|server| figure.contains(server)), "{picture} names every server");
        assert!(laboratory.output.join(format!("{picture}.svg")).exists(), "{picture}.svg");
    }
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for foreign in ["http:", "https:", "<script", "<link", "src=", "url(", "@import"] {
        assert!(!page.contains(foreign), "the page has {foreign}");
    }
}

#[test]
fn a_bad_server_has_a_row_that_says_so_and_the_others_go_on() {
    let laboratory = Laboratory::new("bad");
    let liar = start_liar();
    let chatty = start_server(|_, mut stream| while stream.write_all(b"and furthermore ").is_ok() {});
    // The kernel accepts for it, but nobody is there to speak.
    let mute_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let mute = mute_listener.local_addr().expect("it is bound").to_string();
    let finished = laboratory.run(&[
        "--sessions=20",
        "--active=5",
        "--rounds=1",
        "--seconds=0.05",
        "--server=dies=false {port}",
        "--server=cries=printf 'the \\033[31mroof is on fire\\n\\n' >&2; exit 3; {port}",
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
    ]);

    let results = laboratory.results();
    for (server, reason) in [
        ("dies", "died before it listened: exit status: 1"),
        ("cries", "died before it listened: exit status: 3"),
        ("missing", "died before it listened: exit status: 127"),
        ("deaf", "never listened on its port"),
        (&liar, "wrong answer: \"NO..."),
        ("daemon", "died before it listened: exit status: 0 (was it to stay in the foreground?)"),
        (&chatty, "wrong answer: \"and furthermore"),
        (&mute, "silent: accepts connections, but greets nobody"),
    ] {
        for result in results_of(&results, server) {
            let failure = result["failure"].as_str().unwrap_or("no failure");
            assert!(failure.contains(reason), "{server}: {failure}");
            assert_eq!(result["rounds"], Value::Array(Vec::new()), "{server} has no figures");
        }
    }
    for server in LADDER {
        assert!(results_of(&results, server).iter().all(|result| result["failure"] == Value::Null));
    }
    let cries = &results_of(&results, "cries")[0]["last_words"];
    assert_eq!(cries, r#""the \u{1b}[31mroof is on fire""#);
    let table = String::from_utf8(finished.stdout).expect("the table is text");
    assert_eq!(table.matches("Last words of cries: ").count(), 1, "told once: {table}");
    assert!(table.contains("Last words of missing: \"sh: 1: /no/such/server: not found\""), "{table}");
    assert!(!table.contains('\x1b'), "the terminal is not the server's: {table}");
    let deaf = table.lines().find(|line| line.starts_with("deaf ")).unwrap_or_default();
    assert!(deaf.ends_with("  never listened on its port"), "{table}");
    for server in ["dies", "cries", "missing", "deaf", &mute] {
        let tries = finished.stderr.lines().filter(|line| line.ends_with(&format!(": {server}")));
        assert_eq!(tries.count(), 1, "{server} is tried once: {}", finished.stderr);
        assert!(!laboratory.output.join(format!("logs/{server}-under-strace.log")).exists());
    }
    assert_eq!(laboratory.left_over(), Vec::<PathBuf>::new());
}

/// A server that greets as it should and answers everything with `NO...`; returns its address.
fn start_liar() -> String {
    // The load gives up after the first answer, and the session with it.
    start_server(|_, mut stream| {
        let _ = stream.write_all(BANNER);
        let mut line = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut line) {
            let _ = stream.write_all(&[b"NO...", &line[..count]].concat());
        }
    })
}

/// A server that converses with each client, the first being number 0, in a thread of its own; returns its address.
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
    let laboratory = Laboratory::new("counted");
    // A typist now and then waits for longer than the measurement takes.
    let starver = start_server(|number, stream| answer(stream, number % 7 == 2, Duration::from_millis(400)));
    // All typists do.
    let sluggard = start_server(|_, stream| answer(stream, true, Duration::from_millis(300)));
    let threads = binary("thread_per_connection");
    let pipeline = format!("--server=piped=cd / && NAME=value {} {{port}} | cat", threads.display());
    let small = ["--sessions=20", "--active=5", "--rounds=1", "--seconds=0.1"];
    laboratory.run(&[&small[..], &["--connect", &starver, "--connect", &sluggard, &pipeline]].concat());

    let results = laboratory.results();
    for server in [&starver, &sluggard, "piped"] {
        for result in results_of(&results, server) {
            assert_eq!(result["failure"], Value::Null, "{result:#}");
        }
    }
    let late = &results_of(&results, &starver)[0]["median"];
    assert!(late["latency_max_us"].as_f64() >= Some(400_000.0), "{late:#}");

    let waiting = &results_of(&results, &sluggard)[3]["median"];
    assert_eq!(waiting["answers_per_second"], 0.0, "{waiting:#}");
    // 20 typists, a line each 10 ms, for 0.1 s and what the last turn took longer.
    let due = waiting["latency_samples"].as_f64();
    assert!(due >= Some(200.0) && due < Some(300.0), "{waiting:#}");
    // The last line had been due for little more than 200 ms when the answer to the first one came after 300.
    assert!(waiting["latency_p50_us"].as_f64() < Some(290_000.0), "{waiting:#}");

    let family = &results_of(&results, "piped")[0]["median"];
    // The shell and cat, the server's first thread, and one for each session.
    assert_eq!(family["threads"], 23.0, "{family:#}");
    for figure in
        ["server_cpu_us_per_answer", "memory_bytes_per_idle_session", "voluntary_switches_per_answer"]
    {
        assert!(family[figure].as_f64() > Some(0.1), "{family:#}");
    }
    assert_eq!(laboratory.left_over(), Vec::<PathBuf>::new());
}

/// A right conversation, but before each answer to a line of a typist it takes a while, if `slowly`.
fn answer(mut stream: TcpStream, slowly: bool, pause: Duration) {
    let _ = stream.write_all(BANNER);
    let mut line = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut line) {
        // A firehose sends more at once.
        if slowly && count < line.len() {
            thread::sleep(pause);
        }
        let _ = stream.write_all(&[PREFIX, &line[..count]].concat());
    }
}

#[test]
fn what_cannot_be_written_is_named_and_the_rest_is_told_all_the_same() {
    let laboratory = Laboratory::new("unwritable");
    let arguments = ["--sessions=1", "--rounds=1", "--seconds=0.01"];
    let page = laboratory.output.join("report.html");
    fs::create_dir_all(&page).expect("the directory can be made");
    let finished = Process::spawn(&mut laboratory.command(&arguments)).finish();
    assert_eq!(finished.status, Some(1), "{}", finished.stderr);
    let complaint = format!("{} could not be written: ", page.display());
    assert!(finished.stderr.contains(&complaint), "{}", finished.stderr);
    assert!(String::from_utf8_lossy(&finished.stdout).contains("CHURN"));
    assert_eq!(results_of(&laboratory.results(), "okloop").len(), 4);

    // With no directory at all nothing is begun.
    fs::remove_dir_all(&laboratory.output).expect("it can be removed");
    fs::write(&laboratory.output, "a file").expect("a file can be made");
    let finished = Process::spawn(&mut laboratory.command(&arguments)).finish();
    fs::remove_file(&laboratory.output).expect("it can be removed");
    assert_eq!(finished.status, Some(1));
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    assert!(finished.stderr.contains(&*laboratory.output.to_string_lossy()), "{}", finished.stderr);
}

#[test]
fn a_copied_program_says_where_it_belongs() {
    let laboratory = Laboratory::new("copied");
    fs::create_dir_all(&laboratory.output).expect("the directory can be made");
    let copy = laboratory.output.join("compare");
    fs::copy(binary("compare"), &copy).expect("the program can be copied");
    let finished = Process::spawn(&mut Command::new(copy)).finish();
    assert_eq!(finished.status, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("is to be where cargo puts it"), "{}", finished.stderr);
}

#[test]
fn ctrl_c_ends_the_servers_and_writes_what_there_is() {
    let laboratory = Laboratory::new("interrupted");
    let mut command = laboratory.command(&["--sessions=10", "--active=5", "--rounds=2", "--seconds=0.2"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is built");
    let id = Pid::from_raw(child.id().cast_signed());
    let process = Process::from(child);
    // The first round is over, and the second will not be.
    process.complaint_with("14/24: ");
    kill(id, Signal::SIGINT).expect("it runs");
    let finished = process.finish();

    assert_eq!(finished.status, Some(130), "{}", finished.stderr);
    let results = laboratory.results();
    assert_eq!(results["interrupted"], true);
    assert!(results_of(&results, "okloop")[0]["median"]["answers_per_second"].as_f64() > Some(0.0));
    let table = String::from_utf8(finished.stdout).expect("the table is text");
    assert!(table.contains("Interrupted: these are the figures up to then."), "{table}");
    assert_stands_alone(&laboratory);
    assert_eq!(laboratory.left_over(), Vec::<PathBuf>::new());
}

#[test]
fn wrong_arguments_end_in_one_line_and_status_2() {
    let laboratory = Laboratory::new("arguments");
    for (argument, complaint) in [
        ("--sessions=0", "0 is not in 1..=1000000"),
        ("--sessions=ten", "invalid digit"),
        ("--rounds=0", "0 is not in 1..=100"),
        ("--seconds=-1", "from 0.01 to 3600 seconds"),
        ("--server=python", "NAME=COMMAND is expected"),
        ("--server=python=python3 server.py", "the command has no {port} in it"),
        ("--server=../python=python3 {port}", "the name is to be of"),
        ("--server=okloop=another {port}", "two servers are called okloop"),
        ("--connect=192.0.2.1:8888", "not on this machine; --remote says that you mean it"),
        ("--connect=localhost", "invalid socket address"),
        ("--nonsense", "unexpected argument '--nonsense'"),
    ] {
        let finished = Process::spawn(&mut laboratory.command(&[argument])).finish();
        assert_eq!(finished.status, Some(2), "{argument}: {}", finished.stderr);
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
        assert!(finished.stderr.contains(complaint), "{argument}: {}", finished.stderr);
    }
    assert!(!laboratory.output.exists(), "nothing was begun");
}

#[test]
#[ignore = "needs chromium"]
fn a_browser_draws_every_picture() {
    let laboratory = Laboratory::new("browser");
    laboratory.run(&["--sessions=10,20,40", "--active=5", "--rounds=2", "--seconds=0.05"]);
    let profile = laboratory.output.join("profile");
    let mut chromium = Command::new("chromium");
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    chromium.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    chromium.arg(format!("--user-data-dir={}", profile.display())).arg("--dump-dom");
    chromium.arg(format!("file://{}/report.html", laboratory.output.display()));
    let finished = Process::spawn(&mut chromium).finish();

    assert_eq!(finished.status, Some(0), "{}", finished.stderr);
    let page = String::from_utf8(finished.stdout).expect("the page is text");
    for picture in PICTURES {
        let figure = page.split("<figure ").find(|figure| figure.starts_with(&format!("id=\"{picture}\"")));
        let figure = figure.and_then(|figure| figure.split("</figure>").next()).unwrap_or_default();
        assert!(figure.contains("</svg>"), "{picture} is parsed as a picture: {figure}");
        let marks = ["<polyline", "<circle", "<rect"].map(|mark| figure.matches(mark).count());
        // The paper, and something for each server.
        assert!(marks.iter().sum::<usize>() > LADDER.len(), "{picture} has lines and points: {marks:?}");
    }
}
