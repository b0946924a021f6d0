//! The recordings of the scenes: what they promise, that they add up, and the page in a browser.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;

use crate::browser::Page;
use crate::harness::{lab, listening, run, run_alone, start};

/// The directory with all scenes, recorded once.
static SCENES: LazyLock<PathBuf> = LazyLock::new(|| {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("record");
    let finished = run_alone(lab(&["record", "--all-scenes", "--out"]).arg(&out));
    assert_eq!(finished.status, Some(0), "{}", finished.stderr);
    out
});

fn recording(scene: &str) -> Value {
    let text = fs::read_to_string(SCENES.join(format!("{scene}.json"))).expect("the scene was recorded");
    serde_json::from_str(&text).expect("a recording is JSON")
}

/// The names of all scenes.
fn scenes() -> Vec<String> {
    let files = fs::read_dir(&*SCENES).expect("the scenes were recorded");
    let names = files.map(|file| file.expect("a file").file_name().into_string().expect("a plain name"));
    names.filter_map(|name| Some(name.strip_suffix(".html")?.to_owned())).collect()
}

fn list<'a>(recording: &'a Value, name: &str) -> &'a Vec<Value> {
    recording[name].as_array().expect("a list")
}

/// Fails unless the steps have these words, in this order.
fn expect(scene: &str, words: &[&str]) {
    let recording = recording(scene);
    let mut texts = list(&recording, "steps").iter().map(|step| step["text"].as_str().expect("a sentence"));
    for wanted in words {
        assert!(texts.any(|text| text.contains(wanted)), "{scene}: {wanted:?} is missing or too early");
    }
}

#[test]
fn each_scene_contains_the_steps_that_it_promises() {
    expect("greeting", &["writes 52 bytes", "reads 6 bytes", "from 0 to 11 bytes", "writes 11 bytes"]);
    expect(
        "half-close",
        &[
            "The server still sends",
            "becomes InputEnded",
            "becomes Finishing",
            "No output is pending",
            "becomes Lingering",
            "finished",
        ],
    );
    expect("slow-reader", &["The server stops reading", "The client has read", "again: the client has read"]);
    expect("flood", &["re-arms the socket", "reads 3 bytes from the typing client"]);
    expect(
        "no-files",
        &["Accepting pauses", "closes the socket of the first client", "accepts the waiting client"],
    );
    expect(
        "idle-timeout",
        &[
            "at most 3",
            "is over: the client sent nothing for 300 ms",
            "closes the socket of the silent client: idle time-out",
        ],
    );
    expect(
        "write-timeout",
        &["is over: no output left for 1.00 s", "closes the socket of the silent reader: write time-out"],
    );
    expect(
        "drain",
        &["asked to stop", "becomes Draining", "becomes Finishing", "becomes Lingering", "drained"],
    );
    expect(
        "reset",
        &["The read for the resetting client fails", "reset", "reads 6 bytes from the other client"],
    );
    expect(
        "refusal",
        &["refuses the refused client", "becomes Lingering", "closes the socket of the refused"],
    );
    expect("lines", &["reads 3 bytes", "poll returns", "reads 3 bytes", "from 0 to 11 bytes"]);
    expect("upper", &["reads 6 bytes", "from 0 to 6 bytes"]);
    expect(
        "lookup",
        &[
            "The session of the client waits",
            "Interest is WRITABLE only",
            "has woken it",
            "goes on",
            "finished",
        ],
    );
    expect(
        "gateway",
        &[
            "begins a connection to the backend",
            "The state of the backend becomes Open",
            "reads 6 bytes from the client",
            "writes 6 bytes to the backend",
            "reads 6 bytes from the backend",
            "writes 6 bytes to the client",
            "the input of the client has ended",
            "the input of the backend has ended",
            "closes the socket of the",
        ],
    );
}

/// The sessions that have a read of their own in one iteration, the most of all iterations.
#[test]
fn one_batch_brings_the_events_of_two_clients() {
    let recording = recording("batch");
    let reads = list(&recording, "steps").iter().filter(|step| step["bytes"] == 4 && step["kind"] == "read");
    let iterations: Vec<_> = reads.map(|step| &step["iteration"]).collect();
    assert_eq!(iterations.len(), 2);
    assert_eq!(iterations[0], iterations[1]);
}

#[test]
fn a_line_of_a_chat_goes_to_the_others_in_their_own_turns() {
    let line = b"guest-1: hello\n".len();
    let told = format!("from 0 to {line} bytes");
    for name in ["bob", "cid"] {
        expect("chat", &["reads 6 bytes from ann", &format!("A turn for {name}: another session"), &told]);
    }
    let recording = recording("chat");
    let steps = list(&recording, "steps").iter();
    let says =
        |words: &'static str| steps.clone().filter(move |step| step["text"].as_str() == Some(words)).count();
    assert_eq!(says("The server writes 15 bytes to bob. No output is pending."), 1);
    assert_eq!(says("The server writes 15 bytes to ann. No output is pending."), 0);
}

#[test]
fn a_slow_client_of_a_chat_costs_high_water_and_delays_no_other() {
    let recording = recording("slow-chat-client");
    let clients = list(&recording, "clients");
    let received =
        |name: &str| clients.iter().find(|client| client["name"] == name).map(|client| &client["received"]);
    let received = |name: &str| received(name).and_then(Value::as_u64).expect("the client was there");
    assert!(received("cid") < received("bob") / 2, "cid missed no line");
    let high_water = recording["high_water"].as_u64().expect("a number");
    let sizes = list(&recording, "steps").iter().filter_map(|step| step["output"].as_u64());
    let most = sizes.max().expect("there are steps");
    assert!((high_water..high_water + 16 * 1024).contains(&most), "{most} bytes");
}

#[test]
fn a_crowd_is_accepted_over_several_iterations() {
    let recording = recording("crowd");
    let opened = list(&recording, "steps").iter().filter(|step| step["kind"] == "open");
    let mut iterations: Vec<_> = opened.map(|step| step["iteration"].as_u64()).collect();
    assert_eq!(iterations.len(), 16);
    iterations.dedup();
    assert!((6..16).contains(&iterations.len()), "{iterations:?}");
}

#[test]
fn each_recording_adds_up_with_what_its_clients_saw() {
    assert_eq!(scenes().len(), 18);
    for scene in scenes() {
        let recording = recording(&scene);
        assert_eq!((&recording["version"], &recording["dropped"]), (&1.into(), &0.into()));
        let steps = list(&recording, "steps");
        for pair in steps.windows(2) {
            for order in ["at", "iteration"] {
                assert!(pair[0][order].as_u64() <= pair[1][order].as_u64(), "{scene}: {pair:?}");
            }
        }
        assert!(steps.iter().all(|step| step["iteration"].as_u64() >= Some(1)));
        for client in list(&recording, "clients") {
            let session = list(&recording, "sessions").iter().position(|s| s["peer"] == client["peer"]);
            let session = session.map(|index| index as u64);
            let moved = |kind: &str| -> u64 {
                let own =
                    steps.iter().filter(|step| step["session"].as_u64() == session && step["kind"] == kind);
                own.filter_map(|step| step["bytes"].as_u64()).sum()
            };
            let (read, written) = (moved("read"), moved("write"));
            let (sent, received) = (client["sent"].as_u64(), client["received"].as_u64());
            if scene == "write-timeout" {
                // The rest never left the kernels.
                assert!(Some(read) < sent && Some(written) > received, "{scene}: {client}");
            } else {
                assert_eq!((Some(read), Some(written)), (sent, received), "{scene}: {client}");
            }
        }
    }
}

#[test]
fn a_recording_of_ones_own_clients_ends_with_ctrl_c() {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("record-serve");
    let mut running = start(lab(&["record", "--port", "0", "--out"]).arg(&out));
    let line = running.line_with("Serving on port ");
    let port = line.split(['.', ' ']).find_map(|word| word.parse().ok()).expect("the line names the port");
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
    client.write_all(b"hello\n").expect("the server reads");
    client.read_exact(&mut [0; okloop::protocols::BANNER.len() + 11]).expect("the server answers");
    let listeners = listening(&[Pid::from_raw(running.id().cast_signed())]);
    assert_eq!(listeners, [SocketAddr::from((Ipv4Addr::LOCALHOST, port))]);
    // The client stays.
    let asked = Instant::now();
    running.signal(Signal::SIGINT);
    assert_eq!(running.finish().status, Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let page = fs::read_to_string(out.join("serve.html")).expect("the page is written");
    assert!(page.contains("The server reads 6 bytes from 127.0.0.1:"));
}

#[test]
fn each_step_names_its_line_and_a_rule_of_the_course() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |file: &str| fs::read_to_string(project.join(file)).expect("a file of the project");
    let course = read("NOTES.md");
    for scene in scenes() {
        let recording = recording(&scene);
        for step in list(&recording, "steps") {
            let place = step["place"].as_str().expect("a place");
            let (file, line) = place.split_once(':').expect("a file and a line");
            let line: usize = line.parse().expect("a number");
            let source = read(file);
            let text = source.lines().nth(line - 1).unwrap_or_default();
            assert!(text.contains("step!("), "{scene}: no step is at {place}");
            if let Some(rule) = step["rule"].as_u64() {
                let rows = [format!("\n| {rule} |"), format!("id=\"rule-{rule}\"")];
                assert!(rows.iter().any(|row| course.contains(row)), "{scene}: no rule {rule} in the course");
            }
        }
    }
}

#[test]
fn no_page_contains_a_path_of_the_machine() {
    let page = fs::read_to_string(SCENES.join("slow-reader.html")).expect("the scene was recorded");
    assert!(!page.contains(env!("CARGO_MANIFEST_DIR")) && !page.contains("file://"));
}

#[test]
fn only_a_drain_with_sessions_is_a_moment() {
    for (scene, moments) in [("greeting", 0), ("drain", 1)] {
        let recording = recording(scene);
        let steps = list(&recording, "steps").iter();
        assert_eq!(
            steps.filter(|step| step["kind"] == "drain" && step["key"] == true).count(),
            moments,
            "{scene}"
        );
    }
}

#[test]
fn what_cannot_be_written_is_told_before_the_server_starts() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("record-file");
    fs::write(&file, "").expect("a file is made");
    let finished = run(lab(&["record", "--port", "0", "--out"]).arg(&file));
    assert_eq!((finished.status, &finished.stdout[..]), (Some(1), ""));
    assert!(finished.stderr.contains(&*file.to_string_lossy()), "{}", finished.stderr);
}

#[test]
fn an_unknown_scene_is_an_error() {
    let finished = run(&mut lab(&["record", "--scene", "nothing"]));
    assert_eq!(finished.status, Some(2));
    assert!(finished.stderr.contains("--list"), "{}", finished.stderr);
}

/// The fields of the Trace Event Format that a recording uses, with their types. Any other field or phase is an error.
#[derive(Deserialize)]
#[serde(tag = "ph", deny_unknown_fields)]
enum TraceEvent {
    /// Metadata.
    M { name: String, pid: u32, tid: u32, args: TraceName },
    /// A complete event: its begin and its length in microseconds.
    X { name: String, cat: String, pid: u32, tid: u32, ts: u64, dur: u64, args: TraceStep },
    /// A counter.
    C { name: String, pid: u32, ts: u64, args: TraceCounter },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceName {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceStep {
    text: String,
    iteration: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceCounter {
    bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Trace {
    trace_events: Vec<TraceEvent>,
}

#[test]
fn the_export_for_perfetto_keeps_to_the_trace_event_format() {
    for scene in ["greeting", "slow-reader", "drain"] {
        let text =
            fs::read_to_string(SCENES.join(format!("{scene}.trace.json"))).expect("the scene was recorded");
        let trace: Trace = serde_json::from_str(&text).expect("a trace in the format");
        let recording = recording(scene);
        let steps = list(&recording, "steps");
        let (mut threads, mut end, mut told, mut most) = (BTreeSet::new(), 0, steps.iter(), 0);
        for event in trace.trace_events {
            match event {
                TraceEvent::M { name, pid, tid, args } if name == "thread_name" => {
                    assert_eq!((pid, tid == 1), (1, args.name == "the loop"), "{scene}: {tid}");
                    assert!(threads.insert(tid), "{scene}: two names for thread {tid}");
                }
                TraceEvent::M { name, pid, tid, args } => {
                    assert_eq!((&*name, pid, tid, &*args.name), ("process_name", 1, 1, scene));
                }
                TraceEvent::X { name, cat, pid, tid, ts, dur, args } => {
                    let step = told.next().expect("one event for each step");
                    assert_eq!((&step["kind"], &step["text"]), (&name.into(), &args.text.into()));
                    assert_eq!((&step["at"], &step["iteration"]), (&ts.into(), &args.iteration.into()));
                    assert!(cat == "step" && pid == 1 && threads.contains(&tid), "{scene}: {tid}");
                    assert!(ts >= end, "{scene}: {step} begins before the one before it ends");
                    end = ts + dur;
                }
                TraceEvent::C { name, pid, ts, args } => {
                    assert!(
                        name.starts_with("pending output of ") && pid == 1 && ts <= end,
                        "{scene}: {name}"
                    );
                    most = most.max(args.bytes);
                }
            }
        }
        assert!(told.next().is_none(), "{scene}: a step is missing");
        let pending = steps.iter().filter_map(|step| step["output"].as_u64()).max();
        assert_eq!(Some(most), pending, "{scene}");
    }
}

fn open(scene: &str) -> Page {
    Page::open(&SCENES.join(format!("{scene}.html")))
}

fn text(page: &mut Page, class: &str) -> String {
    let value = page.run(&format!("document.querySelector('.{class}').textContent"));
    value.as_str().expect("a text").to_owned()
}

/// Fails unless the page says these words about its step.
fn says(page: &mut Page, words: &str) {
    let (place, told) = (text(page, "where"), text(page, "told"));
    assert!(place.contains(words) || told.contains(words), "no {words:?} in {place:?} {told:?}");
}

#[test]
#[ignore = "needs chromium"]
fn a_reader_steps_through_the_page_with_the_keyboard() {
    let mut page = open("greeting");
    says(&mut page, "Step 1 of ");
    says(&mut page, "The loop calls poll and waits");
    page.press(&["ArrowRight"]);
    says(&mut page, "poll returns after");
    page.press(&["ArrowRight", "ArrowLeft"]);
    says(&mut page, "Step 2 of ");
    page.press(&["End"]);
    let count = page.run("json('data').steps.length");
    says(&mut page, &format!("Step {count} of {count}"));
    page.press(&["Home", "q", "ArrowRight", "ArrowRight"]);
    says(&mut page, "Step 2 of ");
    says(&mut page, "What happens now?");
    page.press(&["ArrowRight"]);
    says(&mut page, "poll returns after");
    page.press(&["ArrowRight", "ArrowRight"]);
    says(&mut page, "a client waits in the accept queue");
    assert_eq!(page.run("document.querySelectorAll('.picture svg').length"), 1);
    let link = text(&mut page, "link");
    assert!(link.starts_with("NOTES.md, rule 3, src/acceptor.rs:"), "{link}");
    page.stands_alone();
}

#[test]
#[ignore = "needs chromium"]
fn a_reader_of_the_slow_readers_page_stops_at_the_changes_of_interest_alone() {
    let mut page = open("slow-reader");
    // The kinds calls, events, states, time-outs and accept.
    page.press(&["1", "2", "4", "5", "6"]);
    let wanted = "json('data').steps.filter((step) => step.kind === 'interest' || step.kind === 'rearm')";
    let count = page.run(&format!("{wanted}.length")).as_u64().expect("a number");
    let mut told = Vec::new();
    for _ in 0..count {
        page.press(&["ArrowRight"]);
        told.push(text(&mut page, "told"));
    }
    assert!(told[0].contains("report the slow reader when it is readable"), "{told:?}");
    let stop = told.iter().position(|text| text.contains("The server stops reading the slow reader"));
    let resume = told.iter().position(|text| text.contains("The server reads the slow reader again"));
    assert!(stop.is_some() && stop < resume, "{told:?}");
    // With its events again, the step after the last wanted one is another.
    page.press(&["Home", "2", "ArrowRight"]);
    says(&mut page, "Step 2 of ");
    page.stands_alone();
}
