//! The links of the documents, and the pages that they lead to.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::project::ending;
use super::texts::EDITIONS;
use super::{Book, notes};

/// Where the links of one document lead.
pub struct Links<'a> {
    book: &'a Book<'a>,
    /// The document.
    from: String,
    pages: Rc<RefCell<Pages>>,
}

/// The pages beside the course.
#[derive(Default)]
struct Pages {
    known: BTreeSet<String>,
    /// Those that are not written yet.
    next: Vec<String>,
}

impl<'a> Links<'a> {
    /// The links of the course.
    pub fn new(book: &'a Book<'a>) -> Self {
        Self { book, from: book.edition.notes.to_owned(), pages: Rc::default() }
    }

    /// The links of another document.
    pub fn from(&self, document: &str) -> Self {
        Self { book: self.book, from: document.to_owned(), pages: Rc::clone(&self.pages) }
    }

    /// The book needs a page of this file.
    pub fn want(&self, path: &str) {
        let mut pages = self.pages.borrow_mut();
        if pages.known.insert(path.to_owned()) {
            pages.next.push(path.to_owned());
        }
    }

    /// The next file that needs a page.
    pub fn next(&self) -> Option<String> {
        self.pages.borrow_mut().next.pop()
    }

    /// The address in the book, if the target is in it.
    pub fn resolve(&self, target: &str) -> Option<String> {
        if target.contains("://") || target.starts_with('#') {
            return Some(target.to_owned());
        }
        let up = self.up();
        let index =
            if self.from == self.book.edition.notes { String::new() } else { format!("{up}index.html") };
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let hash = if anchor.is_empty() { String::new() } else { format!("#{anchor}") };
        let mut path = notes::path_from(&self.from, path);
        if let Some(scene) = self.scene(target) {
            return Some(format!("{index}#scene-{scene}"));
        }
        // A document that has no edition means the course in the reader's language.
        if path == self.book.edition.notes || path == EDITIONS[0].notes && !index.is_empty() {
            return Some(format!("{index}{hash}"));
        }
        if let Some(other) = EDITIONS.iter().find(|other| other.notes == path) {
            return Some(format!("{up}{}index.html{hash}", self.book.way_to(other)));
        }
        if self.book.programs.iter().any(|program| program.path == path) {
            return Some(format!("{index}#{path}{}", anchor.replace('L', ":")));
        }
        if !self.book.project.has_file(&path) {
            path.push_str("/README.md");
        }
        self.page(&path).map(|page| page + &hash)
    }

    /// The address of a picture.
    pub fn picture(&self, target: &str) -> Option<String> {
        self.page(&notes::path_from(&self.from, target))
    }

    /// The address of a file's page, or of a picture.
    fn page(&self, path: &str) -> Option<String> {
        self.book.project.has_file(path).then(|| {
            self.want(path);
            let ending = if ending(path) == "svg" { "" } else { ".html" };
            format!("{}{path}{ending}", self.up())
        })
    }

    /// The way from the document to the book.
    fn up(&self) -> String {
        "../".repeat(self.from.matches('/').count())
    }

    /// The recording that a link or a picture names.
    pub fn scene(&self, target: &str) -> Option<String> {
        let path = notes::path_from(&self.from, target);
        notes::scene_of(&path).filter(|scene| self.book.recordings.contains_key(*scene)).map(str::to_owned)
    }

    /// The address of a recording.
    pub fn of_scene(&self, scene: &str) -> Option<String> {
        self.of_path(&format!("examples/lab/scenes.md#{scene}"))
    }

    /// The address of what a span of code names: a file, or an item.
    pub fn of_code(&self, span: &str) -> Option<String> {
        let project = &self.book.project;
        if span.contains('/') && project.has_file(span) {
            return self.of_path(span);
        }
        let (file, line) = project.find(span)?;
        self.of_path(&format!("{file}#L{line}"))
    }

    /// The address of a file that is named from the root of the project.
    fn of_path(&self, path: &str) -> Option<String> {
        self.resolve(&format!("{}{path}", self.up()))
    }
}
