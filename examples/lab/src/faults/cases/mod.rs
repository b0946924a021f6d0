//! The cases, a file for each group. A case's number is its place in [`super::case::GROUPS`].

pub mod conversation;
pub mod endings;
pub mod greedy;
pub mod process;
pub mod resources;
pub mod silence;
