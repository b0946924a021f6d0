//! `google_get` against servers that answer it in one way or another.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use socket2::{Domain, Socket, Type};

use super::with_full_stdout;
use crate::harness::{Client, Finished, Process, lossy, numbered_lines};

#[test]
fn google_get_prints_the_tutorials_lines_and_a_reply_with_a_length() {
    let reply = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 5\r\n\r\nmoved";
    let finished = google_get("30", |mut browser| {
        browser.send(reply);
        browser.read_to_end();
    });
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    assert_eq!(lossy(&finished.stdout), format!("{STEPS}{}", lossy(reply)));
}

#[test]
fn google_get_prints_a_body_of_any_length() {
    let body = numbered_lines(3_000_000);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let reply = [head.as_bytes(), &body].concat();
    let sent = reply.clone();
    let finished = google_get("30", move |mut browser| {
        browser.send(&sent);
        browser.read_to_end();
    });
    assert_eq!(finished.status, Some(0));
    assert!(finished.stdout == [STEPS.as_bytes(), &reply].concat());
}

#[test]
fn google_get_finds_the_end_of_a_chunked_reply_sent_byte_by_byte() {
    let reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                  c;odd=yes\r\nhello, world\r\n1\r\n\n\r\n0\r\nTrailer: x\r\n\r\n";
    let finished = google_get("30", |mut browser| {
        reply.chunks(1).for_each(|byte| browser.send(byte));
        browser.read_to_end();
    });
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    assert_eq!(lossy(&finished.stdout), format!("{STEPS}{}", lossy(reply)));
}

#[test]
fn google_get_reads_to_the_end_of_input_where_no_length_is_given() {
    let reply = b"HTTP/1.0 200 OK\r\n\r\nuntil I close";
    let finished = google_get("30", |mut browser| browser.send(reply));
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    assert!(finished.stdout.ends_with(reply));
}

#[test]
fn google_get_says_that_a_reply_is_not_complete() {
    let truncated = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel";
    let finished = google_get("30", |mut browser| browser.send(truncated));
    assert_eq!(finished.status, Some(1));
    // On a line of its own, as the reply stops within one.
    assert_eq!(finished.stderr, "\nThe server closed the connection before the end of its reply\n");
    assert!(finished.stdout.ends_with(truncated), "what has come is printed");
}

#[test]
fn google_get_does_not_wait_for_ever() {
    let finished = google_get("1", |mut browser| {
        browser.read_to_end();
    });
    assert_eq!(finished.status, Some(1));
    assert!(finished.stderr.starts_with("Receive timed out"), "{}", finished.stderr);
}

#[test]
fn google_get_says_that_a_reply_is_malformed() {
    let finished = google_get("30", |mut browser| browser.send(b"SSH-2.0-OpenSSH_9.2\r\n"));
    assert_eq!(finished.status, Some(1));
    assert_eq!(finished.stderr, "The reply is malformed: invalid HTTP version\n");
    assert!(finished.stdout.ends_with(b"\nSSH-2.0-OpenSSH_9.2\r\n"), "what has come is printed");
}

#[test]
fn google_get_says_that_its_output_failed() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let finished = with_full_stdout("google_get", &["127.0.0.1", &port]).finish();
    assert_eq!(finished.status, Some(1));
    assert_eq!(finished.stderr, "Standard output failed: No space left on device (os error 28)\n");
}

#[test]
fn google_get_says_which_step_failed() {
    let unresolved = Process::start("google_get", &["no-such-host.invalid"]).finish();
    assert_eq!(unresolved.status, Some(1));
    assert_eq!(unresolved.stderr, "Hostname could not be resolved. Exiting\n");

    // A port that is ours and does not listen, so that no other test can be given it.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = silent.local_addr().unwrap().as_socket().expect("it is an IPv4 address").port();
    let refused = Process::start("google_get", &["127.0.0.1", &port.to_string()]).finish();
    assert_eq!(refused.status, Some(1));
    assert!(refused.stderr.starts_with("Socket connect failed"), "{}", refused.stderr);
    assert_eq!(refused.stdout, b"Socket Created\nIp address of 127.0.0.1 is 127.0.0.1\n");

    for arguments in [&["localhost", "http"][..], &["localhost", "80", "0"], &["--host"]] {
        assert_eq!(Process::start("google_get", arguments).finish().status, Some(2), "{arguments:?}");
    }
}

/// What `google_get` prints before a reply from this machine.
const STEPS: &str = "Socket Created\nIp address of 127.0.0.1 is 127.0.0.1\n\
                     Socket Connected to 127.0.0.1 on ip 127.0.0.1\nMessage send successfully\n";

/// Runs `google_get`, patient for so many seconds, against a server that takes its request and then does as `reply`
/// says. A server that reads to the end there keeps the connection open until `google_get` has ended.
fn google_get(patience: &str, reply: impl FnOnce(Client) + Send + 'static) -> Finished {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let client = Process::start("google_get", &["127.0.0.1", &port, patience]);
    let server = thread::spawn(move || {
        let mut browser = Client::from(listener.accept().unwrap().0);
        browser.expect(b"GET / HTTP/1.1\r\n\r\n");
        reply(browser);
    });
    let finished = client.finish();
    server.join().expect("the server was asked as expected");
    finished
}
