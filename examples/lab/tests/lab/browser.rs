//! A page in Debian's chromium without a window, driven by its debugging protocol: JSON messages over two pipes, each ended
//! by a zero byte.

use std::fs;
use std::io::{BufRead, BufReader, PipeWriter, Write, pipe};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Turn};

/// A page, and what it has said on the console and asked the network for.
pub struct Page {
    browser: Child,
    profile: PathBuf,
    orders: PipeWriter,
    messages: Receiver<Value>,
    /// The browser's name for its connection to this page; null before there is one.
    session: Value,
    sent: u64,
    errors: Vec<String>,
    requests: Vec<String>,
    _turn: Turn,
}

impl Page {
    /// Starts a browser, and opens a file in it.
    pub fn open(file: &Path) -> Self {
        static BROWSERS: AtomicUsize = AtomicUsize::new(0);
        let turn = Turn::beside_others();
        let number = BROWSERS.fetch_add(1, Ordering::Relaxed);
        let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("browser-{number}"));
        let ((input, orders), (answers, output)) = (pipe().expect("a pipe"), pipe().expect("a pipe"));
        // The browser's two pipes are its descriptors 3 and 4. A shell can put them there.
        let browser = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh", "chromium", "--headless"])
            .args(["--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--window-size=1300,900"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(input)
            .stdout(output)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell starts");
        let (sender, messages) = channel();
        thread::spawn(move || {
            let messages = BufReader::new(answers).split(0).map_while(Result::ok);
            let mut messages = messages.map(|text| serde_json::from_slice(&text).expect("it is JSON"));
            messages.try_for_each(|message| sender.send(message))
        });
        let (errors, requests) = (Vec::new(), Vec::new());
        let mut page = Self {
            browser,
            profile,
            orders,
            messages,
            session: Value::Null,
            sent: 0,
            errors,
            requests,
            _turn: turn,
        };
        let target = page.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        page.session = page.call("Target.attachToTarget", &target)["sessionId"].take();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), &json!({}));
        }
        page.go(&format!("file://{}", file.display()));
        page
    }

    /// Opens another address.
    pub fn go(&mut self, address: &str) {
        self.call("Page.navigate", &json!({ "url": address }));
        self.wait_for(|message| (message["method"] == "Page.loadEventFired").then_some(()));
    }

    /// Presses keys: an arrow, for example, or a letter.
    pub fn press(&mut self, keys: &[&str]) {
        for key in keys {
            for kind in ["keyDown", "keyUp"] {
                self.call("Input.dispatchKeyEvent", &json!({ "type": kind, "key": key }));
            }
        }
    }

    /// The value of an expression in the page.
    pub fn run(&mut self, script: &str) -> Value {
        let mut answer =
            self.call("Runtime.evaluate", &json!({ "expression": script, "returnByValue": true }));
        assert!(answer["exceptionDetails"].is_null(), "{script}: {answer}");
        answer["result"]["value"].take()
    }

    /// Gives the page the width of a phone's screen, for example.
    pub fn resize(&mut self, width: u32) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Fails if the page had an error, or asked for anything but itself.
    pub fn stands_alone(&mut self) {
        let own = self.run("location.href.split('#')[0]");
        self.asks_only_for(own.as_str().expect("an address"));
    }

    /// Fails if the page had an error, or asked for an address that does not begin in this way.
    pub fn asks_only_for(&mut self, address: &str) {
        // What happened before this call is then told.
        self.run("0");
        assert_eq!(self.errors, [""; 0]);
        assert!(self.requests.iter().all(|request| request.starts_with(address)), "{:?}", self.requests);
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.sent += 1;
        let id = self.sent;
        let mut order = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_null() {
            order["sessionId"] = self.session.clone();
        }
        self.orders.write_all(format!("{order}\0").as_bytes()).expect("the browser runs");
        let mut answer = self.wait_for(|message| (message["id"] == id).then_some(message));
        assert!(answer["error"].is_null(), "{order}: {answer}");
        answer["result"].take()
    }

    fn wait_for<T>(&mut self, mut wanted: impl FnMut(Value) -> Option<T>) -> T {
        loop {
            let message = self.messages.recv_timeout(DEADLINE).expect("chromium is installed, and answers");
            let told = &message["params"];
            match message["method"].as_str() {
                Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded") => {
                    self.errors.push(told.to_string());
                }
                Some("Network.requestWillBeSent") => {
                    self.requests.push(told["request"]["url"].as_str().unwrap_or_default().to_owned());
                }
                _ => {}
            }
            if let Some(found) = wanted(message) {
                return found;
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // All of this fails only after the browser's own end.
        let _ = killpg(Pid::from_raw(self.browser.id().cast_signed()), Signal::SIGKILL);
        let _ = self.browser.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}
