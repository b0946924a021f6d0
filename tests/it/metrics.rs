//! `--metrics`: what Prometheus and probes get, and when.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use okloop::config::HIGH_WATER;
use okloop::protocols::BANNER;

use crate::harness::{Client, Process, binary, eventually, inherited_files, lossy};
use crate::vitals::Vitals;

#[test]
fn the_counters_are_served_as_text() {
    let (server, metrics) = start(&["--max-connections", "5"]);
    let mut client = Client::greeted(server.port());
    client.ask(b"hello");
    Client::greeted(server.port()).reset();
    eventually("the reset is counted", || get(metrics, "/metrics").contains("{reason=\"reset\"} 1\n"));

    let page = get(metrics, "/metrics");
    let (head, text) = page.split_once("\r\n\r\n").expect("a head and a text");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}", text.len())), "{head}");
    for (name, value) in [
        ("okloop_sessions_open", 1),
        ("okloop_sessions_peak", 2),
        ("okloop_sessions_max", 5),
        ("okloop_connections_accepted_total", 2),
        ("okloop_sessions_ended_total{reason=\"finished\"}", 0),
        ("okloop_accept_pauses_total", 0),
        ("okloop_received_bytes_total", 5),
        ("okloop_sent_bytes_total", 2 * BANNER.len() + 10),
    ] {
        assert!(text.contains(&format!("\n{name} {value}\n")), "{name} in {text}");
    }
    let value = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect("there is such a figure").parse().expect("it is a number")
    };
    let vitals = Vitals::of(&server);
    let (told, memory) = (value("process_resident_memory_bytes"), vitals.resident_memory());
    assert!(told.abs_diff(memory) < memory / 2, "{told} told, {memory} used");
    // The request that asks for it, and the directory that it reads, have a file each.
    let (told, files) = (value("process_open_fds"), vitals.open_files() as u64);
    assert!(told.abs_diff(files) <= 2, "{told} told, {files} open");
    assert!(value("process_max_fds") > 20);
    // The scrapes are no sessions, and the log does not tell of them.
    let count = |text: &str| lossy(&server.stdout()).matches(text).count();
    eventually("the log tells of the sessions", || count("Connected with ") >= 2);
    let log = lossy(&server.stdout());
    assert_eq!(log.matches("Connected with ").count(), 2, "{log}");
    assert_eq!(log.matches("Socket created").count(), 1, "{log}");
}

#[test]
#[ignore = "needs promtool and curl; .ci/run installs and runs it"]
fn promtool_finds_nothing_wrong_in_what_curl_reads() {
    let (server, metrics) = start(&[]);
    Client::greeted(server.port()).ask(b"hello");
    let url = format!("http://127.0.0.1:{metrics}/metrics");
    let output = Command::new("curl").args(["--silent", "--show-error", "--fail", &url]).output();
    let page = output.expect("curl is installed");
    assert!(page.status.success(), "{}", lossy(&page.stderr));

    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = promtool.spawn().expect("promtool is installed");
    check.stdin.take().expect("it is piped").write_all(&page.stdout).expect("promtool reads");
    let output = check.wait_with_output().expect("promtool ends");
    let complaints = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && complaints.is_empty(), "{}", lossy(&complaints));
}

#[test]
#[ignore = "needs curl; .ci/run installs and runs it"]
fn curl_gets_several_pages_on_one_connection() {
    let (_server, metrics) = start(&[]);
    let urls = ["healthz", "metrics", "nothing"].map(|path| format!("http://127.0.0.1:{metrics}/{path}"));
    let format = "%{http_code} %{num_connects}\n";
    let mut curl = Command::new("curl");
    let output = curl.args(["--silent", "--write-out", format, "--output", "/dev/null"]).args(&urls[..1]);
    let output = output.args(["--output", "/dev/null", &urls[1], "--output", "/dev/null", &urls[2]]).output();
    let output = output.expect("curl is installed");
    assert_eq!(lossy(&output.stdout), "200 1\n200 0\n404 0\n");
}

#[test]
fn the_health_is_503_from_the_stop_until_the_end() {
    let (server, metrics) = start(&[]);
    let mut client = Client::greeted(server.port());
    assert!(get(metrics, "/healthz").starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(health(metrics), (Some(0), "serving\n".to_owned(), String::new()));
    server.signal(Signal::SIGTERM);
    assert_eq!(client.read_to_end(), b"");
    // The client does not end, so the drain goes on, and the second loop answers all the time.
    for _ in 0..20 {
        assert!(get(metrics, "/healthz").starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(get(metrics, "/metrics").contains("\nokloop_sessions_open 1\n"));
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(health(metrics), (Some(1), String::new(), "draining\n".to_owned()));
    drop(client);
    assert_eq!(server.finish().status, Some(0));
    let (status, stdout, stderr) = health(metrics);
    assert_eq!((status, &stdout[..]), (Some(1), ""));
    assert!(stderr.starts_with("Connection refused"), "{stderr}");
}

#[test]
fn a_port_in_use_is_a_start_error() {
    let busy = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let address = busy.local_addr().expect("it is bound").to_string();
    let finished = Process::okloop(&["--metrics", &address]).finish();
    let complaint =
        format!("--metrics: Bind failed. Error Code: 98 Message: Address already in use ({address})\n");
    assert_eq!((finished.status, finished.stderr), (Some(1), complaint));
}

#[test]
fn what_is_not_asked_for_as_it_should_be_is_refused_as_http_says() {
    let (_server, metrics) = start(&[]);
    let mut long = "GET /metrics HTTP/1.1\r\n".to_owned();
    (0..10).for_each(|number| write!(long, "X-{number}: {}\r\n", "x".repeat(1000)).expect("memory is left"));
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", "405 Method Not Allowed"),
        ("GET /metrics/ HTTP/1.1\r\nConnection: Close\r\n\r\n", "404 Not Found"),
        ("hello\r\n\r\n", "400 Bad Request"),
        (&long, "431 Request Header Fields Too Large"),
        ("GET /healthz?verbose HTTP/1.0\r\n\r\n", "200 OK"),
    ] {
        let answer = exchange(metrics, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer} to {request}");
    }
    let answer = exchange(metrics, "HEAD /healthz HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(answer.contains("Content-Length: 8\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn requests_that_arrive_together_or_in_parts_are_answered_in_order() {
    let (_server, metrics) = start(&[]);
    let requests = "GET /healthz HTTP/1.1\r\n\r\nGET /none HTTP/1.1\r\nConnection: close\r\n\r\n";
    let mut client = Client::connect(metrics);
    for part in requests.as_bytes().chunks(7) {
        client.send(part);
    }
    let answers = lossy(&client.read_to_end());
    let statuses: Vec<&str> = answers.lines().filter(|line| line.starts_with("HTTP/1.1 ")).collect();
    assert_eq!(statuses, ["HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found"]);
}

#[test]
#[ignore = "waits for HTTP's time-out, ten seconds"]
fn half_a_request_is_answered_in_the_end() {
    let (_server, metrics) = start(&[]);
    let mut client = Client::connect(metrics);
    client.send(b"GET /metrics");
    assert!(client.read_to_end().starts_with(b"HTTP/1.1 408 Request Timeout\r\n"));
}

#[test]
fn scrapers_take_no_room_from_sessions_and_sessions_none_from_scrapers() {
    // Standard streams, and as many as the server, its metrics, three sessions and three refusals need.
    let limit = (36..1024).find(|&limit| limit - inherited_files(limit) == 5 + 1 + 22 + 6);
    let limit = limit.expect("few files are open").to_string();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n $1 && shift && exec \"$0\" --port 0 --metrics 127.0.0.1:0 --host \"$@\""]);
    let server = Process::spawn(command.arg(binary("okloop")).args([&limit, "127.0.0.1"]));
    server.line_with(&format!("Limits: {limit} open files, 3 connections"));
    let metrics = metrics_port(&server);
    let _inside = [(); 3].map(|()| Client::greeted(server.port()));
    let _scrapers = [(); 16].map(|()| {
        let mut client = Client::connect(metrics);
        client.send(b"GET /healthz HTTP/1.1\r\n\r\n");
        client.expect(b"HTTP/1.1 200 OK\r\n");
        client
    });
    // A scraper too many is told so, and a client too.
    assert!(lossy(&Client::connect(metrics).read_to_end()).starts_with("HTTP/1.1 503 "));
    let _outside = [(); 5].map(|()| {
        let mut client = Client::connect(server.port());
        client.expect(crate::harness::FULL);
        client
    });
    let stats = server.stats();
    assert_eq!((stats.peak, stats.accept_pauses), (3, 0));
}

#[test]
#[ignore = "fills the buffers of twelve sessions, four seconds"]
fn the_report_names_the_ten_sessions_whose_output_has_waited_longest() {
    let server = Process::okloop(&["--write-timeout", "100"]);
    let payload = vec![b'x'; 64 << 20];
    let mut reader = Client::greeted(server.port());
    let slow: Vec<Client> = (0..12)
        .map(|_| {
            let mut client = Client::greeted(server.port());
            client.send_until_full(&payload);
            client
        })
        .collect();
    reader.ask(b"hello");
    server.signal(Signal::SIGUSR1);
    let waiting = || -> Vec<String> {
        let log = lossy(&server.stdout());
        let lines = log.lines().filter(|line| line.contains(" bytes of output pending for "));
        lines.map(|line| line.split_once("] ").expect("a module comes first").1.to_owned()).collect()
    };
    eventually("ten sessions are named", || waiting().len() == 10);
    let mut longest = f64::INFINITY;
    for (client, line) in slow.iter().zip(waiting()) {
        let (address, text) = line.split_once(": ").expect("an address comes first");
        assert_eq!(address, client.address().to_string(), "in this order");
        let (bytes, time) = text.split_once(" bytes of output pending for ").expect("bytes and a time");
        let bytes: usize = bytes.parse().expect("it is a number");
        assert!((HIGH_WATER..2 * HIGH_WATER).contains(&bytes), "{line}");
        let (number, unit) = time.split_at(time.find(|c: char| c.is_alphabetic()).expect("a unit"));
        let seconds = number.parse::<f64>().expect("a number") / if unit == "ms" { 1000.0 } else { 1.0 };
        assert!(seconds <= longest && seconds < 60.0, "{line}");
        longest = seconds;
    }
}

/// A server, and the port of its metrics.
fn start(arguments: &[&str]) -> (Process, u16) {
    let server = Process::okloop(&[&["--metrics", "127.0.0.1:0"], arguments].concat());
    let port = metrics_port(&server);
    (server, port)
}

pub fn metrics_port(server: &Process) -> u16 {
    let line = server.line_with("Metrics on http://127.0.0.1:");
    let port = line.rsplit(':').next().and_then(|rest| rest.strip_suffix("/metrics"));
    port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port in {line:?}"))
}

/// An answer, head and text.
fn get(port: u16, path: &str) -> String {
    exchange(port, &format!("GET {path} HTTP/1.1\r\nHost: okloop\r\nConnection: close\r\n\r\n"))
}

/// What the server says until it ends the connection. It may answer before it has read everything.
fn exchange(port: u16, request: &str) -> String {
    let mut client = Client::connect(port);
    if let Err(error) = client.stream().write_all(request.as_bytes()) {
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    }
    lossy(&client.read_to_end())
}

/// What `--health` says of the server with these metrics.
fn health(metrics: u16) -> (Option<i32>, String, String) {
    let finished = Process::start("okloop", &["--health", &format!("127.0.0.1:{metrics}")]).finish();
    (finished.status, lossy(&finished.stdout), finished.stderr)
}
