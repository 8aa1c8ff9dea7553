//! Chromium without a window, driven by its debugging protocol (CDP) over two pipes.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::Instant,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::PATIENCE;

/// A running browser with a profile of its own.
pub(crate) struct Chromium {
    child: Child,
    commands: ChildStdin,
    messages: mpsc::Receiver<Value>,
    /// Events that arrived while an answer was waited for.
    events: Vec<Value>,
    last_id: u64,
    _profile: TempDir,
}

/// A tab: its debugging session.
#[derive(Clone, Debug)]
pub(crate) struct Tab(String);

impl Chromium {
    /// Starts the browser that `scripts/peers/chromium` found or installed.
    pub(crate) fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let path = std::fs::read_to_string(root.join(".jetway/peers/chromium.path"))
            .expect("no Chromium is known: run scripts/peers/chromium");
        let profile = tempfile::tempdir().expect("a temporary directory");
        // The browser speaks on the file descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", path.trim()])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-quic",
            ])
            .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--remote-debugging-pipe", "about:blank"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell runs");
        let commands = child.stdin.take().expect("a pipe");
        let mut answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while answers.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                let value = serde_json::from_slice(&message).expect("the browser speaks JSON");
                message.clear();
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Self { child, commands, messages, events: Vec::new(), last_id: 0, _profile: profile }
    }

    /// Opens a page in a new tab, and waits until it has loaded.
    pub(crate) fn open(&mut self, url: &str) -> Tab {
        let target = self.call(None, "Target.createTarget", &json!({ "url": "about:blank" }));
        let attached = self.call(
            None,
            "Target.attachToTarget",
            &json!({ "targetId": target["targetId"], "flatten": true }),
        );
        let tab = Tab(attached["sessionId"].as_str().expect("a session").to_owned());
        self.call(Some(&tab), "Page.enable", &json!({}));
        self.call(Some(&tab), "Page.navigate", &json!({ "url": url }));
        self.loaded(&tab);
        tab
    }

    /// Waits until the tab has loaded its next page.
    pub(crate) fn loaded(&mut self, tab: &Tab) {
        let is_it =
            |event: &Value| event["method"] == "Page.loadEventFired" && event["sessionId"] == tab.0.as_str();
        if let Some(index) = self.events.iter().position(is_it) {
            self.events.remove(index);
            return;
        }
        loop {
            let message = self.next("a page to load");
            if is_it(&message) {
                return;
            }
            self.events.push(message);
        }
    }

    /// Runs the body of an asynchronous function in the page: what it returns.
    pub(crate) fn run(&mut self, tab: &Tab, script: &str) -> Value {
        let expression = format!("(async () => {{ {script} }})()");
        let asked = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call(Some(tab), "Runtime.evaluate", &asked);
        assert!(answer.get("exceptionDetails").is_none(), "{script}: {answer:#}");
        answer["result"]["value"].clone()
    }

    /// Every cookie that the browser keeps, those that no script sees too.
    pub(crate) fn cookies(&mut self) -> Vec<Value> {
        let answer = self.call(None, "Storage.getCookies", &json!({}));
        answer["cookies"].as_array().expect("a list").clone()
    }

    fn call(&mut self, tab: Option<&Tab>, method: &str, parameters: &Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(Tab(session)) = tab {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).expect("the browser runs");
        loop {
            let message = self.next(method);
            if message["id"] == id {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn next(&mut self, what: &str) -> Value {
        let started = Instant::now();
        match self.messages.recv_timeout(PATIENCE) {
            Ok(message) => message,
            Err(error) => panic!(
                "the browser did not answer within {:?} ({error}) to: {what}; it ended: {:?}",
                started.elapsed(),
                self.child.try_wait()
            ),
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
