//! A client's side of a session, for every load of the laboratory.

mod line;
mod session;
mod sources;

pub use self::line::wrong;
pub use self::session::{News, Session};
pub use self::sources::Sources;
