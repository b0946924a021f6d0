//! What a reader gets: the table while it runs, the failures, and the same as a page and for other programs.

pub mod html;
pub mod json;
pub mod picture;
pub mod table;
pub mod terminal;

use std::fs;
use std::path::Path;

/// Writes a file, and the directory that it is in.
fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<(), String> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    directory
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| format!("{}: {error}", path.display()))
}
