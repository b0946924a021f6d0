//! The course as one page in which the recordings move.
//!
//! ```text
//!   NOTES.md ──► chapters ────┐
//!   examples ──► programs ────┼──► index.html
//!   scenes ────► recordings ──┘
//!   what they link to ───────────► a page for each file
//!   the same in each language ───► a directory for each edition: zh/index.html
//! ```
//!
//! Nothing of the text is written here. A chapter names its program in its heading (`6. tiny_event_loop: …`), or by a link
//! to a file of `examples`. A picture of a scene, or a link to it, puts the recording there.
//!
//! `notes.rs` reads the course, `markdown.rs` makes HTML of it, `listing.rs` shows programs, `links.rs` leads to the pages,
//! and `project.rs` knows where each item of the code is. `../record/stepper.js` shows the recordings, and `book.js` the rest.

mod links;
mod listing;
mod markdown;
mod notes;
mod project;
mod texts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use askama::Template;
use clap::Args;

use self::links::Links;
use self::listing::{Line, listing};
use self::notes::{Chapter, Program};
use self::project::{Project, ending};
use self::texts::{EDITIONS, Edition};
use crate::record::{Played, Recording, for_script, play, tell};
use crate::support::{Failure, prepare, say, write};

/// The course as one page, with its programs beside the text and its recordings to step through
#[derive(Debug, Args)]
pub struct Arguments {
    /// The language of the first page; the other editions are in directories beside it
    #[arg(long, value_name = "CODE", default_value = "en")]
    language: String,

    /// Where the book is written
    #[arg(long, value_name = "DIR", default_value = "target/book")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let first = EDITIONS.iter().find(|edition| edition.code == arguments.language);
    let first = first.ok_or_else(|| {
        let known: Vec<_> = EDITIONS.iter().map(|edition| edition.code).collect();
        Failure::Usage(format!("no edition in {:?}, only in {}", arguments.language, known.join(", ")))
    })?;
    prepare(&arguments.out)?;
    let project = Project::read()?;
    // Every edition names the same scenes.
    let scenes = notes::scenes(&project.text(first.notes)?);
    let played = scenes.iter().map(|name| play(name)).collect::<Result<Vec<_>, _>>()?;
    for edition in EDITIONS {
        Book::new(edition, first, &project, &played)?.write(&arguments.out)?;
    }
    Ok(())
}

/// What the pages of an edition are made from.
struct Book<'a> {
    edition: &'static Edition,
    /// The edition whose pages the others are beside.
    first: &'static Edition,
    project: &'a Project,
    programs: Vec<Program>,
    /// By the names of their scenes.
    recordings: BTreeMap<&'static str, Recording>,
}

impl<'a> Book<'a> {
    fn new(
        edition: &'static Edition,
        first: &'static Edition,
        project: &'a Project,
        played: &[Played],
    ) -> Result<Self, Failure> {
        let programs = notes::programs(&project.text(edition.notes)?, project);
        let told = played.iter().map(|played| (played.scene, tell(played, &edition.recordings)));
        Ok(Self { edition, first, project, programs, recordings: told.collect() })
    }

    /// The directory of an edition, from that of the first one.
    fn directory(&self, edition: &Edition) -> String {
        if edition.code == self.first.code { String::new() } else { format!("{}/", edition.code) }
    }

    /// The way from the directory of this edition to that of another.
    fn way_to(&self, other: &Edition) -> String {
        let up = if self.directory(self.edition).is_empty() { "" } else { "../" };
        up.to_owned() + &self.directory(other)
    }

    fn write(&self, out: &Path) -> Result<(), Failure> {
        let out = &out.join(self.directory(self.edition));
        let links = Links::new(self);
        let index = out.join("index.html");
        write(&index, self.index(&links)?)?;
        write(&out.join("book.css"), STYLE)?;
        // The recordings name lines too.
        self.recordings.values().flat_map(Recording::files).for_each(|file| links.want(file));
        while let Some(path) = links.next() {
            if ending(&path) == "svg" {
                write(&out.join(&path), self.project.text(&path)?)?;
            } else {
                write(&out.join(format!("{path}.html")), self.page(&path, &links)?)?;
            }
        }
        say(index.display());
        Ok(())
    }

    fn index(&self, links: &Links<'_>) -> Result<String, Failure> {
        let notes = self.project.text(self.edition.notes)?;
        let mut parts = Vec::new();
        for (number, chapter) in notes::chapters(self, links, &notes).into_iter().enumerate() {
            let programs = self.programs.iter().filter(|program| program.chapter == number);
            let programs = programs.map(|program| self.show(program)).collect::<Result<_, _>>()?;
            parts.push(Part { chapter, programs });
        }
        let scenes = self.recordings.iter().map(|(name, recording)| (*name, for_script(recording)));
        let texts_json = for_script(&(&self.edition.texts, &self.edition.stepper));
        let others = EDITIONS.iter().filter(|other| other.code != self.edition.code);
        let page = Index {
            edition: self.edition,
            others: others.map(|other| (other, self.way_to(other))).collect(),
            stepper: Stepper { texts: &self.edition.stepper }.render().expect(FILLED),
            parts,
            scenes: scenes.collect(),
            texts_json,
        };
        Ok(page.render().expect(FILLED))
    }

    fn show<'p>(&self, program: &'p Program) -> Result<Shown<'p>, Failure> {
        let text = self.project.text(&program.path)?;
        let before = program.before.as_ref().map(|path| self.project.text(path)).transpose()?;
        Ok(Shown {
            path: &program.path,
            before: program.before.as_deref().map_or("", notes::name_of),
            lines: listing(&program.path, &text, before.as_deref()),
        })
    }

    /// The page of a file.
    fn page(&self, path: &str, links: &Links<'_>) -> Result<String, Failure> {
        let text = self.project.text(path)?;
        let up = &"../".repeat(path.matches('/').count());
        let (document, listing) = if ending(path) == "md" {
            (notes::document(self, &links.from(path), &text), Vec::new())
        } else {
            (String::new(), listing(path, &text, None))
        };
        let edition = self.edition;
        // What has no edition is in English.
        let own = EDITIONS.iter().find(|edition| path.contains(&format!(".{}.", edition.language)));
        let language = own.unwrap_or(&EDITIONS[0]).language;
        Ok(Page { edition, language, path, up, document, listing }.render().expect(FILLED))
    }
}

const FILLED: &str = "a template of texts does not fail";
const STYLE: &str = concat!(
    include_str!("../../templates/palette.css"),
    include_str!("../record/stepper.css"),
    include_str!("book.css"),
);

/// A program as the page shows it.
struct Shown<'a> {
    path: &'a str,
    /// The name of the rung before, or nothing.
    before: &'a str,
    lines: Vec<Line>,
}

struct Part<'a> {
    chapter: Chapter,
    programs: Vec<Shown<'a>>,
}

#[derive(Template)]
#[template(path = "book/index.html")]
struct Index<'a> {
    edition: &'a Edition,
    /// The other editions, and the ways to them.
    others: Vec<(&'a Edition, String)>,
    stepper: String,
    parts: Vec<Part<'a>>,
    scenes: Vec<(&'a str, String)>,
    texts_json: String,
}

#[derive(Template)]
#[template(path = "stepper.html")]
struct Stepper<'a> {
    texts: &'a crate::record::Texts,
}

#[derive(Template)]
#[template(path = "book/page.html")]
struct Page<'a> {
    edition: &'a Edition,
    /// The language of the file.
    language: &'a str,
    path: &'a str,
    /// The way to the book.
    up: &'a str,
    document: String,
    listing: Vec<Line>,
}
