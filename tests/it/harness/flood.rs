//! A client that disturbs the others.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use super::Client;

/// A client that sends as fast as it can and discards the answers, until it is dropped.
pub struct Flood(Client);

impl Flood {
    pub fn start(port: u16) -> Self {
        let client = Client::greeted(port);
        let (input, output) = (client.split(), client.split());
        let block = vec![b'x'; 1 << 16];
        thread::spawn(move || while input.stream().write_all(&block).is_ok() {});
        let mut answers = vec![0; 1 << 16];
        thread::spawn(move || while output.stream().read(&mut answers).is_ok_and(|count| count > 0) {});
        Self(client)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // It ends both threads. If it fails, the connection has ended, and the threads too.
        let _ = self.0.stream().shutdown(Shutdown::Both);
    }
}
