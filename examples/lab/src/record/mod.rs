//! What the loop does, as a page that a reader steps through.
//!
//! ```text
//!   the loop's thread ── trace::Event ──► Ring ──► Recording ──► page, JSON, trace for Perfetto
//!        ▲
//!   clients of a scene (scenes.rs), or your own on port 8888
//! ```
//!
//! Read `recording.rs` first, then `scenes.rs`. `stepper.js` draws.

mod recording;
mod scenes;
mod stills;
mod texts;

use std::collections::HashMap;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use askama::Template;
use clap::Args;
use okloop::protocols::{Framing, OkSession};
use okloop::trace::{self, Event, Place};
use okloop::{Client, Config, Handle, Server, Session};
use serde::Serialize;

pub use self::recording::{Played, Recording};
use self::recording::{RING, Ring, Seen};
use self::scenes::{SCENES, Scene};
pub(crate) use self::texts::texts;
pub use self::texts::{CHINESE, ENGLISH, Language, Texts};
use crate::support::{Failure, Interrupt, output, prepare, say};

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
    let out = &arguments.out;
    if arguments.list {
        for scene in SCENES {
            say(format_args!("{:14} {}", scene.name, look_for(scene.name, &ENGLISH)));
        }
        return Ok(());
    }
    let is_played = |scene: &&Scene| arguments.all_scenes || arguments.scene.as_deref() == Some(scene.name);
    let mut scenes = SCENES.iter().filter(is_played).peekable();
    if let (Some(name), None) = (&arguments.scene, scenes.peek()) {
        return Err(Failure::Usage(format!("no scene {name:?}: see --list")));
    }
    [Some(out), arguments.stills.as_ref()].into_iter().flatten().try_for_each(|path| prepare(path))?;
    match &arguments.stills {
        Some(directory) => stills::draw(directory, out),
        None if scenes.peek().is_some() => scenes.try_for_each(|scene| record(scene, out)),
        None => serve(arguments.port, out),
    }
}

/// Whether there is a scene with this name.
pub fn is_scene(name: &str) -> bool {
    SCENES.iter().any(|scene| scene.name == name)
}

/// Plays a scene of the list.
pub fn play(name: &str) -> Result<Played, Failure> {
    let scene = SCENES.iter().find(|scene| scene.name == name);
    let scene = scene.ok_or_else(|| Failure::Usage(format!("no scene {name:?}: see --list")))?;
    let (played, outcome) = scene.play()?;
    outcome.map(|()| played)
}

/// Tells a scene.
pub fn tell(played: &Played, language: &Language) -> Recording {
    Recording::new(played, language, look_for(played.scene, language))
}

/// What to look for in a scene.
fn look_for(scene: &str, language: &Language) -> String {
    let mut captions = language.captions.split("\n## `").skip(1);
    let words = captions.find_map(|caption| caption.strip_prefix(scene)?.strip_prefix("`\n\n"));
    words.expect("the page has each scene").trim().replace('\n', " ")
}

/// Plays a scene and writes its page, also if a client did not get what it waited for: the page shows why.
fn record(scene: &Scene, out: &Path) -> Result<(), Failure> {
    let (played, outcome) = scene.play()?;
    write_page(&tell(&played, &ENGLISH), scene.name, out)?;
    outcome
}

fn serve(port: u16, out: &Path) -> Result<(), Failure> {
    let interrupt = Interrupt::catch()?;
    // A client that stays does not hold up the operator.
    let config = Config { port, drain_timeout: Duration::from_secs(1), ..config() };
    let running = Recorded::start(config, |_| |_| OkSession::new(Framing::Chunks))?;
    say(format_args!("Serving on port {} of 127.0.0.1. Ctrl-C ends the recording", running.port));
    while interrupt.wait(Interrupt::TICK).is_ok() {}
    let look_for =
        "This is what the loop did for your clients. Follow one session from its first step to its last.";
    let played = running.finish("serve", Vec::new())?;
    write_page(&Recording::new(&played, &ENGLISH, look_for.to_owned()), "serve", out)
}

/// A recorded server is for this machine alone.
fn config() -> Config {
    Config { host: "127.0.0.1".to_owned(), ..Config::default() }
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
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ring: Ring,
    /// The loop is to wait before its next `poll`, while a scene's clients prepare what one batch is to bring.
    is_held: bool,
    loop_waits: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'a>(
        &self,
        state: MutexGuard<'a, State>,
        condition: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'a, State> {
        self.changed.wait_while(state, condition).unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a step of the loop, on the loop's thread.
    fn record(&self, event: &Event, place: Place) {
        let mut state = self.lock();
        state.ring.push(Instant::now(), event.clone(), place);
        if matches!(event, Event::PollStart { .. }) && state.is_held {
            state.loop_waits = true;
            self.changed.notify_all();
            self.wait_while(state, |state| state.is_held).loop_waits = false;
        }
    }
}

impl Recorded {
    /// `factory` runs on the loop's thread, because what the sessions share need not be `Send`.
    fn start<S: Session, F: FnMut(Client<'_>) -> S>(
        config: Config,
        factory: impl FnOnce(Handle) -> F + Send + 'static,
    ) -> Result<Self, Failure> {
        let server = Server::bind(config).map_err(|error| Failure::System(error.to_string()))?;
        let port = server.local_addr().map_err(Failure::system("The server's address"))?.port();
        let handle = server.handle();
        let state = State { ring: Ring::new(RING), is_held: false, loop_waits: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let recorder = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            trace::record_on_this_thread(move |event, place| recorder.record(event, place));
            let new_session = factory(server.handle());
            server.run(new_session).map(|_| ())
        });
        Ok(Self { port, handle, names: Mutex::default(), shared, thread })
    }

    /// Holds the loop before `poll` while `prepare` runs.
    fn hold<T>(&self, prepare: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.shared.lock().is_held = true;
        // This ends the `poll` that runs now.
        self.handle.report();
        drop(self.shared.wait_while(self.shared.lock(), |state| !state.loop_waits));
        let result = prepare();
        self.shared.lock().is_held = false;
        self.shared.changed.notify_all();
        result
    }

    /// Names the client with this address.
    fn name(&self, peer: SocketAddr, name: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(peer, name.to_owned());
    }

    /// Stops the server.
    fn finish(self, scene: &'static str, clients: Vec<Seen>) -> Result<Played, Failure> {
        self.handle.stop();
        self.thread.join().expect("the loop does not panic").map_err(Failure::system("The loop"))?;
        let ring = mem::replace(&mut self.shared.lock().ring, Ring::new(0));
        let names = self.names.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Played { scene, ring, names, clients })
    }
}

/// The page. It needs no network and no file beside it.
#[derive(Template)]
#[template(path = "record.html")]
struct Page<'a> {
    name: &'a str,
    data: &'a str,
    texts: &'a Texts,
    texts_json: &'a str,
    /// The way from the page to the project, or nothing if the page lies outside.
    root: &'a str,
}

/// JSON for a page, in which no text may look like the end of the script.
pub fn for_script(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("all keys are strings");
    json.replace('<', "\\u003c")
}

fn write_page(recording: &Recording, name: &str, out: &Path) -> Result<(), Failure> {
    let json = serde_json::to_string(recording).expect("a recording has only string keys");
    let (data, texts, texts_json) = (&for_script(recording), &Texts::ENGLISH, &for_script(&Texts::ENGLISH));
    let root = &way_to_project(out).unwrap_or_default();
    let page = Page { name, data, texts, texts_json, root }.render();
    let file = |ending: &str| out.join(format!("{name}.{ending}"));
    output::write(&file("html"), page.expect("a template of texts does not fail"))?;
    output::write(&file("json"), json)?;
    output::write(&file("trace.json"), recording.chrome().to_string())?;
    say(file("html").display());
    Ok(())
}

/// The relative way from a directory inside the project to the project.
fn way_to_project(directory: &Path) -> Option<String> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().ok()?;
    let inside = directory.canonicalize().ok()?.strip_prefix(project).ok()?.components().count();
    Some(format!("./{}", "../".repeat(inside)))
}
