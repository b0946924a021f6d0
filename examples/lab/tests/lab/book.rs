//! The book: its links, its weight, and its page in a browser.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

use crate::browser::Page;
use crate::harness::{lab, run, run_alone};

/// The book in each language, written once.
static BOOK: LazyLock<PathBuf> = LazyLock::new(|| written("book", &["book"]));
static CHINESE: LazyLock<PathBuf> = LazyLock::new(|| BOOK.join("zh"));

fn written(directory: &str, arguments: &[&str]) -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(directory);
    // A page of an earlier run could hide that this one is missing.
    let _ = fs::remove_dir_all(&out);
    let finished = run_alone(lab(arguments).arg("--out").arg(&out));
    assert_eq!(finished.status, Some(0), "{}", finished.stderr);
    out
}

fn index(book: &Path) -> String {
    fs::read_to_string(book.join("index.html")).expect("the book is written")
}

/// The text of every file of a book, by its path in it.
fn files(book: &Path) -> BTreeMap<PathBuf, String> {
    let (mut files, mut directories) = (BTreeMap::new(), vec![book.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory of the book") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let text = fs::read_to_string(&path).expect("a text");
                files.insert(path.strip_prefix(book).expect("a file of the book").to_owned(), text);
            }
        }
    }
    files
}

/// The values of an attribute in a page, up to its scripts.
fn values<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let markup = page.split("<script").next().unwrap_or_default();
    let parts = markup.split(name).skip(1);
    let value = |part: &'a str| match part.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => part.split(['>', ' ']).next(),
    };
    parts.filter_map(value).collect()
}

fn joined(page: &Path, target: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in page.parent().unwrap_or(Path::new("")).join(target).components() {
        match part {
            Component::ParentDir => _ = path.pop(),
            part => path.push(part),
        }
    }
    path
}

#[test]
fn every_link_in_the_book_leads_to_a_place_in_it() {
    let files = files(&BOOK);
    let ids: BTreeMap<_, BTreeSet<&str>> =
        files.iter().map(|(path, text)| (path, values(text, " id=").into_iter().collect())).collect();
    let mut wrong = Vec::new();
    for (path, text) in
        files.iter().filter(|(path, _)| path.extension().is_some_and(|ending| ending == "html"))
    {
        let pictures = values(text, " src=");
        for target in values(text, " href=").into_iter().chain(pictures.iter().copied()) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let page = if file.is_empty() { path.clone() } else { joined(path, file) };
            let fits = !pictures.contains(&target) || page.extension().is_some_and(|ending| ending == "svg");
            let is_there =
                fits && files.contains_key(&page) && (anchor.is_empty() || ids[&page].contains(anchor));
            if !target.contains("://") && !is_there {
                wrong.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_book_weighs_at_most_3_mb() {
    for is_chinese in [false, true] {
        let files = files(&BOOK);
        let own = files.iter().filter(|(path, _)| path.starts_with("zh") == is_chinese);
        let size: usize = own.map(|(_, text)| text.len()).sum();
        assert!((500_000..=3_000_000).contains(&size), "{is_chinese}: {size} bytes");
    }
}

#[test]
fn each_rung_of_the_ladder_stands_beside_its_chapter_with_what_is_new() {
    let index = index(&BOOK);
    let chapters: Vec<_> = index.split("<section ").collect();
    for (number, name, before) in [(1, "google_get", None), (7, "loop_backpressure", Some("tiny_event_loop"))]
    {
        let chapter = chapters[number + 1];
        assert!(chapter.contains(&format!("<h2 id=\"{number}-{name}")), "{number}");
        assert!(chapter.contains(&format!("id=\"examples/{name}.rs:10\"")), "{number}");
        let told = before.map(|before| format!("new against {before}."));
        assert_eq!(chapter.contains("new against "), before.is_some());
        assert!(told.is_none_or(|told| chapter.contains(&told)), "{number}");
    }
    let new = chapters[8].lines().filter(|line| line.contains("class=\"l new\"")).collect::<Vec<_>>();
    assert!(new.iter().any(|line| line.contains("HIGH_WATER")), "{new:?}");
    assert!(new.len() < 40, "{} lines are new", new.len());
}

/// So a link to a chapter, a program or a recording leads to the same place in each language.
#[test]
fn the_editions_have_the_same_chapters_programs_and_recordings() {
    let places = |book: &Path| {
        let index = index(book);
        values(&index, " id=").into_iter().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let (english, chinese) = (places(&BOOK), places(&CHINESE));
    assert_eq!(english, chinese);
    assert!(chinese.contains("7-loop_backpressure-pending-output") && chinese.contains("scene-slow-reader"));
}

#[test]
fn the_course_links_to_its_other_edition_and_each_page_names_its_language() {
    let chinese_first = written("book-zh", &["book", "--language", "zh"]);
    for (book, language, other) in [
        (&*BOOK, "en", "zh/index.html"),
        (&*CHINESE, "zh-CN", "../index.html"),
        (&chinese_first, "zh-CN", "en/index.html"),
        (&chinese_first.join("en"), "en", "../index.html"),
    ] {
        let index = index(book);
        assert!(index.contains(&format!("<html lang=\"{language}\">")), "{}", book.display());
        // In the side bar, and at the top of the course.
        assert_eq!(values(&index, "<a href=").iter().filter(|target| **target == other).count(), 2);
        let source = fs::read_to_string(book.join("src/connection.rs.html")).expect("a page of a file");
        assert!(source.contains("<html lang=\"en\">"));
    }
}

#[test]
fn the_recordings_of_the_chinese_edition_are_in_chinese() {
    let index = index(&CHINESE);
    let recordings: Vec<Value> = index
        .split(" data-recording=")
        .skip(1)
        .map(|part| {
            let (_, json) = part.split_once('>').expect("a tag");
            serde_json::from_str(json.split("</script>").next().expect("a script")).expect("it is JSON")
        })
        .collect();
    assert!(recordings.len() > 5);
    for recording in recordings {
        let list = |name: &str, part: &'static str| {
            recording[name]
                .as_array()
                .expect("a list")
                .iter()
                .map(move |one| one[part].as_str().expect("a text"))
        };
        let caption = recording["look_for"].as_str().expect("a text");
        for text in list("steps", "text").chain(list("sessions", "name")).chain([caption]) {
            assert!(
                is_chinese(text) || ["ann", "bob", "cid"].contains(&text),
                "{}: {text}",
                recording["scene"]
            );
            let joints: Vec<_> = text.chars().zip(text.chars().skip(1)).collect();
            let is_joint = |&(a, b): &(char, char)| {
                is_han(a) != is_han(b) && (a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric())
            };
            assert!(!joints.iter().any(is_joint), "{text}");
        }
    }
}

fn is_han(c: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&c)
}

fn is_chinese(text: &str) -> bool {
    text.contains(is_han) && !text.contains(" the ")
}

#[test]
fn a_language_without_an_edition_is_an_error() {
    let finished = run(&mut lab(&["book", "--language", "tlh"]));
    assert_eq!(finished.status, Some(2));
    assert!(finished.stderr.contains("no edition in \"tlh\""), "{}", finished.stderr);
}

fn open() -> Page {
    open_edition(&BOOK)
}

fn open_edition(book: &Path) -> Page {
    Page::open(&book.join("index.html"))
}

fn text(page: &mut Page, selector: &str) -> String {
    let value = page.run(&format!("document.querySelector('{selector}').textContent"));
    value.as_str().expect("a text").to_owned()
}

#[test]
#[ignore = "needs chromium"]
fn the_book_opens_without_an_error_and_without_the_network() {
    let mut page = open();
    // Every picture is asked for, too.
    page.run("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })");
    assert_eq!(text(&mut page, "h1"), "The course");
    assert!(page.run("document.querySelectorAll('.stepper svg').length").as_u64() > Some(5));
    let own = format!("file://{}/", BOOK.display());
    page.asks_only_for(&own);
}

#[test]
#[ignore = "needs chromium"]
fn a_recording_in_the_book_asks_before_it_shows_a_step() {
    let mut page = open();
    page.run("document.querySelector('#scene-slow-reader').focus()");
    let told = "#scene-slow-reader .told";
    let first = text(&mut page, told);
    page.press(&["ArrowRight"]);
    assert!(text(&mut page, told).starts_with("What happens now?"));
    page.press(&["ArrowRight"]);
    let second = text(&mut page, told);
    assert!(second != first && !second.starts_with("What happens now?"), "{second}");
    page.press(&["ArrowLeft"]);
    assert_eq!(text(&mut page, told), first);
    // The next moment is asked for, too.
    page.press(&["m"]);
    assert!(text(&mut page, told).starts_with("What happens now?"));
    page.press(&["ArrowRight"]);
    let moment = text(&mut page, told);
    page.press(&["q", "ArrowRight"]);
    assert_ne!(text(&mut page, told), moment, "without the quiz, each key is a step");
    // A rule leads to the step that shows it.
    page.run("document.querySelector('#rule-12 ~ .seen').click()");
    let step =
        page.run("document.querySelector('#rule-12 ~ .seen').dataset.step").as_str().map(str::to_owned);
    let scene = text(&mut page, "figure:focus figcaption code, figure:target figcaption code");
    let place = text(&mut page, &format!("#scene-{scene} .where"));
    let number = step.and_then(|step| step.parse::<usize>().ok()).expect("a number") + 1;
    assert!(place.starts_with(&format!("Step {number} of ")), "{place}");
}

#[test]
#[ignore = "needs chromium"]
fn the_chinese_book_opens_without_an_error_and_finds_chinese_words() {
    let mut page = open_edition(&CHINESE);
    assert_eq!(text(&mut page, "h1"), "课程");
    page.run("search.value = '高水位'; search.dispatchEvent(new Event('input'))");
    assert!(page.run("document.querySelectorAll('#results a').length").as_u64() > Some(5));
    assert!(text(&mut page, "#found").starts_with("找到 "));
    page.run("document.querySelector('#scene-slow-reader').focus()");
    page.press(&["ArrowRight"]);
    assert!(text(&mut page, "#scene-slow-reader .told").starts_with("接下来会发生什么？"));
    page.press(&["ArrowRight"]);
    assert!(text(&mut page, "#scene-slow-reader .told").contains("慢读客户端"));
    let font = page.run("getComputedStyle(document.querySelector('.stepper svg text')).fontFamily");
    assert!(font.as_str().is_some_and(|font| font.contains("CJK SC")), "{font}");
    page.asks_only_for(&format!("file://{}/", CHINESE.display()));
}

#[test]
#[ignore = "needs chromium"]
fn the_switch_between_the_editions_keeps_the_chapter() {
    let mut page = open();
    let mut switch = |script: &str| {
        page.run(script);
        page.run("follow()");
        let address = page.run("document.querySelector('.editions a').href");
        page.go(address.as_str().expect("an address"));
        page.run("follow()");
        text(&mut page, "#contents [aria-current]")
    };
    let to = |chapter: &str| format!("document.getElementById('{chapter}').scrollIntoView()");
    assert_eq!(switch(&to("14-work-that-takes-time")), "14. 耗时的工作");
    // Then the reader goes on, and the address is no longer where the reader is.
    assert_eq!(switch(&to("17-what-breaks-servers")), "17. What breaks servers");
    // The address stands for more than the chapter, as long as its place is on the screen.
    switch("location.hash = '#scene-flood'; unfold()");
    assert_eq!(page.run("location.hash"), "#scene-flood");
}

#[test]
#[ignore = "needs chromium"]
fn the_search_waits_for_an_input_method() {
    let mut page = open_edition(&CHINESE);
    page.run("search.focus(); search.value = '高水位'");
    let mut results_after = |event: &str| {
        page.run(&format!("search.dispatchEvent(new {event})"));
        page.run("document.querySelectorAll('#results a').length").as_u64()
    };
    assert_eq!(results_after("InputEvent('input', { isComposing: true })"), Some(0));
    assert!(results_after("CompositionEvent('compositionend')") > Some(5));
    let key = "KeyboardEvent('keydown', { key: 'Escape', bubbles: true, isComposing: true })";
    assert!(results_after(key) > Some(5));
    assert_eq!(results_after(&key.replace("true }", "false }")), Some(0));
}

#[test]
#[ignore = "needs chromium"]
fn the_search_finds_words_in_the_text_and_in_programs() {
    let mut page = open();
    page.press(&["/"]);
    assert_eq!(page.run("document.activeElement.id"), "search");
    let mut find = |words: &str| -> (Value, Value) {
        page.run(&format!("search.value = '{words}'; search.dispatchEvent(new Event('input'))"));
        let first = page.run("document.querySelector('#results a')?.textContent");
        (first, page.run("document.querySelectorAll('#results a').length"))
    };
    let (first, _) = find("delayed nagle");
    assert!(first.as_str().is_some_and(|first| first.starts_with("4. thread_per_connection")), "{first}");
    let (first, count) = find("pollfd::new interest");
    assert!(first.as_str().is_some_and(|first| first.starts_with("examples/poll_all.rs")), "{first}");
    assert_eq!(count, 1);
    assert_eq!(find("thiswordisnowhere").1, 0);
    // A link of the results opens what is folded.
    page.run("search.value = 'segments packets nagle'; search.dispatchEvent(new Event('input'))");
    page.run("document.querySelector('#results a').click()");
    page.run("unfold()");
    let is_open = page.run("document.querySelector('main :target').closest('details').open");
    assert_eq!(is_open, true);
}

#[test]
#[ignore = "needs chromium"]
fn nothing_is_wider_than_a_phone() {
    for file in ["index.html", "src/connection.rs.html", "examples/lab/faults.md.html"] {
        let mut page = Page::open(&BOOK.join(file));
        page.resize(375);
        let width = page.run("document.documentElement.scrollWidth");
        assert!(width.as_u64() <= Some(375), "{file}: {width}");
    }
}

#[test]
#[ignore = "needs chromium"]
fn the_contents_follow_the_text() {
    let mut page = open();
    page.run("document.getElementById('14-work-that-takes-time').scrollIntoView()");
    page.run("follow()");
    assert_eq!(text(&mut page, "#contents [aria-current]"), "14. Work that takes time");
    let is_visible = page.run(
        "(() => { const box = current.getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight; })()",
    );
    assert_eq!(is_visible, true);
    page.press(&["]"]);
    page.run("follow()");
    assert_eq!(text(&mut page, "#contents [aria-current]"), "15. Outgoing connections");
}

#[test]
#[ignore = "needs chromium"]
fn a_switch_shows_what_the_rung_before_had_instead() {
    let mut page = open();
    let program = "document.getElementById('examples/loop_backpressure.rs')";
    let shown = format!("getComputedStyle({program}.querySelector('.old')).display");
    assert_eq!(page.run(&shown), "none");
    page.run(&format!("{program}.querySelector('.removed').click()"));
    assert_eq!(page.run(&shown), "block");
    let removed = format!("[...{program}.querySelectorAll('.old')].map((line) => line.textContent).join('')");
    let removed = page.run(&removed);
    assert!(removed.as_str().is_some_and(|lines| lines.contains("!self.half_closed\n")), "{removed}");
}
