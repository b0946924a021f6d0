//! What a client costs that has sent half a line and stays.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use okloop::Reason;
use okloop::config::INPUT_BUFFER;
use okloop::protocols::BANNER;

use crate::harness::{Client, Process, TELNET_BANNER, crowd, eventually};
use crate::vitals::Vitals;

/// Its answers have left, so it keeps no memory for output.
#[test]
fn half_a_line_costs_an_input_buffer_and_nothing_else() {
    const CLIENTS: usize = 268;
    let server = Process::okloop(&["--framing", "lines"]);
    let vitals = Vitals::of(&server);
    let mut clients = crowd(CLIENTS, server.port());
    // All spare buffers have been used whole.
    let line = [&[b'x'; 16_000][..], b"\n"].concat();
    clients[..40].iter_mut().for_each(|client| client.send(&line.repeat(4)));
    clients[..40].iter_mut().for_each(|client| client.expect(&[b"OK...", &line[..]].concat().repeat(4)));
    let before = vitals.resident_memory();
    for client in &mut clients {
        client.send(&[&line.repeat(4)[..], &line[..12_000]].concat());
    }
    for client in &mut clients {
        client.expect(&[b"OK...", &line[..]].concat().repeat(4));
    }
    let sent = (CLIENTS * (4 * line.len() + 12_000) + 40 * 4 * line.len()) as u64;
    eventually("the server has read everything", || server.stats().bytes_in == sent);
    let each = vitals.resident_memory().saturating_sub(before) / CLIENTS as u64;
    let (least, most) = (8_000, INPUT_BUFFER as u64 + 4_096);
    assert!((least..most).contains(&each), "{each} bytes a session");
}

#[test]
fn the_line_timeout_ends_a_session_whose_line_never_becomes_whole() {
    for (option, banner) in [(None, BANNER), (Some("--telnet"), TELNET_BANNER)] {
        let arguments = ["--framing", "lines", "--line-timeout", "0.4"].into_iter().chain(option);
        let server = Process::okloop(&arguments.collect::<Vec<_>>());
        let [mut silent, mut slow] = [(); 2].map(|()| Client::connect(server.port()));
        for client in [&mut silent, &mut slow] {
            client.expect(banner);
        }
        let start = Instant::now();
        slow.send(b"a whole line\r\nhalf");
        slow.expect(b"OK...a whole line\r\n");
        let (mut keyboard, is_over) = (slow.split(), AtomicBool::new(false));
        thread::scope(|scope| {
            // Each byte comes in time. The line does not.
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    keyboard.send(b"f");
                    thread::sleep(Duration::from_millis(20));
                }
            });
            assert_eq!(slow.read_to_end(), b"");
            is_over.store(true, Ordering::Relaxed);
        });
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(400), "{took:?}");
        silent.send(b"a line\r\n");
        silent.expect(b"OK...a line\r\n");
        drop((silent, slow, keyboard));
        assert_eq!(server.stop().stats().closed(Reason::Deadline), 1);
    }
}
