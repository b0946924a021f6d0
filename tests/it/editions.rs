//! The Chinese edition of a document says what the English one says. The words differ, so this compares all else: the
//! order of headings, paragraphs, items, rows and fold-outs; and in each of them the figures, the code and the links.
//!
//! Code stands in both to the letter. A picture, which is a code block `text`, may have its words translated. It has
//! as many lines, and the same words with a figure, a `_`, a `::` or more than one capital. Fonts do not agree on the
//! width of a Chinese character. So all lines of a picture have as many of them left of a column, with U+3000, the wide
//! space, where a word is shorter.

use std::fs;
use std::iter::zip;
use std::mem::take;
use std::path::Path;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::documents::slug;

const EDITIONS: [(&str, &str); 3] = [
    ("README.md", "README.zh-CN.md"),
    ("NOTES.md", "NOTES.zh-CN.md"),
    ("examples/lab/scenes.md", "examples/lab/scenes.zh-CN.md"),
];

/// The words that are the same in Chinese. A text of other small letters only was left in English.
const NAMES: [&str; 8] = ["epoll", "kqueue", "ms", "okloop", "poll", "slab", "token", "µs"];

/// More words than this in a row, between two of Chinese, are a sentence that was left in English.
const WORDS_IN_A_ROW: usize = 4;

#[test]
fn the_chinese_edition_says_what_the_english_one_says() {
    let read = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let wrong: Vec<_> = EDITIONS
        .iter()
        .flat_map(|(english, chinese)| {
            compare(&read(english), &read(chinese)).into_iter().map(move |what| format!("{chinese}, {what}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const ENGLISH: &str = r#"
# One loop

Port 8888 takes **ten** [clients](NOTES.md#one-loop),
and `poll` waits for all of them.

The other paragraph.

```sh
cargo run
```

```text
 recv ─► READ 64 KiB
 a wait
```

| call | cost |
|---|---|
| `read` | 3 µs |

<details>
<summary>Break it (<a href="a.patch">patch</a>)</summary>

- An item.
</details>
"#;

const CHINESE: &str = r#"
# <a id="one-loop"></a>一个循环

端口 8888 接受**十个**[客户端](NOTES.zh-CN.md#one-loop)，`poll` 等待所有客户端。

另一段。

```sh
cargo run
```

```text
 recv ─► READ 64 KiB
 等待
```

| 调用 | 开销 |
|---|---|
| `read` | 3 µs |

<details>
<summary>弄坏它（<a href="a.patch">补丁</a>）</summary>

- 一项。
</details>
"#;

#[test]
fn a_difference_between_the_editions_is_found() {
    assert_eq!(compare(ENGLISH, CHINESE), Vec::<String>::new());
    for (text, mistake, complaint) in [
        ("8888", "8889", "One loop: the figures are 8889, not 8888: Port 8888 takes"),
        ("另一段。\n\n", "", "One loop: a code block sh, not a paragraph: The other paragraph."),
        (
            "，`poll` 等待所有客户端。\n\n另一段。",
            "。",
            "One loop: one is too many or missing: Port 8888 takes",
        ),
        ("cargo run", "cargo test", "One loop: the code is not the same: cargo run"),
        ("# <a", "## <a", "a heading h2 #one-loop stands in the place of a heading h1 #one-loop"),
        (
            "one-loop\"",
            "two-loops\"",
            "a heading h1 #two-loops stands in the place of a heading h1 #one-loop",
        ),
        (
            "NOTES.zh-CN.md",
            "NOTES.md",
            "One loop: the links are NOTES.md#one-loop, not NOTES.zh-CN.md#one-loop: ",
        ),
        ("`poll`", "`read`", "One loop: the code in it is read, not poll: Port 8888 takes"),
        ("**十个**", "十个", "One loop: 0 places are bold, not 1: Port 8888 takes"),
        ("另一段。", "The other paragraph.", "One loop: it is in English: The other paragraph."),
        ("另一段。", "另一段。It is the other one.", "One loop: \"It is the other one\" is in English: "),
        ("端口 8888", "端口8888", "One loop: \"口8\" has no space: Port 8888 takes"),
        ("，`poll`", ",`poll`", "One loop: \"端,\" has no Chinese punctuation: "),
        ("，`poll`", "，\n`poll`", "One loop: it has more than one line: Port 8888 takes"),
        ("READ", "WRITE", "One loop: the code in it is WRITE 64 KiB, not READ 64 KiB: recv"),
        (" 等待\n", " 等\n 待\n", "One loop: 3 lines, not 2: recv"),
        ("`read` | 3 µs |", "`read` | 4 µs |", "One loop: the figures are 4, not 3: 3 µs"),
        ("| `read` | 3 µs |\n", "", "One loop: HTML, not a row: `read`"),
        ("a.patch", "b.patch", "One loop: the links are b.patch, not a.patch: Break it (patch)"),
        ("<summary>", "<b>", "One loop: the tags are details b a /a /summary, not details summary a"),
        ("</details>\n", "", "One loop: nothing, not HTML: "),
        ("</details>\n", "</details>\n\n## 又一个\n", "a heading h2 # stands in the place of the end"),
        ("<a href=", "<a id=\"here\" href=", "One loop: the anchor is Some(\"here\"), not None: Break it"),
        ("- 一项。\n", "- 一项。\n- 又一项。\n", "One loop: an item, not HTML"),
    ] {
        assert!(CHINESE.contains(text), "{text}");
        let found = compare(ENGLISH, &CHINESE.replace(text, mistake));
        assert!(found.len() == 1 && found[0].starts_with(complaint), "{complaint}\n{}", found.join("\n"));
    }
}

/// What must be changed in Chinese: the section, what is wrong, and the English text.
fn compare(english: &str, chinese: &str) -> Vec<String> {
    let (english, chinese) = (sections(english), sections(chinese));
    let same = zip(&english, &chinese).take_while(|(english, chinese)| english.place() == chinese.place());
    let mut wrong: Vec<_> = same.clone().flat_map(|(english, chinese)| english.compare(chinese)).collect();
    // One heading too many moves all others, so only the first of them is named.
    let next = same.count();
    let [here, there] = [english.get(next), chinese.get(next)]
        .map(|section| section.map_or_else(|| "the end".to_owned(), Section::place));
    if here != there {
        wrong.push(format!("{there} stands in the place of {here}"));
    }
    wrong
}

/// A heading, and what follows before the next one.
struct Section(Vec<Block>);

/// A heading, a paragraph, an item, a cell, a code block, or the tags of a fold-out.
#[derive(Default)]
struct Block {
    kind: String,
    /// What a reader sees, code in backticks.
    text: String,
    code: Vec<String>,
    links: Vec<String>,
    link_start: usize,
    tags: Vec<String>,
    anchor: Option<String>,
    bold: usize,
    has_breaks: bool,
}

impl Section {
    /// The heading's level and anchor.
    fn place(&self) -> String {
        let heading = self.0.first().filter(|block| block.kind.starts_with("a heading"));
        let anchor = |block: &Block| block.anchor.clone().unwrap_or_default();
        heading.map_or_else(String::new, |block| format!("{} #{}", block.kind, anchor(block)))
    }

    fn compare(&self, chinese: &Self) -> Vec<String> {
        let heading = self.0.first().map_or("", |block| &block.text);
        let complain = |what: &str, english: &Block| format!("{heading}: {what}: {}", english.first_line());
        let kinds = |section: &Self| section.0.iter().map(|block| block.kind.clone()).collect::<Vec<_>>();
        if kinds(self) == kinds(chinese) {
            let pairs = zip(&self.0, &chinese.0);
            let complaints = |(english, chinese): (&Block, &Block)| {
                english.compare(chinese).iter().map(|what| complain(what, english)).collect::<Vec<_>>()
            };
            return pairs.flat_map(complaints).collect();
        }
        // One block too many moves all others, so only the first of them is named.
        let is_same = |(english, chinese): &(&Block, &Block)| {
            english.kind == chinese.kind && english.compare(chinese).is_empty()
        };
        let place = zip(&self.0, &chinese.0).take_while(is_same).count();
        let [kind, of_chinese] =
            [self, chinese].map(|section| section.0.get(place).map_or("nothing", |block| &block.kind));
        let what = if kind == of_chinese {
            "one is too many or missing"
        } else {
            &format!("{of_chinese}, not {kind}")
        };
        // The text of a row is in its cells.
        let named = self.0[place.min(self.0.len())..].iter().find(|block| !block.first_line().is_empty());
        vec![complain(what, named.unwrap_or(&Block::default()))]
    }
}

impl Block {
    fn compare(&self, chinese: &Self) -> Vec<String> {
        match self.kind.strip_prefix("a code block ") {
            None => self.compare_words(chinese),
            Some("text") => self.compare_pictures(chinese),
            Some(_) if self.text == chinese.text => Vec::new(),
            Some(_) => vec!["the code is not the same".to_owned()],
        }
    }

    fn compare_pictures(&self, chinese: &Self) -> Vec<String> {
        let [lines, of_chinese] = [self, chinese].map(|picture| picture.text.lines().count());
        let lines = (lines != of_chinese).then(|| format!("{of_chinese} lines, not {lines}"));
        let [words, of_chinese] = [self, chinese].map(|picture| words_of_code(&picture.text));
        lines.into_iter().chain(difference("the code in it is", words, of_chinese)).collect()
    }

    fn compare_words(&self, chinese: &Self) -> Vec<String> {
        let links = self.links.iter().map(|target| in_chinese(target)).collect();
        let differences = [
            difference("the figures are", figures(&self.text), figures(&chinese.text)),
            difference("the code in it is", self.code.clone(), chinese.code.clone()),
            difference("the links are", links, chinese.links.clone()),
            difference("the tags are", self.tags.clone(), chinese.tags.clone()),
            (self.bold != chinese.bold)
                .then(|| format!("{} places are bold, not {}", chinese.bold, self.bold)),
            (self.anchor != chinese.anchor)
                .then(|| format!("the anchor is {:?}, not {:?}", chinese.anchor, self.anchor)),
        ];
        differences.into_iter().flatten().chain(chinese.mistakes()).collect()
    }

    /// What is wrong with a Chinese text, whatever the English one says.
    fn mistakes(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.has_breaks {
            wrong.push("it has more than one line".to_owned());
        }
        let prose = self.text.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let is_english =
            |word: &str| !word.is_empty() && word.chars().all(char::is_lowercase) && !NAMES.contains(&word);
        if !prose.contains(is_han) && prose.split(|c: char| !c.is_alphabetic()).any(is_english) {
            wrong.push("it is in English".to_owned());
        } else {
            let runs = prose.split(|c: char| c != ' ' && !c.is_ascii_alphabetic()).map(str::trim);
            let long = runs.filter(|run| run.split(' ').count() > WORDS_IN_A_ROW);
            wrong.extend(long.map(|run| format!("\"{run}\" is in English")));
        }
        let pairs = zip(prose.chars(), prose.chars().skip(1));
        for (before, after) in pairs.filter(|&(before, after)| is_han(before) != is_han(after)) {
            let other = if is_han(before) { after } else { before };
            if other.is_ascii_alphanumeric() || other == '`' {
                wrong.push(format!("\"{before}{after}\" has no space"));
            } else if other.is_ascii_punctuation() {
                wrong.push(format!("\"{before}{after}\" has no Chinese punctuation"));
            }
        }
        wrong
    }

    fn first_line(&self) -> &str {
        self.text.trim().lines().next().unwrap_or_default()
    }

    /// The name of a file that stands on a link to it is a name, as code is.
    fn end_link(&mut self) {
        let name = self.text.split_off(self.link_start);
        let is_of_file = self.links.last().is_some_and(|target| target.contains(&name));
        let mark = if is_of_file { "`" } else { "" };
        self.text.extend([mark, &*name, mark]);
    }

    fn read_html(&mut self, html: &str) {
        let is_heading = self.kind.starts_with("a heading");
        for part in html.split_inclusive(['<', '>']) {
            let Some(tag) = part.strip_suffix('>') else {
                self.text.push_str(part.trim_end_matches('<'));
                continue;
            };
            let value = |name: &str| tag.split_once(name)?.1.split('"').next().map(str::to_owned);
            self.links.extend(value("href=\""));
            self.anchor = value("id=\"").or(self.anchor.take());
            self.tags.extend(tag.split(' ').next().filter(|_| !is_heading).map(str::to_owned));
        }
    }
}

fn sections(text: &str) -> Vec<Section> {
    let mut sections = vec![Section(Vec::new())];
    for block in blocks(text) {
        if block.kind.starts_with("a heading") {
            sections.push(Section(Vec::new()));
        }
        sections.last_mut().expect("there is a first one").0.push(block);
    }
    sections
}

fn blocks(text: &str) -> Vec<Block> {
    let (mut blocks, mut block) = (Vec::new(), Block::default());
    let mut begin = |block: &mut Block, kind: String| {
        let finished = take(block);
        if !finished.kind.is_empty() {
            blocks.push(finished);
        }
        block.kind = kind;
    };
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Strong | Tag::Emphasis) => block.bold += 1,
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                block.links.push(dest_url.into_string());
                block.link_start = block.text.len();
            }
            Event::End(TagEnd::Link) => block.end_link(),
            Event::Start(tag) => begin(&mut block, kind(&tag)),
            Event::End(TagEnd::Heading(_)) if block.anchor.is_none() => {
                block.anchor = Some(slug(&block.text));
            }
            Event::Text(words) => block.text.push_str(&words),
            Event::Code(span) => {
                block.text.extend(["`", &*span, "`"]);
                block.code.push(span.into_string());
            }
            Event::Html(html) | Event::InlineHtml(html) => block.read_html(&html),
            Event::SoftBreak => {
                block.text.push(' ');
                block.has_breaks = true;
            }
            _ => {}
        }
    }
    begin(&mut block, String::new());
    blocks
}

fn kind(tag: &Tag<'_>) -> String {
    match tag {
        Tag::Heading { level, .. } => return format!("a heading {level}"),
        Tag::CodeBlock(CodeBlockKind::Fenced(language)) => return format!("a code block {language}"),
        Tag::Paragraph => "a paragraph",
        Tag::List(_) => "a list",
        Tag::Item => "an item",
        Tag::Table(_) => "a table",
        Tag::TableHead | Tag::TableRow => "a row",
        Tag::TableCell => "a cell",
        Tag::HtmlBlock => "HTML",
        other => return format!("{other:?}"),
    }
    .to_owned()
}

/// The same page or picture in the other edition.
fn in_chinese(target: &str) -> String {
    let (path, anchor) = target.split_at(target.find('#').unwrap_or(target.len()));
    let other = match path.strip_suffix(".zh-CN.md") {
        Some(name) => format!("{name}.md"),
        None if EDITIONS.iter().any(|(english, _)| english.ends_with(path)) => {
            path.replace(".md", ".zh-CN.md")
        }
        None => path.to_owned(),
    };
    other + anchor
}

/// The order of words differs between languages, so the order in the lists is ignored.
fn difference(what: &str, english: Vec<String>, chinese: Vec<String>) -> Option<String> {
    let show = |list: Vec<String>| if list.is_empty() { "none".to_owned() } else { list.join(" ") };
    let [in_order, of_chinese] = [&english, &chinese].map(|list| {
        let mut list = list.clone();
        list.sort_unstable();
        list
    });
    (in_order != of_chinese).then(|| format!("{what} {}, not {}", show(chinese), show(english)))
}

/// The figures of a text without its code: `8888`, `1,024`, `4.37`.
fn figures(text: &str) -> Vec<String> {
    let prose = text.split('`').step_by(2);
    let figures = prose.flat_map(|part| part.split(|c: char| !c.is_ascii_digit() && !".,".contains(c)));
    let figures = figures.map(|figure| figure.trim_matches(['.', ',']).to_owned());
    figures.filter(|figure| !figure.is_empty()).collect()
}

/// The words of a picture that are code in any language.
fn words_of_code(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"_:".contains(c));
    let words = words.map(|word| word.trim_matches(':'));
    let is_code = |word: &&str| {
        word.contains("::")
            || word.contains(|c: char| c == '_' || c.is_ascii_digit())
            || word.matches(|c: char| c.is_ascii_uppercase()).count() > 1
    };
    words.filter(is_code).map(str::to_owned).collect()
}

fn is_han(c: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&c)
}
