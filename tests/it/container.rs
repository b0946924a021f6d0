//! The committed files for containers. The image is built by the real `buildah`, and its root started as an engine would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use okloop::config::{HIGH_WATER, INPUT_BUFFER};
use okloop::protocols::PREFIX;

use crate::harness::{Client, Process, cargo, lossy};
use crate::metrics::metrics_port;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/deploy");

#[test]
#[ignore = "needs buildah and Rust's target for musl; .ci/run installs and runs it"]
fn the_image_serves_read_only_as_another_user_without_proc() {
    let image = Image::build();
    assert_eq!(fs::read_dir(&image.root).expect("it is mounted").count(), 1, "one program");
    let entry = image.configured("{{range .Docker.Config.Entrypoint}}{{println .}}{{end}}");
    let mut entry: Vec<&str> = entry.lines().filter(|word| !word.is_empty()).collect();
    entry.extend(["--host", "127.0.0.1", "--port", "0", "--metrics", "127.0.0.1:0"]);
    let server = Process::spawn(&mut image.command(&entry));
    let metrics = metrics_port(&server);
    let mut client = Client::greeted(server.port());
    client.ask(b"hello");

    let process = Path::new("/proc").join(server.id().to_string());
    let status = fs::read_to_string(process.join("status")).expect("it runs");
    assert!(status.contains("\nUid:\t65534\t65534\t65534\t65534\n"), "{status}");
    assert!(status.contains("\nCapEff:\t0000000000000000\n"), "{status}");
    let mounts = fs::read_to_string(process.join("mountinfo")).expect("it runs");
    assert!(mounts.lines().any(|mount| mount.contains(" / ro")), "{mounts}");
    assert!(!process.join("root/proc").exists());

    let check = image.configured("{{range .Docker.Config.Healthcheck.Test}}{{println .}}{{end}}");
    let check: Vec<String> = check
        .lines()
        .filter(|word| !word.is_empty() && *word != "CMD")
        .map(|word| word.replace(":9100", &format!(":{metrics}")))
        .collect();
    let check: Vec<&str> = check.iter().map(String::as_str).collect();
    let healthy = Process::spawn(&mut image.command(&check)).finish();
    assert_eq!((healthy.status, lossy(&healthy.stdout)), (Some(0), "serving\n".to_owned()));

    let stop: Signal = image.configured("{{.Docker.Config.StopSignal}}").trim().parse().expect("a signal");
    server.signal(stop);
    assert_eq!(client.read_to_end(), b"");
    let unhealthy = Process::spawn(&mut image.command(&check)).finish();
    assert_eq!((unhealthy.status, &unhealthy.stderr[..]), (Some(1), "draining\n"));
    drop(client);
    assert_eq!(server.finish().status, Some(0));
}

/// Kubernetes kills a process whose grace period is over, or that needs more memory than its limit.
#[test]
fn the_deployments_limits_fit_together() {
    let file = |name: &str| fs::read_to_string(Path::new(DEPLOY).join(name)).expect("it is committed");
    let (deployment, sysctls) = (file("kubernetes.yaml"), file("sysctl.conf"));
    let settings = deployment.lines().filter(|line| !line.trim_start().starts_with('#'));
    let is_between = |c: char| c.is_whitespace() || "[],\"".contains(c);
    let words: Vec<&str> =
        settings.flat_map(|line| line.split(is_between)).filter(|word| !word.is_empty()).collect();
    let number = |after: &[&str]| -> usize {
        let at = words.windows(after.len()).position(|part| part == after).expect("it is set");
        words[at + after.len()].trim_end_matches("Mi").parse().expect("it is a number")
    };
    let (drain, pause) = (number(&["--drain-timeout"]), number(&["sleep:", "seconds:"]));
    assert!(number(&["terminationGracePeriodSeconds:"]) > drain + pause);

    let most = |key: &str| -> usize {
        let value =
            sysctls.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).expect("it is set");
        assert!(deployment.contains(&format!("name: {key}\n            value: {value}\n")), "{key}");
        value.split(' ').next_back().and_then(|last| last.parse().ok()).expect("there are three numbers")
    };
    let in_kernel = 4200 + most("net.ipv4.tcp_rmem") + most("net.ipv4.tcp_wmem");
    let at_worst = INPUT_BUFFER + HIGH_WATER + PREFIX.len() + INPUT_BUFFER + in_kernel;
    let mebibytes = number(&["limits:", "cpu:", "1", "memory:"]);
    assert!(number(&["--max-connections"]) * at_worst <= mebibytes << 20);
}

/// The image, in a store of its own that ends with it.
struct Image {
    store: PathBuf,
    root: PathBuf,
}

impl Image {
    fn build() -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let target_directory = directory.parent().expect("it is in the target directory");
        let status = cargo()
            .args([
                "build",
                "--package=okloop",
                "--bin=okloop",
                "--quiet",
                "--target",
                &target,
                "--target-dir",
            ])
            .arg(target_directory)
            .status();
        assert!(status.expect("cargo runs, as it runs this").success());

        let context = directory.join("container");
        fs::create_dir_all(&context).expect("cargo gives the tests a directory");
        let program = target_directory.join(target).join("debug/okloop");
        fs::copy(program, context.join("okloop")).expect("the program is built");
        let mut image = Self { store: directory.join("container-store"), root: PathBuf::new() };
        let file = Path::new(DEPLOY).join("Containerfile");
        let arguments =
            ["build", "--isolation", "chroot", "--format", "docker", "--tag", "okloop", "--quiet", "--file"];
        image.buildah(&[&arguments[..], &[path(&file), path(&context)]].concat());
        let container = image.buildah(&["from", "okloop"]);
        image.root = image.buildah(&["mount", container.trim()]).trim().into();
        image
    }

    /// What the image's configuration says.
    fn configured(&self, template: &str) -> String {
        self.buildah(&["inspect", "--type", "image", "--format", template, "okloop"])
    }

    fn buildah(&self, arguments: &[&str]) -> String {
        let mut buildah = Command::new("buildah");
        buildah.args(["--storage-driver", "vfs", "--root"]).arg(self.store.join("root"));
        buildah.arg("--runroot").arg(self.store.join("run")).args(arguments).stdin(Stdio::null());
        let output = buildah.output().expect("buildah is installed");
        assert!(output.status.success(), "{arguments:?}: {}", lossy(&output.stderr));
        lossy(&output.stdout)
    }

    /// A command in the image's root, which is read-only, as the image's user, with nothing else mounted.
    fn command(&self, words: &[&str]) -> Command {
        let script =
            "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec chroot --userspec=\"$@\"";
        let user = self.configured("{{.Docker.Config.User}}");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script])
            .arg(&self.root)
            .arg(user.trim())
            .arg(&self.root)
            .args(words);
        command
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // A later run starts without what this one leaves behind.
        let _ = fs::remove_dir_all(&self.store);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("the path is valid UTF-8")
}
