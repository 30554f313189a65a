//! The walk-through of `plugins/README.md`, block by block as it stands there: whoever follows it ends with a phone of the new vendor that
//! is configured by a running server. Nobody who follows it has a compiler.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use provost_tests::{Namespace, built, repository, tools};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(20);

/// A fenced block: what stands behind the fence, and what is in it.
struct Block {
    language: String,
    about: String,
    text: String,
}

fn blocks(section: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = section.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let (language, about) = info.split_once(' ').unwrap_or((info, ""));
        let text = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        blocks.push(Block { language: language.into(), about: about.into(), text });
    }
    blocks
}

/// Two terminals in one directory, on a machine with nothing but `provost` and what every system has.
struct Desk {
    directory: tempfile::TempDir,
    namespace: Namespace,
    second: Option<Child>,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk {
            directory: tempfile::tempdir().expect("a temporary directory"),
            namespace: Namespace::new("walk"),
            second: None,
        };
        fs::create_dir(desk.path("bin")).unwrap();
        symlink(&built().provost, desk.path("bin/provost")).unwrap();
        for program in ["sh", "rm"] {
            symlink(tools::require(program), desk.path("bin").join(program)).unwrap();
        }
        desk
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn shell(&self, commands: &str) -> Command {
        let mut shell = self.namespace.command(self.path("bin/sh"));
        shell.args(["-eu", "-c", commands]).current_dir(self.directory.path());
        shell.env_clear().env("PATH", self.path("bin")).stdin(Stdio::null());
        shell
    }

    /// What is typed in the first terminal, and what appears.
    fn types(&self, commands: &str) -> String {
        let output = self.shell(commands).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands}ended with {}:\n{said}", output.status);
        said
    }

    /// What is typed in the second terminal, where whatever ran there is stopped first.
    fn types_in_second(&mut self, command: &str) {
        self.stop();
        let mut child =
            self.shell(&format!("exec {command}")).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        self.second = Some(child);
        let (lines, seen) = mpsc::channel();
        // Reads on to the end, so that the server never waits for its log to be read.
        thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
        let (until, mut log) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            match seen.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(" serving") => return,
                Ok(line) => log.push(line),
                Err(error) => panic!("{command}did not serve ({error}):\n{}", log.join("\n")),
            }
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.second.take() {
            if let Some(pid) = Pid::from_raw(child.id() as i32) {
                let _ = kill_process(pid, Signal::TERM);
            }
            drop(child.wait());
        }
    }

    fn write(&self, name: &str, block: &Block) {
        let path = self.path(name);
        if block.language == "diff" {
            let mut patch = Command::new(tools::require("patch"));
            patch.arg("--quiet").arg(&path);
            tools::feed(&mut patch, block.text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        } else {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).unwrap();
            fs::write(path, &block.text).unwrap();
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn whoever_follows_the_walk_through_has_added_a_vendor() {
    let readme = fs::read_to_string(repository().join("plugins/README.md")).unwrap();
    let section = readme.split("\n## ").find(|section| section.starts_with("A vendor from nothing\n"));
    let blocks = blocks(section.expect("the walk-through is a section of its own"));
    let mut desk = Desk::new();
    let began = Instant::now();
    let (mut typed, mut said) = (String::new(), Vec::new());
    for block in &blocks {
        match (block.language.as_str(), block.about.as_str()) {
            ("sh", "") => {
                typed.push_str(&block.text);
                said.push(desk.types(&block.text));
            }
            ("sh", "second terminal") => desk.types_in_second(&block.text),
            (_, name) => {
                assert!(!name.is_empty(), "a block of {} says no file:\n{}", block.language, block.text);
                desk.write(name, block);
            }
        }
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(60), "the walk-through took {took:?}");
    let commands: BTreeSet<&str> =
        typed.lines().filter_map(|line| line.strip_prefix("provost plugin ")?.split(' ').next()).collect();
    assert_eq!(commands, BTreeSet::from(["add", "check", "new", "pack", "test"]));
    // Only what is configured by the server that the packed plugin was added to counts.
    let last = said.last().expect("commands");
    assert!(last.contains(" is in ") && last.contains("configured in"), "{last}");
    assert!(last.contains("<password>s3&lt;&amp;&gt;</password>"), "{last}");
    assert!(desk.path("site/plugins/fernton/vendor.yaml").is_file());
}
