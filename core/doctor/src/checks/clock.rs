//! Whether this machine's clock can be right, for certificates and tokens end by it; and whether the servers answer from which phones take
//! theirs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{error, warning};
use crate::{Finding, facts::Facts};

const CHECK: &str = "clock";
/// No server of ours is older: 1 January 2026.
const FIRST: Duration = Duration::from_secs(1_767_225_600);
/// File systems and clocks that are set a little are no fault.
const SLACK: Duration = Duration::from_secs(300);
/// No clock that somebody sets by hand is better, and nothing here needs it to be.
const OFF: f64 = 60.0;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let clock = &facts.clock;
    let set = "Set it (`timedatectl set-ntp true`, or `date -s`), and see that it is kept right after a restart.";
    if clock.now < UNIX_EPOCH + FIRST {
        let what =
            "this machine's clock is years behind: certificates are not good yet, and tokens end at the wrong time";
        return vec![error(CHECK, None, what.into(), set)];
    }
    let mut found = servers(facts);
    let ahead = |time: SystemTime| time.duration_since(clock.now).ok().filter(|ahead| *ahead > SLACK);
    let Some((path, ahead)) = clock.newest.as_ref().and_then(|(path, time)| Some((path, ahead(*time)?))) else {
        return found;
    };
    let what = format!(
        "{} was written {} minutes from now: this machine's clock has been set back, or was wrong then",
        path.display(),
        ahead.as_secs() / 60
    );
    found.push(error(CHECK, None, what, set));
    found
}

/// One that answers is enough for phones.
fn servers(facts: &Facts) -> Vec<Finding> {
    let servers = &facts.clock.servers;
    let said: Vec<(&str, f64)> =
        servers.iter().filter_map(|server| Some((server.name.as_str(), server.ahead?))).collect();
    if said.is_empty() && !servers.is_empty() {
        let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        let what = format!(
            "phones are told to take their time from {}, and nothing there answers this machine: phones that get no answer either show the wrong time, and take no certificate for good",
            names.join(", ")
        );
        let how = "See that UDP 123 gets there and back, also from the phones' network, or name another in `time.ntp` of the profiles: a router often is one.";
        return vec![warning(CHECK, None, what, how)];
    }
    // Where they disagree, somebody else is wrong.
    let Some((name, ahead)) = said.first().filter(|_| said.iter().all(|(_, ahead)| ahead.abs() > OFF)) else {
        return Vec::new();
    };
    let (minutes, way) = (ahead.abs() / 60.0, if *ahead > 0.0 { "behind" } else { "ahead of" });
    let what = format!(
        "this machine's clock is {minutes:.0} minutes {way} that of {name}, from which phones take theirs: certificates that are made now may be none for them, and logs tell the wrong hour"
    );
    vec![warning(
        CHECK,
        None,
        what,
        "See which of the two is right (`timedatectl`); `timedatectl set-ntp true` keeps this one so.",
    )]
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};
    use crate::facts::TimeServer;

    #[test]
    fn one_server_that_agrees_is_enough() {
        let with = |servers: &[Option<f64>]| {
            let mut facts = sample::facts();
            let servers = servers.iter().map(|ahead| TimeServer { name: "192.0.2.123".into(), ahead: *ahead });
            facts.clock.servers = servers.collect();
            check(&facts).into_iter().map(|finding| finding.what).collect::<Vec<_>>()
        };
        assert_eq!(with(&[]), [] as [String; 0]);
        assert_eq!(with(&[None, Some(0.2)]), [] as [String; 0]);
        assert_eq!(with(&[Some(7200.0), Some(-3.0)]), [] as [String; 0]);
        assert!(with(&[Some(-7200.0), None])[0].contains("120 minutes ahead of that of 192.0.2.123"));
        assert!(with(&[None])[0].contains("from 192.0.2.123, and nothing there answers"));
    }

    #[test]
    fn a_clock_without_a_battery_is_noticed() {
        let mut facts = sample::facts();
        facts.clock.now = UNIX_EPOCH + Duration::from_secs(86_400);
        assert!(check(&facts)[0].what.contains("years behind"));
        facts.clock.now = SystemTime::now();
        facts.clock.newest = Some(("state/registry.db".into(), facts.clock.now + Duration::from_secs(60)));
        assert_eq!(check(&facts), []);
        facts.clock.newest = Some(("state/registry.db".into(), facts.clock.now + Duration::from_secs(7200)));
        assert!(check(&facts)[0].what.contains("120 minutes from now"));
    }
}
