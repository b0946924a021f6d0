//! Still pictures for the course: the page's own drawing, taken out of the page by a browser without a window.

use std::path::Path;
use std::process::Command;

use crate::support::{Failure, write};

/// The scenes of the course's pictures, and words of the step in the middle.
const STILLS: [(&str, &str); 5] = [
    ("slow-reader", "The server stops reading"),
    ("flood", "A turn for the typing client: its socket is readable"),
    ("crowd", "The loop accepts newcomer"),
    ("half-close", "The server still sends"),
    ("drain", "The drain begins"),
];

/// Plays the scenes and draws them.
pub fn draw(directory: &Path, pages: &Path) -> Result<(), Failure> {
    for (name, words) in STILLS {
        let recording = super::tell(&super::play(name)?, &super::ENGLISH);
        super::write_page(&recording, name, pages)?;
        let step = recording.find(words);
        let step = step.ok_or_else(|| Failure::System(format!("the scene {name} has no step {words:?}")))?;
        let page = pages.join(format!("{name}.html"));
        let page = page.canonicalize().map_err(Failure::system(format!("{}", page.display())))?;
        let svg = svg_of(&format!("file://{}#step={}", page.display(), step + 1))?;
        write(&directory.join(format!("{name}.svg")), svg)?;
    }
    Ok(())
}

/// The picture of a page, with the page's colours.
fn svg_of(address: &str) -> Result<String, Failure> {
    let mut chromium = Command::new("chromium");
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        // Little more than a page of the course is wide, so the letters keep their size there.
        "--window-size=930,700",
    ]);
    let output = chromium.args(["--dump-dom", address]).output().map_err(Failure::system("chromium"))?;
    let page = String::from_utf8_lossy(&output.stdout);
    let missing = || Failure::System("chromium drew no picture".to_owned());
    let start = page.find("<svg ").ok_or_else(missing)?;
    let end = page.find("</svg>").ok_or_else(missing)?;
    let (tag, rest) = page[start..end].split_once('>').ok_or_else(missing)?;
    let colours = include_str!("../../templates/palette.css");
    Ok(format!(
        "{tag} xmlns=\"http://www.w3.org/2000/svg\"><style>{colours}</style>\
         <rect width=\"100%\" height=\"100%\" fill=\"var(--paper)\"/>{rest}</svg>\n"
    ))
}
