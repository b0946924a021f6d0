//! The exercises of NOTES.md that are patches. Each patch file names the tests to run, and whether they then fail.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use crate::harness::{PROGRAMS, cargo, lossy};

#[test]
fn every_patch_applies_and_the_course_links_to_it() {
    let course = fs::read_to_string(root().join("NOTES.md")).unwrap();
    for patch in patches() {
        let applied = run(Command::new("git").args(["apply", "--check"]).arg(&patch).current_dir(root()));
        assert!(applied.status.success(), "{}: {}", patch.display(), lossy(&applied.stderr));
        let link = format!("tests/exercises/{}", Exercise::read(&patch).name());
        assert!(course.contains(&link), "NOTES.md has no link to {link}");
    }
}

#[test]
#[ignore = "builds and tests a copy of the project for each patch, a minute or two; .ci/run runs it"]
fn every_patch_does_what_it_says() {
    let copy = Copy::of_the_project();
    let mut exercises: Vec<_> = patches().iter().map(|patch| Exercise::read(patch)).collect();
    // Tests of programs take long, and little of it is building.
    exercises.sort_by_key(|exercise| !exercise.is_for_programs());
    let (alone, beside_others): (Vec<_>, Vec<_>) = exercises.into_iter().partition(Exercise::must_run_alone);
    let lucky: Vec<&Exercise> = thread::scope(|scope| {
        // Meanwhile the next patch is built.
        let run = |exercise| {
            let tests = copy.build(exercise);
            (exercise, scope.spawn(|| exercise.complaint(tests)))
        };
        let running: Vec<_> = beside_others.iter().map(run).collect();
        let ended = running.into_iter().map(|(exercise, tests)| (exercise, tests.join()));
        let wrong = ended.filter(|(_, tests)| tests.as_ref().expect("the tests can be started").is_some());
        wrong.map(|(exercise, _)| exercise).collect()
    });
    // On a busy machine a test comes too late to meet the fault. It runs again alone.
    let alone = alone.iter().chain(lucky);
    let wrong: Vec<String> = alone.filter_map(|exercise| exercise.complaint(copy.build(exercise))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A patch, and what it says about itself.
struct Exercise {
    patch: PathBuf,
    text: String,
}

impl Exercise {
    fn read(patch: &Path) -> Self {
        Self { patch: patch.to_owned(), text: fs::read_to_string(patch).unwrap() }
    }

    fn name(&self) -> String {
        self.patch.file_name().expect("it is a file").to_string_lossy().into_owned()
    }

    /// The rest of the line that begins with `key` and a colon.
    fn value(&self, key: &str) -> &str {
        let prefix = format!("{key}: ");
        let value = self.text.lines().find_map(|line| line.strip_prefix(&prefix));
        value.unwrap_or_else(|| panic!("no {key} in {}", self.name()))
    }

    /// The test programs to run, by the name of their target, and what they get as arguments.
    fn tests(&self) -> (Vec<&str>, Vec<&str>) {
        let (mut suites, mut arguments) = (Vec::new(), Vec::new());
        let mut words = self.value("Run").split(' ');
        while let Some(word) = words.next() {
            match word {
                "--lib" => suites.push("okloop"),
                "--test" => suites.extend(words.next()),
                "--" => {}
                argument => arguments.push(argument),
            }
        }
        (suites, arguments)
    }

    /// Whether the tests start the programs, and need not be built with the patch.
    fn is_for_programs(&self) -> bool {
        self.tests().0.iter().all(|suite| ["it", "load"].contains(suite))
    }

    /// Whether the other exercises could make a test fail that must not.
    fn must_run_alone(&self) -> bool {
        self.tests().0.contains(&"load") && self.value("Expect") == "success"
    }

    /// What cargo builds: the programs that the patch changes, or the tests.
    fn targets(&self) -> Vec<String> {
        if !self.is_for_programs() {
            let targets = self.value("Run").split(' ').take_while(|word| !word.contains("::"));
            return ["test", "--no-run"].into_iter().chain(targets).map(str::to_owned).collect();
        }
        let changed = self.text.lines().filter_map(|line| line.strip_prefix("+++ b/"));
        let program = |file: &str| match file.strip_prefix("examples/") {
            Some(example) => format!("--example={}", example.trim_end_matches(".rs")),
            None => "--bin=okloop".to_owned(),
        };
        [String::from("build")].into_iter().chain(changed.map(program)).collect()
    }

    /// Runs the tests. What they print is the complaint, unless they do what the patch says.
    fn complaint(&self, tests: Vec<Command>) -> Option<String> {
        let outputs: Vec<Output> = tests.into_iter().map(|mut tests| run(&mut tests)).collect();
        let is_as_expected = match self.value("Expect") {
            "success" => outputs.iter().all(|output| output.status.success() && has_passed(output)),
            "failure" => outputs.iter().any(|output| lossy(&output.stdout).contains("test result: FAILED")),
            other => panic!("{} expects {other}", self.name()),
        };
        let printed = outputs.iter().map(|output| lossy(&output.stdout) + &lossy(&output.stderr));
        (!is_as_expected).then(|| format!("{}:\n{}", self.name(), printed.collect::<String>()))
    }
}

/// A copy of the project, and the test programs of the project itself.
struct Copy {
    directory: PathBuf,
    suites: BTreeMap<String, PathBuf>,
}

impl Copy {
    fn of_the_project() -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exercises");
        for part in ["copy", "programs"] {
            _ = fs::remove_dir_all(directory.join(part));
            fs::create_dir_all(directory.join(part)).unwrap();
        }
        let project = ["Cargo.toml", "Cargo.lock", "README.md", "NOTES.md", "src", "examples", "tests"];
        let copied =
            run(Command::new("cp").arg("-r").args(project).arg(directory.join("copy")).current_dir(root()));
        assert!(copied.status.success(), "{}", lossy(&copied.stderr));
        // With a version of its own the copy can use the dependencies that cargo has built for the project.
        let manifest = directory.join("copy/Cargo.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(manifest, text.replacen("\nversion = \"", "\nversion = \"9", 1)).unwrap();
        let mut cargo = cargo();
        cargo.args(["test", "--no-run", "--test=it", "--test=load"]).current_dir(root());
        let suites = built(&mut cargo, target());
        Self { directory, suites }
    }

    fn apply(&self, patch: &Path, options: &[&str]) {
        // The copy is below this repository, and must not be taken for a part of it.
        let mut git = Command::new("git");
        git.env("GIT_CEILING_DIRECTORIES", &self.directory).args(["apply"]).args(options);
        let applied = run(git.arg(patch).current_dir(self.directory.join("copy")));
        assert!(applied.status.success(), "{}: {}", patch.display(), lossy(&applied.stderr));
    }

    /// Builds what a patch changes, and returns the commands of its tests.
    fn build(&self, exercise: &Exercise) -> Vec<Command> {
        let copy = self.directory.join("copy");
        self.apply(&exercise.patch, &[]);
        let mut build = cargo();
        build.args(exercise.targets()).current_dir(&copy);
        build.env("CARGO_INCREMENTAL", "1").env("CARGO_BUILD_BUILD_DIR", target());
        let executables = built(&mut build, &self.directory.join("target"));
        self.apply(&exercise.patch, &["--reverse"]);

        // The next patch is built in the same place.
        let programs = self.directory.join("programs").join(exercise.name());
        fs::create_dir_all(&programs).unwrap();
        for (name, program) in executables {
            fs::copy(program, programs.join(name)).unwrap();
        }
        let (suites, arguments) = exercise.tests();
        let command = |suite: &str| {
            let (program, package) = if exercise.is_for_programs() {
                (self.suites[suite].clone(), root())
            } else {
                (programs.join(suite), &*copy)
            };
            let mut tests = Command::new("timeout");
            tests.arg("300").arg(program).args(&arguments).env(PROGRAMS, &programs).current_dir(package);
            tests
        };
        suites.into_iter().map(command).collect()
    }
}

/// The programs that a run of cargo for this package builds, by the names of their targets.
fn built(cargo: &mut Command, target: &Path) -> BTreeMap<String, PathBuf> {
    cargo.args(["--package=okloop", "--message-format=json-render-diagnostics", "--target-dir"]).arg(target);
    let output = run(cargo);
    assert!(output.status.success(), "{}", lossy(&output.stderr));
    let messages = lossy(&output.stdout);
    let programs =
        messages.lines().filter_map(|line| line.split_once(r#""executable":""#)?.1.split('"').next());
    // The file of a test has a hash behind the name.
    let name = |path: &Path| lossy(path.file_name()?.as_encoded_bytes()).split('-').next().map(str::to_owned);
    programs.map(PathBuf::from).filter_map(|path| Some((name(&path)?, path))).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory")
}

fn patches() -> Vec<PathBuf> {
    let mut patches: Vec<PathBuf> =
        fs::read_dir(root().join("tests/exercises")).unwrap().map(|entry| entry.unwrap().path()).collect();
    patches.sort();
    patches
}

/// Whether a test ran at all.
fn has_passed(output: &Output) -> bool {
    lossy(&output.stdout).lines().any(|line| line.starts_with("test ") && line.ends_with(" ... ok"))
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the program is installed")
}
