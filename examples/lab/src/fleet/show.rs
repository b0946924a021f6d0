//! The run of a fleet in its order, and what it prints.

use std::io::{self, Write};
use std::mem;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::fleet::arguments::Arguments;
use crate::fleet::counters::Counters;
use crate::fleet::crowd::Crowd;
use crate::fleet::limits::Limits;
use crate::fleet::memory::Memory;
use crate::fleet::message::{Order, Share, Tally};
use crate::fleet::plan::{self, Wish};
use crate::fleet::server::{self, Port, Server};
use crate::support::failure::Failure;
use crate::support::interrupt::Interrupt;
use crate::support::machine::Machine;
use crate::support::words::{count, many};

/// Fleets up to this size have each process's share shown.
const FEW: usize = 8;
/// How long a lost session may be the first sign of a server's end: the kernel closes the sockets of a process, which
/// may be very many, before it reports its end.
const SETTLING: Duration = Duration::from_secs(2);

/// Runs a fleet from its start to its end.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let interrupt = Interrupt::catch()?;
    rlimit::increase_nofile_limit(u64::MAX).map_err(Failure::system("The open-file limit"))?;
    let port = Port::hold(arguments.port)?;
    let wish = Wish {
        processes: arguments.processes as usize,
        sessions: arguments.sessions as usize,
        active: arguments.active.min(arguments.sessions),
        clients: arguments.clients as usize,
    };
    let shares = plan::shares(wish, port.address(), &Limits::here()?)?;
    say(&format!("Machine   {}", Machine::here()))?;

    let mut show = Show::begin(wish, &port, &shares, interrupt)?;
    let result = show.go_on(arguments.seconds);
    result.map_err(|failure| show.explain(failure))
}

struct Show {
    wish: Wish,
    interrupt: Interrupt,
    servers: Vec<Server>,
    crowd: Crowd,
    /// The memory in use before the first session.
    before: Option<Memory>,
}

impl Show {
    /// Starts all processes, without a session yet.
    fn begin(wish: Wish, port: &Port, shares: &[Share], interrupt: Interrupt) -> Result<Self, Failure> {
        let (program, address) = (server::program(&interrupt)?, port.address());
        let start = |number| Server::start(&program, number, address);
        let mut servers: Vec<Server> = (0..wish.processes).map(start).collect::<Result<_, _>>()?;
        servers.iter_mut().try_for_each(|server| server.wait_until_listening(&interrupt))?;
        say(&format!("Servers   {} on {address}", many(servers.len(), "process")))?;

        let crowd = Crowd::start(shares, &interrupt)?;
        let last = shares[1..].last().map_or_else(String::new, |share| format!(" to {}", share.source));
        say(&format!(
            "Clients   {} from {}{last}, each with at most {} on their way",
            many(shares.len(), "process"),
            shares[0].source,
            many(shares[0].in_flight, "session")
        ))?;
        let mut show = Self { wish, interrupt, servers, crowd, before: None };
        show.before = show.memory_now();
        Ok(show)
    }

    fn go_on(&mut self, time: Duration) -> Result<(), Failure> {
        self.open()?;
        self.spread()?;
        self.send_lines(time)?;
        self.memory()?;
        self.drain_one()?;
        if !self.servers.is_empty() {
            self.call_roll()?;
            self.drain_all()?;
        }
        self.verdict()
    }

    fn open(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        self.crowd.order(&Order::Open)?;
        let wanted = self.wish.sessions;
        let bar = progress("greeted", wanted);
        let tally = self.crowd.wait_for("the banners", |tally| {
            bar.set_position(tally.greeted as u64);
            tally.greeted >= wanted
        })?;
        bar.finish_and_clear();
        let time = start.elapsed();
        say(&format!(
            "Opened    {} in {:.1} s, {} a second; every banner right, the slowest after {:.0} ms",
            many(tally.greeted, "session"),
            time.as_secs_f64(),
            HumanCount(rate(tally.greeted, time)),
            tally.slowest.as_secs_f64() * 1e3
        ))
    }

    /// Asks the servers how the kernel has spread the sessions.
    fn spread(&mut self) -> Result<(), Failure> {
        let counters = self.servers.iter_mut().map(|server| server.counters(&self.interrupt));
        let mut open: Vec<usize> =
            counters.map(|counters| Ok(counters?.open)).collect::<Result<_, Failure>>()?;
        let total = open.iter().sum();
        if total != self.wish.sessions {
            let (known, wanted) = (many(total, "session"), count(self.wish.sessions));
            return Err(Failure::Lost(format!("the servers know of {known} instead of {wanted}")));
        }
        let shares = if open.len() <= FEW {
            open.iter().map(|&open| count(open).to_string()).collect::<Vec<_>>().join(" + ")
        } else {
            open.sort_unstable();
            let [least, quarter, three_quarters, most] =
                [0, open.len() / 4, open.len() * 3 / 4, open.len() - 1].map(|place| count(open[place]));
            format!("{least} to {most} a process, half of them from {quarter} to {three_quarters}")
        };
        say(&format!("Spread    {} open: {shares}", many(total, "session")))
    }

    /// Lets the active sessions send lines for some time.
    fn send_lines(&mut self, time: Duration) -> Result<(), Failure> {
        self.crowd.order(&Order::Send)?;
        let bar = progress("seconds", time.as_secs().try_into().unwrap_or(usize::MAX));
        let start = Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()) {
            bar.set_position(start.elapsed().as_secs());
            self.crowd.wait(left.min(Duration::from_secs(1)))?;
        }
        bar.finish_and_clear();
        let answers = self.crowd.mark()?;
        match self.wish.active {
            0 => say("Active    none: all are idle"),
            active => say(&format!(
                "Active    {} of them, a line each 100 ms: {answers}",
                HumanCount(active.into())
            )),
        }
    }

    fn memory(&self) -> Result<(), Failure> {
        let (Some(before), Some(now)) = (self.before, self.memory_now()) else {
            return say("Memory    not told by this system");
        };
        let each = |before, now| growth(before, now, self.wish.sessions);
        say(&format!("Memory    servers, resident      {}", each(before.servers, now.servers)))?;
        say(&format!("          clients, resident      {}", each(before.clients, now.clients)))?;
        if let (Some(before), Some(now)) = (before.sockets, now.sockets) {
            say(&format!("          kernel, both sockets   {}", each(before, now)))?;
        }
        say(&format!("          kernel, all objects    {}", each(before.kernel, now.kernel)))?;
        say(&format!("          taken from free        {}", each(now.free, before.free)))
    }

    /// Stops one process while the active sessions of all go on.
    fn drain_one(&mut self) -> Result<(), Failure> {
        let server = self.servers.remove(0);
        let start = Instant::now();
        let counters = self.drain(server)?;
        let time = start.elapsed();
        let answers = self.crowd.mark()?;
        say(&format!(
            "Drained   one process: SIGTERM, {} ended in order in {:.1} s, every line answered; {} came after its end",
            many(counters.drained, "session"),
            time.as_secs_f64(),
            many(self.crowd.tally().crossed, "line")
        ))?;
        if self.servers.is_empty() || self.wish.active == 0 {
            return Ok(());
        }
        // The drained process's sessions are among them up to its end: no client knows which process serves it.
        say(&format!("          meanwhile, all active sessions: {answers}"))
    }

    /// Has every remaining session send a line. It finds an idle session that was lost unnoticed.
    fn call_roll(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        self.crowd.order(&Order::CallRoll)?;
        let sessions = self.wish.sessions;
        let bar = progress("answered", sessions);
        let tally = self.crowd.wait_for("the roll call", |tally| {
            bar.set_position(tally.called as u64);
            tally.called + tally.ended >= sessions
        })?;
        bar.finish_and_clear();
        let time = start.elapsed();
        self.crowd.mark()?;
        say(&format!(
            "Roll call {} of the others answered a line each in {:.1} s",
            many(tally.called, "session"),
            time.as_secs_f64()
        ))
    }

    /// Stops the others, one after the other.
    fn drain_all(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        let servers = mem::take(&mut self.servers);
        let others = many(servers.len(), "process");
        let bar = progress("processes drained", servers.len());
        let mut drained = 0;
        for server in servers {
            drained += self.drain(server)?.drained;
            bar.inc(1);
        }
        bar.finish_and_clear();
        say(&format!(
            "Drained   the rest, {others}: {} ended in order in {:.1} s",
            many(drained, "session"),
            start.elapsed().as_secs_f64()
        ))
    }

    /// Stops one process: it must end with status 0, and both ends must agree that each of its sessions ended in order.
    fn drain(&mut self, server: Server) -> Result<Counters, Failure> {
        let number = server.number;
        let before = self.crowd.tally().ended;
        server.terminate()?;
        let counters = server.finish(&self.interrupt)?;
        if counters.drained != counters.accepted {
            let (accepted, drained) = (many(counters.accepted, "session"), count(counters.drained));
            return Err(Failure::Lost(format!(
                "okloop {number} accepted {accepted} and ended {drained} in order"
            )));
        }
        let ended = |tally: &Tally| tally.ended - before;
        let tally = self.crowd.wait_for("the ends of sessions", |tally| ended(tally) >= counters.drained)?;
        if ended(&tally) != counters.drained {
            return Err(Failure::Lost(format!(
                "okloop {number} ended {}, and the clients saw {} end",
                many(counters.drained, "session"),
                count(ended(&tally))
            )));
        }
        Ok(counters)
    }

    /// A lost session would have ended the run before.
    fn verdict(&self) -> Result<(), Failure> {
        say(&format!("None of {} was lost", many(self.crowd.tally().ended, "session")))
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
    let bytes = now - before;
    let each = HumanCount(bytes / sessions as u64).to_string();
    format!("{each:>6} bytes a session, {}", HumanBytes(bytes))
}

/// So many a second.
fn rate(number: usize, time: Duration) -> u64 {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    number as u64 * 1000 / milliseconds
}

/// A bar on the terminal, if standard error is one.
fn progress(what: &'static str, length: usize) -> ProgressBar {
    const TEMPLATE: &str = "{msg:17} {wide_bar} {human_pos} of {human_len}, {elapsed}";
    let style = ProgressStyle::with_template(TEMPLATE).expect("the template is well-formed");
    ProgressBar::new(length as u64).with_style(style).with_message(what)
}

/// Prints a line. If nothing reads it, the run ends, and its processes with it.
fn say(line: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{line}").map_err(Failure::system("Standard output"))
}

#[cfg(test)]
mod tests {
    use super::growth;

    #[test]
    fn memory_that_has_not_grown_is_not_said_to_cost_nothing() {
        assert_eq!(growth(1_000_000, 1_512_000, 1000), "   512 bytes a session, 500.00 KiB");
        assert_eq!(growth(1_000_000, 999_999, 1000), "no more than before");
    }
}
