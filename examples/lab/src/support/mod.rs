//! What the parts of the laboratory share. Nothing here knows a part.
//!
//! | module | what it has |
//! |---|---|
//! | [`failure`] | each way in which a server, or this machine, can fail |
//! | [`interrupt`] | Ctrl-C |
//! | [`child`] | a child process that ends with its guard |
//! | [`processors`] | a processor for the load alone |
//! | [`programs`] | where the project's programs are, and that they are up to date |
//! | [`client`] | a client's session: connect, banner, lines, each byte checked |
//! | [`latency`] | latencies in a histogram |
//! | [`usage`] | what a process uses: processor time, memory, threads |
//! | [`machine`] | the machine's description |
//! | [`words`] | numbers in sentences |

pub mod child;
pub mod client;
pub mod failure;
pub mod interrupt;
pub mod latency;
pub mod machine;
pub mod processors;
pub mod programs;
pub mod usage;
pub mod words;
