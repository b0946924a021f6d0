//! What the loop does, as a page that a reader steps through.
//!
//! ```text
//!   the loop's thread ── trace::Event ──► Ring ──► Recording ──► page, JSON, trace for Perfetto
//!        ▲
//!   clients of a scene (scenes.rs), or your own on port 8888
//! ```
//!
//! Read `recording.rs` first, then `scenes.rs`. `page.js` draws.

mod recording;
mod scenes;
mod stills;

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use askama::Template;
use clap::Args;
use okloop::protocols::{Framing, OkSession};
use okloop::trace::{self, Event, Place};
use okloop::{Client, Config, Handle, Server, Session};

use self::recording::{RING, Recording, Ring};
use self::scenes::{SCENES, Scene};
use crate::support::failure::Failure;
use crate::support::interrupt::Interrupt;

/// What the loop does, as a page to step through: serves on port 8888 until Ctrl-C, or plays a scene
#[derive(Debug, Args)]
pub struct Arguments {
    /// The scene to play, with clients of its own
    #[arg(long, value_name = "NAME", conflicts_with = "all_scenes")]
    scene: Option<String>,

    /// Play every scene
    #[arg(long)]
    all_scenes: bool,

    /// List the scenes
    #[arg(long)]
    list: bool,

    /// Draw the course's still pictures into this directory, with the browser chromium
    #[arg(long, value_name = "DIR", conflicts_with_all = ["scene", "all_scenes"])]
    stills: Option<PathBuf>,

    /// The port to serve on without a scene; 0 lets the system choose
    #[arg(long, value_name = "N", default_value_t = 8888)]
    port: u16,

    /// Where the pages are written
    #[arg(long, value_name = "DIR", default_value = "target/record")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.list {
        for scene in SCENES {
            say(&format!("{:14} {}", scene.name, scene.look_for));
        }
        return Ok(());
    }
    if let Some(name) = &arguments.scene {
        let scene = SCENES.iter().find(|scene| scene.name == name);
        let scene = scene.ok_or_else(|| Failure::Usage(format!("no scene {name:?}: see --list")))?;
        return record(scene, &arguments.out);
    }
    if arguments.all_scenes {
        return SCENES.iter().try_for_each(|scene| record(scene, &arguments.out));
    }
    if let Some(directory) = &arguments.stills {
        return stills::draw(directory, &arguments.out);
    }
    serve(arguments.port, &arguments.out)
}

/// Plays a scene and writes its page, also if a client did not get what it waited for: the page shows why.
fn record(scene: &Scene, out: &Path) -> Result<(), Failure> {
    let (recording, outcome) = scene.play()?;
    write(&recording, scene.name, out)?;
    outcome
}

fn serve(port: u16, out: &Path) -> Result<(), Failure> {
    let interrupt = Interrupt::catch()?;
    let running = Recorded::start(Config { port, ..Config::default() }, |_| OkSession::new(Framing::Chunks))?;
    say(&format!("Serving on port {}. Ctrl-C ends the recording", running.port));
    while !interrupt.is_asked() {
        thread::sleep(Interrupt::TICK);
    }
    let look_for =
        "This is what the loop did for your clients. Follow one session from its first step to its last.";
    let (ring, names) = running.finish()?;
    write(&Recording::new(ring, names, "serve", look_for, Vec::new()), "serve", out)
}

fn say(line: &str) {
    // It fails only where the output is closed.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A server on a thread of its own, whose loop is recorded.
struct Recorded {
    port: u16,
    handle: Handle,
    /// The names of a scene's clients.
    names: Mutex<HashMap<SocketAddr, String>>,
    shared: Arc<Shared>,
    thread: JoinHandle<std::io::Result<()>>,
}

struct Shared {
    ring: Mutex<Ring>,
    gate: Mutex<Gate>,
    changed: Condvar,
}

/// Holds the loop before its next `poll`, while a scene's clients prepare what one batch is to bring.
#[derive(Default)]
struct Gate {
    closed: bool,
    loop_waits: bool,
}

impl Recorded {
    fn start<S: Session>(
        config: Config,
        new_session: impl FnMut(Client<'_>) -> S + Send + 'static,
    ) -> Result<Self, Failure> {
        let server = Server::bind(config).map_err(|error| Failure::System(error.to_string()))?;
        let port = server.local_addr().map_err(Failure::system("The server's address"))?.port();
        let (handle, ring) = (server.handle(), Mutex::new(Ring::new(RING)));
        let shared = Arc::new(Shared { ring, gate: Mutex::default(), changed: Condvar::new() });
        let recorder = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            trace::record_on_this_thread(move |event, place| recorder.record(event, place));
            server.run(new_session).map(|_| ())
        });
        Ok(Self { port, handle, names: Mutex::default(), shared, thread })
    }

    /// Holds the loop before `poll` while `prepare` runs.
    fn hold<T>(&self, prepare: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let lock = || self.shared.gate.lock().unwrap_or_else(PoisonError::into_inner);
        lock().closed = true;
        // This ends the `poll` that runs now.
        self.handle.report();
        let wait = |gate: &mut Gate| !gate.loop_waits;
        drop(self.shared.changed.wait_while(lock(), wait).unwrap_or_else(PoisonError::into_inner));
        let result = prepare();
        lock().closed = false;
        self.shared.changed.notify_all();
        result
    }

    /// Names the client with this address.
    fn name(&self, peer: SocketAddr, name: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(peer, name.to_owned());
    }

    /// Stops the server. Returns what it did, and the names of its clients.
    fn finish(self) -> Result<(Ring, HashMap<SocketAddr, String>), Failure> {
        self.handle.stop();
        self.thread.join().expect("the loop does not panic").map_err(Failure::system("The loop"))?;
        let mut ring = self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = std::mem::replace(&mut *ring, Ring::new(0));
        Ok((ring, self.names.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Shared {
    /// Takes a step of the loop, on the loop's thread.
    fn record(&self, event: &Event, place: Place) {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now(), event.clone(), place);
        if matches!(event, Event::PollStart { .. }) {
            let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
            while gate.closed {
                gate.loop_waits = true;
                self.changed.notify_all();
                gate = self.changed.wait(gate).unwrap_or_else(PoisonError::into_inner);
            }
            gate.loop_waits = false;
        }
    }
}

/// The page. It needs no network and no file beside it.
#[derive(Template)]
#[template(path = "record.html")]
struct Page<'a> {
    name: &'a str,
    data: &'a str,
    style: &'a str,
    script: &'a str,
    /// The way from the page to the project, or nothing if the page lies outside.
    root: &'a str,
}

fn write(recording: &Recording, name: &str, out: &Path) -> Result<(), Failure> {
    let json = serde_json::to_string(recording).expect("a recording has only string keys");
    // In the page, no text may look like the end of the script.
    let data = json.replace('<', "\\u003c");
    let doing = || Failure::system(format!("{}", out.display()));
    fs::create_dir_all(out).map_err(doing())?;
    let root = way_to_project(out).unwrap_or_default();
    let page = Page {
        name,
        data: &data,
        style: include_str!("page.css"),
        script: include_str!("page.js"),
        root: &root,
    };
    let page = page.render().map_err(|error| Failure::System(error.to_string()))?;
    fs::write(out.join(format!("{name}.html")), page).map_err(doing())?;
    fs::write(out.join(format!("{name}.json")), json).map_err(doing())?;
    fs::write(out.join(format!("{name}.trace.json")), recording.chrome().to_string()).map_err(doing())?;
    say(&format!("{}", out.join(format!("{name}.html")).display()));
    Ok(())
}

/// The relative way from a directory inside the project to the project.
fn way_to_project(directory: &Path) -> Option<String> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().ok()?;
    let inside = directory.canonicalize().ok()?.strip_prefix(project).ok()?.components().count();
    Some(format!("./{}", "../".repeat(inside)))
}
