//! A recording: the loop's events as steps that a page can show.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use okloop::Address;
use okloop::config::HIGH_WATER;
use okloop::trace::{Cause, Event, Place, Readable, State, Timeout};
use serde::Serialize;
use serde_json::json;

use crate::support::{many, time};

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
    /// Tells the story of a ring.
    pub fn new(
        ring: Ring,
        names: HashMap<SocketAddr, String>,
        scene: &str,
        look_for: String,
        clients: Vec<Seen>,
    ) -> Self {
        let mut story = Story { names, ..Story::default() };
        for (time, event, place) in ring.events {
            story.tell(time, &event, place);
        }
        Self {
            version: VERSION,
            scene: scene.to_owned(),
            look_for,
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

    fn tell(&mut self, at: Instant, event: &Event, place: Place) {
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
        let (kind, rule, key, text) = sentence(event, name, before, now, waited);
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

const NO_WAIT: &str = "The loop calls poll and does not wait: it has something to do.";

/// The kind of a step, its rule in the course or 0, whether the page lists it, and the step in one sentence.
type Told = (&'static str, u8, bool, String);

/// Tells one step. `waited` is how long the last `poll` lasted, or the time-out that is over.
fn sentence(event: &Event, name: &str, before: Now, now: Now, waited: Duration) -> Told {
    match *event {
        Event::PollStart { timeout } => polling(timeout),
        Event::PollEnd { events, .. } => {
            let text = format!("poll returns after {} with {}.", time(waited), many(events, "event"));
            ("batch", 6, events > 1, text)
        }
        Event::Turn { cause, .. } => turn(cause, name, before),
        Event::Call { call, bytes, .. } => moved(call, bytes, name, now),
        Event::Answered { .. } => answered(name, before, now),
        Event::State { state, .. } => entered(state, name),
        Event::Interest { rearm, .. } => interest(rearm, name, before, now),
        Event::TimeoutStarted { timeout, length, .. } => {
            let (timer, length) = (timer(timeout), time(length));
            ("timer", 13, false, format!("The {timer} of {name} starts: {length}."))
        }
        Event::TimeoutFired { timeout, .. } => late(timeout, name, waited),
        Event::Requested { stop, report, .. } => requested(stop, report),
        Event::Stopping { open, timeout } => stopping(open, timeout),
        _ => came_or_went(event, name),
    }
}

fn polling(timeout: Option<Duration>) -> Told {
    match timeout {
        None => {
            ("poll", 11, false, "The loop calls poll and waits until the kernel reports an event.".into())
        }
        Some(Duration::ZERO) => ("poll", 13, false, NO_WAIT.into()),
        Some(limit) => {
            let limit = time(limit);
            ("poll", 13, false, format!("The loop calls poll and waits for an event, at most {limit}."))
        }
    }
}

/// The listener's steps, and those that begin or end a session.
fn came_or_went(event: &Event, name: &str) -> Told {
    match event {
        Event::ListenerReady => {
            ("event", 3, false, "The kernel reports that a client waits in the accept queue.".into())
        }
        Event::ListenerRearmed => {
            let text = "The loop re-arms the listener: the kernel reports it again if more clients wait.";
            ("rearm", 2, false, text.into())
        }
        Event::Accepting { quota } => {
            let text = format!("The loop accepts clients: {quota} at most in this iteration.");
            ("accept", 3, *quota > 1, text)
        }
        Event::AcceptFailed { is_empty: true, .. } => {
            ("accept", 1, false, "accept would block: the accept queue is empty.".into())
        }
        Event::AcceptFailed { error, .. } => {
            ("accept", 4, false, format!("accept returns no client: {error}."))
        }
        Event::AcceptPaused { open, error } => {
            let (open, until) = (many(*open, "open session"), "until a session ends or a second has passed");
            ("pause", 4, true, format!("Accepting pauses at {open}, {until}: {error}."))
        }
        Event::Opened { .. } => ("open", 3, false, format!("The loop accepts {name}. Its session begins.")),
        Event::ConnectStarted { .. } => {
            let text = format!("The loop begins a connection to {name}. An event says when it is open.");
            ("open", 18, true, text)
        }
        Event::Refused { open, .. } => {
            let (limit, told) = (many(*open, "open session"), "The client is told that the server is full.");
            ("refuse", 9, true, format!("The loop refuses {name}: the limit is {limit}. {told}"))
        }
        Event::Waiting { .. } => {
            let text = "waits for an answer that is made elsewhere. Meanwhile the server does not read.";
            ("wait", 14, true, format!("The session of {name} {text}"))
        }
        Event::CallFailed { call, error, .. } => {
            ("error", 6, true, format!("The {call} for {name} fails: {error}."))
        }
        Event::Closed { reason, .. } => {
            let reason = reason.to_string().replace("_timeout", " time-out");
            ("close", 7, false, format!("The loop closes the socket of {name}: {reason}."))
        }
        // The words of the log.
        Event::Proxied { .. } | Event::Introduced { .. } => ("open", 3, false, format!("{event}.")),
        _ => ("other", 6, false, format!("{event}.")),
    }
}

fn answered(name: &str, before: Now, now: Now) -> Told {
    let (grows, is_high) = (format!("from {} to {}", before.output, now.output), now.output >= HIGH_WATER);
    let mark = " That is the high water mark: the server answers no more before a write.";
    let mark = if is_high { mark } else { "" };
    ("answer", 12, false, format!("The protocol answers {name}: pending output grows {grows} bytes.{mark}"))
}

fn late(timeout: Timeout, name: &str, waited: Duration) -> Told {
    let why = match timeout {
        Timeout::Idle => "the client sent nothing",
        Timeout::Write => "no output left",
        Timeout::Linger => "the client did not end",
        Timeout::Quiet => "nothing more came",
        Timeout::Connect => "the connection did not open",
        _ => "the session has set it",
    };
    let (timer, waited) = (timer(timeout), time(waited));
    ("timeout", 13, true, format!("The {timer} of {name} is over: {why} for {waited}."))
}

fn requested(stop: bool, report: bool) -> Told {
    let text = match (stop, report) {
        (true, _) => "The server is asked to stop.",
        (_, true) => {
            "The recorder wakes the loop, and holds it before the next poll until the clients of the scene are ready."
        }
        _ => "The server is asked to stop immediately.",
    };
    ("request", 0, false, text.into())
}

fn stopping(open: usize, timeout: Duration) -> Told {
    if open == 0 {
        return ("drain", 9, false, "The recording ends: no session is open, and the server stops.".into());
    }
    let (limit, open) = (time(timeout), many(open, "open session"));
    ("drain", 9, true, format!("The drain begins. It ends after {limit} at the latest: {open} now."))
}

fn turn(cause: Cause, name: &str, before: Now) -> Told {
    let (is_key, text) = match cause {
        Cause::Ready(ready) => match (ready.readable, ready.writable) {
            (Readable::No, true) if before.interest.contains('W') => {
                (true, "its socket is writable. The client has read, and the kernel has room again")
            }
            (Readable::No, _) => (false, "its socket is writable"),
            (_, false) => (false, "its socket is readable"),
            (_, true) => (false, "its socket is readable and writable"),
        },
        Cause::Woken => (true, "another session, a thread or its own budget has woken it"),
        Cause::End => (true, "a waker ends it"),
        Cause::Stop(_) => (true, "the server stops, and the session begins to drain"),
        _ => (true, "a time-out of it is over"),
    };
    let rule = if matches!(cause, Cause::Ready(_)) { 6 } else { 14 };
    ("turn", rule, is_key, format!("A turn for {name}: {text}."))
}

/// A call that moved so many bytes, or would have blocked.
fn moved(call: &'static str, bytes: Option<usize>, name: &str, now: Now) -> Told {
    let (output, is_read) = (now.output, call == "read");
    let (rule, is_key, text) = match bytes {
        None => {
            let full = if is_read { "no byte is there" } else { "the socket is full" };
            (1, false, format!("The {call} for {name} would block: {full}."))
        }
        Some(0) if is_read => {
            let rest = match output {
                0 => "No output is pending.".to_owned(),
                _ => format!("The server still sends the {output} bytes of pending output."),
            };
            (8, output > 0, format!("A read of 0 bytes: the input of {name} has ended. {rest}"))
        }
        Some(count) if is_read && now.state == "Lingering" => {
            (1, false, format!("The server reads {count} bytes from {name} and discards them."))
        }
        Some(count) if is_read => {
            let holds = format!("The input buffer holds {} bytes.", now.input);
            (1, false, format!("The server reads {count} bytes from {name}. {holds}"))
        }
        Some(count) if output == 0 => {
            (1, false, format!("The server writes {count} bytes to {name}. No output is pending."))
        }
        Some(count) => {
            let full = format!("the socket is full. {output} bytes of output are pending.");
            (1, true, format!("The kernel takes only {count} bytes for {name}: {full}"))
        }
    };
    (call, rule, is_key, text)
}

fn entered(state: State, name: &str) -> Told {
    let (rule, is_key, meaning) = match state {
        State::Open => (0, false, ""),
        State::InputEnded => (8, false, ": no more input follows, and the server answers what it has"),
        State::Draining => (17, false, ": the server answers what the client had sent"),
        State::Finishing => {
            (9, true, ": the protocol has said everything, and the server writes the pending output")
        }
        State::Lingering => (9, true, ": all output is written, and the server waits for the client's end"),
        State::Closed => (7, false, ""),
        State::Connecting => (18, false, ""),
        _ => (9, false, ""),
    };
    ("state", rule, is_key, format!("The state of {name} becomes {state:?}{meaning}."))
}

fn interest(rearm: bool, name: &str, before: Now, now: Now) -> Told {
    if rearm {
        let text = "for this turn is used up, and input may be left. The loop re-arms the socket, so that the kernel \
                    reports it again.";
        return ("rearm", 2, true, format!("The budget of {name} {text}"));
    }
    let (read, reads) = (before.interest.contains('R'), now.interest.contains('R'));
    let output = now.output;
    let (rule, is_key, text) = if now.waits && read != reads {
        let meaning = if reads {
            "goes on: the server reads its client again"
        } else {
            "waits: Interest is WRITABLE only"
        };
        (14, false, format!("The session of {name} {meaning}."))
    } else if read && !reads && output >= HIGH_WATER {
        let waits = match now.input {
            0 => String::new(),
            input => {
                format!(" {input} bytes already read wait too: the server answers them when output leaves.")
            }
        };
        let text = format!(
            "The server stops reading {name}: {output} bytes of output are pending, above the high water mark of \
             {HIGH_WATER}. Interest is WRITABLE only. What the client sends now waits in the kernel.{waits}"
        );
        (12, true, text)
    } else if now.state == "Lingering" {
        let text = "is written. The loop asks the kernel to report the client's end.";
        (11, false, format!("All output for {name} {text}"))
    } else if !before.interest.is_empty() && !read && reads {
        let text = format!(
            "The server reads {name} again: the client has read answers. Pending output is down to {output} bytes, below \
             the high water mark, and the input buffer has room. Interest has READABLE again."
        );
        (12, true, text)
    } else {
        let when = match now.interest {
            "RW" => "readable or writable",
            "R" => "readable",
            _ => "writable",
        };
        (11, false, format!("The loop asks the kernel to report {name} when it is {when}."))
    };
    ("interest", rule, is_key, text)
}

fn timer(timeout: Timeout) -> String {
    format!("{timeout:?} time-out").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let recording = Recording::new(ring, HashMap::new(), "", String::new(), Vec::new());
        assert!(recording.steps.iter().all(|step| step.session == Some(0)));
        assert_eq!((recording.sessions.len(), &*recording.sessions[0].peer), (1, "127.0.0.1:2"));
    }

    #[test]
    fn a_full_ring_drops_its_oldest_events_and_counts_them() {
        let mut ring = Ring::new(2);
        for _ in 0..5 {
            ring.push(Instant::now(), Event::ListenerReady, Place { file: "src/server.rs", line: 1 });
        }
        let recording = Recording::new(ring, HashMap::new(), "", String::new(), Vec::new());
        assert_eq!((recording.steps.len(), recording.dropped), (2, 3));
    }
}
