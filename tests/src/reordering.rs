//! A cable on which frames overtake each other.
//!
//! Not every kernel has netem, and nftables delays nothing; so a relay of our own stands between two ends of veth pairs. It is in Python,
//! whose packet sockets take a link by its name: in Rust that would be a home for `unsafe` in the tests.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Stdio},
};

use crate::{Namespace, repository, tools};

/// As long as it is there, frames overtake each other.
#[derive(Debug)]
pub struct Reordering {
    relay: Child,
    said: BufReader<ChildStdout>,
}

impl Reordering {
    pub(crate) fn start(namespace: &Namespace, one: &str, other: &str) -> Reordering {
        let mut command = namespace.command(tools::require("python3"));
        command.arg(repository().join("tests/fixtures/reorder.py")).args([one, other]);
        let mut relay = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 can be started");
        let mut said = BufReader::new(relay.stdout.take().expect("it is piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("it is open");
        assert_eq!(line, "ready\n", "the relay between {one} and {other} did not start");
        Reordering { relay, said }
    }

    /// Cuts the cable; how many frames were overtaken.
    pub fn end(mut self) -> u64 {
        drop(self.relay.stdin.take());
        let mut count = String::new();
        self.said.read_to_string(&mut count).expect("it is open");
        count.trim().parse().unwrap_or_else(|_| panic!("the relay said \"{count}\""))
    }
}

impl Drop for Reordering {
    fn drop(&mut self) {
        drop(self.relay.stdin.take());
        drop(self.relay.kill());
        drop(self.relay.wait());
    }
}
