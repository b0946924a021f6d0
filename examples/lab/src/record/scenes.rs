//! The scenes: for each rule of the course, clients that make it visible.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use okloop::protocols::{BANNER, Framing, OkSession};
use okloop::{Buffer, Config, Session, Step};
use rlimit::Resource;
use socket2::{Domain, SockRef, Socket, Type};

use super::Recorded;
use super::recording::{Recording, Seen};
use crate::support::failure::Failure;

/// How long a client waits for a byte. Far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a scene leaves the loop alone, for everything possible to happen.
const MOMENT: Duration = Duration::from_millis(150);

/// A scene.
pub struct Scene {
    /// Its name on the command line.
    pub name: &'static str,
    /// Two sentences: what to look for.
    pub look_for: &'static str,
    config: fn(&mut Config),
    protocol: Protocol,
    clients: fn(&Recorded) -> Result<Vec<Seen>, Failure>,
}

#[derive(Clone, Copy)]
enum Protocol {
    Chunks,
    Lines,
    Upper,
}

/// Every scene.
pub const SCENES: &[Scene] = &[
    Scene {
        name: "greeting",
        look_for: "A client connects and sends one line. Look how few steps an answer needs: one event, one read, one write.",
        config: |_| {},
        protocol: Protocol::Chunks,
        clients: |server| {
            let mut client = Client::greeted(server, "the client")?;
            client.ask(b"hello\n", 11)?;
            Ok(vec![client.finish()?])
        },
    },
    Scene {
        name: "batch",
        look_for: "Two clients have sent a line before the loop calls poll. Look for the poll that returns both events: each session gets one turn.",
        config: |_| {},
        protocol: Protocol::Chunks,
        clients: |server| {
            let (mut first, mut second) =
                (Client::greeted(server, "the first client")?, Client::greeted(server, "the second client")?);
            server.hold(|| {
                first.send(b"one\n")?;
                second.send(b"two\n")
            })?;
            first.expect(9)?;
            second.expect(9)?;
            Ok(vec![first.finish()?, second.finish()?])
        },
    },
    Scene {
        name: "half-close",
        look_for: "A client half-closes: it will send no more, but its answers are still pending. Look for the read of 0 bytes: the session stays open until all pending output is written.",
        config: |_| {},
        protocol: Protocol::Chunks,
        clients: |server| {
            let mut client = Client::slow(server, "the client")?;
            client.send(&[b'x'; 100_000])?;
            client.shut_down()?;
            thread::sleep(MOMENT);
            Ok(vec![client.finish()?])
        },
    },
    Scene {
        name: "slow-reader",
        look_for: "A client sends 300,000 bytes and reads no answer for a while: its answers wait in the server as pending output, the grey area. The grey area reaches the mark more than once: usually a write empties it immediately. Look for the time when the socket is full and the grey area stays (the green strip ends), and for the write that lets the server read again.",
        config: |_| {},
        protocol: Protocol::Chunks,
        clients: |server| {
            let client = Client::slow(server, "the slow reader")?;
            Ok(vec![client.send_beside(300_000, MOMENT)?])
        },
    },
    Scene {
        name: "flood",
        look_for: "One client floods the server, and beside it another client types a line. Look for the re-arm after 64 KiB: the flood stops early, and the typing client gets its turn.",
        config: |_| {},
        protocol: Protocol::Chunks,
        clients: |server| {
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
        },
    },
    Scene {
        name: "crowd",
        look_for: "Twelve clients connect while four sessions have sent a line. Look for the number that the loop accepts in one iteration: as many as the batch had events, so no session waits for the whole crowd.",
        config: |_| {},
        protocol: Protocol::Chunks,
        clients: |server| {
            let mut open = names("session", 4, |name| Client::greeted(server, name))?;
            let mut crowd = server.hold(|| {
                open.iter_mut().try_for_each(|client| client.send(b"hello\n"))?;
                names("newcomer", 12, |name| Client::connect(server, name, None))
            })?;
            open.iter_mut().try_for_each(|client| client.expect(11))?;
            crowd.iter_mut().try_for_each(|client| client.expect(BANNER.len()))?;
            open.into_iter().chain(crowd).map(Client::finish).collect()
        },
    },
    Scene {
        name: "no-files",
        look_for: "The process has no open file left while clients wait. Look for the pause instead of a loop that spins, and for what ends it: the end of a session.",
        config: |_| {},
        protocol: Protocol::Chunks,
        clients: |server| {
            let inside = Client::greeted(server, "the first client")?;
            let mut waiting = Client::socket("the waiting client", None)?;
            let limit = Resource::NOFILE.get().map_err(Failure::system("The limit of open files"))?;
            // The next file would get the number of a file that is opened and closed here.
            let next = {
                use std::os::fd::AsRawFd as _;
                let file = std::fs::File::open("/dev/null").map_err(Failure::system("/dev/null"))?;
                u64::try_from(file.as_raw_fd()).expect("an open file has a number")
            };
            let set = |soft| {
                Resource::NOFILE.set(soft, limit.1).map_err(Failure::system("The limit of open files"))
            };
            set(next)?;
            let outcome = waiting.connect_to(server).and_then(|()| {
                thread::sleep(MOMENT);
                let inside = inside.finish()?;
                waiting.expect(BANNER.len())?;
                Ok(vec![inside, waiting.finish()?])
            });
            set(limit.0)?;
            outcome
        },
    },
    Scene {
        name: "idle-timeout",
        look_for: "A client says nothing. Look at the time-out that poll gets: it is the idle time-out of the session, and when it is over the loop closes the socket.",
        config: |config| config.idle_timeout = Some(Duration::from_millis(300)),
        protocol: Protocol::Chunks,
        clients: |server| {
            let mut client = Client::greeted(server, "the silent client")?;
            client.read_to_end()?;
            Ok(vec![client.seen()])
        },
    },
    Scene {
        name: "write-timeout",
        look_for: "A client sends and never reads. Look for the first write that leaves output pending: it starts the write time-out. No output leaves after it, and the loop closes the socket.",
        config: |config| config.write_timeout = Some(Duration::from_secs(1)),
        protocol: Protocol::Chunks,
        clients: |server| {
            let mut client = Client::slow(server, "the silent reader")?;
            client.send_until_stuck()?;
            thread::sleep(Duration::from_secs(2));
            Ok(vec![client.seen()])
        },
    },
    Scene {
        name: "drain",
        look_for: "The server is asked to stop while one client has pending output and one is idle. Look for the states: Draining answers what has arrived, Finishing writes it, Lingering waits for the client's end.",
        config: |_| {},
        protocol: Protocol::Chunks,
        clients: |server| {
            let mut reader = Client::slow(server, "the slow reader")?;
            let idle = Client::greeted(server, "the idle client")?;
            reader.send(&[b'x'; 100_000])?;
            thread::sleep(MOMENT);
            server.handle.stop();
            thread::sleep(MOMENT);
            Ok(vec![reader.finish()?, idle.finish()?])
        },
    },
    Scene {
        name: "reset",
        look_for: "A client resets its connection. Look for the error of the read: it ends this session, and the other one goes on.",
        config: |_| {},
        protocol: Protocol::Chunks,
        clients: |server| {
            let resetting = Client::greeted(server, "the resetting client")?;
            let mut other = Client::greeted(server, "the other client")?;
            let linger = SockRef::from(&resetting.stream).set_linger(Some(Duration::ZERO));
            linger.map_err(Failure::system("SO_LINGER"))?;
            let resetting = resetting.seen();
            thread::sleep(MOMENT);
            other.ask(b"hello\n", 11)?;
            Ok(vec![resetting, other.finish()?])
        },
    },
    Scene {
        name: "refusal",
        look_for: "The limit is one session, and a second client connects. Look how it is told that the server is full, and how the server lingers until the client ends.",
        config: |config| config.max_connections = 1,
        protocol: Protocol::Chunks,
        clients: |server| {
            let inside = Client::greeted(server, "the first client")?;
            let mut refused = Client::connect(server, "the refused client", None)?;
            refused.read_to_end()?;
            Ok(vec![refused.finish()?, inside.finish()?])
        },
    },
    Scene {
        name: "lines",
        look_for: "With framing by lines, a line arrives in two parts. Look at the input buffer: the first part waits there, and only the second one causes an answer.",
        config: |_| {},
        protocol: Protocol::Lines,
        clients: |server| {
            let mut client = Client::greeted(server, "the client")?;
            client.send(b"hel")?;
            thread::sleep(MOMENT);
            client.ask(b"lo\n", 11)?;
            Ok(vec![client.finish()?])
        },
    },
    Scene {
        name: "upper",
        look_for: "The same loop serves another protocol: it answers in upper case. Look how the steps are those of the other scenes, because the loop knows no protocol.",
        config: |_| {},
        protocol: Protocol::Upper,
        clients: |server| {
            let mut client = Client::connect(server, "the client", None)?;
            client.ask(b"hello\n", 6)?;
            Ok(vec![client.finish()?])
        },
    },
];

/// Answers in upper case.
struct Upper;

impl Session for Upper {
    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        output.push(&input.to_ascii_uppercase());
        Step::Consumed(input.len())
    }
}

impl Scene {
    /// Plays the scene. Returns the recording, and whether each client got what it waited for.
    pub fn play(&self) -> Result<(Recording, Result<(), Failure>), Failure> {
        let mut config = Config { host: Ipv4Addr::LOCALHOST.to_string(), port: 0, ..Config::default() };
        (self.config)(&mut config);
        let server = match self.protocol {
            Protocol::Chunks => Recorded::start(config, |_| OkSession::new(Framing::Chunks)),
            Protocol::Lines => Recorded::start(config, |_| OkSession::new(Framing::Lines)),
            Protocol::Upper => Recorded::start(config, |_| Upper),
        }?;
        let clients = (self.clients)(&server);
        let (ring, names) = server.finish()?;
        let (clients, outcome) = match clients {
            Ok(clients) => (clients, Ok(())),
            Err(failure) => (Vec::new(), Err(failure)),
        };
        Ok((Recording::new(ring, names, self.name, self.look_for, clients), outcome))
    }
}

fn names<T>(
    what: &str,
    count: usize,
    make: impl FnMut(&str) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let names: Vec<_> = (1..=count).map(|number| format!("{what} {number}")).collect();
    names.iter().map(String::as_str).map(make).collect()
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
    fn socket(name: &str, receive_buffer: Option<usize>) -> Result<Self, Failure> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(Failure::system("A socket"))?;
        if let Some(size) = receive_buffer {
            socket.set_recv_buffer_size(size).map_err(Failure::system("SO_RCVBUF"))?;
        }
        Ok(Self { name: name.to_owned(), stream: socket.into(), sent: 0, received: 0 })
    }

    fn connect_to(&mut self, server: &Recorded) -> Result<(), Failure> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port));
        SockRef::from(&self.stream).connect(&address.into()).map_err(Failure::system("A client"))?;
        server.name(self.stream.local_addr().map_err(Failure::system("A client's address"))?, &self.name);
        self.stream.set_read_timeout(Some(PATIENCE)).map_err(Failure::system("SO_RCVTIMEO"))
    }

    fn connect(server: &Recorded, name: &str, receive_buffer: Option<usize>) -> Result<Self, Failure> {
        let mut client = Self::socket(name, receive_buffer)?;
        client.connect_to(server)?;
        Ok(client)
    }

    fn greeted(server: &Recorded, name: &str) -> Result<Self, Failure> {
        let mut client = Self::connect(server, name, None)?;
        client.expect(BANNER.len())?;
        Ok(client)
    }

    fn slow(server: &Recorded, name: &str) -> Result<Self, Failure> {
        let mut client = Self::connect(server, name, Some(8 * 1024))?;
        client.expect(BANNER.len())?;
        Ok(client)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).map_err(Failure::system(format!("{} sends", self.name)))?;
        self.sent += bytes.len();
        Ok(())
    }

    /// Sends until the server and both kernels take no more.
    fn send_until_stuck(&mut self) -> Result<(), Failure> {
        self.stream.set_write_timeout(Some(MOMENT)).map_err(Failure::system("SO_SNDTIMEO"))?;
        loop {
            match self.stream.write(&[b'x'; 16 * 1024]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The time-out came first.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(Failure::System(format!("{} sends: {error}", self.name))),
            }
        }
    }

    /// Sends `count` bytes on another thread, and after `pause` reads all the answers.
    fn send_beside(mut self, count: usize, pause: Duration) -> Result<Seen, Failure> {
        let mut writer = self.stream.try_clone().map_err(Failure::system("A client's thread"))?;
        let sending = thread::spawn(move || {
            writer.write_all(&vec![b'x'; count])?;
            writer.shutdown(Shutdown::Write)
        });
        thread::sleep(pause);
        self.read_to_end()?;
        sending.join().expect("a client does not panic").map_err(Failure::system("A client sends"))?;
        self.sent += count;
        Ok(self.seen())
    }

    fn expect(&mut self, count: usize) -> Result<(), Failure> {
        self.stream
            .read_exact(&mut vec![0; count])
            .map_err(Failure::system(format!("{} reads", self.name)))?;
        self.received += count;
        Ok(())
    }

    fn ask(&mut self, bytes: &[u8], answer: usize) -> Result<(), Failure> {
        self.send(bytes)?;
        self.expect(answer)
    }

    fn shut_down(&mut self) -> Result<(), Failure> {
        self.stream.shutdown(Shutdown::Write).map_err(Failure::system(format!("{} ends", self.name)))
    }

    fn read_to_end(&mut self) -> Result<(), Failure> {
        let mut rest = Vec::new();
        let result = self.stream.read_to_end(&mut rest);
        self.received += rest.len();
        result.map(|_| ()).map_err(Failure::system(format!("{} reads", self.name)))
    }

    /// Ends its direction and reads the rest.
    fn finish(mut self) -> Result<Seen, Failure> {
        self.shut_down()?;
        self.read_to_end()?;
        Ok(self.seen())
    }

    /// Closes the socket.
    fn seen(self) -> Seen {
        let peer = self.stream.local_addr().unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)));
        Seen { peer, name: self.name, sent: self.sent, received: self.received }
    }
}
