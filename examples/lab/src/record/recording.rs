//! A recording: the loop's events as steps that a page can show.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use okloop::Address;
use okloop::config::HIGH_WATER;
use okloop::trace::{Cause, Event, Place, Readable, State, Timeout};
use serde::Serialize;
use serde_json::json;

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

/// Everything that the page shows.
#[derive(Debug, Serialize)]
pub struct Recording {
    version: u32,
    scene: String,
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
#[derive(Debug, Clone, Default, Serialize)]
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
    pub input: usize,
    pub output: usize,
    /// What the kernel reports: `R`, `W`, `RW`, or nothing yet.
    pub interest: &'static str,
    pub state: &'static str,
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
#[derive(Debug, Clone, Copy, Default)]
struct Now {
    input: usize,
    output: usize,
    interest: &'static str,
    state: &'static str,
}

impl Recording {
    /// Tells the story of a ring.
    pub fn new(
        ring: Ring,
        names: HashMap<SocketAddr, String>,
        scene: &str,
        look_for: &str,
        clients: Vec<Seen>,
    ) -> Self {
        let mut story = Story { names, ..Story::default() };
        for (time, event, place) in ring.events {
            story.tell(time, &event, place);
        }
        Self {
            version: VERSION,
            scene: scene.to_owned(),
            look_for: look_for.to_owned(),
            high_water: HIGH_WATER,
            dropped: ring.dropped,
            sessions: story.sessions,
            steps: story.steps,
            clients,
        }
    }

    /// The number, from 0, of the first step whose sentence has `words` in it.
    pub fn find(&self, words: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.text.contains(words))
    }

    /// The steps in the Trace Event Format of Chrome, which Perfetto opens: a thread for the loop, one for each session,
    /// and each session's pending output as a counter. Times are in microseconds.
    pub fn chrome(&self) -> serde_json::Value {
        // Perfetto takes thread 0 for the idle one, and the thread with the number of the process for its main one.
        let named = |what: &str, id: usize, name: &str| json!({ "ph": "M", "name": what, "pid": 1, "tid": id, "args": { "name": name } });
        let mut events = vec![named("process_name", 1, &self.scene), named("thread_name", 1, "the loop")];
        events.extend(self.sessions.iter().enumerate().map(|(i, s)| named("thread_name", i + 2, &s.name)));
        let mut pending = vec![0; self.sessions.len()];
        for (index, step) in self.steps.iter().enumerate() {
            let next = self.steps.get(index + 1).map_or(step.at, |next| next.at);
            let id = step.session.map_or(1, |session| session + 2);
            events.push(json!({
                "ph": "X", "name": step.kind, "cat": "step", "pid": 1, "tid": id, "ts": step.at, "dur": next - step.at,
                "args": { "text": step.text, "iteration": step.iteration },
            }));
            if let Some(session) = step.session.filter(|&session| pending[session] != step.output) {
                pending[session] = step.output;
                let name = format!("pending output of {}", self.sessions[session].name);
                events.push(json!({ "ph": "C", "name": name, "pid": 1, "ts": step.at, "args": { "bytes": step.output } }));
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
    fn session(&mut self, peer: Address) -> usize {
        if let Some(&session) = self.by_peer.get(&peer) {
            return session;
        }
        let name = peer.ip().and_then(|peer| self.names.get(&peer).cloned());
        let name = name.unwrap_or_else(|| peer.to_string());
        self.sessions.push(SessionInfo { peer: peer.to_string(), name });
        self.now.push(Now::default());
        self.by_peer.insert(peer, self.sessions.len() - 1);
        self.sessions.len() - 1
    }

    fn session_of(&mut self, event: &Event) -> Option<usize> {
        let keyed = |event: &Event| match *event {
            Event::Turn { key, peer, .. }
            | Event::Interest { key, peer, .. }
            | Event::Opened { key, peer }
            | Event::ConnectStarted { key, peer }
            | Event::Refused { key, peer, .. }
            | Event::Closed { key, peer, .. } => Some((key, peer)),
            _ => None,
        };
        match *event {
            Event::TimeoutStarted { key, .. } | Event::TimeoutFired { key, .. } => {
                self.by_key.get(&key).copied()
            }
            Event::Call { peer, .. }
            | Event::CallFailed { peer, .. }
            | Event::Answered { peer, .. }
            | Event::Waiting { peer }
            | Event::State { peer, .. } => Some(self.session(peer)),
            _ => keyed(event).map(|(key, peer)| {
                if matches!(
                    event,
                    Event::Opened { .. } | Event::ConnectStarted { .. } | Event::Refused { .. }
                ) {
                    // The system may give an address to a later client again.
                    self.by_peer.remove(&peer);
                }
                let session = self.session(peer);
                self.by_key.insert(key, session);
                session
            }),
        }
    }

    fn tell(&mut self, time: Instant, event: &Event, place: Place) {
        let start = *self.start.get_or_insert(time);
        if matches!(event, Event::PollStart { .. }) {
            self.iteration += 1;
            self.asked = Some(time);
        }
        let mut waited = self.asked.map_or(Duration::ZERO, |asked| time - asked);
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
            Event::Interest { interest, .. } => {
                now.interest = match (interest.is_readable(), interest.is_writable()) {
                    (true, true) => "RW",
                    (true, false) => "R",
                    _ => "W",
                }
            }
            Event::Opened { .. } => now.state = "New",
            Event::Refused { .. } => now.state = "Finishing",
            Event::Closed { .. } => now = Now { state: "Closed", ..Now::default() },
            _ => {}
        }
        if let Some(session) = session {
            self.now[session] = now;
        }
        let name = session.map_or("", |session| &self.sessions[session].name);
        if let Event::TimeoutFired { key, timeout } = event {
            waited = self.lengths.get(key).copied().unwrap_or_default();
            // Only now it is known why `poll` did not wait.
            if let Some(poll) = self.steps.iter_mut().rev().find(|step| step.kind == "poll")
                && poll.text == NO_WAIT
            {
                poll.text = format!(
                    "The loop calls poll and does not wait: the {} of {name} is over.",
                    timer(*timeout)
                );
            }
        }
        let mut step = sentence(event, name, before, now, waited);
        step.at = u64::try_from((time - start).as_micros()).unwrap_or(u64::MAX);
        (step.iteration, step.session) = (self.iteration, session);
        step.place = format!("{}:{}", place.file, place.line);
        (step.input, step.output, step.interest, step.state) =
            (now.input, now.output, now.interest, now.state);
        self.steps.push(step);
    }
}

const NO_WAIT: &str = "The loop calls poll and does not wait: it has something to do.";

/// Tells one step. `waited` is how long the last `poll` lasted, or the time-out that is over.
#[expect(clippy::too_many_lines, reason = "one arm for each event")]
fn sentence(event: &Event, name: &str, before: Now, now: Now, waited: Duration) -> Step {
    let mut moved = None;
    let mut key = matches!(
        event,
        Event::CallFailed { .. }
            | Event::AcceptPaused { .. }
            | Event::TimeoutFired { .. }
            | Event::Refused { .. }
            | Event::Interest { rearm: true, .. }
    );
    key |= matches!(event, Event::Stopping { open, .. } if *open > 0)
        || matches!(event, Event::PollEnd { events, .. } if *events > 1)
        || matches!(event, Event::Accepting { quota } if *quota > 1);
    let (kind, rule, text) = match event {
        Event::PollStart { timeout: None } => {
            ("poll", 11, "The loop calls poll and waits until the kernel reports an event.".to_owned())
        }
        Event::PollStart { timeout: Some(limit) } => (
            "poll",
            13,
            if limit.is_zero() {
                NO_WAIT.to_owned()
            } else {
                format!("The loop calls poll and waits for an event, at most {}.", time(*limit))
            },
        ),
        Event::PollEnd { events, .. } => {
            ("batch", 6, format!("poll returns after {} with {}.", time(waited), plural(*events, "event")))
        }
        Event::ListenerReady => {
            ("event", 3, "The kernel reports that a client waits in the accept queue.".to_owned())
        }
        Event::Turn { cause: Cause::Ready(ready), .. } => {
            let text = match (ready.readable, ready.writable) {
                (Readable::No, true) if before.interest.contains('W') => {
                    key = true;
                    format!(
                        "A turn for {name}: its socket is writable. The client has read, and the kernel has room again."
                    )
                }
                (Readable::No, _) => format!("A turn for {name}: its socket is writable."),
                (_, false) => format!("A turn for {name}: its socket is readable."),
                (_, true) => format!("A turn for {name}: its socket is readable and writable."),
            };
            ("turn", 6, text)
        }
        Event::Turn { cause, .. } => {
            key = true;
            let text = match cause {
                Cause::Woken => {
                    format!("A turn for {name}: another session, a thread or its own budget has woken it.")
                }
                Cause::End => format!("A turn for {name}: a waker ends it."),
                Cause::Stop(_) => {
                    format!("A turn for {name}: the server stops, and the session begins to drain.")
                }
                _ => format!("A turn for {name}: a time-out of it is over."),
            };
            ("turn", 14, text)
        }
        Event::Waiting { .. } => {
            key = true;
            (
                "wait",
                14,
                format!("{name} waits for an answer that is made elsewhere. The server does not read it."),
            )
        }
        Event::ConnectStarted { .. } => {
            ("open", 18, format!("The loop begins a connection to {name}. An event says when it is open."))
        }
        Event::Call { call: "read", bytes: Some(0), .. } => {
            moved = Some(0);
            let text = if now.output == 0 {
                format!("A read of 0 bytes: the input of {name} has ended. No output is pending.")
            } else {
                key = true;
                format!(
                    "A read of 0 bytes: the input of {name} has ended. The server still sends the {} bytes of pending output.",
                    now.output
                )
            };
            ("read", 8, text)
        }
        Event::Call { call, bytes: Some(count), .. } => {
            moved = Some(*count);
            let text = if *call == "read" && now.state == "Lingering" {
                format!("The server reads {count} bytes from {name} and discards them.")
            } else if *call == "read" {
                format!(
                    "The server reads {count} bytes from {name}. The input buffer holds {} bytes.",
                    now.input
                )
            } else if now.output == 0 {
                format!("The server writes {count} bytes to {name}. No output is pending.")
            } else {
                key = true;
                format!(
                    "The kernel takes only {count} bytes for {name}: the socket is full. {} bytes of output are pending.",
                    now.output
                )
            };
            (*call, 1, text)
        }
        Event::Call { call, bytes: None, .. } => {
            let full = if *call == "read" { "no byte is there" } else { "the socket is full" };
            (*call, 1, format!("The {call} for {name} would block: {full}."))
        }
        Event::CallFailed { call, error, .. } => {
            ("error", 6, format!("The {call} for {name} fails: {error}."))
        }
        Event::Answered { .. } => {
            let mark = if now.output >= HIGH_WATER {
                " That is the high water mark: the server answers no more before a write."
            } else {
                ""
            };
            (
                "answer",
                12,
                format!(
                    "The protocol answers {name}: pending output grows from {} to {} bytes.{mark}",
                    before.output, now.output
                ),
            )
        }
        Event::State { state, .. } => {
            key = matches!(*state, State::Finishing | State::Lingering);
            let rule = match *state {
                State::Open => 0,
                State::InputEnded => 8,
                State::Draining => 17,
                State::Closed => 7,
                State::Connecting => 18,
                _ => 9,
            };
            let meaning = match *state {
                State::Draining => ": the server answers what the client had sent",
                State::InputEnded => ": no more input follows, and the server answers what it has",
                State::Finishing => {
                    ": the protocol has said everything, and the server writes the pending output"
                }
                State::Lingering => ": all output is written, and the server waits for the client's end",
                _ => "",
            };
            ("state", rule, format!("The state of {name} becomes {state:?}{meaning}."))
        }
        Event::Interest { rearm, .. } => {
            let (stopped, resumed) = (before.interest.contains('R'), now.interest.contains('R'));
            let mut rule = if *rearm { 2 } else { 11 };
            let text = if *rearm {
                format!(
                    "The budget of {name} for this turn is used up, and input may be left. The loop re-arms the socket, so that the kernel reports it again."
                )
            } else if stopped && !resumed && now.output >= HIGH_WATER {
                (key, rule) = (true, 12);
                let waits = match now.input {
                    0 => String::new(),
                    input => format!(
                        " {input} bytes already read wait too: the server answers them when output leaves."
                    ),
                };
                format!(
                    "The server stops reading {name}: {} bytes of output are pending, above the high water mark of {HIGH_WATER}. Interest is WRITABLE only. What the client sends now waits in the kernel.{waits}",
                    now.output
                )
            } else if now.state == "Lingering" {
                format!(
                    "All output for {name} is written. The loop asks the kernel to report the client's end."
                )
            } else if !before.interest.is_empty() && !stopped && resumed {
                (key, rule) = (true, 12);
                format!(
                    "The server reads {name} again: the client has read answers. Pending output is down to {} bytes, below the high water mark, and the input buffer has room. Interest has READABLE again.",
                    now.output
                )
            } else {
                format!("The loop asks the kernel to report {name} when it is {}.", words(now.interest))
            };
            (if *rearm { "rearm" } else { "interest" }, rule, text)
        }
        Event::ListenerRearmed => (
            "rearm",
            2,
            "The loop re-arms the listener: the kernel reports it again if more clients wait.".to_owned(),
        ),
        Event::TimeoutStarted { timeout, length, .. } => {
            ("timer", 13, format!("The {} of {name} starts: {}.", timer(*timeout), time(*length)))
        }
        Event::TimeoutFired { timeout, .. } => ("timeout", 13, {
            let why = match timeout {
                Timeout::Idle => "the client sent nothing",
                Timeout::Write => "no output left",
                Timeout::Linger => "the client did not end",
                Timeout::Quiet => "nothing more came",
                Timeout::Connect => "the connection did not open",
                _ => "the session has set it",
            };
            format!("The {} of {name} is over: {why} for {}.", timer(*timeout), time(waited))
        }),
        Event::Accepting { quota } => {
            ("accept", 3, format!("The loop accepts clients: {quota} at most in this iteration."))
        }
        Event::AcceptFailed { is_empty: true, .. } => {
            ("accept", 1, "accept would block: the accept queue is empty.".to_owned())
        }
        Event::AcceptFailed { error, .. } => ("accept", 4, format!("accept returns no client: {error}.")),
        Event::AcceptPaused { open, error } => (
            "pause",
            4,
            format!(
                "Accepting pauses at {}, until a session ends or a second has passed: {error}.",
                plural(*open, "open session")
            ),
        ),
        Event::Opened { .. } => ("open", 3, format!("The loop accepts {name}. Its session begins.")),
        Event::Refused { open, .. } => (
            "refuse",
            9,
            format!(
                "The loop refuses {name}: the limit is {}. The client is told that the server is full.",
                plural(*open, "open session")
            ),
        ),
        Event::Closed { reason, .. } => {
            let reason = reason.to_string().replace("_timeout", " time-out");
            ("close", 7, format!("The loop closes the socket of {name}: {reason}."))
        }
        Event::Requested { stop, report, .. } => {
            let text = if *stop {
                "The server is asked to stop."
            } else if *report {
                "The recorder wakes the loop, and holds it before the next poll until the clients of the scene are ready."
            } else {
                "The server is asked to stop immediately."
            };
            ("request", 0, text.to_owned())
        }
        Event::Stopping { open: 0, .. } => {
            ("drain", 9, "The recording ends: no session is open, and the server stops.".to_owned())
        }
        Event::Stopping { open, timeout } => (
            "drain",
            9,
            format!(
                "The drain begins. It ends after {} at the latest: {} now.",
                time(*timeout),
                plural(*open, "open session")
            ),
        ),
        other => ("other", 6, other.to_string()),
    };
    let rule = Some(rule).filter(|&rule| rule > 0);
    Step { kind, rule, text, key, bytes: moved, ..Step::default() }
}

/// A time as the page writes it: `1.0 s`, say.
fn time(time: Duration) -> String {
    let text = format!("{time:.1?}");
    let unit = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    format!("{} {}", &text[..unit], &text[unit..])
}

fn timer(timeout: Timeout) -> String {
    format!("{timeout:?} time-out").to_lowercase()
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn words(interest: &str) -> &'static str {
    match interest {
        "RW" => "readable or writable",
        "R" => "readable",
        _ => "writable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_drops_its_oldest_events_and_counts_them() {
        let mut ring = Ring::new(2);
        for _ in 0..5 {
            ring.push(Instant::now(), Event::ListenerReady, Place { file: "src/server.rs", line: 1 });
        }
        let recording = Recording::new(ring, HashMap::new(), "", "", Vec::new());
        assert_eq!((recording.steps.len(), recording.dropped), (2, 3));
    }
}
