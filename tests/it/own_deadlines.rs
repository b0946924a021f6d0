//! Deadlines of the sessions' own, and calls that the loop makes again and again.

use std::io::{Read, Write};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use okloop::{AtDeadline, Buffer, Config, Reason, Session, Step, Timer};

use crate::harness::{Client, Clock, Embedded, bind, eventually, loopback, session_of};

/// How long a client has to log in.
const LOGIN: Duration = Duration::from_millis(200);

/// Wants a first line in time. Later lines may take as long as they like.
struct Login {
    timer: Timer,
}

impl Session for Login {
    fn greet(&mut self, output: &mut Buffer) {
        output.push(b"Name? ");
        self.timer = Timer::Start(LOGIN);
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else { return Step::NeedInput };
        self.timer = Timer::Stop;
        output.push(&input[..=end]);
        Step::Consumed(end + 1)
    }

    fn ending(&mut self, reason: Reason, output: &mut Buffer) {
        if reason == Reason::Deadline {
            output.push(b"\nToo late\n");
        }
    }

    fn timer(&mut self) -> Timer {
        mem::take(&mut self.timer)
    }
}

#[test]
fn a_login_time_out_ends_with_a_last_word_however_the_client_dawdles() {
    let server = Embedded::run(bind(loopback()), |_| Login { timer: Timer::Keep });
    let mut quick = Client::connect(server.port());
    quick.expect(b"Name? ");
    quick.send(b"quick\n");
    quick.expect(b"quick\n");

    let start = Instant::now();
    let mut slow = Client::connect(server.port());
    slow.expect(b"Name? ");
    let (typist, is_over) = (slow.split(), AtomicBool::new(false));
    thread::scope(|scope| {
        // A deadline that starts again with each byte would never be over.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed)
                && start.elapsed() < LOGIN * 20
                && typist.stream().write_all(b"x").is_ok()
            {
                thread::sleep(LOGIN / 5);
            }
        });
        assert_eq!(slow.read_to_end(), b"\nToo late\n");
        is_over.store(true, Ordering::Relaxed);
    });
    let took = start.elapsed();
    assert!((LOGIN..LOGIN * 10).contains(&took), "{took:?}");

    quick.send(b"still there?\n");
    quick.expect(b"still there?\n");
    drop((quick, slow, typist));
    let (_, stats) = server.stop();
    assert_eq!((stats.closed(Reason::Deadline), stats.closed(Reason::Finished)), (1, 1));
}

#[test]
fn a_session_that_waits_too_long_for_its_answer_gives_up_and_goes_on() {
    struct Patient {
        timer: Timer,
        waits: bool,
        is_over: bool,
    }
    impl Session for Patient {
        fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
            if input.is_empty() {
                return Step::NeedInput;
            }
            if mem::take(&mut self.is_over) {
                self.waits = false;
                output.push(b"no answer\n");
                return Step::Consumed(1);
            }
            if !mem::replace(&mut self.waits, true) {
                self.timer = Timer::Start(Duration::from_millis(30));
            }
            Step::Wait
        }

        fn timer(&mut self) -> Timer {
            mem::take(&mut self.timer)
        }

        fn deadline(&mut self) -> AtDeadline {
            self.is_over = true;
            AtDeadline::GoOn
        }
    }
    let server =
        Embedded::run(bind(loopback()), |_| Patient { timer: Timer::Keep, waits: false, is_over: false });
    let mut client = Client::connect(server.port());
    client.send(b"xyz");
    client.half_close();
    assert_eq!(client.read_to_end(), b"no answer\n".repeat(3));
}

/// A session's own clock is no sign of life from its client.
#[test]
fn a_sessions_own_deadlines_do_not_keep_an_idle_client() {
    const PERIOD: Duration = Duration::from_millis(50);
    let config = Config { idle_timeout: Some(PERIOD * 4), ..loopback() };
    let server = Embedded::run(bind(config), |_| Clock::new(PERIOD));
    let mut client = Client::connect(server.port());
    // A session without an end would say more.
    let mut received = Vec::new();
    client.expect(b"tick\n");
    client.stream().take(500).read_to_end(&mut received).expect("the server closes in order");
    assert!(received.len() < 500, "it goes on");
    drop(client);
    let (_, stats) = server.stop();
    assert_eq!(stats.closed(Reason::IdleTimeout), 1);
}

/// A session blocks the loop for some periods, which it must not do. The calls that were missed are not made up for.
#[test]
fn a_tick_comes_after_each_period_with_clients_or_without_and_never_in_a_burst() {
    const PERIOD: Duration = Duration::from_millis(10);
    let ticks = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ticks);
    let start = Instant::now();
    let server = Embedded::run_by(bind(loopback()), move |server| {
        let blocking = || {
            session_of(|input, output| {
                if input.is_empty() {
                    return Step::NeedInput;
                }
                thread::sleep(PERIOD * 10);
                output.push(input);
                Step::Consumed(input.len())
            })
        };
        let tick = move || seen.lock().expect("no holder of the lock panics").push(Instant::now());
        server.run_with_tick(|_| blocking(), PERIOD, tick)
    });
    let ticks = || ticks.lock().expect("no holder of the lock panics").clone();
    eventually("there are ticks without a client", || ticks().len() >= 10);
    let mut client = Client::connect(server.port());
    client.send(b"block");
    client.expect(b"block");
    let before = ticks().len();
    eventually("there are ticks after it", || ticks().len() >= before + 10);

    let ticks = ticks();
    for (number, tick) in (1..).zip(&ticks) {
        assert!(*tick - start >= PERIOD * number, "tick {number} is early");
    }
    let burst = ticks.windows(6).find(|few| few[5] - few[0] < PERIOD * 2);
    assert!(burst.is_none(), "six ticks within {:?}", burst.map(|few| few[5] - few[0]));
}
