//! A tokio task for each client: the code reads like a thread's, and the runtime's loop waits with epoll.

use std::io;
use std::net::TcpListener as StdListener;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::time::sleep;

use crate::support::BANNER;

use super::{ACCEPT_RETRY, INPUT, answer, complain, say};

pub fn serve(runtime: Builder, listener: StdListener) -> io::Result<()> {
    serve_each(runtime, listener, converse)
}

/// Gives each client a task, which is its session.
pub fn serve_each<S: Future<Output = io::Result<()>> + Send + 'static>(
    mut runtime: Builder,
    listener: StdListener,
    mut new_session: impl FnMut(TcpStream) -> S + Send + 'static,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = runtime.enable_all().build()?;
    let accept = async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            match listener.accept().await {
                Ok((client, address)) => {
                    say(format_args!("Connected with {address}"));
                    let session = new_session(client);
                    tokio::spawn(async move {
                        if let Err(error) = session.await {
                            complain(format_args!("Session with {address} ended: {error}"));
                        }
                    });
                }
                Err(error) => {
                    complain(format_args!("No session: {error}"));
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    };
    // The accepting is a task too: it then runs on the same threads as the sessions.
    runtime.block_on(runtime.spawn(accept))?
}

async fn converse(mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    client.write_all(BANNER).await?;
    // The buffers come with the first bytes: a session that has never sent any has none.
    client.peek(&mut [0]).await?;
    let (mut input, mut answers) = (Vec::with_capacity(INPUT), Vec::new());
    loop {
        input.clear();
        if client.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        answer(&input, &mut answers);
        client.write_all(&answers).await?;
    }
}
