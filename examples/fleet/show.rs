//! What happens, in the order in which it happens, and what is said about it.

use std::io::{self, Write};
use std::mem;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::arguments::Arguments;
use crate::counters::Counters;
use crate::crowd::Crowd;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::limits::Limits;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::message::{Order, Share, Tally};
use crate::plan::{self, Wish};
use crate::server::{self, Port, Server};
use crate::words::count;

/// Fleets up to this size have each process's share shown.
const FEW: usize = 8;
/// How long a lost session may be the first sign of a server's end: a process that ends closes its sockets before it
/// is known to have ended, and it may have very many.
const SETTLING: Duration = Duration::from_secs(2);

/// Runs the whole show.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let interrupt = Interrupt::catch().map_err(Failure::system("The signals"))?;
    rlimit::increase_nofile_limit(u64::MAX).map_err(Failure::system("The open-file limit"))?;
    let port = Port::hold(arguments.port)?;
    let wish = Wish {
        processes: arguments.processes(),
        sessions: arguments.sessions(),
        typists: arguments.typists(),
        clients: arguments.clients(),
    };
    let shares = plan::shares(wish, port.address(), &Limits::here()?)?;
    say(&format!("Machine   {}", Machine::here()))?;

    let mut show = Show::begin(wish, &port, &shares, interrupt)?;
    let result = show.go_on(&shares, arguments.seconds);
    result.map_err(|failure| show.explain(failure))
}

struct Show {
    wish: Wish,
    interrupt: Interrupt,
    servers: Vec<Server>,
    crowd: Crowd,
    /// What was in use before the first session.
    before: Option<Memory>,
}

impl Show {
    /// Starts all processes, without a session yet.
    fn begin(wish: Wish, port: &Port, shares: &[Share], interrupt: Interrupt) -> Result<Self, Failure> {
        let (program, address) = (server::program(&interrupt)?, port.address());
        let start = |number| Server::start(&program, number, address);
        let servers: Vec<Server> = (0..wish.processes).map(start).collect::<Result<_, _>>()?;
        servers.iter().try_for_each(|server| server.wait_until_listening(&interrupt))?;
        say(&format!("Servers   {} on {address}", processes(servers.len())))?;

        let crowd = Crowd::start(shares.len(), &interrupt)?;
        let last = shares[1..].last().map_or_else(String::new, |share| format!(" to {}", share.source));
        say(&format!(
            "Clients   {} from {}{last}, each with at most {} sessions on their way",
            processes(shares.len()),
            shares[0].source,
            shares[0].in_flight
        ))?;
        let mut show = Self { wish, interrupt, servers, crowd, before: None };
        show.before = show.memory_now();
        Ok(show)
    }

    fn go_on(&mut self, shares: &[Share], typing: Duration) -> Result<(), Failure> {
        self.open(shares)?;
        self.spread()?;
        self.typing(typing)?;
        self.memory()?;
        self.drain_one()?;
        self.call_roll()?;
        self.drain_all()?;
        self.verdict()
    }

    fn open(&mut self, shares: &[Share]) -> Result<(), Failure> {
        let start = Instant::now();
        self.crowd.open(shares)?;
        let wanted = self.wish.sessions;
        let bar = progress("greeted", wanted);
        let tally = self.crowd.wait_for("the banners", |tally| {
            bar.set_position(tally.greeted as u64);
            tally.greeted >= wanted
        })?;
        bar.finish_and_clear();
        let time = start.elapsed();
        say(&format!(
            "Opened    {} sessions in {:.1} s, {} a second; every banner right, the slowest after {:.0} ms",
            count(tally.greeted),
            time.as_secs_f64(),
            HumanCount(rate(tally.greeted, time)),
            tally.slowest.as_secs_f64() * 1e3
        ))
    }

    /// Asks the servers how the kernel has dealt the sessions out.
    fn spread(&mut self) -> Result<(), Failure> {
        let counters = self.servers.iter_mut().map(|server| server.counters(&self.interrupt));
        let mut open: Vec<usize> =
            counters.map(|counters| Ok(counters?.open)).collect::<Result<_, Failure>>()?;
        let total = open.iter().sum();
        if total != self.wish.sessions {
            return Err(Failure::Lost(format!("the servers know of {} sessions", count(total))));
        }
        let shares = if open.len() <= FEW {
            open.iter().map(|&open| count(open).to_string()).collect::<Vec<_>>().join(" + ")
        } else {
            open.sort_unstable();
            let [least, quarter, three_quarters, most] =
                [0, open.len() / 4, open.len() * 3 / 4, open.len() - 1].map(|place| count(open[place]));
            format!("{least} to {most} a process, half of them from {quarter} to {three_quarters}")
        };
        say(&format!("Spread    {} sessions at once: {shares}", count(total)))
    }

    fn typing(&mut self, time: Duration) -> Result<(), Failure> {
        self.crowd.order(&Order::Type)?;
        let bar = progress("seconds typed", time.as_secs().try_into().unwrap_or(usize::MAX));
        let start = Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()) {
            bar.set_position(start.elapsed().as_secs());
            self.crowd.wait(left.min(Duration::from_secs(1)))?;
        }
        bar.finish_and_clear();
        let latencies = self.crowd.mark()?;
        say(&format!(
            "Typing    {} of them, a line each 100 ms: {}",
            HumanCount(self.wish.typists.into()),
            describe(&latencies)
        ))
    }

    fn memory(&self) -> Result<(), Failure> {
        let (Some(before), Some(now)) = (self.before, self.memory_now()) else {
            return say("Memory    not told by this system");
        };
        let each = |before: u64, now: u64| {
            let bytes = now.saturating_sub(before);
            let sessions = self.wish.sessions as u64;
            format!("{:>6} bytes a session, {}", HumanCount(bytes / sessions).to_string(), HumanBytes(bytes))
        };
        say(&format!("Memory    servers, resident      {}", each(before.servers, now.servers)))?;
        say(&format!("          clients, resident      {}", each(before.clients, now.clients)))?;
        if let (Some(before), Some(now)) = (before.sockets, now.sockets) {
            say(&format!("          kernel, both sockets   {}", each(before, now)))?;
        }
        say(&format!("          kernel, all objects    {}", each(before.kernel, now.kernel)))?;
        say(&format!("          all that is gone       {}", each(now.free, before.free)))
    }

    /// Stops one process while people type to all of them.
    fn drain_one(&mut self) -> Result<(), Failure> {
        let server = self.servers.remove(0);
        let start = Instant::now();
        let counters = self.drain(server)?;
        let time = start.elapsed();
        let latencies = self.crowd.mark()?;
        say(&format!(
            "Drained   one process: SIGTERM, {} sessions ended in order in {:.1} s, nothing owed; {} lines came after \
             its last word",
            count(counters.drained),
            time.as_secs_f64(),
            self.crowd.tally().crossed
        ))?;
        say(&format!("          the others meanwhile: {}", describe(&latencies)))
    }

    /// Has every session that is left send a line: an idle one that was lost unnoticed would be found now.
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
            "Roll call {} sessions of the others answered a line each in {:.1} s",
            count(tally.called),
            time.as_secs_f64()
        ))
    }

    /// Stops the others, one after the other.
    fn drain_all(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        let servers = mem::take(&mut self.servers);
        let others = processes(servers.len());
        let bar = progress("processes drained", servers.len());
        let mut drained = 0;
        for server in servers {
            drained += self.drain(server)?.drained;
            bar.inc(1);
        }
        bar.finish_and_clear();
        say(&format!(
            "Drained   the rest, {others}: {} sessions ended in order in {:.1} s",
            count(drained),
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
            return Err(Failure::Lost(format!("okloop {number} ended with {counters:?}")));
        }
        let ended = |tally: &Tally| tally.ended - before;
        let tally = self.crowd.wait_for("the ends of sessions", |tally| ended(tally) >= counters.drained)?;
        if ended(&tally) != counters.drained {
            return Err(Failure::Lost(format!(
                "okloop {number} ended {} sessions, and the clients saw {} end",
                counters.drained,
                ended(&tally)
            )));
        }
        Ok(counters)
    }

    /// What was lost has ended the show before.
    fn verdict(&self) -> Result<(), Failure> {
        say(&format!("None of {} sessions was lost", count(self.crowd.tally().ended)))
    }

    /// The failure, or the end of a server that lies behind it.
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

fn describe(latencies: &Histogram<u64>) -> String {
    let milliseconds = |nanoseconds: u64| Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3;
    format!(
        "{} right answers, half within {:.2} ms, 99 % within {:.2} ms, all within {:.1} ms",
        HumanCount(latencies.len()),
        milliseconds(latencies.value_at_quantile(0.5)),
        milliseconds(latencies.value_at_quantile(0.99)),
        milliseconds(latencies.max())
    )
}

fn processes(number: usize) -> String {
    format!("{number} {}", if number == 1 { "process" } else { "processes" })
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

/// Says a line. That nobody reads it any more ends the show, and the processes with it.
fn say(line: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{line}").map_err(Failure::system("Standard output"))
}
