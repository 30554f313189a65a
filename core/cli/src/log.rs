//! The log: lines on standard error, so that what a command prints can be piped.
//!
//! Whoever serves a phone hands its line over and goes on. One thread writes them, and it alone waits for a disk that stalls, for journald
//! while it is started anew, or for a pipe that nobody reads; what it cannot hold meanwhile is lost, and the log says how much that was.

use std::{
    io::{self, BufWriter, IsTerminal as _, Stderr, Write},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use provost_admin::Activity;
use provost_server::settings::{LogFormat, Settings};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt, fmt::writer::EitherWriter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Lines that are held: those of ten thousand phones that start at once, some 20 MiB at most.
const HELD: usize = 1 << 16;
/// Of the lines, so many bytes are written in one go.
const AT_ONCE: usize = 64 << 10;
/// After a go, others are gathered for so long: a thread that is woken for each line costs those who serve more than the line does.
const GATHER: Duration = Duration::from_millis(1);

static BEHIND: OnceLock<NonBlocking> = OnceLock::new();

/// Starts the log.
pub(crate) fn log(settings: &Settings, usually: &str) -> Result<()> {
    log_and_keep(settings, usually, None)
}

/// The same, with the last events kept for the pages.
pub(crate) fn log_and_keep(settings: &Settings, usually: &str, activity: Option<&Arc<Activity>>) -> Result<()> {
    let level = settings.log.level.as_deref().unwrap_or(usually);
    let filter = EnvFilter::try_new(level).with_context(|| format!("cannot read the log level \"{level}\""))?;
    let log = fmt::layer().with_writer(writer).with_target(false);
    let events = tracing_subscriber::registry().with(activity.map(Activity::layer));
    match settings.log.format {
        LogFormat::Human => events.with(log.with_ansi(io::stderr().is_terminal()).with_filter(filter)).init(),
        LogFormat::Json => events.with(log.json().flatten_event(true).with_filter(filter)).init(),
    }
    Ok(())
}

fn writer() -> EitherWriter<NonBlocking, Stderr> {
    match BEHIND.get() {
        Some(log) => EitherWriter::A(log.clone()),
        None => EitherWriter::B(io::stderr()),
    }
}

/// From now on the lines are written by a thread of their own, to the last one if what this returns is kept to the end. It has the rights
/// that its maker has, so it is made when those were given up.
pub(crate) fn behind() -> WorkerGuard {
    let (log, guard) = written_behind(io::stderr(), HELD, |lines| {
        tracing::warn!(lines, "lines of the log are lost: for a while nobody took what is written to standard error");
    });
    let _ = BEHIND.set(log);
    guard
}

fn written_behind<W: Write + Send + 'static>(
    to: W,
    held: usize,
    tell: impl Fn(usize) + Send + 'static,
) -> (NonBlocking, WorkerGuard) {
    let lost = Arc::new(OnceLock::new());
    let lines = Lines { to: BufWriter::with_capacity(AT_ONCE, to), lost: Arc::clone(&lost), told: 0, tell };
    let (log, guard) = NonBlockingBuilder::default().buffered_lines_limit(held).thread_name("log").finish(lines);
    let _ = lost.set(log.error_counter());
    (log, guard)
}

/// Tells of lost lines when there is room again.
struct Lines<W: Write, T> {
    to: BufWriter<W>,
    lost: Arc<OnceLock<ErrorCounter>>,
    told: usize,
    tell: T,
}

impl<W: Write, T: Fn(usize)> Write for Lines<W, T> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.to.write(line)
    }

    /// No line is waiting by then.
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()?;
        let lost = self.lost.get().map_or(0, ErrorCounter::dropped_lines);
        if lost > self.told {
            (self.tell)(lost - self.told);
            self.told = lost;
        }
        thread::sleep(GATHER);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Says when it is asked to write, and writes when it may.
    struct Gate {
        asked: mpsc::Sender<()>,
        may: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.send(()).unwrap();
            self.may.recv().unwrap();
            self.written.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_writes_a_line_waits_for_nobody_and_the_log_tells_what_is_lost() {
        let ((asked, was_asked), (let_go, may)) = (mpsc::channel(), mpsc::channel());
        let ((written, lines), (tell, told)) = (mpsc::channel(), mpsc::channel());
        let tell = move |lines| tell.send(lines).unwrap();
        let (mut log, guard) = written_behind(Gate { asked, may, written }, 4, tell);
        log.write_all(b"0\n").unwrap();
        was_asked.recv().unwrap();
        // Nothing is taken now, and still each of these returns.
        for number in 1..=100 {
            log.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        let_go.send(()).unwrap();
        let_go.send(()).unwrap();
        assert_eq!(told.recv().unwrap(), 96);
        drop(guard);
        assert_eq!(lines.iter().collect::<Vec<_>>().concat(), b"0\n1\n2\n3\n4\n");
    }
}
