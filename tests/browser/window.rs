//! A browser window as a value: Chromium, driven by `driver.mjs` through Playwright. Every answer tells what the page did wrong
//! meanwhile (an error in its console, a violation of its Content-Security-Policy, a request to another origin), and that fails the test.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use provost_tests::{Host, Server, repository, tools};
use serde_json::{Value, json};

/// The driver gives up sooner by itself, and says what it waited for.
const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const PASSWORD: &str = "correct horse battery";

/// Something on a page, found as a person finds it: by its role and name, its label, or its words.
#[derive(Clone, Debug)]
pub(crate) struct What(Value);

pub(crate) fn button(name: &str) -> What {
    What(json!({ "role": "button", "name": name, "exact": true }))
}

pub(crate) fn link(name: &str) -> What {
    What(json!({ "role": "link", "name": name, "exact": true }))
}

pub(crate) fn field(label: &str) -> What {
    What(json!({ "label": label }))
}

/// The row of a table that says all of this somewhere.
pub(crate) fn row(words: &str) -> What {
    What(json!({ "role": "row", "name": words }))
}

pub(crate) fn text(words: &str) -> What {
    What(json!({ "text": words }))
}

pub(crate) fn element(css: &str) -> What {
    What(json!({ "css": css }))
}

#[derive(Debug)]
pub(crate) struct Window {
    driver: Child,
    commands: Option<ChildStdin>,
    answers: mpsc::Receiver<String>,
}

impl Window {
    /// A window on the server's own machine: the door for people is open on its loopback, and from there nobody else can be reached.
    /// Pictures are kept in `browser/NAME` of the target directory.
    pub(crate) fn on(host: &Host, server: &Server, name: &str) -> Window {
        let folder = repository().join("tests/browser");
        assert!(
            folder.join("node_modules/playwright-core").is_dir(),
            "this test needs playwright-core and axe-core: npm ci --prefix tests/browser, or tests/run"
        );
        // The test binary lies in TARGET/PROFILE/deps.
        let own = env::current_exe().expect("a test binary has a path");
        let target = own.ancestors().nth(3).expect("it lies in the target directory");
        let pictures = target.join("browser").join(name);
        let _ = fs::remove_dir_all(&pictures);

        let mut driver = host.command(tools::require("node"));
        driver.arg(folder.join("driver.mjs")).arg(tools::require("chromium"));
        driver.arg(format!("http://{}", server.admin())).arg(&pictures);
        let mut driver = driver
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start the browser's driver: {error}"));
        let (lines, answers) = mpsc::channel();
        let said = BufReader::new(driver.stdout.take().expect("it is piped"));
        thread::spawn(move || said.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let commands = driver.stdin.take();
        let mut window = Window { driver, commands, answers };
        window.visitor(true);
        window
    }

    /// A fresh visitor, whose browser runs scripts or does not.
    pub(crate) fn visitor(&mut self, script: bool) {
        self.command("open", json!({ "script": script }));
    }

    /// Chooses the first password, with the server's key, and is inside.
    pub(crate) fn first_visit(&mut self, server: &Server) {
        self.go("/");
        assert_eq!(self.url(), "/setup", "nobody has chosen a password yet");
        let key = fs::read_to_string(server.data().join("state/admin.key")).expect("the server makes a key");
        self.fill(field("Key of this server"), key.trim());
        self.fill(field("Password"), PASSWORD);
        self.fill(field("The same again"), PASSWORD);
        self.click(button("Set the password"));
        self.see(link("Phones"));
    }

    pub(crate) fn log_in(&mut self) {
        self.go("/login");
        self.fill(field("Password"), PASSWORD);
        self.click(button("Log in"));
        self.see(link("Phones"));
    }

    /// Another tab, or back to one; the first is 0.
    pub(crate) fn tab(&mut self, number: usize) {
        self.command("tab", json!({ "number": number }));
    }

    /// Goes to a page of the server; the status of its answer.
    pub(crate) fn go(&mut self, path: &str) -> u64 {
        self.command("go", json!({ "path": path })).as_u64().expect("a status")
    }

    pub(crate) fn click(&mut self, what: What) {
        self.command("click", what.0);
    }

    pub(crate) fn fill(&mut self, what: What, value: &str) {
        self.on_value("fill", what, value);
    }

    pub(crate) fn check(&mut self, what: What) {
        self.command("check", what.0);
    }

    pub(crate) fn is_checked(&mut self, what: What) -> bool {
        self.command("checked", what.0) == true
    }

    pub(crate) fn press(&mut self, key: &str) {
        self.command("press", json!({ "key": key }));
    }

    /// Types where the focus is.
    pub(crate) fn types(&mut self, value: &str) {
        self.command("type", json!({ "value": value }));
    }

    /// Goes there with the tab key.
    pub(crate) fn reach(&mut self, what: What) {
        self.command("reach", what.0);
    }

    /// Waits until it is to be seen.
    pub(crate) fn see(&mut self, what: What) {
        self.command("see", what.0);
    }

    /// Waits until it is not to be seen any more.
    pub(crate) fn gone(&mut self, what: What) {
        self.command("gone", what.0);
    }

    pub(crate) fn value(&mut self, what: What) -> String {
        self.command("value", what.0).as_str().unwrap_or_default().to_owned()
    }

    /// How many of an element there are, to be seen or not.
    pub(crate) fn count(&mut self, what: What) -> u64 {
        self.command("count", what.0).as_u64().expect("a number")
    }

    /// Path and query of where it is.
    pub(crate) fn url(&mut self) -> String {
        self.command("url", json!({})).as_str().expect("an address").to_owned()
    }

    /// Where the links of the page lead.
    pub(crate) fn links(&mut self) -> Vec<String> {
        let links = self.command("links", json!({}));
        links.as_array().into_iter().flatten().filter_map(|link| link.as_str().map(str::to_owned)).collect()
    }

    /// A mark on the page that only a reload takes away.
    pub(crate) fn mark(&mut self) {
        self.command("mark", json!({}));
    }

    pub(crate) fn is_marked(&mut self) -> bool {
        self.command("marked", json!({})) == true
    }

    pub(crate) fn picture(&mut self, name: &str) {
        self.command("picture", json!({ "name": name }));
    }

    /// What axe, and the width of a telephone, have against the page: light and dark, wide and narrow.
    pub(crate) fn judge(&mut self) -> Vec<Value> {
        self.command("judge", json!({})).as_array().cloned().expect("a list")
    }

    /// Makes the page one that must not be; what was noticed of it at once.
    pub(crate) fn spoil(&mut self) -> Vec<Value> {
        let answer = self.answer("spoil", json!({}));
        answer["faults"].as_array().cloned().expect("a list")
    }

    fn on_value(&mut self, command: &str, what: What, value: &str) {
        let What(mut words) = what;
        words["value"] = value.into();
        self.command(command, words);
    }

    fn command(&mut self, command: &str, words: Value) -> Value {
        let answer = self.answer(command, words);
        let faults = answer["faults"].as_array().cloned().unwrap_or_default();
        assert!(faults.is_empty(), "meanwhile ({command}) the page did what it must not: {faults:#?}");
        answer["value"].clone()
    }

    fn answer(&mut self, command: &str, mut words: Value) -> Value {
        words["command"] = command.into();
        let commands = self.commands.as_mut().expect("it is open");
        writeln!(commands, "{words}").unwrap_or_else(|error| panic!("the browser's driver is gone: {error}"));
        let line = self.answers.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{words}: no answer: {error}"));
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if let Some(error) = answer["error"].as_str() {
            panic!("{words}: {error}\nat {}, as in {}", answer["page"], answer["shot"]);
        }
        answer
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // At the end of its commands the driver closes the browser.
        drop(self.commands.take());
        while self.answers.recv_timeout(PATIENCE).is_ok() {}
        // Of one that has ended by itself this does nothing; Chromium ends with the pipe to its driver.
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}
