//! A correct plain server, a thread for each session, that can be broken in one way: `mutant [--break NAME] PORT`.
//!
//! It is the proof that each case of `lab faults` can fail. [`Break`] lists the faults; tests/faults.rs says which cases
//! each of them must fail.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Condvar, Mutex, RwLock};
use std::time::{Duration, Instant};
use std::{mem, process, thread};

use clap::{Parser, ValueEnum};
use memchr::memmem;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use okloop::protocols::{BANNER, CHUNK, PREFIX};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use signal_hook::consts::{SIGCONT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::{Domain, SockRef, Socket, Type};

#[derive(Parser)]
struct Arguments {
    port: u16,
    #[arg(long = "break", default_value = "nothing")]
    broken: Break,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Break {
    Nothing,
    /// Ends the process when a client comes.
    ExitsOnClient,
    /// Greets a second time a client that is silent at first.
    GreetsTwice,
    /// Answers only when a newline has come.
    WaitsForNewline,
    /// Drops the bytes that are not ASCII.
    AsciiOnly,
    /// Takes a lone newline for an empty message, and answers nothing.
    IgnoresEmptyLines,
    /// Answers at most 50 lines of one short read, and drops the others.
    FiftyLines,
    /// Ends a session after 30 reads of one byte.
    EndsByteSenders,
    /// Repeats more than 1024 bytes in one answer.
    LongChunks,
    /// Ends a session that does not read for some 100 ms.
    ImpatientWriter,
    /// Ends the session when the end of input is announced, though input is still unread.
    ClosesAtHalfClose,
    /// Does not serve a client that has ended its input before it is greeted.
    ClosesEarlyHalfClose,
    /// Does not see the end of input that came together with the first data.
    MissesTheEnd,
    /// Ends the process if a client has no address any more when it is accepted.
    ExitsOnLostClient,
    /// Ends the process at a failed write.
    ExitsOnWriteError,
    /// Ends the process at a failed read.
    ExitsOnReadError,
    /// Does not ask the kernel for keepalive.
    NoKeepalive,
    /// Keeps every answer in memory until the client reads it.
    BuffersAll,
    /// Ends a session whose client takes nothing more for a second.
    ClosesSlowReaders,
    /// Has room for 8 blocked writes; all sessions wait while there are more.
    FewWriters,
    /// Serves one session for as long as it has input.
    Unfair,
    /// Serves no session while clients wait to be accepted.
    AcceptsAllFirst,
    /// Ends a session that sends urgent data.
    ClosesOnUrgent,
    /// Resets the clients that exceed its limit of open files.
    ResetsWhenFull,
    /// Tries to accept again as fast as it can while no file is free.
    Spins,
    /// Tries to accept again only when a session ends.
    WaitsForAnEnd,
    /// Ends the process if no thread can be started.
    ExitsOnFullMemory,
    /// Serves 5,000 sessions together, and ends the others.
    FiveThousand,
    /// Wakes up each session ten times a second.
    Polls,
    /// Leaves a file open after each eighth session.
    LeaksFiles,
    /// Keeps 8 KiB of each session for ever.
    LeaksMemory,
    /// Lingers for a second only after the goodbye.
    LingersShortly,
    /// Keeps a bit for each file that it may have open.
    KeepsABitForEachFile,
    /// At the stop, answers what its own kernel holds, and not what waits behind the closed window.
    ForgetsTheWindow,
    /// Leaves SIGTERM to the kernel.
    NoSignals,
    /// Ends at the second SIGTERM without a drain.
    SecondSignalKills,
    /// Waits for all sessions before it ends.
    WaitsForAll,
    /// Does not ask for address reuse.
    NoReuse,
    /// Ends the process when it has been continued four times.
    ExitsOnContinue,
    /// Ends the process if a line of log finds a closed pipe.
    ExitsOnBrokenPipe,
    /// Ends the process if a line of log finds a full disk.
    ExitsOnFullDisk,
    /// Waits until each line of log is written.
    WaitsForLog,
    /// Writes its log to a client if it has no standard output.
    LogsToClient,
}

static BROKEN: Mutex<Break> = Mutex::new(Break::Nothing);

fn is(broken: Break) -> bool {
    *BROKEN.lock().expect("no holder panics") == broken
}

/// How many sessions are open; changes are announced.
static OPEN: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();
/// For [`Break::Unfair`], and for [`Break::AcceptsAllFirst`].
static TURN: Mutex<()> = Mutex::new(());
static GATE: RwLock<()> = RwLock::new(());
/// For [`Break::FewWriters`].
static WRITERS: Mutex<usize> = Mutex::new(8);

pub fn run() -> io::Result<()> {
    let arguments = Arguments::parse();
    *BROKEN.lock().expect("no holder panics") = arguments.broken;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(!is(Break::NoReuse))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port)).into())?;
    socket.listen(4096)?;
    let listener = TcpListener::from(socket);
    // The end of this pipe's writer tells all sessions together that the server stops.
    let (stopping, running) = io::pipe()?;
    let stopping: &'static io::PipeReader = Box::leak(Box::new(stopping));
    if matches!(arguments.broken, Break::ExitsOnBrokenPipe | Break::ExitsOnFullDisk) {
        fcntl(io::stdout().as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let _bits = is(Break::KeepsABitForEachFile).then(bit_for_each_file);
    if is(Break::NoSignals) {
        accept(&listener, stopping);
    }
    let mut signals = Signals::new([SIGTERM])?;
    let continued = is(Break::ExitsOnContinue).then(|| Signals::new([SIGCONT])).transpose()?;
    if let Some(mut continued) = continued {
        thread::spawn(move || continued.forever().nth(3).map(|_| process::exit(1)));
    }
    thread::spawn(move || accept(&listener, stopping));
    signals.forever().next();
    drop(running);
    if is(Break::SecondSignalKills) {
        thread::spawn(move || signals.forever().next().map(|_| process::exit(1)));
    }
    // A client that does not read gets a few seconds.
    let limit = Duration::from_secs(if is(Break::WaitsForAll) { 1000 } else { 5 });
    let open = OPEN.lock().expect("no holder panics");
    drop(ENDED.wait_timeout_while(open, limit, |open| *open > 0));
    Ok(())
}

/// Each page of it is written to.
fn bit_for_each_file() -> Vec<u8> {
    let limit = rlimit::Resource::NOFILE.get_soft().unwrap_or(0);
    vec![1; usize::try_from(limit / 8).expect("64 bits")]
}

fn accept(listener: &TcpListener, stopping: &'static io::PipeReader) -> ! {
    let limit = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
    loop {
        let gate = is(Break::AcceptsAllFirst).then(|| GATE.write().expect("no holder panics"));
        loop {
            match listener.accept() {
                Ok(_) if is(Break::ExitsOnClient) => process::exit(3),
                Ok((client, _)) => admit(client, limit, stopping),
                Err(_) if is(Break::Spins) => {}
                Err(_) if is(Break::WaitsForAnEnd) => {
                    let open = OPEN.lock().expect("no holder panics");
                    drop(ENDED.wait(open));
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
            if gate.is_none() || !has(listener, PollFlags::IN, 0) {
                break;
            }
        }
        drop(gate);
        if is(Break::AcceptsAllFirst) {
            has(listener, PollFlags::IN, None);
        }
    }
}

fn admit(client: TcpStream, limit: u64, stopping: &'static io::PipeReader) {
    if is(Break::ExitsOnLostClient) && client.peer_addr().is_err() {
        process::exit(1);
    }
    let open = *OPEN.lock().expect("no holder panics");
    if is(Break::ResetsWhenFull) && open as u64 + 20 > limit {
        let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
        return;
    }
    if is(Break::FiveThousand) && open >= 5000 {
        return;
    }
    log_line(&client);
    if is(Break::FewWriters) {
        // A large buffer in the kernel would take everything, and no write would block.
        let _ = SockRef::from(&client).set_send_buffer_size(64 << 10);
    }
    let _ = SockRef::from(&client).set_keepalive(!is(Break::NoKeepalive));
    *OPEN.lock().expect("no holder panics") += 1;
    let session = move || {
        let _ = converse(&client, stopping);
        drop(client);
        leak();
        end();
    };
    let thread =
        if has_memory() { thread::Builder::new().stack_size(64 << 10).spawn(session).ok() } else { None };
    if thread.is_none() {
        end();
        if is(Break::ExitsOnFullMemory) {
            process::exit(1);
        }
    }
}

/// Whether there is room for a thread and for all that it needs later: an allocation that fails ends the process.
fn has_memory() -> bool {
    const ROOM: u64 = 8 << 20;
    const PAGE: u64 = 4096;
    let limit = rlimit::Resource::AS.get_soft().unwrap_or(u64::MAX);
    let pages =
        fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').next()?.parse().ok());
    limit > pages.unwrap_or(0_u64) * PAGE + ROOM
}

fn end() {
    *OPEN.lock().expect("no holder panics") -= 1;
    ENDED.notify_all();
}

fn leak() {
    static LEAKED: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    static SESSIONS: AtomicUsize = AtomicUsize::new(0);
    if is(Break::LeaksFiles) && SESSIONS.fetch_add(1, Ordering::Relaxed).is_multiple_of(8) {
        mem::forget(File::open("/dev/null"));
    }
    if is(Break::LeaksMemory) {
        LEAKED.lock().expect("no holder panics").push(vec![1; 8 << 10]);
    }
}

fn log_line(client: &TcpStream) {
    let write = |line: &[u8]| io::stdout().write_all(line).and_then(|()| io::stdout().flush());
    if is(Break::WaitsForLog) {
        let _ = write(b"a client has connected\n");
    } else if is(Break::ExitsOnBrokenPipe) || is(Break::ExitsOnFullDisk) {
        let kind = write(b"a client has connected\n").err().map(|error| error.kind());
        let fatal = if is(Break::ExitsOnBrokenPipe) { ErrorKind::BrokenPipe } else { ErrorKind::StorageFull };
        if kind == Some(fatal) {
            process::exit(1);
        }
    } else if is(Break::LogsToClient) {
        // The standard library opens /dev/null in the place of a closed stream.
        let null = File::open("/dev/null").and_then(|file| file.metadata());
        let stdout = File::open("/proc/self/fd/1").and_then(|file| file.metadata());
        if let (Ok(null), Ok(stdout)) = (null, stdout)
            && null.rdev() == stdout.rdev()
        {
            let _ = (&mut &*client).write_all(b"a client has connected\n");
        }
    }
}

/// Whether one of these events is there within the time (ms); without one, it waits for ever.
fn has(source: &impl AsFd, events: PollFlags, milliseconds: impl Into<Option<i64>>) -> bool {
    let timeout =
        milliseconds.into().map(|milliseconds| Timespec { tv_sec: 0, tv_nsec: milliseconds * 1_000_000 });
    let mut asked = [PollFd::new(source, events)];
    poll(&mut asked, timeout.as_ref()).is_ok_and(|count| count > 0) && asked[0].revents().intersects(events)
}

const END: PollFlags = PollFlags::RDHUP;

fn converse(client: &TcpStream, stopping: &io::PipeReader) -> io::Result<()> {
    client.set_nodelay(true)?;
    let connected = Instant::now();
    if is(Break::ClosesEarlyHalfClose) && has(client, END, 1) {
        return Ok(());
    }
    let mut session = Session {
        client,
        writer: is(Break::BuffersAll).then(|| writer(client)).transpose()?,
        line: Vec::new(),
        begun: Vec::new(),
        has_quit: false,
    };
    session.write(BANNER)?;
    let (mut reads, mut single) = (0, 0);
    loop {
        let gate = is(Break::AcceptsAllFirst).then(|| GATE.read().expect("no holder panics"));
        drop(gate);
        if is(Break::ForgetsTheWindow) && has(stopping, PollFlags::HUP, 0) {
            return answer_what_is_here(&mut session);
        }
        if wait(client, stopping) == Event::Stopping {
            return linger(&session);
        }
        if is(Break::ClosesOnUrgent) && has(client, PollFlags::PRI, 0)
            || is(Break::ClosesAtHalfClose) && has(client, END, 0)
        {
            return Ok(());
        }
        let turn = is(Break::Unfair).then(|| TURN.lock().expect("no holder panics"));
        loop {
            let Some(input) = session.read()? else { return session.finish() };
            if reads == 0 && is(Break::GreetsTwice) && connected.elapsed() > Duration::from_millis(150) {
                session.write(BANNER)?;
            }
            reads += 1;
            single = if input.len() == 1 { single + 1 } else { 0 };
            if is(Break::EndsByteSenders) && single == 30 {
                return Ok(());
            }
            session.answer(&input)?;
            if session.has_quit {
                return linger(&session);
            }
            if reads == 1 && is(Break::MissesTheEnd) && has(client, END, 0) {
                wait_for_stop(stopping);
                return Ok(());
            }
            if turn.is_none() || !has(client, PollFlags::IN, 0) || !has(client, PollFlags::OUT, 0) {
                break;
            }
        }
    }
}

#[derive(PartialEq)]
enum Event {
    Input,
    Stopping,
}

/// Waits for input, or for the stop. What has arrived by then comes first, and what the client had sent before: it comes
/// while the window is open again.
fn wait(client: &TcpStream, stopping: &io::PipeReader) -> Event {
    let timeout = is(Break::Polls).then_some(Timespec { tv_sec: 0, tv_nsec: 100_000_000 });
    let urgent = if is(Break::ClosesOnUrgent) { PollFlags::PRI } else { PollFlags::empty() };
    loop {
        let mut asked =
            [PollFd::new(client, PollFlags::IN | urgent), PollFd::new(stopping, PollFlags::empty())];
        let _ = poll(&mut asked, timeout.as_ref());
        if !asked[0].revents().is_empty() {
            return Event::Input;
        }
        if !asked[1].revents().is_empty() && !has(client, PollFlags::IN, 300) {
            return Event::Stopping;
        }
    }
}

fn wait_for_stop(stopping: &io::PipeReader) {
    has(stopping, PollFlags::HUP, None);
}

/// For [`Break::ForgetsTheWindow`].
fn answer_what_is_here(session: &mut Session<'_>) -> io::Result<()> {
    let mut here = vec![0; usize::try_from(ioctl_fionread(session.client)?).expect("64 bits")];
    session.client.read_exact(&mut here)?;
    session.answer(&here)?;
    linger(session)
}

/// Everything is answered; then the end, and the client's own is waited for: a close with unread input resets.
fn linger(session: &Session<'_>) -> io::Result<()> {
    let mut client = session.client;
    client.shutdown(Shutdown::Write)?;
    let start = Instant::now();
    let mut rest = [0; 4096];
    while client.read(&mut rest)? > 0 {
        if is(Break::LingersShortly) && start.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
    Ok(())
}

/// A client that sends this gets the goodbye and the end.
const QUIT: &[u8] = b"quit\n";
const GOODBYE: &[u8] = b"Goodbye\n";

struct Session<'a> {
    client: &'a TcpStream,
    writer: Option<Sender<Vec<u8>>>,
    /// For [`Break::WaitsForNewline`].
    line: Vec<u8>,
    /// The beginning of [`QUIT`], if the input ends with it.
    begun: Vec<u8>,
    has_quit: bool,
}

impl Session<'_> {
    /// The next input; none at its end.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut chunk = vec![0; if is(Break::LongChunks) { 4 * CHUNK } else { CHUNK }];
        match self.client.read(&mut chunk) {
            Ok(0) => Ok(None),
            Ok(count) => {
                chunk.truncate(count);
                Ok(Some(chunk))
            }
            Err(_) if is(Break::ExitsOnReadError) => process::exit(1),
            Err(error) => Err(error),
        }
    }

    fn answer(&mut self, input: &[u8]) -> io::Result<()> {
        let mut input = [&mem::take(&mut self.begun), input].concat();
        if let Some(end) = memmem::find(&input, QUIT) {
            self.has_quit = true;
            input.truncate(end);
        } else {
            let begun = (1..QUIT.len()).rev().find(|&length| input.ends_with(&QUIT[..length]));
            self.begun = input.split_off(input.len() - begun.unwrap_or(0));
        }
        if is(Break::AsciiOnly) {
            input.retain(u8::is_ascii);
        }
        if is(Break::IgnoresEmptyLines) && input == b"\n" {
            return Ok(());
        }
        if is(Break::FiftyLines) && input.len() < CHUNK {
            input = input.split_inclusive(|&byte| byte == b'\n').take(50).collect::<Vec<_>>().concat();
        }
        if is(Break::WaitsForNewline) {
            self.line.extend(input);
            let end = self.line.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
            input = self.line.drain(..end).collect();
        }
        for chunk in input.chunks(if is(Break::LongChunks) { 4 * CHUNK } else { CHUNK }) {
            self.write(&[PREFIX, chunk].concat())?;
        }
        if self.has_quit { self.write(GOODBYE) } else { Ok(()) }
    }

    /// The client's input has ended.
    fn finish(&mut self) -> io::Result<()> {
        let rest = [mem::take(&mut self.line), mem::take(&mut self.begun)].concat();
        if rest.is_empty() { Ok(()) } else { self.write(&[PREFIX, &rest].concat()) }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(writer) = &self.writer {
            return writer.send(bytes.to_vec()).map_err(|_| ErrorKind::BrokenPipe.into());
        }
        let patience = match *BROKEN.lock().expect("no holder panics") {
            Break::ImpatientWriter => Some(Duration::from_millis(50)),
            Break::ClosesSlowReaders => Some(Duration::from_millis(500)),
            _ => None,
        };
        if patience.is_some() {
            self.client.set_write_timeout(patience)?;
        }
        let writers = is(Break::FewWriters).then(take_writer);
        let result = (&mut &*self.client).write_all(bytes);
        if writers.is_some() {
            *WRITERS.lock().expect("no holder panics") += 1;
            ENDED.notify_all();
        }
        match result {
            Err(_) if is(Break::ExitsOnWriteError) => process::exit(1),
            result => result,
        }
    }
}

fn take_writer() {
    loop {
        let mut writers = WRITERS.lock().expect("no holder panics");
        if *writers > 0 {
            *writers -= 1;
            return;
        }
        drop(writers);
        thread::sleep(Duration::from_millis(1));
    }
}

/// A thread that writes what is sent to it, for as long as the session may take.
fn writer(client: &TcpStream) -> io::Result<Sender<Vec<u8>>> {
    let client = client.try_clone()?;
    let (sender, receiver) = channel::<Vec<u8>>();
    let write = move || {
        while let Ok(bytes) = receiver.recv() {
            if (&client).write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Write);
    };
    thread::Builder::new().stack_size(64 << 10).spawn(write)?;
    Ok(sender)
}
