//! What a server says. The laboratory knows okloop's words from here alone.

pub use okloop::config::FULL_MESSAGE;
pub use okloop::protocols::{BANNER, CHUNK, PREFIX};

/// The conversation that a server promises.
#[derive(Debug, Clone)]
pub struct Protocol {
    /// What every client is greeted with; may be empty.
    pub banner: Vec<u8>,
    /// What stands before each answer; may be empty. `{n}` stands for the number of the answer, from 1.
    pub prefix: Vec<u8>,
    /// What is answered in one piece.
    pub framing: Framing,
    /// How an answer repeats the client's bytes.
    pub answer: Answer,
    /// The longest piece of input that one answer repeats with [`Framing::Chunks`] (bytes).
    pub chunk: usize,
    /// How a client asks for the end, if it can.
    pub end: Option<End>,
}

/// How a client asks a server for the end.
#[derive(Debug, Clone)]
pub struct End {
    /// What the client sends.
    pub request: Vec<u8>,
    /// What the server sends last; may be empty.
    pub goodbye: Vec<u8>,
}

/// What is answered in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Framing {
    /// Each chunk of bytes as it comes
    Chunks,
    /// Each line, however it was split on the way; at the end of input also the rest
    Lines,
    /// Each line that ends with a newline
    WholeLines,
}

/// How an answer repeats the client's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Answer {
    /// As they are
    Same,
    /// With ASCII letters in upper case
    Upper,
    /// Without the white space at the end of the line
    Trimmed,
}
