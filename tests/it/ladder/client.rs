//! `google_get` against servers that answer it in one way or another.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use socket2::{Domain, Socket, Type};

use super::with_full_stdout;
use crate::harness::{Client, Finished, Process, lossy, numbered_lines};

#[test]
fn google_get_prints_the_tutorials_lines_and_the_reply() {
    let reply = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 5\r\n\r\nmoved";
    let finished = google_get("30", |mut browser| browser.send(reply));
    assert_eq!((finished.status, &finished.stderr[..]), (Some(0), ""));
    assert_eq!(lossy(&finished.stdout), format!("{STEPS}{}", lossy(reply)));
}

#[test]
fn google_get_prints_a_reply_that_arrives_in_many_pieces() {
    let reply = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), numbered_lines(3_000_000)].concat();
    let sent = reply.clone();
    let finished = google_get("30", move |mut browser| {
        let (slowly, fast) = sent.split_at(100);
        slowly.chunks(1).for_each(|byte| browser.send(byte));
        browser.send(fast);
    });
    assert_eq!(finished.status, Some(0));
    assert!(finished.stdout == [STEPS.as_bytes(), &reply].concat());
}

#[test]
fn google_get_ends_a_reply_that_has_no_end() {
    let finished = google_get("30", |browser| {
        // More than the client takes. The rest meets a closed socket.
        let _ = browser.stream().write_all(&vec![b'x'; 64 << 20]);
    });
    assert_eq!(finished.status, Some(1));
    assert_eq!(finished.stderr, format!("The reply is cut after {} bytes\n", 16 << 20));
    assert_eq!(finished.stdout.len(), STEPS.len() + (16 << 20));
}

#[test]
fn google_get_does_not_wait_for_ever_and_prints_what_came() {
    let reply = b"HTTP/1.1 200 OK\r\n\r\nhel";
    let finished = google_get("1", |mut browser| {
        browser.send(reply);
        browser.read_to_end();
    });
    assert_eq!(finished.status, Some(1));
    assert!(finished.stderr.starts_with("Receive failed or timed out"), "{}", finished.stderr);
    assert!(finished.stdout.ends_with(reply), "{}", lossy(&finished.stdout));
}

#[test]
fn google_get_says_that_the_connection_was_reset() {
    let finished = google_get("30", Client::reset);
    assert_eq!(finished.status, Some(1));
    assert!(finished.stderr.contains("Connection reset by peer"), "{}", finished.stderr);
}

#[test]
fn google_get_says_that_its_output_failed() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let client = with_full_stdout("google_get", &["127.0.0.1", &port]);
    let mut browser = Client::from(listener.accept().unwrap().0);
    browser.send(b"hello");
    browser.half_close();
    let finished = client.finish();
    assert_eq!(finished.status, Some(1));
    assert_eq!(finished.stderr, "No space left on device (os error 28)\n");
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
/// says. When `reply` is over, the server closes.
fn google_get(patience: &str, reply: impl FnOnce(Client) + Send + 'static) -> Finished {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let client = Process::start("google_get", &["127.0.0.1", &port, patience]);
    let server = thread::spawn(move || {
        let mut browser = Client::from(listener.accept().unwrap().0);
        let request = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
        browser.expect(request.as_bytes());
        reply(browser);
    });
    let finished = client.finish();
    server.join().expect("the server was asked as expected");
    finished
}
