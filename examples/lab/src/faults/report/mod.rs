//! What a reader gets: the table while it runs, the failures, and the same as a page and for other programs.

pub mod files;
pub mod picture;
pub mod table;
pub mod terminal;
