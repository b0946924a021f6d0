//! `faults` as a command: its reports, its exit status, and what it says about a stranger's server.

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal::SIGINT;

use crate::harness::{Finished, MARK, eventually, lab, marked, program, run, start};

#[test]
fn the_list_has_the_selected_cases_and_runs_none() {
    let finished = run(&mut lab(&["faults", "--list", "--only", "endings,5.1", "--skip", "vanished"]));
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    let numbers = finished.stdout.lines().filter_map(|line| line.trim().split_once(' '));
    let numbers = numbers.map(|(number, _)| number).filter(|number| number.parse::<f32>().is_ok());
    assert_eq!(numbers.collect::<Vec<_>>(), ["2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "5.1"]);
}

#[test]
fn the_reports_agree_and_one_failure_is_status_1() {
    let threads = format!("threads={} {{port}}", program("examples/thread_per_connection").display());
    let servers = ["--server", &okloop(), "--server", &threads];
    let finished = faults("reports", &[&["--only", "no-newline,sigterm"][..], &servers].concat());
    assert_eq!(finished.status, Some(1), "{}", finished.stdout);

    let table = table("reports");
    assert_eq!(verdicts(&table, 0), [("no-newline", "✓"), ("sigterm", "✓")]);
    assert_eq!(verdicts(&table, 1), [("no-newline", "✓"), ("sigterm", "✗")]);

    let page = page("reports");
    assert_eq!((page.matches("<dt>expected</dt>").count(), page.matches("<dt>came</dt>").count()), (1, 1));
    let told = finished.stdout.lines().filter(|line| line.starts_with("    expected: ")).count();
    assert_eq!(told, 1, "{}", finished.stdout);

    let finished = faults("good", &["--only", "no-newline", "--server", &okloop()]);
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
}

#[test]
fn a_verdict_other_than_the_expected_one_is_judged_three_times_and_then_fails() {
    let okloop = okloop();
    let table = out("expect").join("faults.md");
    fs::create_dir_all(out("expect")).expect("a directory is made");
    let expect = |no_newline: &str, not_text: &str| {
        let rows = format!("| 1.2 no-newline | {no_newline} |\n| 1.3 not-text | {not_text} |\n");
        fs::write(&table, format!("| case | okloop |\n| --- | :-: |\n{rows}")).expect("the table is written");
        let table = table.to_str().expect("a path in UTF-8");
        faults("expect", &["--only", "no-newline,not-text", "--server", &okloop, "--expect", table])
    };
    let finished = expect("✓", "✗");
    let again = "not-text, okloop: ✓ came, and is judged again\n";
    let said = format!("{again}{again}error: not-text, okloop: ✗ is expected, ✓ came\n");
    assert_eq!((finished.status, finished.stderr), (Some(1), said));
    let finished = expect("✓", "✓");
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
}

#[test]
fn a_server_that_runs_already_is_not_asked_for_its_process() {
    let port = free_port().to_string();
    let mut server = Command::new(program("okloop"));
    server.args(["--host", "127.0.0.1", "--port", &port]).stdout(Stdio::null());
    let mut server = server.spawn().expect("the server starts");
    let address = format!("127.0.0.1:{port}");
    eventually("the server listens", || TcpStream::connect(&address).is_ok());
    let finished = faults("connect", &["--connect", &address, "--only", "greeting,after-a-crowd,sigterm"]);
    let runs_on = server.try_wait().is_ok_and(|status| status.is_none());
    server.kill().and_then(|()| server.wait()).expect("the child is ours to end");
    assert!(runs_on);
    assert_eq!(finished.status, Some(0), "{}{}", finished.stdout, finished.stderr);

    let expected = [("greeting", "✓"), ("after-a-crowd", "–"), ("sigterm", "–")];
    assert_eq!(verdicts(&table("connect"), 0), expected);
    let page = page("connect");
    assert_eq!(page.matches("s process, and only an address is known</dd>").count(), 2, "{page}");
    // A group has its title even if its first case did not run.
    assert_eq!(page.matches("class=\"group\"").count(), 3);
}

#[test]
fn ctrl_c_leaves_no_server_and_writes_the_cases_before_it() {
    let arguments = ["--only", "greeting,reads-slowly", "--server", &okloop()];
    let mut running = start(&mut command("interrupted", &arguments));
    running.line_with("1.1 greeting");
    let mut servers = Vec::new();
    eventually("a server is tested", || {
        servers = children(running.id());
        !servers.is_empty()
    });
    assert_eq!(servers.len(), 1, "one server is tested");
    running.signal(SIGINT);
    let finished = running.finish();
    assert_eq!(finished.status, Some(1), "{}", finished.stdout);
    assert!(finished.stdout.contains("The run interrupted after "), "{}", finished.stdout);
    assert!(!servers[0].exists(), "the server still runs");

    assert_eq!(verdicts(&table("interrupted"), 0), [("greeting", "✓")]);
}

#[test]
fn a_server_that_goes_to_the_background_is_refused_and_ended() {
    let mark = format!("faults-{}", std::process::id());
    let server = format!(
        "daemon=setsid sh -c '{} --port {{port}} & sleep 60' & : {{port}}",
        program("okloop").display()
    );
    let finished = run(command("background", &["--server", &server]).env(MARK, &mark));
    assert_eq!(finished.status, Some(1), "{}", finished.stdout);
    assert!(finished.stderr.contains("(does it go to the background?)"), "{}", finished.stderr);
    assert_eq!(marked(&mark), []);
}

#[test]
fn what_cannot_be_written_is_told_before_a_server_starts() {
    let directory = out("unwritable");
    // What an earlier run left would speak for this one. It fails when there is nothing to remove.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a directory is made");
    let [file, started] = ["file", "started"].map(|name| directory.join(name));
    fs::write(&file, "").expect("a file is made");
    let server = format!("--server=a=touch {}; {{port}}", started.display());
    for option in ["--out", "--markdown"] {
        let place = file.join("faults.md");
        let mut command = lab(&["faults", &server, option]);
        command.arg(&place);
        if option != "--out" {
            command.arg("--out").arg(&directory);
        }
        let finished = run(&mut command);
        assert_eq!(finished.status, Some(1), "{}", finished.stderr);
        assert!(finished.stderr.contains(&*file.to_string_lossy()), "{option}: {}", finished.stderr);
        assert!(!started.exists(), "{option}");
    }
}

#[test]
fn a_server_that_cannot_be_tested_is_one_sentence_and_status_1() {
    let closed = format!("127.0.0.1:{}", free_port());
    let refused = format!(
        "error: {closed}: expected: the server accepts a connection; came: connect: Connection refused (os error 111)\n"
    );
    for (arguments, sentence) in [
        (
            ["--server", "a=no-such-program {port}"],
            "error: a: the server has ended (exit status: 127), last output: \"sh: 1: exec: no-such-program: not found\"\n",
        ),
        (
            ["--server", "a=sh -c 'echo \"the file isn'\"'\"'t there\"; exit 3' {port}"],
            "error: a: the server has ended (exit status: 3), last output: \"the file isn't there\"\n",
        ),
        (["--connect", &closed], &refused),
    ] {
        let finished = faults("stranger", &arguments);
        assert_eq!((finished.status, &finished.stdout[..], &finished.stderr[..]), (Some(1), "", sentence));
    }
    let finished = faults("stranger", &["--server", &okloop(), "--banner", "Hello\\n"]);
    let sentence = "error: okloop: expected: the banner, \"Hello\\n\"; came: \"Welcome to the server. Type something and hit \
                    enter\\n\"\n";
    assert_eq!((finished.status, &finished.stdout[..], &finished.stderr[..]), (Some(1), "", sentence));
}

/// Two servers as their users write them. Each failure was checked by hand. The cases that compare times are left out.
#[test]
#[ignore = "needs python3, and takes a minute; .ci/run runs it"]
fn a_strangers_server_gets_the_verdicts_that_were_checked_by_hand() {
    if Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: no python3");
        return;
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign");
    let server = |name: &str| format!("{name}=python3 -u {} {{port}}", directory.join(name).display());
    let never = ["vanished", "sigterm", "sigterm-twice", "stop-behind-window"];
    // Any error in the main thread ends it: no file or memory for a session, a log that cannot be written.
    let threaded = [
        &never[..],
        &["few-open-files", "no-files-left", "memory-limit", "restart"],
        &["stdout-closed", "stdout-full", "stdout-unread"],
    ];
    let echo = &["--banner", "", "--prefix", ""][..];
    for (name, protocol, expected) in
        [("threaded.py", &[][..], threaded.concat()), ("asyncio_echo.py", echo, never.to_vec())]
    {
        let server = server(name);
        let arguments =
            [&["--skip", "flood,crowd,ten-thousand,polite-close", "--server", &server], protocol].concat();
        let finished = faults(name, &arguments);
        assert_eq!(finished.status, Some(1), "{}{}", finished.stdout, finished.stderr);
        let table = table(name);
        let failed = verdicts(&table, 0).into_iter().filter(|(_, verdict)| *verdict != "✓");
        let failed: BTreeSet<&str> = failed.map(|(case, _)| case).collect();
        assert_eq!(failed, expected.into_iter().collect(), "{name}");
    }
}

/// Two cases are left out. In `ten-thousand` the gateway needs 20,000 sockets, and more open files than most systems allow
/// it. In `crowd` it cannot give as many answers while the crowd comes in: an answer takes two of its iterations, and each
/// new client brings a second connection.
#[test]
#[ignore = "takes a minute; .ci/run runs it"]
fn a_gateway_passes_what_its_backend_passes() {
    let [backend, gateway] = ["examples/line_server", "examples/gateway"].map(program);
    let (backend, gateway) = (backend.display(), gateway.display());
    // The gateway is started when its backend listens (state 0A in proc_net_tcp.txt), and gets the signals.
    let both = format!(
        "gateway=behind=$(({{port}} - 2000)); {backend} $behind & \
         until grep -q \":$(printf %04X $behind) 00000000:0000 0A\" /proc/net/tcp; do sleep 0.01; done; \
         exec {gateway} {{port}} 127.0.0.1:$behind"
    );
    let backend = format!("backend={backend} {{port}}");
    let servers = ["--server", &both, "--server", &backend, "--skip", "crowd,ten-thousand"];
    let protocol = [
        ["--banner", "Type lines, then quit\\n"],
        ["--prefix", "{n}: "],
        ["--framing", "whole-lines"],
        ["--answer", "trimmed"],
        ["--end", "quit\\n"],
        ["--goodbye", "Goodbye\\n"],
    ];
    let finished = run(&mut command("gateway", &[&servers, protocol.as_flattened()].concat()));
    let table = table("gateway");
    let [of_gateway, of_backend] = [0, 1].map(|server| verdicts(&table, server));
    assert!(of_backend.len() > 35, "{}", finished.stderr);
    let failed = of_gateway
        .iter()
        .zip(&of_backend)
        .filter(|((_, gateway), (_, backend))| *backend == "✓" && *gateway != "✓");
    let failed: Vec<_> = failed.map(|((case, _), _)| case).collect();
    assert!(failed.is_empty(), "{failed:?}: {}", finished.stdout);
}

fn okloop() -> String {
    format!("okloop={} --host 127.0.0.1 --port {{port}} --drain-timeout 2", program("okloop").display())
}

fn out(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults-command").join(name)
}

fn command(name: &str, arguments: &[&str]) -> Command {
    let mut command = lab(&["faults", "--out"]);
    command.arg(out(name)).args(arguments).arg("--markdown").arg(out(name).join("table.md"));
    command
}

fn faults(name: &str, arguments: &[&str]) -> Finished {
    run(&mut command(name, arguments))
}

fn table(name: &str) -> String {
    fs::read_to_string(out(name).join("table.md")).expect("the table is there")
}

fn page(name: &str) -> String {
    fs::read_to_string(out(name).join("faults.html")).expect("the page is there")
}

/// Each case, and the verdict on the server with this number: rows of `| 1.2 no-newline | ✓ | ✗ |`.
fn verdicts(table: &str, server: usize) -> Vec<(&str, &str)> {
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    let cells = rows.map(|row| row.trim_matches(['|', ' ']).split(" | ").collect::<Vec<_>>());
    cells.map(|cells| (cells[0].split_once(' ').expect("a number and a name").1, cells[server + 1])).collect()
}

/// The directories in /proc of the processes that this one has started.
fn children(id: u32) -> Vec<PathBuf> {
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(|id| Path::new("/proc").join(id)).collect::<Vec<_>>())
        .collect()
}

/// A port at which nothing listens.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
