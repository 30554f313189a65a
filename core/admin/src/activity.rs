//! The last decisions, and how many there were in each minute of the last day. They are collected from the very events that the log
//! is made of, so that page and log cannot disagree; the log's own level has no say in it.
//!
//! A building that powers on writes thousands of events in a second: each is put into words by whoever writes it, before the lock is
//! taken, and what it costs the others is a push and a pop.

use std::{
    collections::VecDeque,
    fmt::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use provost_server::milliseconds;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer,
    filter::{Filtered, Targets},
    layer::Context,
};

/// Events that are kept.
const KEPT: usize = 2000;
/// Minutes that are counted: a day.
pub(crate) const MINUTES: usize = 1440;
/// What one event may hold, in bytes. The longest of ours has a few hundred.
const LONGEST: usize = 4096;

#[derive(Debug)]
pub struct Activity {
    kept: Mutex<Kept>,
    /// The number of the newest event, for who only wants to know whether there is a newer one.
    newest: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    ring: VecDeque<Arc<Entry>>,
    /// By minute, the number of which modulo [`MINUTES`] is its place.
    minutes: Vec<Minute>,
}

/// An event.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Counted from 1 at each start of the server.
    pub(crate) number: u64,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) level: Level,
    /// All that was said, one thing after the other.
    text: String,
    message: (usize, usize),
    fields: Vec<(&'static str, usize, usize)>,
}

impl Entry {
    pub(crate) fn message(&self) -> &str {
        &self.text[self.message.0..self.message.1]
    }

    /// In the order in which they were written.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.fields.iter().map(|(name, from, to)| (*name, &self.text[*from..*to]))
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// What happened in one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Minute {
    /// Minutes since 1970.
    pub(crate) number: u64,
    pub(crate) announcements: u32,
    pub(crate) answered: u32,
    pub(crate) fetches: u32,
    pub(crate) failures: u32,
}

impl Minute {
    fn count(&mut self, entry: &Entry) {
        match entry.message() {
            // Who is asked about again has not announced itself again.
            "subscribe" if entry.field("again").is_none() => self.announcements += 1,
            "notified" => self.answered += 1,
            "not notified" => self.failures += 1,
            "fetch" => {
                self.fetches += 1;
                self.failures += u32::from(entry.field("outcome") == Some("failed"));
            }
            _ => {}
        }
    }

    pub(crate) fn add(&mut self, other: &Minute) {
        self.announcements += other.announcements;
        self.answered += other.answered;
        self.fetches += other.fetches;
        self.failures += other.failures;
    }
}

impl Default for Activity {
    fn default() -> Activity {
        let kept = Kept { ring: VecDeque::with_capacity(KEPT), minutes: vec![Minute::default(); MINUTES] };
        Activity { kept: Mutex::new(kept), newest: AtomicU64::new(0) }
    }
}

impl Activity {
    /// Collects what our own crates say, down to information; what they say to developers is the log's alone.
    pub fn layer<S>(self: &Arc<Activity>) -> Filtered<Collector, Targets, S>
    where
        S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    {
        Collector(Arc::clone(self)).with_filter(Targets::new().with_target("provost", LevelFilter::INFO))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, mut entry: Entry) {
        let minute = entry.at / 60_000;
        let overwritten;
        {
            let mut kept = self.lock();
            entry.number = self.newest.load(Ordering::Relaxed) + 1;
            let place = &mut kept.minutes[minute as usize % MINUTES];
            if place.number != minute {
                *place = Minute { number: minute, ..Minute::default() };
            }
            place.count(&entry);
            self.newest.store(entry.number, Ordering::Relaxed);
            overwritten = if kept.ring.len() >= KEPT { kept.ring.pop_front() } else { None };
            kept.ring.push_back(Arc::new(entry));
        }
        // Its memory is given back when nobody waits for the lock any more.
        drop(overwritten);
    }

    /// The number of the newest event.
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// All that is kept, the oldest first.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.lock().ring.iter().cloned().collect()
    }

    /// What happened in the last so many minutes, the one that is not over yet among them; the oldest first.
    pub(crate) fn minutes(&self, count: usize, now: SystemTime) -> Vec<Minute> {
        let now = milliseconds(now) / 60_000;
        let kept = self.lock();
        let first = (now + 1).saturating_sub(count.min(MINUTES) as u64);
        let minute = |number: u64| {
            let minute = kept.minutes[number as usize % MINUTES];
            if minute.number == number { minute } else { Minute { number, ..Minute::default() } }
        };
        (first..=now).map(minute).collect()
    }
}

/// Hears the events.
#[derive(Debug)]
pub struct Collector(Arc<Activity>);

impl<S: Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words { text: String::with_capacity(256), message: (0, 0), fields: Vec::with_capacity(12) };
        event.record(&mut words);
        let Words { text, message, fields } = words;
        let at = milliseconds(SystemTime::now());
        self.0.push(Entry { number: 0, at, level: *event.metadata().level(), text, message, fields });
    }
}

/// Puts an event into words.
struct Words {
    text: String,
    message: (usize, usize),
    fields: Vec<(&'static str, usize, usize)>,
}

impl Words {
    fn take(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let from = self.text.len();
        // It fails where there is no room left: then what had room is shown.
        let _ = Room(&mut self.text).write_fmt(value);
        let to = self.text.len();
        match field.name() {
            "message" => self.message = (from, to),
            name => self.fields.push((name, from, to)),
        }
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format_args!("{value:?}"));
    }
}

/// Takes no more than an event may hold.
struct Room<'a>(&'a mut String);

impl fmt::Write for Room<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LONGEST.saturating_sub(self.0.len());
        if text.len() <= room {
            self.0.push_str(text);
            return Ok(());
        }
        let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.0.push_str(&text[..end]);
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn collected(say: impl FnOnce()) -> Arc<Activity> {
        let activity = Arc::new(Activity::default());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(activity.layer()), say);
        activity
    }

    #[test]
    fn an_event_is_kept_as_it_was_said_and_others_talk_is_not() {
        let activity = collected(|| {
            let (reason, none): (Option<&str>, Option<&str>) = (Some("no <such> file"), None);
            tracing::info!(device = %"02:00", bytes = 7u64, reason, none, old = true, "fetch");
            tracing::debug!("for developers");
            tracing::warn!(target: "hyper", "somebody else's");
            tracing::error!("it is {}", 42);
        });
        let entries = activity.entries();
        let said: Vec<&str> = entries.iter().map(|entry| entry.message()).collect();
        assert_eq!(said, ["fetch", "it is 42"]);
        let fields: Vec<_> = entries[0].fields().collect();
        assert_eq!(fields, [("device", "02:00"), ("bytes", "7"), ("reason", "no <such> file"), ("old", "true")]);
        assert_eq!((entries[1].number, entries[1].level, activity.newest()), (2, Level::ERROR, 2));
    }

    #[test]
    fn what_is_kept_has_a_bound_in_number_and_in_length() {
        let activity = collected(|| {
            for number in 0..KEPT + 3 {
                tracing::info!(number, "one of many");
            }
            tracing::info!(first = "ä".repeat(LONGEST), second = "lost", "too long");
        });
        let entries = activity.entries();
        assert_eq!((entries.len(), entries[0].number, activity.newest()), (KEPT, 5, KEPT as u64 + 4));
        let last = entries.last().unwrap();
        let held: usize = last.fields().map(|(_, value)| value.len()).sum::<usize>() + last.message().len();
        assert!(held <= LONGEST && held > LONGEST - 4, "{held}");
        assert!(last.field("first").unwrap().chars().all(|letter| letter == 'ä'));
    }

    #[test]
    fn a_day_is_counted_by_the_minute() {
        let activity = collected(|| {
            tracing::info!(outcome = "announced", "subscribe");
            tracing::info!(outcome = "announced", again = true, "subscribe");
            tracing::info!(status = 200, "notified");
            tracing::warn!("not notified");
            tracing::info!(outcome = "rendered", "fetch");
            tracing::error!(outcome = "failed", "fetch");
            tracing::info!("reloaded");
        });
        let now = SystemTime::now();
        let total = |minutes: &[Minute]| {
            let mut sum = Minute::default();
            minutes.iter().for_each(|minute| sum.add(minute));
            (sum.announcements, sum.answered, sum.fetches, sum.failures)
        };
        // The minute may have turned since.
        assert_eq!(total(&activity.minutes(2, now)), (1, 1, 2, 2));
        let day = activity.minutes(MINUTES, now);
        assert_eq!((day.len(), total(&day)), (MINUTES, (1, 1, 2, 2)));
        let tomorrow = activity.minutes(MINUTES, now + Duration::from_secs(90_000));
        assert_eq!(total(&tomorrow), (0, 0, 0, 0), "a place that is a day old counts for nothing");
        assert_eq!(activity.minutes(9_999_999, now).len(), MINUTES);
    }
}
