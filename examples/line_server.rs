//! A line server: it greets, numbers each line, and ends when the client says `quit`.
//!
//! ```text
//! cargo run --example line_server
//! telnet localhost 8888
//! ```
//!
//! It shows a session that keeps state, waits for the rest of a request, and ends politely. The client gets every answer
//! and the goodbye, although it may still be sending. A line that is too long ends the session with a message. Without
//! this limit the server would end the session without a message when the input buffer is full.

use std::error::Error;

use okloop::{Buffer, Config, Server, Session, Step};

mod terminal;

/// The longest line, with its ending (bytes).
const LONGEST_LINE: usize = 1024;

#[derive(Default)]
struct LineSession {
    lines: u64,
}

impl Session for LineSession {
    fn greet(&mut self, output: &mut Buffer) {
        output.push(b"Type lines, then quit\n");
    }

    fn answer(&mut self, input: &mut [u8], output: &mut Buffer) -> Step {
        let searched = &input[..input.len().min(LONGEST_LINE)];
        let Some(end) = searched.iter().position(|&byte| byte == b'\n') else {
            if searched.len() < LONGEST_LINE {
                return Step::NeedInput;
            }
            output.push(b"The line is too long\n");
            return Step::Close;
        };
        let line = input[..end].trim_ascii_end();
        if line == b"quit" {
            output.push(b"Goodbye\n");
            return Step::Close;
        }
        self.lines += 1;
        write!(output, "{}: ", self.lines);
        output.push(line);
        output.push(b"\n");
        Step::Consumed(end + 1)
    }
}

fn main() {
    let [port] = terminal::arguments(["PORT"]);
    if let Err(error) = serve(terminal::port(port, 8888)) {
        terminal::exit(1, error);
    }
}

fn serve(port: u16) -> Result<(), Box<dyn Error>> {
    let server = Server::bind(Config { port, ..Config::default() })?;
    terminal::say(format_args!("Socket now listening on {}", server.local_addr()?));
    server.run(|_| LineSession::default())?;
    Ok(())
}
