//! The chat past one process: two servers on one port, and a real redis-server between them.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::harness::{Client, Process, cargo, eventually};

const GREETING: &[u8] = b"* Say something, or /nick NAME, /who, /quit\n";
const AWAY: &[u8] = b"* The other servers cannot be reached. What is said stays here\n";
const BACK: &[u8] = b"* The other servers can be reached again\n";

/// The program, which the root's package does not build.
fn program() -> PathBuf {
    let server = Path::new(env!("CARGO_BIN_EXE_okloop"));
    let target = server.ancestors().nth(2).expect("it is in target/debug, say");
    let mut build = cargo();
    let build = build.args(["build", "--package=chat_redis", "--quiet", "--target-dir"]).arg(target);
    assert!(build.status().expect("cargo runs, as it runs this").success());
    target.join("debug/chat_redis")
}

/// Debian's server, without a file.
fn redis(port: u16) -> Process {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
    let redis = Process::spawn(command.arg(port.to_string()));
    eventually("redis listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    redis
}

fn chat(program: &Path, port: u16, redis: u16) -> Process {
    let (port, redis) = (port.to_string(), format!("redis://127.0.0.1:{redis}/"));
    Process::spawn(Command::new(program).args([&port, &redis, "--reuse-port"]))
}

/// A client with this name.
fn enter_as(name: &str, port: u16) -> Client {
    let mut client = Client::connect(port);
    client.expect(GREETING);
    client.send(format!("/nick {name}\n").as_bytes());
    client.expect(format!("* You are {name}\n").as_bytes());
    client
}

/// The names of the clients on the same server.
fn neighbours(client: &mut Client) -> Vec<String> {
    client.send(b"/who\n/help\n");
    let end = "* There are /nick NAME, /who and /quit";
    let lines = client.lines_until(end);
    lines.iter().filter_map(|line| line.strip_prefix("*   ")).map(str::to_owned).collect()
}

/// The client has been told nothing more.
fn settle(client: &mut Client) {
    client.send(b"/help\n");
    client.expect(b"* There are /nick NAME, /who and /quit\n");
}

#[test]
#[ignore = "needs redis-server; .ci/run installs and runs it"]
fn two_servers_are_one_room_as_long_as_redis_is_there() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let redis_port = free.local_addr().expect("it is bound").port();
    drop(free);
    let first_redis = redis(redis_port);
    let program = program();
    let one = chat(&program, 0, redis_port);
    let port = one.port();
    let two = chat(&program, port, redis_port);
    two.line_with("Socket now listening");

    // The kernel spreads the clients over both servers.
    let mut ann = enter_as("ann", port);
    let (mut bob, mut cid, mut others) = (None, None, Vec::new());
    for number in 0..64 {
        let name = format!("n{number}");
        let client = enter_as(&name, port);
        match neighbours(&mut ann).contains(&name) {
            true if cid.is_none() => cid = Some((name, client)),
            false if bob.is_none() => bob = Some((name, client)),
            _ => others.push(client),
        }
        if bob.is_some() && cid.is_some() {
            break;
        }
    }
    drop(others);
    let ((far, mut bob), (near, mut cid)) =
        (bob.expect("a client of the other server"), cid.expect("a client of the same server"));

    for number in 0..1_000 {
        ann.send(format!("{number}\n").as_bytes());
    }
    for client in [&mut bob, &mut cid] {
        (0..1_000).for_each(|number| client.expect(format!("ann: {number}\n").as_bytes()));
    }
    bob.send(b"hi\n");
    for client in [&mut ann, &mut cid] {
        client.expect(format!("{far}: hi\n").as_bytes());
    }
    for client in [&mut ann, &mut bob, &mut cid] {
        settle(client);
    }

    // Something else publishes what is no line of a chat.
    let publish = |text: &str| {
        let mut command = Command::new("redis-cli");
        let command = command.args(["-p", &redis_port.to_string(), "PUBLISH", "okloop-chat", text]);
        assert!(command.output().expect("redis-cli is there").status.success());
    };
    publish("short");
    publish(&"x".repeat(100_000));
    publish("0123456789abcdefeve: hello\n");
    for client in [&mut ann, &mut bob, &mut cid] {
        client.expect(b"eve: hello\n");
    }

    // Redis ends.
    drop(first_redis);
    for client in [&mut ann, &mut bob, &mut cid] {
        client.expect(AWAY);
    }
    ann.send(b"only here\n");
    cid.expect(b"ann: only here\n");
    let mut newcomer = Client::connect(port);
    newcomer.expect(&[GREETING, AWAY].concat());
    settle(&mut bob);

    // It comes back.
    let second_redis = redis(redis_port);
    for client in [&mut ann, &mut bob, &mut cid, &mut newcomer] {
        client.expect(BACK);
    }
    drop(newcomer);
    ann.send(b"all again\n");
    for client in [&mut bob, &mut cid] {
        client.expect(b"ann: all again\n");
    }

    // It hangs, and goes on.
    second_redis.signal(Signal::SIGSTOP);
    for client in [&mut ann, &mut bob, &mut cid] {
        client.expect(AWAY);
    }
    second_redis.signal(Signal::SIGCONT);
    for client in [&mut ann, &mut bob, &mut cid] {
        client.expect(BACK);
    }
    cid.send(b"still here\n");
    for client in [&mut ann, &mut bob] {
        client.expect(format!("{near}: still here\n").as_bytes());
    }
    for client in [&mut ann, &mut bob, &mut cid] {
        settle(client);
    }
    drop((ann, bob, cid));
    for server in [one, two] {
        server.stop();
    }
}
