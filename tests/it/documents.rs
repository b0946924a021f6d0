//! README.md, NOTES.md and the page on running at scale name only what exists: files, headings, commands, options, examples, items and tests.
//!
//! How they may write it:
//!
//! - a file by its path, or by its bare name, as a link or in backticks;
//! - an item as `` `Type::method` ``, `` `CONSTANT` in `src/file.rs` `` or `` `src/file.rs`: `Type` ``, and a test as
//!   `` `module::name_of_the_test` ``;
//! - a command with its options in a code block or in backticks.

mod reference;
mod repository;

use reference::references;
use repository::Repository;

const DOCUMENTS: [&str; 3] = ["README.md", "NOTES.md", "examples/deploy/README.md"];

#[test]
fn the_documents_name_only_what_exists() {
    let repository = Repository::this();
    let of_document = |name| {
        let document = repository.text(name).unwrap_or_else(|| panic!("{name} is missing"));
        complaints(&repository, name, document)
    };
    let found: Vec<String> = DOCUMENTS.into_iter().flat_map(of_document).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_mistake_in_a_document_is_found() {
    for (document, complaint) in [
        ("See `src/sever.rs`.", "1: no file `src/sever.rs`"),
        ("Once\n\nsee [the loop](src/sever.rs).", "3: no file `src/sever.rs`"),
        ("`sever.rs`", "no file `sever.rs`"),
        ("`sever.rs`: *this*\n\n```sh\nls\n```\n", "no file `sever.rs`"),
        ("- `sever.rs`\n- `server.rs`\n", "no file `sever.rs`"),
        ("> **`sever.rs`**\n\n---\n", "no file `sever.rs`"),
        ("`../elsewhere/plan.md`", "no file `../elsewhere/plan.md`"),
        ("![a picture](missing.svg)", "no file `missing.svg`"),
        ("# The Loop\n[back](#the-lop)", "2: no heading for `#the-lop`"),
        ("[there](NOTES.md#the-lop)", "no heading for `NOTES.md#the-lop`"),
        ("```sh\n$ cargo run --example fleeet -- 5\n```", "2: no example `fleeet`"),
        ("`target/release/examples/fleeet 5`", "no example `fleeet`"),
        ("`cargo run --example fleet -- --quik`", "no option `--quik` of fleet"),
        ("`cargo run --release -p fleeet -- 5`", "no example `fleeet`"),
        ("`cargo run -p fleet -- part --quik`", "no option `--quik` of fleet"),
        ("```\nRUST_LOG=debug cargo run -- --prot 1 | head\n```", "2: no option `--prot` of okloop"),
        ("`cargo run --release -p lab -- fleet --quik`", "no option `--quik`"),
        ("`target/release/okloop --port 1 -q`", "no option `-q` of okloop"),
        ("`okloop --prot=1`", "no option `--prot` of okloop"),
        ("the option `--prot`", "no option `--prot`"),
        ("`Server::acept`", "`Server::acept` is not in src/server.rs"),
        ("`Sever::accept`", "nothing is called `Sever`"),
        ("`faults::a_reset_kills`", "`faults::a_reset_kills` is not in tests/it/faults.rs"),
        ("`cargo test faults::a_reset_kills`", "`faults::a_reset_kills` is not in tests/it/faults.rs"),
        ("`a_reset_kills_it_all`", "nothing is called `a_reset_kills_it_all`"),
        ("`Sever`", "nothing is called `Sever`"),
        ("`echo_twice`", "nothing is called `echo_twice`"),
        ("`src/server.rs`, `acept`", "`acept` is not in src/server.rs"),
        ("`Server::accept`, `reap` in\n`src/server.rs`", "1: `reap` is not in src/server.rs"),
        ("|a|b|\n|-|-|\n|`server.rs`: `Server::acept`||", "3: `Server::acept` is not in src/server.rs"),
    ] {
        let found = complaints(&small_repository(), "README.md", document);
        assert_eq!(found, [format!("README.md:{}", with_line(complaint))], "{document}");
    }
}

#[test]
fn what_exists_and_what_is_not_ours_is_let_pass() {
    for document in [
        "`src/server.rs`, `server.rs`, `src/`, `tests/it` and [the loop](src/server.rs)",
        "`target/release/okloop`, `/proc/self/status`, `GET /`, `HTTP/1.1`, `redis/src/ae.c`, `*.rs`",
        "[mio](https://docs.rs/mio/latest/mio/struct.Poll.html#method.poll) and <https://docs.rs/no.rs>",
        "# The `loop`, twice\n[here](#the-loop-twice), [there](NOTES.md#notes)",
        "```sh\ncargo run --release --example fleet -- --quick 5\ntelnet localhost 8888\n```",
        "`cargo run -p lab -- fleet --quick`",
        "`cargo run --release -p fleet -- part --quick 5`",
        "`cargo run -- -p 1`, `okloop [--port N]`, `ls --all`, the options `--port` and `--release`",
        "`Server::accept`, `Server::accept()`, `okloop::Server::accept`, `accept` in `src/server.rs`",
        "`src/server.rs` (`Server::sessions`, `Phase::Over`); `mio::Poll::poll`, `tokio::spawn`, `epoll_wait`",
        "`reap` in the loop of `src/server.rs`. `recv` of `libc`. `server.rs`. `reap` is not of this sentence.",
        "`TcpStream::connect`, `Stream::write` and `Socket::bind` of others",
        "`faults::a_reset_is_survived` and `a_reset_is_survived`",
    ] {
        assert_eq!(complaints(&small_repository(), "README.md", document), Vec::<String>::new());
    }
}

/// What is wrong in a document, each with the document's name and line.
fn complaints(repository: &Repository, name: &str, document: &str) -> Vec<String> {
    let complaint = |(line, reference)| {
        let complaint = repository.complaint(document, &reference)?;
        Some(format!("{name}:{line}: {complaint}"))
    };
    references(document).into_iter().filter_map(complaint).collect()
}

fn small_repository() -> Repository {
    let files = [
        ("README.md", ""),
        ("NOTES.md", "# Notes\n"),
        (
            "src/server.rs",
            "use mio::Poll; // epoll_wait\npub struct Server {\n    sessions: u8,\n}\nenum Phase {\n    Over,\n}\n\
             impl Server {\n    pub fn accept(&self) {}\n}\nimpl Stream for TcpStream {}\n",
        ),
        ("examples/fleet/main.rs", "struct Arguments {\n    quick: bool,\n}\n"),
        ("tests/it/faults.rs", "struct Socket;\n\nfn a_reset_is_survived() {}\n"),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
    Repository::new(files.into(), "Options: -p, --port <N>".to_owned())
}

/// Most of the documents above have one line.
fn with_line(complaint: &str) -> String {
    let has_line = complaint.starts_with(|first: char| first.is_ascii_digit());
    if has_line { complaint.to_owned() } else { format!("1: {complaint}") }
}
