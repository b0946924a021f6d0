//! A chat with a thread for each client, and a list of all sockets under a lock. A thread writes each line of its client to
//! all other clients.
//!
//! A write blocks while a client's socket is full, and with it every client that has something to say. So each write has a
//! time-out, and the client that causes one leaves the chat.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{GREETING, INPUT, NO_COMMANDS, threads};

/// How long all clients wait for one that does not read.
const PATIENCE: Duration = Duration::from_millis(100);

/// The sockets of all clients, by their numbers.
type Clients = BTreeMap<u64, Arc<TcpStream>>;

#[derive(Clone, Default)]
struct Room(Arc<Mutex<Clients>>);

pub fn serve(listener: &TcpListener) -> io::Result<()> {
    let (room, mut guests) = (Room::default(), 0);
    threads::serve_each(listener, |client| {
        guests += 1;
        let (room, guest) = (room.clone(), guests);
        move || {
            let result = converse(&Arc::new(client), guest, &room);
            room.with(|clients| clients.remove(&guest));
            result
        }
    })
}

fn converse(socket: &Arc<TcpStream>, guest: u64, room: &Room) -> io::Result<()> {
    let mut client = &**socket;
    client.set_nodelay(true)?;
    client.set_write_timeout(Some(PATIENCE))?;
    room.with(|clients| {
        clients.insert(guest, Arc::clone(socket));
        client.write_all(GREETING)
    })?;
    let mut input = BufReader::with_capacity(INPUT, client);
    let mut line = format!("guest-{guest}: ").into_bytes();
    let start = line.len();
    while input.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
        room.with(|clients| {
            if line[start] == b'/' {
                return client.write_all(NO_COMMANDS);
            }
            say(&line, guest, clients);
            Ok(())
        })?;
        line.truncate(start);
    }
    Ok(())
}

/// Writes the line to all others. The thread of a client that does not take it then reads the end of its session.
fn say(line: &[u8], guest: u64, clients: &mut Clients) {
    clients.retain(|&other, client| {
        let has_failed = other != guest && (&**client).write_all(line).is_err();
        if has_failed {
            // It fails only if the session has ended already.
            let _ = client.shutdown(Shutdown::Both);
        }
        !has_failed
    });
}

impl Room {
    /// No two threads write to one client at the same time.
    fn with<T>(&self, change: impl FnOnce(&mut Clients) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
