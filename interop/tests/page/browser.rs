//! A browser that a test holds on a lead: the program `browser/driver.cjs`, which is told what to do line by line.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::programs;

/// How long the browser may take for one command; to start it takes some seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long something may take to appear on a page.
const APPEARS_SECONDS: u64 = 60;

/// A browser with one page in it. It ends with this.
pub(super) struct Browser {
    process: Child,
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
}

/// How a page is looked at.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) is_phone: bool,
    pub(super) is_dark: bool,
    pub(super) has_scripts: bool,
    /// Whether the page has a clock that a test may stop.
    pub(super) has_clock: bool,
}

impl View {
    pub(super) const DESK: Self = Self {
        width: 1280,
        height: 900,
        is_phone: false,
        is_dark: false,
        has_scripts: true,
        has_clock: false,
    };
}

impl Browser {
    pub(super) fn start() -> Self {
        let folder = programs::browser().expect("checked before");
        let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/driver.cjs");
        let mut process = Command::new("node")
            .arg(driver)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js starts");
        let output = process.stdout.take().expect("it has a pipe");
        let (tell, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            commands: process.stdin.take(),
            process,
            answers,
        }
    }

    /// Opens the live page of this server; the headers that came with it.
    #[track_caller]
    pub(super) fn open(&mut self, server: SocketAddr, view: View) -> Value {
        self.open_at(server, "/", view)
    }

    /// Opens that of a server whose pages are below this path.
    #[track_caller]
    pub(super) fn open_at(&mut self, server: SocketAddr, path: &str, view: View) -> Value {
        self.open_as(server, path, "", view)
    }

    /// The same with a login, as it stands in an address: `name:secret@`.
    #[track_caller]
    pub(super) fn open_as(
        &mut self,
        server: SocketAddr,
        path: &str,
        login: &str,
        view: View,
    ) -> Value {
        let answer = self.command(&json!({
            "command": "open", "url": format!("http://{login}{server}{path}"), "width": view.width, "height": view.height,
            "isPhone": view.is_phone, "isDark": view.is_dark, "hasScripts": view.has_scripts,
            "hasClock": view.has_clock,
        }));
        assert_eq!(answer["status"], 200);
        if view.has_scripts {
            self.wait_for("document.getElementById('state').textContent === 'Live'");
        }
        answer["headers"].clone()
    }

    /// What an expression of JavaScript comes to on the page.
    #[track_caller]
    pub(super) fn evaluate(&mut self, expression: &str) -> Value {
        self.command(&json!({ "command": "evaluate", "expression": expression }))
    }

    /// Waits until it comes to something.
    #[track_caller]
    pub(super) fn wait_for(&mut self, expression: &str) -> Value {
        self.command(
            &json!({ "command": "wait", "expression": expression, "seconds": APPEARS_SECONDS }),
        )
    }

    /// The text of the first element that matches.
    #[track_caller]
    pub(super) fn text(&mut self, selector: &str) -> String {
        let text = self.evaluate(&format!(
            "document.querySelector({}).textContent",
            json!(selector)
        ));
        text.as_str().expect("text").to_owned()
    }

    /// Presses a key: a letter, `Tab`, `Enter`.
    #[track_caller]
    pub(super) fn press(&mut self, key: &str) {
        self.command(&json!({ "command": "press", "key": key }));
    }

    #[track_caller]
    pub(super) fn type_text(&mut self, text: &str) {
        self.command(&json!({ "command": "type", "text": text }));
    }

    #[track_caller]
    pub(super) fn stop_clock(&mut self) {
        self.command(&json!({ "command": "stopClock" }));
    }

    /// Lets time pass on the page whose clock is stopped.
    #[track_caller]
    pub(super) fn pass_time(&mut self, duration: Duration) {
        self.command(&json!({
            "command": "passTime", "milliseconds": u64::try_from(duration.as_millis()).expect("short")
        }));
    }

    /// Keeps what the page looks like, all of it, as `target/page/<name>.png`, for people.
    #[track_caller]
    pub(super) fn keep_picture(&mut self, name: &str) {
        let folder = programs::left_by_tests("page");
        fs::create_dir_all(&folder).expect("a folder for pictures");
        let file = folder.join(format!("{name}.png"));
        self.command(&json!({ "command": "shot", "file": file, "isWhole": true }));
        assert!(
            fs::metadata(&file).is_ok_and(|found| found.len() > 1000),
            "no picture"
        );
    }

    /// What the browser complained about since the page was opened: errors of scripts, answers that are none, dialogues.
    #[track_caller]
    pub(super) fn faults(&mut self) -> Vec<String> {
        let faults = self.command(&json!({ "command": "faults" }));
        serde_json::from_value(faults).expect("a list of texts")
    }

    #[track_caller]
    fn command(&mut self, command: &Value) -> Value {
        let commands = self.commands.as_mut().expect("it has a pipe");
        writeln!(commands, "{command}").expect("the browser is there");
        let answer = self.answers.recv_timeout(PATIENCE);
        let answer = answer.unwrap_or_else(|_| panic!("no answer to {command}"));
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert!(
            answer["error"].is_null(),
            "{command}: {}",
            answer["error"].as_str().unwrap_or_default()
        );
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without commands it closes the browser and ends.
        self.commands = None;
        while self.answers.recv_timeout(PATIENCE).is_ok() {}
        // It has ended, unless it hangs.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
