//! The exercises of NOTES.md that are patches. Each patch file names the tests to run, and whether they then fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::lossy;

#[test]
fn every_patch_applies_and_the_course_links_to_it() {
    let course = fs::read_to_string(root().join("NOTES.md")).unwrap();
    for patch in patches() {
        let applied = run(Command::new("git").args(["apply", "--check"]).arg(&patch).current_dir(root()));
        assert!(applied.status.success(), "{}: {}", patch.display(), lossy(&applied.stderr));
        let link = format!("tests/exercises/{}", name(&patch));
        assert!(course.contains(&link), "NOTES.md has no link to {link}");
    }
}

#[test]
#[ignore = "builds and tests a copy of the project for each patch, some minutes; .ci/run runs it"]
fn every_patch_does_what_it_says() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exercises");
    let copy = directory.join("copy");
    // All files are copied again, so their times tell cargo that an earlier patch is out of date.
    _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(&copy).unwrap();
    let project = ["Cargo.toml", "Cargo.lock", "README.md", "NOTES.md", "src", "examples", "tests"];
    let copied = run(Command::new("cp").arg("-r").args(project).arg(&copy).current_dir(root()));
    assert!(copied.status.success(), "{}", lossy(&copied.stderr));

    let apply = |patch: &Path, options: &[&str]| {
        // The copy is below this repository, and must not be taken for a part of it.
        let mut git = Command::new("git");
        git.env("GIT_CEILING_DIRECTORIES", &directory).args(["apply"]).args(options);
        assert!(run(git.arg(patch).current_dir(&copy)).status.success(), "{}", patch.display());
    };
    let mut wrong = Vec::new();
    for patch in patches() {
        let text = fs::read_to_string(&patch).unwrap();
        apply(&patch, &[]);
        let mut cargo = Command::new("timeout");
        cargo.args(["600", env!("CARGO"), "test", "--package", "okloop", "--no-fail-fast", "--target-dir"]);
        cargo.arg(directory.join("target")).args(value(&text, "Run").split(' ')).current_dir(&copy);
        // Its tests wait less until they fail.
        cargo.env("OKLOOP_EXERCISE", "1");
        let output = run(&mut cargo);
        let is_as_expected = match value(&text, "Expect") {
            "success" => output.status.success() && has_passed(&output),
            // Not a failure to build.
            "failure" => lossy(&output.stdout).contains("test result: FAILED"),
            other => panic!("{} expects {other}", patch.display()),
        };
        if !is_as_expected {
            wrong.push(format!("{}:\n{}{}", name(&patch), lossy(&output.stdout), lossy(&output.stderr)));
        }
        apply(&patch, &["--reverse"]);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn patches() -> Vec<PathBuf> {
    let mut patches: Vec<PathBuf> =
        fs::read_dir(root().join("tests/exercises")).unwrap().map(|entry| entry.unwrap().path()).collect();
    patches.sort();
    patches
}

fn name(patch: &Path) -> String {
    patch.file_name().expect("it is a file").to_string_lossy().into_owned()
}

/// The rest of the patch's line that begins with `key` and a colon.
fn value<'a>(patch: &'a str, key: &str) -> &'a str {
    let prefix = format!("{key}: ");
    patch.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_else(|| panic!("no {key} in {patch}"))
}

/// Whether a test ran at all.
fn has_passed(output: &Output) -> bool {
    lossy(&output.stdout).lines().any(|line| line.starts_with("test ") && line.ends_with(" ... ok"))
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the program is installed")
}
