//! What the course says about its own parts: chapters, programs and scenes.

use std::path::{Component, Path};

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag};

use super::Book;
use super::links::Links;
use super::markdown;
use super::project::{Project, ending};
use crate::record::is_scene;

/// A chapter in HTML.
pub struct Chapter {
    pub title: String,
    pub slug: String,
    pub sections: Vec<(String, String)>,
    pub html: String,
}

/// A program that the course has beside a chapter.
pub struct Program {
    /// Its file, from the root of the project.
    pub path: String,
    /// The number of its chapter, where 0 is the introduction.
    pub chapter: usize,
    /// The rung before.
    pub before: Option<String>,
}

/// The events of Markdown as the code host reads it.
pub fn events(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH)
}

/// The name of a program: `examples/poll_all.rs` is `poll_all`.
pub fn name_of(path: &str) -> &str {
    Path::new(path).file_stem().and_then(|name| name.to_str()).unwrap_or(path)
}

/// The path of a link, from the root of the project. `from` is the document with the link.
pub fn path_from(from: &str, target: &str) -> String {
    let mut parts = Vec::new();
    for part in Path::new(from).parent().unwrap_or(Path::new("")).join(target).components() {
        match part {
            Component::ParentDir => _ = parts.pop(),
            part => parts.push(part.as_os_str().to_string_lossy().into_owned()),
        }
    }
    parts.join("/")
}

/// The scene that a link or a picture names.
pub fn scene_of(path: &str) -> Option<&str> {
    let picture = path.strip_prefix("examples/lab/pictures/").and_then(|name| name.strip_suffix(".svg"));
    let caption = || Some(path.strip_prefix("examples/lab/scenes.")?.split_once("md#")?.1);
    picture.or_else(caption).filter(|name| is_scene(name))
}

/// The scenes that the course names, each once.
pub fn scenes(notes: &str) -> Vec<String> {
    let mut scenes: Vec<String> = Vec::new();
    for event in events(notes) {
        if let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event
            && let Some(scene) = scene_of(&dest_url)
            && !scenes.iter().any(|known| known == scene)
        {
            scenes.push(scene.to_owned());
        }
    }
    scenes
}

/// The programs of the chapters. The heading of a rung begins with the name of its program. Other chapters link to theirs.
pub fn programs(notes: &str, project: &Project) -> Vec<Program> {
    let (mut programs, mut chapter, mut rung) = (Vec::<Program>::new(), 0, None);
    for block in markdown::blocks(notes) {
        let mut paths = Vec::new();
        let is_heading = matches!(block[0], Event::Start(Tag::Heading { level: HeadingLevel::H2, .. }));
        if is_heading {
            chapter += 1;
            let (title, _) = markdown::text_of(&block);
            paths.extend(
                title.split(['.', ':', '：']).nth(1).map(|name| format!("examples/{}.rs", name.trim())),
            );
        } else if chapter > 0 {
            paths.extend(block.iter().filter_map(|event| match event {
                Event::Start(Tag::Link { dest_url, .. }) => Some(dest_url.to_string()),
                _ => None,
            }));
        }
        for path in paths {
            let is_program =
                path.starts_with("examples/") && ending(&path) == "rs" && project.has_file(&path);
            if is_program && programs.iter().all(|program| program.path != path) {
                let before = if is_heading { rung.replace(path.clone()) } else { None };
                programs.push(Program { path, chapter, before });
            }
        }
    }
    programs
}

/// The introduction and the chapters.
pub fn chapters(book: &Book<'_>, links: &Links<'_>, notes: &str) -> Vec<Chapter> {
    let blocks = markdown::blocks(notes);
    let mut chapters = vec![Chapter {
        title: String::new(),
        slug: String::new(),
        sections: Vec::new(),
        html: String::new(),
    }];
    let mut placed = Vec::new();
    for block in blocks {
        if let Event::Start(Tag::Heading { level, .. }) = &block[0] {
            let (title, slug) = markdown::text_of(&block);
            let last = chapters.last_mut().expect("there is the introduction");
            match level {
                HeadingLevel::H1 => (last.title, last.slug) = (title, slug),
                HeadingLevel::H2 => {
                    chapters.push(Chapter { title, slug, sections: Vec::new(), html: String::new() });
                }
                _ => last.sections.push((title, slug)),
            }
        }
        let last = chapters.last_mut().expect("there is the introduction");
        markdown::render(book, links, block, &mut last.html, Some(&mut placed));
    }
    chapters
}

/// Any other document of the project.
pub fn document(book: &Book<'_>, links: &Links<'_>, text: &str) -> String {
    let mut html = String::new();
    for block in markdown::blocks(text) {
        markdown::render(book, links, block, &mut html, None);
    }
    html
}
