//! Protocols and layers. They know the trait and the buffer only, and any program can have such ones of its own.
//!
//! A protocol implements [`Session`](crate::Session). A layer is a session around a session.

mod either;
mod ok;
#[cfg(feature = "proxy-protocol")]
mod proxy;
mod telnet;

pub use either::Either;
pub use ok::{BANNER, CHUNK, Framing, OkSession, PREFIX};
#[cfg(feature = "proxy-protocol")]
pub use proxy::Proxy;
pub use telnet::Telnet;
