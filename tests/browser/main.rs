//! The device manager in a real browser: Chromium through Playwright, in the network namespace of the server, with phones on the
//! network beside it. What a test does and sees is what a person would; pictures are kept in `browser/` of the target directory.
//!
//! Whatever the test is about, it fails when a page asks another origin, violates its Content-Security-Policy, or has an error in its
//! console.

/// What breaks in the network is seen on the page of the doctor.
mod doctor;
/// axe finds nothing serious on any page, light and dark, wide and narrow.
mod judged;
/// A template is edited in the page, and fifty phones fetch what comes of it.
mod push;
/// From a phone that is plugged in to one that is in step, in front of an open page.
mod walk;
mod window;

use std::{
    io::Read,
    process::{Child, Stdio},
};

use provost_tests::{Host, Server, built};
use serde_json::Value;

/// A phone of the simulator that was just plugged in. It challenges who tells it to fetch again, and is gone with its value.
struct Phone(Child);

impl Phone {
    fn plugged_in(host: &Host, server: &Server, mac: &str, credentials: &str) -> Phone {
        let mut command = host.command(&built().provost);
        command.args(["simulate", "--mac", mac, "--json", "--challenge=sha256", "--credentials", credentials]);
        command.args(["--source", &host.address().to_string()]);
        for directory in ["profiles", "templates", "plugins"] {
            command.arg(format!("--{directory}")).arg(server.data().join(directory));
        }
        command.arg("--state").arg(built().phones_state());
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Phone(spawned.unwrap_or_else(|error| panic!("cannot start a phone: {error}")))
    }

    /// What it has to tell, once it has fetched again.
    fn report(mut self) -> Value {
        let (mut said, mut complaints) = (String::new(), String::new());
        self.0.stdout.take().expect("it is piped").read_to_string(&mut said).expect("text");
        self.0.stderr.take().expect("it is piped").read_to_string(&mut complaints).expect("text");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{complaints}"))
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
