//! A chat on tokio: a task for each client, all on one thread, and a `broadcast` channel. It keeps the last lines, with a
//! place in them for each client, as the room of `examples/chat.rs` does.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::select;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{self, Receiver, Sender};

use super::{GREETING, INPUT, NO_COMMANDS, tokio as tasks};

/// How many lines the channel keeps for clients that read slowly.
const HISTORY: usize = 4096;

/// A line, with its speaker's number.
type Line = (u64, Arc<[u8]>);

pub fn serve(runtime: Builder, listener: TcpListener) -> io::Result<()> {
    let (room, mut guests) = (broadcast::channel(HISTORY).0, 0);
    tasks::serve_each(runtime, listener, move |client| {
        guests += 1;
        converse(client, guests, room.clone(), room.subscribe())
    })
}

async fn converse(
    mut client: TcpStream,
    guest: u64,
    room: Sender<Line>,
    mut lines: Receiver<Line>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (input, mut output) = client.split();
    output.write_all(GREETING).await?;
    let mut input = BufReader::new(input);
    let name = format!("guest-{guest}: ");
    let mut line = name.clone().into_bytes();
    loop {
        // A client that has all lines has no buffer.
        let mut pending = Vec::new();
        select! {
            read = input.read_until(b'\n', &mut line) => {
                if read? == 0 {
                    return Ok(());
                }
                if !line.ends_with(b"\n") {
                    continue;
                }
                if line[name.len()] == b'/' {
                    output.write_all(NO_COMMANDS).await?;
                } else {
                    // It fails only without any client.
                    let _ = room.send((guest, line[..].into()));
                }
                line.truncate(name.len());
            }
            received = lines.recv() => {
                take(received, guest, &mut pending)?;
            }
        }
        // One write sends all lines that are there.
        while pending.len() < INPUT {
            match lines.try_recv() {
                Ok(next) => take(Ok(next), guest, &mut pending)?,
                Err(TryRecvError::Lagged(missed)) => {
                    take(Err(RecvError::Lagged(missed)), guest, &mut pending)?;
                }
                Err(_) => break,
            }
        }
        output.write_all(&pending).await?;
    }
}

/// Adds what came to what the client gets: the line of another client, or how many lines it has missed.
fn take(received: Result<Line, RecvError>, guest: u64, pending: &mut Vec<u8>) -> io::Result<()> {
    match received {
        Ok((speaker, _)) if speaker == guest => {}
        Ok((_, line)) => pending.extend_from_slice(&line),
        Err(RecvError::Lagged(missed)) => {
            pending.extend_from_slice(format!("* {missed} lines missed\n").as_bytes());
        }
        Err(RecvError::Closed) => return Err(io::ErrorKind::NotConnected.into()),
    }
    Ok(())
}
