//! The clock of the machine jumps. libfaketime stands between the server and the time: a time namespace has no wall clock of its own.

use std::path::PathBuf;

use super::*;

/// The library is under a directory that is named after the machine's architecture.
fn libfaketime() -> PathBuf {
    let places = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let library = places.map(|place| place.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists());
    library.unwrap_or_else(|| panic!("this test needs libfaketimeMT.so.1: apt-get install libfaketime"))
}

fn under_a_clock(plan: Plan) -> Plan {
    let clock = plan.data().join("clock");
    fs::write(&clock, "+0d\n").unwrap();
    // Timers are of the monotonic clock, which does not jump. libfaketime keeps semaphores where Landlock does not let a server write.
    prepared(
        plan.file("provost.yaml", "process: { landlock: false }\n"),
        &format!(
            "export LD_PRELOAD='{}' FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_DISABLE_SHM=1",
            libfaketime().display(),
            clock.display()
        ),
    )
}

/// Sets the clock so many days off, and waits until the server's log says so.
fn jump(site: &Site, days: i32) {
    site.server().write("clock", format!("{days:+}d\n"));
    let year = |text: &str| text[..4].parse::<i32>().unwrap();
    let mark = site.server().mark();
    let now = Command::new("date").args(["-u", "-d", &format!("{days:+} days"), "+%Y"]).output().unwrap();
    let expected = year(&String::from_utf8_lossy(&now.stdout));
    // Whatever is asked leaves a line.
    site.lan.phone(PHONES).fetch(&format!("{}nothing-{days}.xyz", site.server().http_url(site.lan.server().address())));
    site.server().wait_after(mark, "a line of that year", |line| {
        line.json["timestamp"].as_str().is_some_and(|text| year(text) == expected)
    });
}

#[test]
fn the_clock_jumps_a_year_ahead_and_back() {
    let mut site = Site::new(under_a_clock);
    site.boot(When::Before, &[]);
    assert_eq!(site.edit(), 204);
    jump(&site, 400);
    site.boot(When::During, &[]);
    assert_eq!(site.edit(), 204);
    // Who is locked out for 15 minutes of that year is not locked out for it.
    let url = site.server().http_url(site.lan.server().address());
    // All at once, since each of them is made to wait.
    let answers = thread::scope(|scope| {
        let ask = |number: u32| {
            let (site, url) = (&site, &url);
            scope.spawn(move || site.trouble().fetch(&format!("{url}805ec0aa{number:04x}.cfg")))
        };
        let asked: Vec<_> = (0..45).map(ask).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).filter(|answer| answer.starts_with("HTTP/1.1 ")).count()
    });
    assert_eq!(answers, 45);
    let (good, lockouts) = administrator(&site.lan, site.server(), &["lockouts"]);
    assert!(good && lockouts.contains(&site.trouble().address().to_string()), "{lockouts}");
    jump(&site, -400);
    site.boot(When::During, &[]);
    assert_eq!(site.edit(), 204);
    let (good, lockouts) = administrator(&site.lan, site.server(), &["lockouts"]);
    assert!(good, "{lockouts}");
    jump(&site, 0);
    let (good, after) = administrator(&site.lan, site.server(), &["lockouts"]);
    site.boot(When::After, &[]);
    assert!(good && after.is_empty() && lockouts.is_empty(), "two years back:\n{lockouts}now:\n{after}");
    let lost = site.lost(|plan| plan.binary(&built().provost));
    site.settle(
        "the clock jumps 400 days ahead, 800 back, and home",
        "a lock-out of that time does not outlive it",
        &lost,
    );
}
