use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use mio::{Events, Poll};

use super::*;
use crate::handle::Handle;
use crate::requests::Asked;

const WAKER: Token = Token(7);

/// Its `poll` must live as long: it owns what the wakers write to.
fn wakes() -> (Wakes, Poll) {
    let poll = Poll::new().expect("a descriptor is left");
    (Wakes::new(poll.registry(), WAKER).expect("a descriptor is left"), poll)
}

fn all_woken(wakes: &mut Wakes) -> Vec<(usize, bool)> {
    wakes.begin_pass();
    std::iter::from_fn(|| wakes.next_woken()).collect()
}

#[test]
fn a_waker_has_at_most_16_bytes() {
    assert!(size_of::<Waker>() <= 16);
}

#[test]
fn each_key_has_a_place_of_its_own_in_blocks_that_grow() {
    let places: HashSet<_> = (0..100_000).map(place_of).collect();
    assert_eq!(places.len(), 100_000);
    assert!(places.iter().all(|&(block, place)| place < FIRST_BLOCK << block));
    assert!(place_of(MOST_KEYS - 1).0 < BLOCKS);
}

#[test]
fn many_wakes_are_one_turn_and_an_end_is_told() {
    let (mut wakes, _poll) = wakes();
    let (first, second) = (wakes.waker(3).unwrap(), wakes.waker(5000).unwrap());
    for _ in 0..3 {
        first.wake();
        second.wake();
    }
    second.end();
    let mut woken = all_woken(&mut wakes);
    woken.sort_unstable();
    assert_eq!(woken, [(3, false), (5000, true)]);
    first.wake();
    assert_eq!(all_woken(&mut wakes), [(3, false)]);
}

#[test]
fn a_session_that_is_woken_during_a_pass_has_its_turn_in_the_next_one() {
    let (mut wakes, _poll) = wakes();
    for key in [1, 2] {
        wakes.waker(key).unwrap().wake();
    }
    wakes.begin_pass();
    let (first, _) = wakes.next_woken().unwrap();
    wakes.wake(first);
    // The pass may go on in the next iteration.
    wakes.begin_pass();
    assert_eq!(wakes.next_woken(), Some((3 - first, false)));
    assert_eq!(wakes.next_woken(), None);
    assert!(!wakes.fall_asleep(true));
    assert_eq!(all_woken(&mut wakes), [(first, false)]);
}

#[test]
fn a_wake_of_a_session_that_has_ended_never_reaches_the_next_one() {
    let (mut wakes, _poll) = wakes();
    let old = wakes.waker(3).unwrap();
    // It was woken, and ended before its turn.
    old.wake();
    old.end();
    wakes.retire(3);
    let new = wakes.waker(3).unwrap();
    assert_ne!(old, new);
    assert_ne!(old.number(), new.number());
    old.wake();
    old.end();
    assert_eq!(all_woken(&mut wakes), []);
    new.wake();
    old.end();
    assert_eq!(all_woken(&mut wakes), [(3, false)]);
}

#[test]
fn a_wake_that_is_taken_early_is_not_given_again() {
    let (mut wakes, _poll) = wakes();
    let session = wakes.waker(3).unwrap();
    session.wake();
    assert!(wakes.take(3));
    assert!(!wakes.take(3));
    assert_eq!(all_woken(&mut wakes), []);
    session.end();
    assert!(!wakes.take(3), "an end is not a wake");
    assert_eq!(all_woken(&mut wakes), [(3, true)]);
}

#[test]
fn only_a_loop_that_sleeps_is_woken_with_an_event_and_only_once() {
    let (mut wakes, mut poll) = wakes();
    let mut events = Events::with_capacity(8);
    let mut count = |poll: &mut Poll| {
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        events.iter().count()
    };
    let session = wakes.waker(0).unwrap();
    session.wake();
    assert_eq!(count(&mut poll), 0, "the loop runs");
    assert!(!wakes.fall_asleep(true), "there is something to do");
    assert_eq!(all_woken(&mut wakes), [(0, false)]);
    assert!(wakes.fall_asleep(true));
    let handle = Handle::new(&wakes);
    for _ in 0..3 {
        session.wake();
        handle.report();
    }
    assert_eq!(count(&mut poll), 1);
    wakes.wake_up();
    assert_eq!(wakes.requests().take(), Some(Asked { report: true, ..Asked::default() }));
    assert_eq!(wakes.requests().take(), None);
}

/// The loop sleeps whenever it may, and each thread waits until its last wake has arrived. So a lost wake hangs the test.
#[test]
fn no_wake_of_four_threads_is_lost() {
    const THREADS: usize = 4;
    const ROUNDS: u64 = 20_000;
    let (mut wakes, mut poll) = wakes();
    let seen: Arc<Vec<AtomicU64>> = Arc::new((0..THREADS).map(|_| AtomicU64::new(0)).collect());
    let threads: Vec<_> = (0..THREADS)
        .map(|key| {
            let (session, seen) = (wakes.waker(key).unwrap(), Arc::clone(&seen));
            thread::spawn(move || {
                for round in 0..ROUNDS {
                    session.wake();
                    while seen[key].load(SeqCst) <= round {
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut events = Events::with_capacity(8);
    while seen.iter().any(|count| count.load(SeqCst) < ROUNDS) {
        let timeout = if wakes.fall_asleep(true) { Duration::from_secs(10) } else { Duration::ZERO };
        poll.poll(&mut events, Some(timeout)).unwrap();
        assert!(timeout.is_zero() || !events.is_empty(), "a wake was lost");
        wakes.wake_up();
        for (key, _) in all_woken(&mut wakes) {
            seen[key].fetch_add(1, SeqCst);
        }
    }
    for thread in threads {
        thread.join().expect("no wake fails");
    }
}
