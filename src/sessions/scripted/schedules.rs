//! All schedules: the sessions of small protocols, and everything that can happen to them, in every order.
//!
//! A *state* is the whole world and the whole server: the wire, the connection with its buffers, the session, the
//! time-outs, the wakes. In each state, one *step* follows: of the client, of the network, of another session, or of the
//! loop ([`Step`]). The search takes each step in each state, and goes on from each state that is new. So it covers every
//! schedule, which is a sequence of steps, up to a number of steps. After each step the rules of `rules.rs` must hold.
//!
//! Numbers are small: three bytes from the client, queues and budgets of one to three bytes. A bug that needs large numbers
//! is not found here; `interleavings.rs` has those.
//!
//! The network is faster than the clock: time passes only when nothing but the client can go on. A drain waits for a quiet
//! second, and cannot know of a network that is slower.

use std::collections::HashMap;
use std::fmt;
use std::hash::DefaultHasher;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::wire::Rooms;
use super::*;
use crate::buffer::Buffer;
use crate::reason::Timeout;
use crate::session::{AtDeadline, EndOfInput, Sizes, Step as Answer, Timer};

/// What time is counted in. A drain is quiet after two of them.
const TICK: Duration = Duration::from_millis(500);

/// What the session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Protocol {
    /// Each byte is a request. The answer has two bytes.
    Echo,
    /// Two bytes are a request. At the client's end, one is too.
    Pairs,
    /// The second byte ends the session.
    Quit,
    /// Each byte is answered in three parts.
    Parts,
    /// Each byte is answered by another session, or when a deadline is over.
    Job,
    /// The session says what others publish, and answers as `Echo`.
    Push,
    /// The session says what others publish, and takes all input. Each direction goes on for itself.
    Relay,
}

/// A session of one of the protocols.
#[derive(Debug, Clone)]
struct Model {
    protocol: Protocol,
    world: Rc<RefCell<World>>,
    /// How much of what was published it has said.
    taken: usize,
    has_asked: bool,
    is_late: bool,
    part: u8,
    has_client_ended: bool,
    /// Whether the deadline is to start, or to stop.
    timer: Option<bool>,
}

impl Hash for Model {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { taken, has_asked, is_late, part, has_client_ended, timer, protocol: _, world: _ } = self;
        (taken, has_asked, is_late, part, has_client_ended, timer).hash(state);
    }
}

impl Session for Model {
    fn sizes(&mut self) -> Sizes {
        Sizes { independent: self.protocol == Protocol::Relay, ..Sizes::new(2, 2) }
    }

    fn greet(&mut self, output: &mut Buffer) {
        output.push(b"!");
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Answer {
        let published = self.world.borrow().published;
        match (self.protocol, &*input) {
            (Protocol::Push | Protocol::Relay, _) if self.taken < published && output.free() > 0 => {
                self.taken += 1;
                output.push(b"a");
                Answer::More
            }
            (_, []) => Answer::NeedInput,
            (Protocol::Pairs, [_]) if !self.has_client_ended => Answer::NeedInput,
            (Protocol::Pairs, [first, second, ..]) => {
                output.push(&[*first, *second]);
                Answer::Consumed(2)
            }
            (Protocol::Quit, [2, ..]) => {
                output.push(b".");
                Answer::Close
            }
            (Protocol::Parts, _) => {
                output.push(&[b'p' + self.part]);
                self.part = (self.part + 1) % 3;
                if self.part == 0 { Answer::Consumed(1) } else { Answer::More }
            }
            (Protocol::Job, _) => {
                if self.taken >= published && !self.is_late {
                    if !self.has_asked {
                        (self.has_asked, self.timer) = (true, Some(true));
                    }
                    return Answer::Wait;
                }
                self.taken += usize::from(!self.is_late);
                (self.has_asked, self.is_late, self.timer) = (false, false, Some(false));
                output.push(b"j");
                Answer::Consumed(1)
            }
            (Protocol::Relay, _) => Answer::Consumed(input.len()),
            (_, [byte, ..]) => {
                output.push(&[*byte, *byte]);
                Answer::Consumed(1)
            }
        }
    }

    fn end_of_input(&mut self, end: EndOfInput) {
        self.has_client_ended = end == EndOfInput::Client;
    }

    fn ending(&mut self, _: Reason, output: &mut Buffer) {
        output.push(b"?");
    }

    fn timer(&mut self) -> Timer {
        match self.timer.take() {
            None => Timer::Keep,
            Some(true) => Timer::Start(TICK),
            Some(false) => Timer::Stop,
        }
    }

    fn deadline(&mut self) -> AtDeadline {
        self.is_late = true;
        AtDeadline::GoOn
    }
}

/// What can happen next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The client, the network or another session does something.
    Happens(Happening),
    /// Another session ends this one.
    Kick,
    /// The server is asked to stop.
    Stop,
    /// One iteration of the loop.
    Iterate,
    /// One iteration, and something happens just before one of its system calls.
    Meanwhile(usize, Happening),
    /// One iteration in which so many other sessions are woken that this one has no turn for its wake.
    Crowded,
    /// The clock goes on, and one iteration follows, crowded or not.
    Tick { is_crowded: bool },
}

/// A state that the search goes back to.
struct Moment {
    world: World,
    connection: Connection<Socket, Recorded<Model>>,
    due: Vec<(Timeout, Instant)>,
    /// Whether the session is woken, and whether it is to end.
    woken: Option<bool>,
    now: Instant,
    is_stopping: bool,
    promise: Option<Promise>,
    is_kicked: bool,
}

/// How a session can end, beside the client's end of its direction, the protocol's end and the server's stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    None,
    /// The client resets the connection, or closes its socket.
    Abrupt,
    /// Another session ends this one.
    Kick,
}

/// What is searched.
#[derive(Debug, Clone, Copy)]
struct Case {
    protocol: Protocol,
    kernel: Kernel,
    rooms: Rooms,
    /// Whether the server opens the connection.
    is_outgoing: bool,
    /// How many bytes the client sends at most.
    bytes: usize,
    /// How many times something is published at most.
    published: usize,
    end: End,
}

impl Case {
    /// What the client, the network, another session, the operator and the loop can do in a state.
    fn possible_steps(&self, state: &Moment) -> Vec<Step> {
        let Moment { world, woken, is_stopping, promise, is_kicked, .. } = state;
        let (wire, up, down) = (&world.wire, &world.wire.up, &world.wire.down);
        let mut steps = Vec::new();
        let mut add = |is_possible: bool, step: Step| steps.extend(is_possible.then_some(step));

        add(wire.is_opening(), Step::Happens(Happening::Open));
        add(wire.is_opening(), Step::Happens(Happening::Refuse));
        let is_up = wire.is_up();
        let (carries, acks) = (is_up && up.can_move(), is_up && down.can_move());
        add(carries, Step::Happens(Happening::Carry(1)));
        add(acks, Step::Happens(Happening::Ack(1)));
        let may_send = is_up && !carries && !up.has_ended && up.free() > 0;
        let next = u8::try_from(up.bytes.len() + 1).expect("a few bytes");
        add(may_send && up.bytes.len() < self.bytes, Step::Happens(Happening::Send(vec![next])));
        add(is_up && down.unread() > 0 && !wire.has_client_closed, Step::Happens(Happening::Read(1)));
        add(may_send, Step::Happens(Happening::End));
        let is_abrupt = self.end == End::Abrupt && is_up;
        add(is_abrupt && !wire.has_client_closed, Step::Happens(Happening::Close));
        add(is_abrupt, Step::Happens(Happening::Reset));
        let is_stuck = is_up && down.has_ended && !down.has_end_arrived && !acks;
        add(is_stuck && wire.limit.is_some(), Step::Happens(Happening::GiveUp));

        add(world.published < self.published, Step::Happens(Happening::Wake));
        add(self.end == End::Kick && !is_kicked, Step::Kick);
        add(promise.is_none(), Step::Stop);

        let has_event = wire.has_event() || *is_stopping;
        add(has_event || woken.is_some(), Step::Iterate);
        add(woken.is_some(), Step::Crowded);
        let is_quiet = !carries && !acks && !has_event;
        add(is_quiet && woken.is_none(), Step::Tick { is_crowded: false });
        add(is_quiet && woken.is_some(), Step::Tick { is_crowded: true });
        steps
    }

    /// What can happen during an iteration with so many system calls. What the client does in its program is the same
    /// before the iteration and after it.
    fn possible_steps_meanwhile(&self, state: &Moment, calls: usize) -> Vec<Step> {
        let (world, mut steps) = (&state.world, Vec::new());
        let wire = &world.wire;
        for call in 0..calls {
            let mut add =
                |is_possible: bool, it| steps.extend(is_possible.then_some(Step::Meanwhile(call, it)));
            add(wire.is_opening(), Happening::Open);
            add(wire.is_opening(), Happening::Refuse);
            add(wire.is_up() && wire.up.can_move(), Happening::Carry(1));
            add(wire.is_up() && wire.down.can_move(), Happening::Ack(1));
            add(wire.is_up() && self.end == End::Abrupt, Happening::Reset);
            add(world.published < self.published, Happening::Wake);
        }
        steps
    }
}

/// Hashes all bytes together, because that is faster than one after the other.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    fn finish(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.0);
        hasher.finish()
    }
}

/// A search through all states of a case.
struct Search {
    case: Case,
    server: Scripted<Model>,
    is_kicked: bool,
    /// The number of each state that was found, by its hash.
    numbers: HashMap<u64, usize>,
    /// The first step that led to each state, and from where.
    origins: Vec<Option<(usize, Step)>>,
    /// All states that each state leads to in one step.
    successors: Vec<Vec<usize>>,
    /// The state after each state and one iteration of the loop.
    iterated: HashMap<usize, usize>,
}

impl Search {
    fn new(case: Case) -> Self {
        let config = Config {
            idle_timeout: Some(3 * TICK),
            write_timeout: Some(3 * TICK),
            linger_timeout: 2 * TICK,
            connect_timeout: 3 * TICK,
            ..Config::default()
        };
        let budgets =
            Budgets { high_water: 2, read: 2, reads: 2, write: 2, answers: 2, drain: 100, woken: 1 };
        let new_session = |world: &Rc<RefCell<World>>| Model {
            protocol: case.protocol,
            world: Rc::clone(world),
            taken: 0,
            has_asked: false,
            is_late: false,
            part: 0,
            has_client_ended: false,
            timer: None,
        };
        let new_wire = if case.is_outgoing { Wire::outgoing } else { Wire::new };
        let server = Scripted::start(config, budgets, new_wire(case.kernel, case.rooms), new_session);
        let (numbers, origins, successors) = (HashMap::new(), Vec::new(), Vec::new());
        Self { case, server, is_kicked: false, numbers, origins, successors, iterated: HashMap::new() }
    }

    /// Takes all schedules of up to `depth` steps. Returns how many states and schedules there are, and whether no schedule
    /// is longer.
    fn run(mut self, depth: usize) -> (usize, f64, bool) {
        let mut states = vec![self.note(None).expect("no state was found before")];
        for _ in 0..depth {
            let mut found = Vec::new();
            for (number, state) in &states {
                let mut steps = self.case.possible_steps(state);
                while let Some(step) = steps.pop() {
                    self.load(state);
                    let take = AssertUnwindSafe(|| self.take(&step));
                    if let Err(panic) = catch_unwind(take) {
                        self.tell(*number, &step);
                        resume_unwind(panic);
                    }
                    if step == Step::Iterate {
                        let calls = self.server.wire().calls;
                        steps.extend(self.case.possible_steps_meanwhile(state, calls));
                    }
                    found.extend(self.note(Some((*number, step))));
                }
            }
            states = found;
        }
        self.check_that_nothing_spins();
        (self.origins.len(), self.count_schedules(depth), states.is_empty())
    }

    /// Notes that a step has led to this state. Returns the state and its number if it is new, and not the last one of a
    /// session.
    fn note(&mut self, origin: Option<(usize, Step)>) -> Option<(usize, Moment)> {
        let far = self.server.now + Duration::from_secs(1000);
        let Scripted { sessions, .. } = &mut self.server;
        let mut due = Vec::new();
        while let Some((_, timeout, at)) = sessions.deadlines.first_late(far) {
            sessions.deadlines.stop(KEY, timeout);
            due.push((timeout, at));
        }
        sessions.wakes.begin_pass();
        let woken = iter::from_fn(|| sessions.wakes.next_woken()).last().map(|(_, is_ended)| is_ended);
        {
            let World { wire, record, is_woken, .. } = &mut *self.server.world.borrow_mut();
            (wire.calls, record.calls) = (0, 0);
            wire.meanwhile.clear();
            *is_woken &= woken.is_some();
            record.may_go_on &= woken.is_some();
        }

        let count = self.origins.len();
        let number = *self.numbers.entry(self.hash(&due, woken)).or_insert(count);
        if let Some((before, step)) = &origin {
            self.successors[*before].push(number);
            if *step == Step::Iterate {
                self.iterated.insert(*before, number);
            }
        }
        if number < count {
            return None;
        }
        self.origins.push(origin);
        self.successors.push(Vec::new());
        let Scripted { sessions, world, now, is_stopping, promise, .. } = &mut self.server;
        let connection = sessions.table.try_remove(KEY)?;
        let (world, is_kicked) = (world.borrow().clone(), self.is_kicked);
        let (now, is_stopping, promise) = (*now, *is_stopping, *promise);
        Some((number, Moment { world, connection, due, woken, now, is_stopping, promise, is_kicked }))
    }

    /// All that decides what follows. Times count from now.
    fn hash(&self, due: &[(Timeout, Instant)], woken: Option<bool>) -> u64 {
        let Scripted { sessions, world, now, is_stopping, promise, .. } = &self.server;
        let World { wire, record, published, waker: _, is_woken, now: _, accepted, heard, taken } =
            &*world.borrow();
        let mut hasher = Bytes::default();
        let connection = sessions.table.get(KEY);
        match connection {
            None => record.closed.hash(&mut hasher),
            Some(connection) => {
                let since = |time: &Instant| (*now - *time).min(3 * TICK);
                let times = (since(accepted), heard.as_ref().map(since), taken.as_ref().map(since));
                let due: Vec<_> = due.iter().map(|&(timeout, due)| (timeout as usize, due - *now)).collect();
                (wire, record, published, is_woken, times).hash(&mut hasher);
                (connection, due, woken, is_stopping, promise, self.is_kicked).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// Puts a state into the server.
    fn load(&mut self, state: &Moment) {
        let Scripted { sessions, world, now, is_stopping, promise, .. } = &mut self.server;
        (*now, *is_stopping, *promise, self.is_kicked) =
            (state.now, state.is_stopping, state.promise, state.is_kicked);
        let waker = sessions.wakes.waker(KEY).expect("there is memory for a mark");
        match state.woken {
            None => {}
            Some(false) => waker.wake(),
            Some(true) => waker.end(),
        }
        *world.borrow_mut() = World { waker: Some(waker), ..state.world.clone() };
        sessions.table.clear();
        let connection = state.connection.clone();
        sessions.outgoing = usize::from(connection.notes.is_outgoing);
        sessions.connecting = usize::from(connection.is_connecting());
        sessions.table.insert(connection);
        for &(timeout, due) in &state.due {
            sessions.deadlines.start(KEY, timeout, due).expect("there is memory for a time-out");
        }
    }

    /// Takes a step, and checks the rules.
    fn take(&mut self, step: &Step) {
        let server = &mut self.server;
        match step {
            Step::Happens(happening) => server.happen(happening.clone()),
            Step::Kick => {
                self.is_kicked = true;
                server.world.borrow().waker.as_ref().expect("the session has begun").end();
            }
            Step::Stop => server.ask_to_stop(),
            Step::Iterate => server.iterate(),
            Step::Meanwhile(call, happening) => {
                server.meanwhile(iter::repeat_n(None, *call).chain([Some(happening.clone())]));
                server.iterate();
            }
            Step::Crowded => {
                server.sessions.means.budgets.woken = 0;
                server.iterate();
            }
            Step::Tick { is_crowded } => {
                server.sessions.means.budgets.woken = usize::from(!*is_crowded);
                server.pass(TICK);
            }
        }
        server.sessions.means.budgets.woken = 1;
        if !server.has_work() {
            server.check_rest();
            self.check_that_no_wake_is_lost();
        }
    }

    fn check_that_no_wake_is_lost(&mut self) {
        let pending = self.server.pending();
        let Scripted { sessions, world, .. } = &mut self.server;
        let Some(connection) = sessions.table.get_mut(KEY) else { return };
        let is_asked = matches!(connection.state(), State::Open | State::Draining | State::InputEnded);
        let model = &connection.session_mut().expect("it was not refused").session;
        let (world, has_news) = (world.borrow(), model.taken < world.borrow().published);
        let is_waiting = world.record.waits && (has_news || model.is_late);
        assert!(!is_asked || !is_waiting, "the session waits, and its wake is lost");
        let is_pushed = [Protocol::Push, Protocol::Relay].contains(&model.protocol);
        let may_say = is_asked && is_pushed && pending == 0;
        assert!(!may_say || !has_news, "what was published is not said");
    }

    /// In each state the loop comes to rest, if nothing else happens.
    fn check_that_nothing_spins(&self) {
        let mut is_checked = vec![false; self.origins.len()];
        for start in 0..is_checked.len() {
            let (mut state, mut path) = (start, Vec::new());
            while !is_checked[state] {
                path.push(state);
                if path.len() > 100 {
                    self.tell(start, &Step::Iterate);
                    panic!("the loop spins");
                }
                let Some(&next) = self.iterated.get(&state) else { break };
                state = next;
            }
            for state in path {
                is_checked[state] = true;
            }
        }
    }

    /// How many schedules of `depth` steps there are, or fewer if they end.
    fn count_schedules(&self, depth: usize) -> f64 {
        let mut counts = vec![0.0; self.successors.len()];
        let mut total = 0.0;
        counts[0] = 1.0;
        for _ in 0..depth {
            let mut next = vec![0.0; counts.len()];
            for (count, successors) in counts.iter().zip(&self.successors) {
                total += if successors.is_empty() { *count } else { 0.0 };
                for &successor in successors {
                    next[successor] += count;
                }
            }
            counts = next;
        }
        total + counts.iter().sum::<f64>()
    }

    /// Tells the shortest schedule that breaks a rule.
    fn tell(&self, number: usize, last: &Step) {
        let mut steps = vec![last];
        let mut number = number;
        while let Some((before, step)) = &self.origins[number] {
            steps.push(step);
            number = *before;
        }
        let mut search = Self::new(self.case);
        eprintln!(
            "A schedule of {} steps of {:?} breaks a rule:\n  {}",
            steps.len(),
            self.case,
            search.server
        );
        for step in steps.iter().rev() {
            eprint!("{step:?}\n  ");
            let _ = catch_unwind(AssertUnwindSafe(|| search.take(step)));
            eprintln!("{}", search.server);
        }
    }
}

impl fmt::Display for Scripted<Model> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (world, connection) = (self.world.borrow(), self.sessions.table.get(KEY));
        let (wire, record) = (&world.wire, &world.record);
        let direction = |direction: &wire::Direction| {
            let end = if direction.has_ended { "." } else { "" };
            format!("{}-{}-{}{end}", direction.bytes.len(), direction.arrived, direction.read)
        };
        write!(f, "up {} given {}, ", direction(&wire.up), record.consumed + record.left)?;
        write!(f, "said {} down {}, ", record.said.len(), direction(&wire.down))?;
        match connection {
            None => write!(f, "{:?}", self.closed),
            Some(connection) => write!(f, "{:?} {:?}", connection.state(), connection.notes.interest),
        }
    }
}

/// Covers all schedules of up to `depth` steps on this kernel, of all protocols and ends, and tells how many there are.
fn search_all(kernel: Kernel, depth: usize) {
    use Protocol::{Echo, Job, Pairs, Parts, Push, Quit, Relay};

    let rooms = Rooms { client_send: 2, receive: 1, send: 1, client_receive: 1 };
    let (mut all_states, mut all_schedules) = (0, 0.0);
    for protocol in [Echo, Pairs, Quit, Parts, Job, Push, Relay] {
        let published = usize::from([Job, Push, Relay].contains(&protocol));
        for end in [End::None, End::Abrupt, End::Kick] {
            // The start of an outgoing connection is the same for all protocols.
            let directions: &[bool] = if protocol == Relay { &[false, true] } else { &[false] };
            for &is_outgoing in directions {
                let case = Case { protocol, kernel, rooms, is_outgoing, bytes: 2, published, end };
                let (states, schedules, _) = Search::new(case).run(depth);
                all_states += states;
                all_schedules += schedules;
            }
        }
    }
    eprintln!("{kernel:?}: {all_states} states, {all_schedules:.1e} schedules of up to {depth} steps");
}

#[test]
fn every_schedule_of_five_steps_on_epoll_keeps_the_rules() {
    search_all(Kernel::Epoll, 5);
}

#[test]
fn every_schedule_of_five_steps_on_kqueue_keeps_the_rules() {
    search_all(Kernel::Kqueue, 5);
}

#[test]
fn every_schedule_of_five_steps_on_iocp_keeps_the_rules() {
    search_all(Kernel::Iocp, 5);
}

#[test]
#[ignore = "takes a minute; .ci/run runs it"]
fn every_schedule_of_eight_steps_keeps_the_rules() {
    for kernel in KERNELS {
        search_all(kernel, 8);
    }
}
