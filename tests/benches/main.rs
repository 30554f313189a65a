//! Speed, measured in one run against named peers on the same machine. Prints a table, and writes it to `TARGET/benches/`.
//!
//! | module | what it measures | peer |
//! |---|---|---|
//! | `announce` | SUBSCRIBE → NOTIFY over multicast | kamailio |
//! | `storm` | a building of phones at once, to the last file | kamailio with nginx or dnsmasq |
//! | `http` | configs over HTTP | nginx with the same files, rendered before |
//! | `tftp` | the same over TFTP | dnsmasq with the same files |
//! | `render` | a phone's file, in process | Jinja2 with the same template |
//! | `load` | start, memory and check with many devices | a plain parse of the same files |
//! | `people` | pages, searches and edits with many devices | none |
//! | `soak` | an hour of announcements, fetches and edits: errors, and memory | none |
//!
//! Servers are the real programs, each started afresh for each repetition and alone, in a network namespace; ours and the peer take
//! turns. What a figure is made of stands in README.md. Nothing is asserted about speed; a wrong answer fails the run.

mod announce;
mod figures;
mod http;
mod load;
mod peers;
mod people;
mod plot;
mod render;
mod running;
mod site;
mod soak;
mod storm;
mod tftp;

use std::{io::Write, time::Duration};

use figures::Figures;
use site::Site;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) quick: bool,
    pub(crate) repetitions: usize,
}

impl Scale {
    /// The first in a full run, the second in a quick one.
    pub(crate) fn pick<T>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

const PARTS: [&str; 7] = ["announce", "storm", "http", "tftp", "render", "load", "people"];
/// Only where it is asked for: it takes an hour.
const SOAK: &str = "soak";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` runs this too, but asks for no figures.
    if !words.iter().any(|word| word == "--bench") {
        return tell("no figures were asked for; they come with tests/benches/run");
    }
    let quick = words.iter().any(|word| word == "--quick");
    let asked: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    let known = |word: &&str| PARTS.contains(word) || *word == SOAK;
    let odd = words.iter().map(String::as_str).find(|word| !["--bench", "--quick"].contains(word) && !known(word));
    if let Some(odd) = odd {
        tell(&format!("there is no \"{odd}\" to measure; there are --quick, {} and {SOAK}", PARTS.join(", ")));
        std::process::exit(2);
    }
    let wanted = |part: &str| asked.is_empty() || asked.contains(&part);

    let scale = Scale { quick, repetitions: if quick { 3 } else { 5 } };
    let mut figures = Figures::new(scale, &asked);
    let site = Site::new();
    if wanted("announce") {
        announce::measure(&site, scale, &mut figures);
    }
    if wanted("storm") {
        storm::measure(scale, &mut figures);
    }
    if wanted("http") || wanted("tftp") {
        let files = site.fetch_all();
        if wanted("http") {
            http::measure(&site, &files, scale, &mut figures);
        }
        if wanted("tftp") {
            tftp::measure(&site, &files, scale, &mut figures);
        }
    }
    if wanted("render") {
        render::measure(&site, scale, &mut figures);
    }
    if wanted("load") {
        load::measure(scale, &mut figures);
    }
    if wanted("people") {
        people::measure(scale, &mut figures);
    }
    let mut errors = 0;
    if asked.contains(&SOAK) {
        errors += soak::measure(Duration::from_secs(60 * scale.pick(60, 2)), &mut figures);
    }
    figures.finish();
    if errors > 0 {
        tell(&format!("{errors} errors"));
        std::process::exit(1);
    }
}

/// A line for whoever watches.
pub(crate) fn tell(line: &str) {
    // Whoever reads may have gone away; the figures are written to files all the same.
    let _ = writeln!(std::io::stdout(), "{line}");
}
