//! The run of a fleet in its order, and what it prints.

use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressFinish};

use crate::fleet::arguments::Arguments;
use crate::fleet::crowd::Crowd;
use crate::fleet::memory::Memory;
use crate::fleet::message::{Order, Share, Tally};
use crate::fleet::plan::{self, Limits};
use crate::fleet::server::Server;
use crate::support::server::FreePort;
use crate::support::{
    Failure, Interrupt, bytes, count, is_listening, machine, many, programs, progress, thousands, time,
};
// If nothing reads what it prints, the run ends, and its processes with it.
use crate::support::try_to_say as say;

/// Fleets up to this size have each process's share shown.
const FEW: usize = 8;
/// How long a lost session may be the first sign of a server's end: the kernel closes the sockets of a process, which
/// may be very many, before it reports its end.
const SETTLING: Duration = Duration::from_secs(2);

/// Runs a fleet from its start to its end.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let interrupt = Interrupt::catch()?;
    rlimit::increase_nofile_limit(u64::MAX).map_err(Failure::system("The open-file limit"))?;
    let free =
        (arguments.port == 0).then(FreePort::find).transpose().map_err(Failure::system("A free port"))?;
    let address = address(free.as_ref().map_or(arguments.port, |free| free.number))?;
    let shares = plan::shares(arguments, address, &Limits::here()?)?;
    say(format_args!("Machine   {}", machine::description()))?;

    let mut show = Show::begin(arguments, address, &shares, interrupt)?;
    let result = show.go_on();
    result.map_err(|failure| show.explain(failure))
}

/// Where the servers listen. A port on which another program listens is refused, also with `SO_REUSEPORT`: the kernel would
/// give it some of the sessions.
fn address(port: u16) -> Result<SocketAddr, Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if is_listening(port) {
        return Err(Failure::Impossible(format!("the fleet cannot have {address} to itself")));
    }
    Ok(address)
}

struct Show<'a> {
    wish: &'a Arguments,
    interrupt: Interrupt,
    servers: Vec<Server>,
    crowd: Crowd,
    /// The memory in use before the first session.
    before: Option<Memory>,
}

impl<'a> Show<'a> {
    /// Starts all processes, without a session yet.
    fn begin(
        wish: &'a Arguments,
        address: SocketAddr,
        shares: &[Share],
        interrupt: Interrupt,
    ) -> Result<Self, Failure> {
        programs::build([], &interrupt)?;
        let start = |number| Server::start(number, address.port(), wish.sessions, &interrupt);
        let servers: Vec<Server> = (0..wish.processes).map(start).collect::<Result<_, _>>()?;
        say(format_args!("Servers   {} on {address}", many(servers.len(), "process")))?;

        let crowd = Crowd::start(shares, &interrupt)?;
        let (clients, first) = (many(shares.len(), "process"), shares[0].source);
        let last = shares[1..].last().map_or_else(String::new, |share| format!(" to {}", share.source));
        let in_flight = many(shares[0].in_flight, "session");
        say(format_args!(
            "Clients   {clients} from {first}{last}, each with at most {in_flight} on their way"
        ))?;
        let mut show = Self { wish, interrupt, servers, crowd, before: None };
        show.before = show.memory_now();
        Ok(show)
    }

    fn go_on(&mut self) -> Result<(), Failure> {
        self.open()?;
        self.spread()?;
        self.send_lines(self.wish.seconds)?;
        self.memory()?;
        self.drain_one()?;
        if !self.servers.is_empty() {
            self.call_roll()?;
            self.drain_all()?;
        }
        // A lost session would have ended the run before.
        say(format_args!("None of {} was lost", many(self.crowd.tally().ended, "session")))
    }

    /// Waits until a count of the clients' reaches all sessions, with a bar.
    fn wait_for_all(&mut self, what: &str, number: impl Fn(&Tally) -> usize) -> Result<Tally, Failure> {
        let wanted = self.wish.sessions;
        let bar = bar(what, wanted);
        self.crowd.wait_for(what, |tally| {
            bar.set_position(number(tally) as u64);
            number(tally) >= wanted
        })
    }

    fn open(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        self.crowd.order(&Order::Open)?;
        let tally = self.wait_for_all("the banners", |tally| tally.greeted)?;
        let took = start.elapsed();
        let (sessions, slowest) = (many(tally.greeted, "session"), time(tally.slowest));
        let rate = thousands(tally.greeted as f64 / took.as_secs_f64());
        let took = time(took);
        say(format_args!(
            "Opened    {sessions} in {took}, {rate} a second; every banner right, the slowest after {slowest}"
        ))
    }

    /// Asks the servers how the kernel has spread the sessions.
    fn spread(&mut self) -> Result<(), Failure> {
        let open = self.servers.iter_mut().map(|server| server.open_sessions(&self.interrupt));
        let mut open = open.collect::<Result<Vec<_>, _>>()?;
        let total: u64 = open.iter().sum();
        if total != self.wish.sessions as u64 {
            let (known, wanted) = (many(total, "session"), count(self.wish.sessions));
            return Err(Failure::Lost(format!("the servers know of {known} instead of {wanted}")));
        }
        let shares = if open.len() <= FEW {
            open.iter().map(|&open| count(open).to_string()).collect::<Vec<_>>().join(" + ")
        } else {
            open.sort_unstable();
            format!("{} to {} a process", count(open[0]), count(open[open.len() - 1]))
        };
        say(format_args!("Spread    {} open: {shares}", many(total, "session")))
    }

    /// Lets the active sessions send lines for some time.
    fn send_lines(&mut self, time: Duration) -> Result<(), Failure> {
        self.crowd.order(&Order::Send)?;
        let bar = bar("seconds", time.as_secs().try_into().unwrap_or(usize::MAX));
        let start = Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()) {
            bar.set_position(start.elapsed().as_secs());
            self.crowd.wait(left.min(Duration::from_secs(1)))?;
        }
        drop(bar);
        let answers = self.crowd.mark()?;
        match self.wish.active {
            0 => say("Active    none: all are idle"),
            active => say(format_args!("Active    {} of them, a line each 100 ms: {answers}", count(active))),
        }
    }

    fn memory(&self) -> Result<(), Failure> {
        let (Some(before), Some(now)) = (self.before, self.memory_now()) else {
            return say("Memory    not told by this system");
        };
        let each = |before, now| growth(before, now, self.wish.sessions);
        say(format_args!("Memory    servers, resident      {}", each(before.servers, now.servers)))?;
        say(format_args!("          clients, resident      {}", each(before.clients, now.clients)))?;
        if let (Some(before), Some(now)) = (before.sockets, now.sockets) {
            say(format_args!("          kernel, both sockets   {}", each(before, now)))?;
        }
        say(format_args!("          kernel, all objects    {}", each(before.kernel, now.kernel)))?;
        say(format_args!("          taken from free        {}", each(now.free, before.free)))
    }

    /// Stops one process while the active sessions of all go on.
    fn drain_one(&mut self) -> Result<(), Failure> {
        let server = self.servers.remove(0);
        let start = Instant::now();
        let drained = many(self.drain(server)?, "session");
        let took = time(start.elapsed());
        let answers = self.crowd.mark()?;
        let crossed = many(self.crowd.tally().crossed, "line");
        say(format_args!(
            "Drained   one process: SIGTERM, {drained} ended in order in {took}, every line answered; {crossed} came after \
             its end"
        ))?;
        if self.servers.is_empty() || self.wish.active == 0 {
            return Ok(());
        }
        // The drained process's sessions are among them up to its end: no client knows which process serves it.
        say(format_args!("          meanwhile, all active sessions: {answers}"))
    }

    /// Has every remaining session send a line. It finds an idle session that was lost unnoticed.
    fn call_roll(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        self.crowd.order(&Order::CallRoll)?;
        let tally = self.wait_for_all("the roll call", |tally| tally.called + tally.ended)?;
        let (called, took) = (many(tally.called, "session"), time(start.elapsed()));
        self.crowd.mark()?;
        say(format_args!("Roll call {called} of the others answered a line each in {took}"))
    }

    /// Stops the others, one after the other.
    fn drain_all(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        let servers = mem::take(&mut self.servers);
        let others = many(servers.len(), "process");
        let bar = bar("processes drained", servers.len());
        let mut drained = 0;
        for server in servers {
            drained += self.drain(server)?;
            bar.inc(1);
        }
        drop(bar);
        let (drained, took) = (many(drained, "session"), time(start.elapsed()));
        say(format_args!("Drained   the rest, {others}: {drained} ended in order in {took}"))
    }

    /// Stops one process: it must end with status 0, and the clients must see that each of its sessions ended in order.
    fn drain(&mut self, mut server: Server) -> Result<u64, Failure> {
        let (number, before) = (server.number, self.crowd.tally().ended);
        let open = server.open_sessions(&self.interrupt)?;
        server.drain(&self.interrupt)?;
        let ended = |tally: &Tally| (tally.ended - before) as u64;
        let tally = self.crowd.wait_for("the ends of sessions", |tally| ended(tally) >= open)?;
        if ended(&tally) != open {
            let (open, ended) = (many(open, "session"), count(ended(&tally)));
            return Err(Failure::Lost(format!(
                "okloop {number} had {open}, and the clients saw {ended} end"
            )));
        }
        Ok(open)
    }

    /// The failure, or the end of a server that caused it.
    fn explain(&self, failure: Failure) -> Failure {
        let start = Instant::now();
        let may_be_explained = matches!(failure, Failure::Lost(_));
        while may_be_explained && self.interrupt.check().is_ok() && start.elapsed() < SETTLING {
            if let Some(death) = self.servers.iter().find_map(Server::death) {
                return death;
            }
            thread::sleep(Interrupt::TICK);
        }
        failure
    }

    fn memory_now(&self) -> Option<Memory> {
        Memory::now(self.servers.iter().map(Server::id), self.crowd.ids())
    }
}

/// The memory that each session has added. After a fall, something else gave back more than the sessions added.
fn growth(before: u64, now: u64, sessions: usize) -> String {
    if now <= before {
        return "no more than before".to_owned();
    }
    let grown = now - before;
    let each = count(grown / sessions as u64).to_string();
    format!("{each:>6} bytes a session, {}", bytes(grown as f64))
}

/// A bar that leaves the terminal when it is dropped.
fn bar(what: &str, length: usize) -> ProgressBar {
    let bar = progress("{msg:17} {wide_bar} {human_pos} of {human_len}, {elapsed}", length);
    bar.with_message(what.to_owned()).with_finish(ProgressFinish::AndClear)
}

#[cfg(test)]
mod tests {
    use super::growth;

    #[test]
    fn memory_that_has_not_grown_is_not_said_to_cost_nothing() {
        assert_eq!(growth(1_000_000, 1_512_000, 1000), "   512 bytes a session, 500.0 KiB");
        assert_eq!(growth(1_000_000, 999_999, 1000), "no more than before");
    }
}
