//! Nobody takes the log: a disk that stalls, journald that is started anew, a pipe without a reader.

use std::fs::File;

use rustix::{
    pipe::fcntl_setpipe_size,
    process::{Pid, Signal, kill_process},
};

use super::*;

#[test]
fn the_log_is_not_taken_for_a_while() {
    // Who takes it can be stopped, and what is on its way to it is a page at most.
    let mut site = Site::new(|plan| prepared(plan, "mkfifo log\ncat log >&2 &\nexec 2>log"));
    let log = File::options().read(true).write(true).open(site.server().data().join("log")).unwrap();
    fcntl_setpipe_size(&log, 4096).unwrap();
    drop(log);
    assert_eq!(site.edit(), 204);
    site.boot(When::Before, &[]);
    let server = site.server();
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.pid())).unwrap();
    let reader = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    kill_process(reader, Signal::STOP).unwrap();
    let mark = server.mark();
    for _ in 0..5 {
        site.boot(When::During, &[]);
    }
    assert_eq!(site.edit(), 204);
    let server = site.server();
    let meanwhile = server.mark() - mark;
    kill_process(reader, Signal::CONT).unwrap();
    let edited = site.edits.last().unwrap().0.rsplit('/').next().unwrap();
    server.wait_after(mark, "the edit meanwhile", |line| line.text.contains(edited));
    let lines = server.mark() - mark;
    assert!(lines > meanwhile + 100, "{meanwhile} lines of {lines} came through");
    assert_eq!(site.complaints(mark), Vec::<String>::new());
    site.boot(When::After, &[]);
    let lost = site.lost(|plan| plan.binary(&built().provost));
    site.settle("the log is not taken", &format!("{lines} lines came later, none is lost"), &lost);
}
