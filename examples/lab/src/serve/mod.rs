//! `lab serve`: contenders of `compare` that are neither okloop nor a rung of the ladder. Each greets and answers as
//! okloop does, or sends each line to all other clients, as `examples/chat.rs` does.
//!
//! ```text
//! cargo run --release -p lab -- serve tokio_one_thread 8888
//! telnet localhost 8888
//! ```
//!
//! Two more stand beside them: `asyncio_server.py` and `asyncio_chat.py`.

mod chat_threads;
mod chat_tokio;
mod threads;
mod tokio;

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use ::tokio::runtime::Builder;
use clap::{Args, ValueEnum};
use socket2::SockRef;

use crate::support::{CHUNK, Failure, PREFIX, complain, say};

/// How many clients the kernel queues until the server accepts them, as for the ladder.
const BACKLOG: i32 = 4096;
/// How many bytes one read takes at most: okloop's input buffer.
const INPUT: usize = 16 * 1024;
/// How long a server waits after a failed accept. Only the end of another session gives it a descriptor again.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// What a chat sends first. As an answer to its sender alone, it begins with a star.
const GREETING: &[u8] = b"* Say something\n";
/// What a chat answers to a line with a slash.
const NO_COMMANDS: &[u8] = b"* There are no commands\n";

/// Serves as one of the contenders of `compare`, on 127.0.0.1
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which one
    #[arg(value_name = "NAME")]
    pub model: Model,
    /// The port
    pub port: u16,
}

/// How a contender waits for its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Model {
    /// A thread for each client. It answers everything that it has read with one write.
    ThreadsGathered,
    /// A tokio task for each client, all tasks on one thread.
    TokioOneThread,
    /// The same, with a thread for each processor.
    TokioAllThreads,
    /// A chat: a thread for each client, and a list of sockets under a lock.
    ChatThreads,
    /// A chat: a tokio task for each client on one thread, and tokio's `broadcast` channel.
    ChatTokio,
}

/// Serves until a signal ends the process.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let listener = listen(arguments.port).map_err(Failure::system(format!("Port {}", arguments.port)))?;
    match arguments.model {
        Model::ThreadsGathered => threads::serve(&listener),
        Model::TokioOneThread => tokio::serve(Builder::new_current_thread(), listener),
        Model::TokioAllThreads => tokio::serve(Builder::new_multi_thread(), listener),
        Model::ChatThreads => chat_threads::serve(&listener),
        Model::ChatTokio => chat_tokio::serve(Builder::new_current_thread(), listener),
    }
    .map_err(Failure::system("The server"))
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    SockRef::from(&listener).listen(BACKLOG)?;
    Ok(listener)
}

/// Puts the answers to all chunks of `received` into `answers`, for one write.
fn answer(received: &[u8], answers: &mut Vec<u8>) {
    answers.clear();
    for chunk in received.chunks(CHUNK) {
        answers.extend_from_slice(PREFIX);
        answers.extend_from_slice(chunk);
    }
}
