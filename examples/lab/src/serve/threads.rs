//! A thread for each client. It differs from `examples/thread_per_connection.rs` in one point: it gathers its answers.
//!
//! A read takes up to 16 KiB, and one write sends the answers to all chunks in it, as okloop does. So a comparison with
//! okloop compares threads with a loop, not small writes with large ones.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::support::BANNER;

use super::{ACCEPT_RETRY, INPUT, answer, complain, say};

pub fn serve(listener: &TcpListener) -> io::Result<()> {
    serve_each(listener, |client| move || converse(&client))
}

/// Gives each client a thread, which runs its session.
pub fn serve_each<S: FnOnce() -> io::Result<()> + Send + 'static>(
    listener: &TcpListener,
    mut new_session: impl FnMut(TcpStream) -> S,
) -> io::Result<()> {
    loop {
        let accepted = listener.accept().and_then(|(client, address)| {
            say(format_args!("Connected with {address}"));
            let session = new_session(client);
            thread::Builder::new().spawn(move || {
                if let Err(error) = session() {
                    complain(format_args!("Session with {address} ended: {error}"));
                }
            })
        });
        match accepted {
            Ok(_) => {}
            // This client has left the queue. The next one need not wait.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                complain(format_args!("No session: {error}"));
                thread::sleep(ACCEPT_RETRY);
            }
        }
    }
}

fn converse(mut client: &TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    client.write_all(BANNER)?;
    // Memory is in use only up to where input was read to.
    let mut input = BufReader::with_capacity(INPUT, client);
    let mut answers = Vec::new();
    loop {
        let received = input.fill_buf()?;
        let count = received.len();
        if count == 0 {
            return Ok(());
        }
        answer(received, &mut answers);
        input.consume(count);
        client.write_all(&answers)?;
    }
}
