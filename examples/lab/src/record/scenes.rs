//! The scenes: for each rule of the course, clients that make it visible.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use okloop::config::QUIET;
use okloop::protocols::{BANNER, Framing, OkSession};
use okloop::{Buffer, Config, Session, Step};
use rlimit::Resource;
use socket2::{Domain, SockRef, Socket, Type};

use super::Recorded;
use super::recording::{Played, Seen};
use crate::support::Failure;

#[path = "../../../chat.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "a scene starts the session, not the program")]
mod chat;
#[path = "../../../gateway.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "a scene starts the session, not the program")]
mod gateway;
#[path = "../../../lookup.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "a scene starts the session, not the program")]
mod lookup;

/// How long a client waits for a byte. Far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a scene leaves the loop alone, for everything possible to happen.
const MOMENT: Duration = Duration::from_millis(150);

/// A scene.
pub struct Scene {
    /// Its name on the command line.
    pub name: &'static str,
    clients: fn(&Recorded) -> io::Result<Vec<Seen>>,
    config: fn(&mut Config),
    server: fn(Config) -> Result<Recorded, Failure>,
}

const fn scene(name: &'static str, clients: fn(&Recorded) -> io::Result<Vec<Seen>>) -> Scene {
    let server = |config| Recorded::start(config, |_| |_| OkSession::new(Framing::Chunks));
    Scene { name, clients, config: |_| {}, server }
}

/// Every scene.
pub const SCENES: &[Scene] = &[
    scene("greeting", |server| {
        let mut client = Client::greeted(server, "the client")?;
        client.ask(b"hello\n", 11)?;
        Ok(vec![client.finish()?])
    }),
    scene("batch", |server| {
        let (mut first, mut second) =
            (Client::greeted(server, "the first client")?, Client::greeted(server, "the second client")?);
        server.hold(|| {
            first.send(b"one\n")?;
            second.send(b"two\n")
        })?;
        first.expect(9)?;
        second.expect(9)?;
        Ok(vec![first.finish()?, second.finish()?])
    }),
    scene("half-close", |server| {
        let mut client = Client::slow(server, "the client")?;
        client.send(&[b'x'; 100_000])?;
        client.stream.shutdown(Shutdown::Write)?;
        thread::sleep(MOMENT);
        Ok(vec![client.finish()?])
    }),
    scene("slow-reader", |server| {
        let client = Client::slow(server, "the slow reader")?;
        Ok(vec![client.send_beside(300_000, MOMENT)?])
    }),
    scene("flood", |server| {
        let flood = Client::greeted(server, "the flood")?;
        let mut typing = Client::greeted(server, "the typing client")?;
        let flood = server.hold(|| {
            let flood = thread::spawn(move || flood.send_beside(300_000, Duration::ZERO));
            thread::sleep(MOMENT);
            typing.send(b"hi\n")?;
            Ok(flood)
        })?;
        typing.expect(8)?;
        let flood = flood.join().expect("a client does not panic")?;
        Ok(vec![flood, typing.finish()?])
    }),
    scene("crowd", |server| {
        let mut open = several("session", 4, |name| Client::greeted(server, name))?;
        let mut crowd = server.hold(|| {
            open.iter_mut().try_for_each(|client| client.send(b"hello\n"))?;
            several("newcomer", 12, |name| Client::connect(server, name))
        })?;
        open.iter_mut().try_for_each(|client| client.expect(11))?;
        crowd.iter_mut().try_for_each(|client| client.expect(BANNER.len()))?;
        open.into_iter().chain(crowd).map(Client::finish).collect()
    }),
    scene("no-files", |server| {
        let inside = Client::greeted(server, "the first client")?;
        let mut waiting = Client::socket("the waiting client", None)?;
        let limit = Resource::NOFILE.get()?;
        // The next file would get the number of a file that is opened and closed here.
        let next = {
            use std::os::fd::AsRawFd as _;
            let file = std::fs::File::open("/dev/null")?;
            u64::try_from(file.as_raw_fd()).expect("an open file has a number")
        };
        let set = |soft| Resource::NOFILE.set(soft, limit.1);
        set(next)?;
        let outcome = waiting.connect_to(server).and_then(|()| {
            thread::sleep(MOMENT);
            let inside = inside.finish()?;
            waiting.expect(BANNER.len())?;
            Ok(vec![inside, waiting.finish()?])
        });
        set(limit.0)?;
        outcome
    }),
    Scene {
        config: |config| config.idle_timeout = Some(Duration::from_millis(300)),
        ..scene("idle-timeout", |server| {
            let mut client = Client::greeted(server, "the silent client")?;
            client.read_to_end()?;
            Ok(vec![client.seen()])
        })
    },
    Scene {
        config: |config| config.write_timeout = Some(Duration::from_secs(1)),
        ..scene("write-timeout", |server| {
            let mut client = Client::slow(server, "the silent reader")?;
            client.send_until_stuck()?;
            thread::sleep(Duration::from_secs(2));
            Ok(vec![client.seen()])
        })
    },
    scene("drain", |server| {
        let mut reader = Client::slow(server, "the slow reader")?;
        let idle = Client::greeted(server, "the idle client")?;
        // A client that has just come would be read for a quiet time.
        thread::sleep(2 * QUIET);
        reader.send(&[b'x'; 100_000])?;
        thread::sleep(MOMENT);
        server.handle.stop();
        thread::sleep(MOMENT);
        Ok(vec![reader.finish()?, idle.finish()?])
    }),
    scene("reset", |server| {
        let resetting = Client::greeted(server, "the resetting client")?;
        let mut other = Client::greeted(server, "the other client")?;
        let linger = SockRef::from(&resetting.stream).set_linger(Some(Duration::ZERO));
        linger?;
        let resetting = resetting.seen();
        thread::sleep(MOMENT);
        other.ask(b"hello\n", 11)?;
        Ok(vec![resetting, other.finish()?])
    }),
    Scene {
        config: |config| config.max_connections = 1,
        ..scene("refusal", |server| {
            let inside = Client::greeted(server, "the first client")?;
            let mut refused = Client::connect(server, "the refused client")?;
            refused.read_to_end()?;
            Ok(vec![refused.finish()?, inside.finish()?])
        })
    },
    Scene {
        server: |config| Recorded::start(config, |_| |_| OkSession::new(Framing::Lines)),
        ..scene("lines", |server| {
            let mut client = Client::greeted(server, "the client")?;
            client.send(b"hel")?;
            thread::sleep(MOMENT);
            client.ask(b"lo\n", 11)?;
            Ok(vec![client.finish()?])
        })
    },
    Scene {
        server: |config| Recorded::start(config, |_| |_| Upper),
        ..scene("upper", |server| {
            let mut client = Client::connect(server, "the client")?;
            client.ask(b"hello\n", 6)?;
            Ok(vec![client.finish()?])
        })
    },
    Scene {
        server: chat_room,
        ..scene("chat", |server| {
            let [mut ann, mut bob, mut cid] = members(server, [None; 3])?;
            ann.send(b"hello\n")?;
            [&mut bob, &mut cid].into_iter().try_for_each(|other| other.expect(b"guest-1: hello\n".len()))?;
            [ann, bob, cid].into_iter().map(Client::finish).collect()
        })
    },
    Scene {
        server: chat_room,
        ..scene("slow-chat-client", |server| {
            let [mut ann, mut bob, mut cid] = members(server, [None, None, Some(8 * 1024)])?;
            let mut say = |text: &str, count| {
                ann.send(text.repeat(count).as_bytes())?;
                // The other client keeps pace, so that it misses nothing.
                bob.expect("guest-1: ".len() * count + text.len() * count)
            };
            // The long lines fill the kernel's buffers of cid, and the short ones the room.
            say(&("x".repeat(999) + "\n"), 400)?;
            (0..5).try_for_each(|_| say("x\n", 1000))?;
            thread::sleep(MOMENT);
            cid.expect_line("missed")?;
            [ann, bob, cid].into_iter().map(Client::finish).collect()
        })
    },
    Scene {
        server: |config| {
            let (queue, jobs) = sync_channel(1);
            thread::spawn(|| {
                // The threads of a pool can be busy.
                thread::sleep(MOMENT);
                lookup::work(&Mutex::new(jobs));
            });
            Recorded::start(config, |_| move |client| lookup::Lookup::new(queue.clone(), client.waker))
        },
        ..scene("lookup", |server| {
            let mut client = Client::connect(server, "the client")?;
            client.expect_line("Ask")?;
            client.send(b"host localhost\n")?;
            // The session waits for its answer when the end arrives.
            thread::sleep(MOMENT / 3);
            Ok(vec![client.finish()?])
        })
    },
    Scene {
        server: |config| {
            let backend =
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Failure::system("A backend"))?;
            let address = backend.local_addr().map_err(Failure::system("A backend"))?;
            let server = Recorded::start(config, move |handle| gateway::gateway(handle, address))?;
            server.name(address, "the backend");
            // Its client sees what it does not do.
            thread::spawn(move || answer_one_client(&backend));
            Ok(server)
        },
        ..scene("gateway", |server| {
            let mut client = Client::connect(server, "the client")?;
            client.ask(b"hello\n", 6)?;
            Ok(vec![client.finish()?])
        })
    },
];

fn chat_room(config: Config) -> Result<Recorded, Failure> {
    Recorded::start(config, |_| {
        let room = Rc::default();
        move |client| chat::Chat::enter(&room, client.waker)
    })
}

/// Three members of a chat, each with a receive buffer of its own.
fn members(server: &Recorded, buffers: [Option<usize>; 3]) -> io::Result<[Client; 3]> {
    let enter = |name, buffer| {
        let mut client = Client::socket(name, buffer)?;
        client.connect_to(server)?;
        client.expect_line("Say something")?;
        Ok::<_, io::Error>(client)
    };
    let [ann, bob, cid] = buffers;
    Ok([enter("ann", ann)?, enter("bob", bob)?, enter("cid", cid)?])
}

/// A backend for one client. It answers in upper case until its client's end, and then ends too.
fn answer_one_client(backend: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = backend.accept()?;
    let mut input = [0; 1024];
    loop {
        match stream.read(&mut input)? {
            0 => return Ok(()),
            count => stream.write_all(&input[..count].to_ascii_uppercase())?,
        }
    }
}

/// Answers in upper case.
struct Upper;

impl Session for Upper {
    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        output.push(&input.to_ascii_uppercase());
        Step::Consumed(input.len())
    }
}

impl Scene {
    /// Plays the scene. Returns what happened, and whether each client got what it waited for.
    pub fn play(&self) -> Result<(Played, Result<(), Failure>), Failure> {
        let mut config = Config { port: 0, ..super::config() };
        (self.config)(&mut config);
        let server = (self.server)(config)?;
        let clients = (self.clients)(&server);
        let (clients, outcome) = match clients {
            Ok(clients) => (clients, Ok(())),
            Err(error) => (Vec::new(), Err(Failure::System(error.to_string()))),
        };
        Ok((server.finish(self.name, clients)?, outcome))
    }
}

/// So many clients, with numbers in their names.
fn several<T>(what: &str, count: usize, make: impl Fn(&str) -> io::Result<T>) -> io::Result<Vec<T>> {
    (1..=count).map(|number| make(&format!("{what} {number}"))).collect()
}

/// A client of a scene, which counts its bytes.
struct Client {
    name: String,
    stream: TcpStream,
    sent: usize,
    received: usize,
}

impl Client {
    /// An unconnected client. A small receive buffer makes its kernel stop the server early.
    fn socket(name: &str, receive_buffer: Option<usize>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        receive_buffer.map_or(Ok(()), |size| socket.set_recv_buffer_size(size))?;
        Ok(Self { name: name.to_owned(), stream: socket.into(), sent: 0, received: 0 })
    }

    fn connect_to(&mut self, server: &Recorded) -> io::Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port));
        SockRef::from(&self.stream).connect(&address.into())?;
        server.name(self.stream.local_addr()?, &self.name);
        self.stream.set_read_timeout(Some(PATIENCE))
    }

    fn connect(server: &Recorded, name: &str) -> io::Result<Self> {
        let mut client = Self::socket(name, None)?;
        client.connect_to(server)?;
        Ok(client)
    }

    fn greeted(server: &Recorded, name: &str) -> io::Result<Self> {
        let mut client = Self::connect(server, name)?;
        client.expect(BANNER.len())?;
        Ok(client)
    }

    fn slow(server: &Recorded, name: &str) -> io::Result<Self> {
        let mut client = Self::socket(name, Some(8 * 1024))?;
        client.connect_to(server)?;
        client.expect(BANNER.len())?;
        Ok(client)
    }

    /// Names the client in an error.
    fn named<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.name)))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let result = self.stream.write_all(bytes);
        self.sent += bytes.len();
        self.named(result)
    }

    /// Sends until the server and both kernels take no more.
    fn send_until_stuck(&mut self) -> io::Result<()> {
        self.stream.set_write_timeout(Some(MOMENT))?;
        loop {
            match self.stream.write(&[b'x'; 16 * 1024]) {
                Ok(count) => self.sent += count,
                // After a reset, the server's time-out came first.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset) => {
                    return Ok(());
                }
                Err(error) => return self.named(Err(error)),
            }
        }
    }

    /// Sends `count` bytes on another thread, and after `pause` reads all the answers.
    fn send_beside(mut self, count: usize, pause: Duration) -> io::Result<Seen> {
        let mut writer = self.stream.try_clone()?;
        let sending = thread::spawn(move || {
            writer.write_all(&vec![b'x'; count])?;
            writer.shutdown(Shutdown::Write)
        });
        thread::sleep(pause);
        self.read_to_end()?;
        self.named(sending.join().expect("a client does not panic"))?;
        self.sent += count;
        Ok(self.seen())
    }

    fn expect(&mut self, count: usize) -> io::Result<()> {
        let result = self.stream.read_exact(&mut vec![0; count]);
        self.received += count;
        self.named(result)
    }

    /// Reads up to a line with these words.
    fn expect_line(&mut self, words: &str) -> io::Result<()> {
        let mut line = String::new();
        while !(line.ends_with('\n') && line.contains(words)) {
            if line.ends_with('\n') {
                line.clear();
            }
            let mut byte = [0];
            let result = self.stream.read_exact(&mut byte);
            self.named(result)?;
            self.received += 1;
            line.push(byte[0].into());
        }
        Ok(())
    }

    fn ask(&mut self, bytes: &[u8], answer: usize) -> io::Result<()> {
        self.send(bytes)?;
        self.expect(answer)
    }

    fn read_to_end(&mut self) -> io::Result<()> {
        let mut rest = Vec::new();
        let result = self.stream.read_to_end(&mut rest);
        self.received += rest.len();
        self.named(result.map(|_| ()))
    }

    /// Ends its direction and reads the rest.
    fn finish(mut self) -> io::Result<Seen> {
        self.named(self.stream.shutdown(Shutdown::Write))?;
        self.read_to_end()?;
        Ok(self.seen())
    }

    /// Closes the socket.
    fn seen(self) -> Seen {
        let peer = self.stream.local_addr().unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)));
        Seen { peer, name: self.name, sent: self.sent, received: self.received }
    }
}
