//! The cases, a file for each group. `cases.md` says what each of them is about.

mod conversation;
mod endings;
mod greedy;
mod process;
mod resources;
mod silence;

use super::case::Play;

/// All cases, in no order.
pub const ALL: [&[Play]; 6] =
    [conversation::CASES, endings::CASES, greedy::CASES, resources::CASES, silence::CASES, process::CASES];
