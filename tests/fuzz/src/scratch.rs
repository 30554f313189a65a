//! A directory that goes with this process, however that ends: what is static is never dropped, and libFuzzer ends as it likes.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
    /// Waits for the end of what it reads, to which nobody writes, and which the kernel closes when we are gone.
    _broom: Child,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let path = tempfile::tempdir().expect("a temporary directory").keep();
        let mut broom = Command::new("sh");
        // What is typed at a terminal to end us is not meant for it.
        broom.args(["-c", "trap '' HUP INT TERM; read end; rm -rf \"$0\""]).arg(&path);
        let broom = broom.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Scratch { path, _broom: broom.unwrap_or_else(|error| panic!("cannot start sh: {error}")) }
    }
}
