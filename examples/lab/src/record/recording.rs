//! A recording: the loop's events as steps that a page can show.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use okloop::Address;
use okloop::config::HIGH_WATER;
use okloop::trace::{Cause, Event, Place, Readable, State, Timeout};
use serde::Serialize;
use serde_json::json;

use super::texts::{Language, Sentences, fill};
use crate::support::{count, time};

/// The version of the JSON.
pub const VERSION: u32 = 1;

/// How many events a recording holds (events). The oldest are dropped, and the recording says how many.
pub const RING: usize = 100_000;

/// The newest events.
#[derive(Debug)]
pub struct Ring {
    size: usize,
    events: VecDeque<(Instant, Event, Place)>,
    dropped: usize,
}

impl Ring {
    /// A ring for so many events.
    pub fn new(size: usize) -> Self {
        Self { size, events: VecDeque::new(), dropped: 0 }
    }

    /// Adds an event. A full ring drops its oldest one.
    pub fn push(&mut self, time: Instant, event: Event, place: Place) {
        if self.events.len() == self.size {
            self.events.pop_front();
            self.dropped += 1;
        }
        self.events.push_back((time, event, place));
    }
}

/// What a client of a scene saw.
#[derive(Debug, Serialize)]
pub struct Seen {
    /// Its address.
    pub peer: SocketAddr,
    /// Its name in the scene.
    pub name: String,
    /// Bytes that its kernel took from it.
    pub sent: usize,
    /// Bytes that it received.
    pub received: usize,
}

/// What a server did, and what its clients saw. It can be told in each language.
#[derive(Debug)]
pub struct Played {
    /// The name of the scene.
    pub scene: &'static str,
    pub ring: Ring,
    pub names: HashMap<SocketAddr, String>,
    pub clients: Vec<Seen>,
}

/// Everything that the page shows.
#[derive(Debug, Serialize)]
pub struct Recording {
    version: u32,
    scene: &'static str,
    look_for: String,
    high_water: usize,
    dropped: usize,
    sessions: Vec<SessionInfo>,
    steps: Vec<Step>,
    clients: Vec<Seen>,
}

#[derive(Debug, Serialize)]
struct SessionInfo {
    peer: String,
    name: String,
}

/// One step. A step of a session also says what the session is like after it.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Microseconds since the first step.
    pub at: u64,
    /// The iteration of the loop.
    pub iteration: usize,
    pub kind: &'static str,
    /// The index of the session, if the step is one of a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<usize>,
    /// Bytes that the step moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    #[serde(flatten)]
    pub now: Now,
    /// The step in one sentence.
    pub text: String,
    /// The rule in chapter 16 of the course, if the step shows one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<u8>,
    /// Where it happens: a file of the project, and a line.
    pub place: String,
    /// A moment that the page lists.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub key: bool,
}

/// What the steps so far say about a session.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Now {
    input: usize,
    output: usize,
    /// What the kernel reports: `R`, `W`, `RW`, or nothing yet.
    interest: &'static str,
    state: &'static str,
    /// The session waits for an answer that is made elsewhere, and its client is not read.
    #[serde(skip)]
    waits: bool,
}

impl Recording {
    /// Tells what was played.
    pub fn new(played: &Played, language: &Language, look_for: String) -> Self {
        let names = played.names.iter().map(|(peer, name)| (*peer, language.name(name))).collect();
        let mut story = Story { names, ..Story::default() };
        for (time, event, place) in &played.ring.events {
            story.tell(&language.sentences, *time, event, *place);
        }
        let clients = played.clients.iter().map(|seen| Seen { name: language.name(&seen.name), ..*seen });
        Self {
            version: VERSION,
            scene: played.scene,
            look_for,
            high_water: HIGH_WATER,
            dropped: played.ring.dropped,
            sessions: story.sessions,
            steps: story.steps,
            clients: clients.collect(),
        }
    }

    /// The number, from 0, of the first step whose sentence has `words` in it.
    pub fn find(&self, words: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.text.contains(words))
    }

    /// What to look for.
    pub fn look_for(&self) -> &str {
        &self.look_for
    }

    /// The number, from 0, of the first moment that shows a rule of the course.
    pub fn shows(&self, rule: u8) -> Option<usize> {
        self.steps.iter().position(|step| step.key && step.rule == Some(rule))
    }

    /// The files in which the steps are.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| Some(step.place.split_once(':')?.0))
    }

    /// The steps in the Trace Event Format of Chrome, which Perfetto opens: a thread for the loop, one for each session,
    /// and each session's pending output as a counter. Times are in microseconds.
    pub fn chrome(&self) -> serde_json::Value {
        // Perfetto takes thread 0 for the idle one, and the thread with the number of the process for its main one.
        let named = |what: &str, id: usize, name: &str| json!({ "ph": "M", "name": what, "pid": 1, "tid": id, "args": { "name": name } });
        let mut events = vec![named("process_name", 1, self.scene), named("thread_name", 1, "the loop")];
        events.extend(self.sessions.iter().enumerate().map(|(i, s)| named("thread_name", i + 2, &s.name)));
        let mut pending = vec![0; self.sessions.len()];
        for (index, step) in self.steps.iter().enumerate() {
            let next = self.steps.get(index + 1).map_or(step.at, |next| next.at);
            let id = step.session.map_or(1, |session| session + 2);
            events.push(json!({
                "ph": "X", "name": step.kind, "cat": "step", "pid": 1, "tid": id, "ts": step.at, "dur": next - step.at,
                "args": { "text": step.text, "iteration": step.iteration },
            }));
            if let Some(session) = step.session.filter(|&session| pending[session] != step.now.output) {
                pending[session] = step.now.output;
                let name = format!("pending output of {}", self.sessions[session].name);
                events.push(json!({ "ph": "C", "name": name, "pid": 1, "ts": step.at, "args": { "bytes": step.now.output } }));
            }
        }
        json!({ "traceEvents": events })
    }
}

/// The steps so far.
#[derive(Default)]
struct Story {
    names: HashMap<SocketAddr, String>,
    sessions: Vec<SessionInfo>,
    by_peer: HashMap<Address, usize>,
    by_key: HashMap<usize, usize>,
    now: Vec<Now>,
    steps: Vec<Step>,
    start: Option<Instant>,
    /// When `poll` was called last.
    asked: Option<Instant>,
    iteration: usize,
    /// The length of the last time-out of each session.
    lengths: HashMap<usize, Duration>,
}

impl Story {
    fn info(&self, peer: Address) -> SessionInfo {
        let name = peer.ip().and_then(|peer| self.names.get(&peer).cloned());
        SessionInfo { peer: peer.to_string(), name: name.unwrap_or_else(|| peer.to_string()) }
    }

    fn session(&mut self, peer: Address) -> usize {
        if let Some(&session) = self.by_peer.get(&peer) {
            return session;
        }
        self.sessions.push(self.info(peer));
        self.now.push(Now::default());
        self.by_peer.insert(peer, self.sessions.len() - 1);
        self.sessions.len() - 1
    }

    /// The session that the event is about.
    fn session_of(&mut self, event: &Event) -> Option<usize> {
        match *event {
            Event::TimeoutStarted { key, .. } | Event::TimeoutFired { key, .. } => {
                self.by_key.get(&key).copied()
            }
            Event::Opened { key, peer }
            | Event::Proxied { key, peer }
            | Event::ConnectStarted { key, peer }
            | Event::Refused { key, peer, .. } => {
                // The system may give an address to a later client again.
                self.by_peer.remove(&peer);
                let session = self.session(peer);
                self.by_key.insert(key, session);
                Some(session)
            }
            Event::Introduced { peer, client } => {
                let session = self.session(peer);
                if let Some(client) = client {
                    // The next steps name the client.
                    self.by_peer.remove(&peer);
                    self.by_peer.insert(client, session);
                    self.sessions[session] = self.info(client);
                }
                Some(session)
            }
            Event::Turn { peer, .. }
            | Event::Interest { peer, .. }
            | Event::Closed { peer, .. }
            | Event::Call { peer, .. }
            | Event::CallFailed { peer, .. }
            | Event::Panicked { peer, .. }
            | Event::Answered { peer, .. }
            | Event::Waiting { peer }
            | Event::State { peer, .. } => Some(self.session(peer)),
            _ => None,
        }
    }

    fn tell(&mut self, t: &Sentences, at: Instant, event: &Event, place: Place) {
        let start = *self.start.get_or_insert(at);
        if matches!(event, Event::PollStart { .. }) {
            self.iteration += 1;
            self.asked = Some(at);
        }
        let mut waited = self.asked.map_or(Duration::ZERO, |asked| at - asked);
        let session = self.session_of(event);
        if let Event::TimeoutStarted { key, length, .. } = event {
            self.lengths.insert(*key, *length);
        }
        let before = session.map(|session| self.now[session]).unwrap_or_default();
        let mut now = before;
        match event {
            Event::Call { input, output, .. } | Event::Answered { input, output, .. } => {
                // A session that lingers discards its input.
                (now.input, now.output) = (if now.state == "Lingering" { 0 } else { *input }, *output);
            }
            Event::State { state, .. } => now.state = (*state).into(),
            Event::Waiting { .. } => now.waits = true,
            Event::Interest { interest, .. } => {
                now.interest = match (interest.is_readable(), interest.is_writable()) {
                    (true, true) => "RW",
                    (true, false) => "R",
                    _ => "W",
                }
            }
            Event::Opened { .. } | Event::Proxied { .. } => now.state = "New",
            Event::ConnectStarted { .. } => now.state = "Connecting",
            Event::Refused { .. } => now.state = "Finishing",
            Event::Closed { .. } => now = Now { state: "Closed", ..Now::default() },
            _ => {}
        }
        if let Some(session) = session {
            self.now[session] = now;
        }
        if let Event::TimeoutFired { key, .. } = event {
            waited = self.lengths.get(key).copied().unwrap_or_default();
        }
        let name = session.map(|session| self.sessions[session].name.clone()).unwrap_or_default();
        let text_of = |template: &str| {
            fill(template, |place| match place {
                "name" => name.clone(),
                _ => value(place, t, event, before, now, waited),
            })
        };
        let (kind, rule, key, halves) = sentence(t, event, before, now);
        let text = text_of(&halves.concat());
        // Only now it is known why `poll` did not wait.
        if let Event::TimeoutFired { .. } = event
            && let Some(poll) = self.steps.iter_mut().rev().find(|step| step.kind == "poll")
            && poll.text == t.poll_looks
        {
            poll.text = text_of(t.poll_judges);
        }
        if let (Some(session), Event::Interest { .. }) = (session, event) {
            self.now[session].waits &= !now.interest.contains('R');
        }
        let bytes = if let Event::Call { bytes, .. } = event { *bytes } else { None };
        self.steps.push(Step {
            at: u64::try_from((at - start).as_micros()).unwrap_or(u64::MAX),
            iteration: self.iteration,
            kind,
            session,
            bytes,
            now,
            text,
            rule: Some(rule).filter(|&rule| rule > 0),
            place: format!("{}:{}", place.file, place.line),
            key,
        });
    }
}

/// The kind of a step, its rule in the course or 0, whether the page lists it, and its sentence in two halves.
type Told = (&'static str, u8, bool, [&'static str; 2]);

/// Tells one step.
fn sentence(t: &Sentences, event: &Event, before: Now, now: Now) -> Told {
    match *event {
        Event::PollStart { timeout: None } => ("poll", 11, false, [t.poll_waits, ""]),
        Event::PollStart { timeout: Some(Duration::ZERO) } => ("poll", 13, false, [t.poll_looks, ""]),
        Event::PollStart { .. } => ("poll", 13, false, [t.poll_waits_for, ""]),
        Event::PollEnd { events, .. } => ("batch", 6, events > 1, [t.poll_returns, ""]),
        Event::Turn { cause, .. } => turn(t, cause, before),
        Event::Call { call, bytes, .. } => moved(t, call, bytes, now),
        Event::Answered { .. } => {
            let mark = if now.output >= HIGH_WATER { t.answers_no_more } else { "" };
            ("answer", 12, false, [t.answers, mark])
        }
        Event::State { state, .. } => entered(t, state),
        Event::Interest { rearm: true, .. } => ("rearm", 2, true, [t.rearms, ""]),
        Event::Interest { .. } => interest(t, before, now),
        Event::TimeoutStarted { .. } => ("timer", 13, false, [t.timer_starts, ""]),
        Event::TimeoutFired { timeout, .. } => ("timeout", 13, true, [t.late, timer(t, timeout).1]),
        Event::Requested { stop: true, .. } => ("request", 0, false, [t.asked_to_stop, ""]),
        Event::Requested { report: true, .. } => ("request", 0, false, [t.holds, ""]),
        Event::Requested { .. } => ("request", 0, false, [t.asked_to_stop_now, ""]),
        Event::Stopping { open: 0, .. } => ("drain", 9, false, [t.recording_ends, ""]),
        Event::Stopping { .. } => ("drain", 9, true, [t.drains, ""]),
        Event::ListenerReady => ("event", 3, false, [t.listener_ready, ""]),
        Event::ListenerRearmed => ("rearm", 2, false, [t.listener_rearmed, ""]),
        Event::Accepting { quota } => ("accept", 3, quota > 1, [t.accepts, ""]),
        Event::AcceptFailed { is_empty: true, .. } => ("accept", 1, false, [t.accept_blocks, ""]),
        Event::AcceptFailed { .. } => ("accept", 4, false, [t.accept_fails, ""]),
        Event::AcceptPaused { .. } => ("pause", 4, true, [t.accept_pauses, ""]),
        Event::Opened { .. } => ("open", 3, false, [t.opens, ""]),
        Event::ConnectStarted { .. } => ("open", 18, true, [t.connects, ""]),
        Event::Refused { .. } => ("refuse", 9, true, [t.refuses, ""]),
        Event::Waiting { .. } => ("wait", 14, true, [t.waits, ""]),
        Event::CallFailed { .. } => ("error", 6, true, [t.call_fails, ""]),
        Event::Closed { .. } => ("close", 7, false, [t.closes, ""]),
        // The words of the log.
        Event::Proxied { .. } | Event::Introduced { .. } => ("open", 3, false, ["{log}.", ""]),
        _ => ("other", 6, false, ["{log}.", ""]),
    }
}

/// What stands in a place of a sentence that tells `event`. `waited` is how long the last `poll` lasted, or the time-out
/// that is over.
fn value(place: &str, t: &Sentences, event: &Event, before: Now, now: Now, waited: Duration) -> String {
    let number = match *event {
        Event::PollEnd { events, .. } => events,
        Event::Accepting { quota } => quota,
        Event::AcceptPaused { open, .. } | Event::Refused { open, .. } | Event::Stopping { open, .. } => open,
        _ => 0,
    };
    match (place, event) {
        ("before", _) => before.output.to_string(),
        ("input", _) => now.input.to_string(),
        ("output", _) => now.output.to_string(),
        ("high_water", _) => HIGH_WATER.to_string(),
        ("call", Event::Call { call, .. } | Event::CallFailed { call, .. }) => (*call).to_owned(),
        ("bytes", Event::Call { bytes: Some(bytes), .. }) => bytes.to_string(),
        ("count", _) => count(number).to_string(),
        ("s", _) => if number == 1 { "" } else { "s" }.to_owned(),
        ("time", Event::PollStart { timeout: Some(time_out) }) => time(*time_out),
        ("time", Event::TimeoutStarted { length, .. }) => time(*length),
        ("time", Event::Stopping { timeout, .. }) => time(*timeout),
        ("time", _) => time(waited),
        ("timer", Event::TimeoutStarted { timeout, .. } | Event::TimeoutFired { timeout, .. }) => {
            timer(t, *timeout).0.to_owned()
        }
        ("state", Event::State { state, .. }) => format!("{state:?}"),
        (
            "error",
            Event::AcceptFailed { error, .. }
            | Event::AcceptPaused { error, .. }
            | Event::CallFailed { error, .. },
        ) => error.clone(),
        ("reason", Event::Closed { reason, .. }) => reason.to_string().replace("_timeout", t.reason_timeout),
        ("log", _) => event.to_string(),
        _ => unreachable!("no step has a {place}: {event}"),
    }
}

/// The name of a time-out, and what it means that it is over.
fn timer(t: &Sentences, timeout: Timeout) -> (&'static str, &'static str) {
    match timeout {
        Timeout::Idle => (t.idle, t.late_idle),
        Timeout::Write => (t.write, t.late_write),
        Timeout::Linger => (t.linger, t.late_linger),
        Timeout::Quiet => (t.quiet, t.late_quiet),
        Timeout::Connect => (t.connect, t.late_connect),
        _ => (t.own, t.late_own),
    }
}

fn turn(t: &Sentences, cause: Cause, before: Now) -> Told {
    let (rule, is_key, why) = match cause {
        Cause::Ready(ready) => match (ready.readable, ready.writable) {
            (Readable::No, true) if before.interest.contains('W') => (6, true, t.turn_has_room),
            (Readable::No, _) => (6, false, t.turn_writable),
            (_, false) => (6, false, t.turn_readable),
            (_, true) => (6, false, t.turn_ready),
        },
        Cause::Woken => (14, true, t.turn_woken),
        Cause::End => (14, true, t.turn_ended),
        Cause::Stop(_) => (14, true, t.turn_stopped),
        _ => (14, true, t.turn_late),
    };
    ("turn", rule, is_key, [t.turn, why])
}

/// A call that moved so many bytes, or would have blocked.
fn moved(t: &Sentences, call: &'static str, bytes: Option<usize>, now: Now) -> Told {
    let (pends, is_read) = (now.output > 0, call == "read");
    let (rule, is_key, text) = match bytes {
        None if is_read => (1, false, [t.reads_nothing, ""]),
        None => (1, false, [t.writes_nothing, ""]),
        Some(0) if is_read => (8, pends, [t.input_ends, if pends { t.still_sends } else { t.nothing_pends }]),
        Some(_) if is_read && now.state == "Lingering" => (1, false, [t.discards, ""]),
        Some(_) if is_read => (1, false, [t.reads, ""]),
        Some(_) if pends => (1, true, [t.writes_some, ""]),
        Some(_) => (1, false, [t.writes, t.nothing_pends]),
    };
    (call, rule, is_key, text)
}

fn entered(t: &Sentences, state: State) -> Told {
    let (rule, is_key, text) = match state {
        State::InputEnded => (8, false, [t.becomes, t.becomes_input_ended]),
        State::Draining => (17, false, [t.becomes, t.becomes_draining]),
        State::Finishing => (9, true, [t.becomes, t.becomes_finishing]),
        State::Lingering => (9, true, [t.becomes, t.becomes_lingering]),
        State::Open => (0, false, [t.state, ""]),
        State::Closed => (7, false, [t.state, ""]),
        State::Connecting => (18, false, [t.state, ""]),
        _ => (9, false, [t.state, ""]),
    };
    ("state", rule, is_key, text)
}

fn interest(t: &Sentences, before: Now, now: Now) -> Told {
    let (read, reads) = (before.interest.contains('R'), now.interest.contains('R'));
    let (rule, is_key, text) = if now.waits && read != reads {
        (14, false, [if reads { t.goes_on } else { t.pauses }, ""])
    } else if read && !reads && now.output >= HIGH_WATER {
        (12, true, [t.stops_reading, if now.input > 0 { t.input_waits } else { "" }])
    } else if now.state == "Lingering" {
        (11, false, [t.asks_for_the_end, ""])
    } else if !before.interest.is_empty() && !read && reads {
        (12, true, [t.reads_again, ""])
    } else {
        let when = match now.interest {
            "RW" => t.asks_ready,
            "R" => t.asks_readable,
            _ => t.asks_writable,
        };
        (11, false, [t.asks, when])
    };
    ("interest", rule, is_key, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ENGLISH;

    fn told(ring: Ring) -> Recording {
        let played = Played { scene: "", ring, names: HashMap::new(), clients: Vec::new() };
        Recording::new(&played, &ENGLISH, String::new())
    }

    #[test]
    fn the_steps_after_an_introduction_belong_to_the_session_of_its_balancer() {
        let address = |port| Address::from(SocketAddr::from(([127, 0, 0, 1], port)));
        let (balancer, client) = (address(1), address(2));
        let mut ring = Ring::new(RING);
        for event in [
            Event::Proxied { key: 0, peer: balancer },
            Event::Introduced { peer: balancer, client: Some(client) },
            Event::State { peer: client, state: State::Open },
        ] {
            ring.push(Instant::now(), event, Place { file: "src/connection.rs", line: 1 });
        }
        let recording = told(ring);
        assert!(recording.steps.iter().all(|step| step.session == Some(0)));
        assert_eq!((recording.sessions.len(), &*recording.sessions[0].peer), (1, "127.0.0.1:2"));
    }

    #[test]
    fn a_full_ring_drops_its_oldest_events_and_counts_them() {
        let mut ring = Ring::new(2);
        for _ in 0..5 {
            ring.push(Instant::now(), Event::ListenerReady, Place { file: "src/server.rs", line: 1 });
        }
        let recording = told(ring);
        assert_eq!((recording.steps.len(), recording.dropped), (2, 3));
    }
}
