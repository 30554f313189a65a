use std::{
    fs,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    plugins::{RUDE, RUDE_TEMPLATE, inventory, rude_library},
    site::{Site, VENDOR_YAML, compile, file, rename_over, start},
};

/// What a call into a library may take, and what a busy machine adds to it.
const DEADLINE: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_millis(2500);
/// For those who have nothing to do with it.
const PROMPT: Duration = Duration::from_millis(1000);

const STALL: &str = "rude/Stall/02badc000002.cfg";
const PANIC: &str = "rude/Panic/02badc000003.cfg";
const LATE: &str = "rude/Late/02badc000004.cfg";

fn rude_site() -> Site {
    let plan = inventory()
        .pardon_panics()
        .file("templates/rude/device.cfg.j2", RUDE_TEMPLATE)
        .file("plugins/acme/vendor.yaml", VENDOR_YAML)
        .file("plugins/acme/templates/device.cfg.j2", "# served\n");
    fs::copy(rude_library(), plan.data().join("plugins/rude.so")).unwrap();
    compile("nonsense.c", &plan.data().join("plugins/nonsense.so"), &[]);
    compile("plugin.c", &plan.data().join("plugins/cplug.so"), &[]);
    let site = start(plan);
    assert_eq!(
        [RUDE, &file(1), "nonsense/Polite/02bad0000001.cfg", "cplug-02c0de000001.cfg"]
            .map(|path| site.get(path).status),
        [200; 4]
    );
    site
}

/// Everybody who has nothing to do with the fault is answered, and at once.
fn others_are_served(site: &Site, also: &[&str]) {
    for path in [&*file(1), "cplug-02c0de000001.cfg"].iter().chain(also) {
        let began = Instant::now();
        let answer = site.get(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let octets = site.tftp(path).unwrap();
        assert_eq!(octets, answer.body.as_bytes());
        assert!(began.elapsed() < PROMPT, "{path} took {:?}", began.elapsed());
    }
}

fn threads(site: &Site) -> usize {
    fs::read_dir(format!("/proc/{}/task", site.pid())).unwrap().count()
}

/// The threads on which libraries are called.
fn workers(site: &Site) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", site.pid())).unwrap().flatten();
    tasks.filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "plugin")).count()
}

/// Resident memory in MiB.
fn memory(site: &Site) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", site.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn a_panic_costs_its_own_request() {
    let site = rude_site();
    for _ in 0..20 {
        let mark = site.mark();
        let answer = site.get(PANIC);
        assert_eq!(answer.status, 500, "{answer:?}");
        assert!(!answer.body.contains("asked to panic"), "{answer:?}");
        let line = site.wait_after(mark, "panic told", |line| line.text.contains("the plugin panicked"));
        assert!(line.text.contains("the plugin was asked to panic") && line.text.contains(PANIC), "{}", line.text);
        others_are_served(&site, &[RUDE]);
    }
    assert!(site.tftp(PANIC).is_err());
    let line = site.wait_for("outcome", |line| line.is("message", "fetch") && line.text.contains(PANIC));
    assert!(line.is("outcome", "failed"), "{}", line.text);
}

#[test]
fn a_stall_costs_its_own_request_and_only_as_long_as_the_deadline() {
    let site = rude_site();
    thread::scope(|scope| {
        let http = scope.spawn(|| {
            let began = Instant::now();
            (site.get(STALL), began.elapsed())
        });
        let tftp = scope.spawn(|| {
            let began = Instant::now();
            (site.tftp(STALL), began.elapsed())
        });
        let began = Instant::now();
        let mut rounds = 0;
        while began.elapsed() < DEADLINE - Duration::from_millis(300) {
            others_are_served(&site, &[RUDE, "nonsense/Polite/02bad0000001.cfg"]);
            rounds += 1;
        }
        assert!(!http.is_finished() && !tftp.is_finished(), "others were served while it stalled");
        println!("{rounds} rounds of everybody else during one stall");
        assert!(rounds > 5, "{rounds}");
        let (answer, took) = http.join().unwrap();
        assert_eq!(answer.status, 500, "{answer:?}");
        assert!(took >= DEADLINE && took < DEADLINE + SLACK, "{took:?}");
        let (answer, took) = tftp.join().unwrap();
        assert!(answer.is_err(), "{answer:?}");
        assert!(took >= DEADLINE && took < DEADLINE + SLACK, "{took:?}");
    });
    let line = site.wait_for("deadline told", |line| line.text.contains("did not answer within 2 s"));
    assert!(line.text.contains(STALL), "{}", line.text);
}

#[test]
fn a_plugin_that_hangs_for_good_is_given_up_quickly_and_a_mended_one_takes_its_place() {
    let site = rude_site();
    let (threads_before, memory_before) = (threads(&site), memory(&site));
    thread::scope(|scope| {
        let (done, finished) = mpsc::channel();
        for _ in 0..40 {
            let (site, done) = (&site, done.clone());
            scope.spawn(move || {
                let began = Instant::now();
                let answer = site.get(STALL);
                done.send((answer.status, began.elapsed())).unwrap();
            });
        }
        drop(done);
        others_are_served(&site, &[]);
        for (status, took) in finished {
            assert_eq!(status, 500);
            assert!(took < DEADLINE + SLACK, "{took:?}");
        }
    });
    // From now on it costs nobody a deadline.
    for _ in 0..200 {
        let began = Instant::now();
        assert_eq!(site.get(STALL).status, 500);
        assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    }
    let answer = site.get(PANIC);
    assert_eq!(answer.status, 500, "all of its workers hang: {answer:?}");
    site.wait_for("the reason", |line| line.text.contains("all 16 workers of the plugin are stuck"));
    assert_eq!(site.get(RUDE).status, 200, "what was made before is still given");
    others_are_served(&site, &["nonsense/Polite/02bad0000001.cfg"]);
    let (threads_after, memory_after) = (threads(&site), memory(&site));
    println!("threads {threads_before} → {threads_after}, memory {memory_before} → {memory_after} MiB");
    assert!(threads_after < threads_before + 16 + 64, "{threads_before} → {threads_after}");
    assert!(memory_after < memory_before + 100, "{memory_before} → {memory_after} MiB");

    let mut bytes = fs::read(rude_library()).unwrap();
    let manners = b"manners of the first version";
    let places: Vec<_> =
        bytes.windows(manners.len()).enumerate().filter(|(_, part)| part == manners).map(|(at, _)| at).collect();
    for at in places {
        bytes[at..at + manners.len()].copy_from_slice(b"manners of a mended version!");
    }
    rename_over(&site.path("plugins/rude.so"), bytes);
    // Another version has workers of its own.
    site.until("the mended library", RUDE, |answer| answer.says("manners of a mended version!"));
    others_are_served(&site, &[RUDE]);
}

#[test]
fn a_late_answer_is_no_answer_but_no_lasting_harm() {
    let site = rude_site();
    for _ in 0..2 {
        let answers = thread::scope(|scope| {
            let late: Vec<_> = (0..20).map(|_| scope.spawn(|| site.get(LATE).status)).collect();
            late.into_iter().map(|late| late.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(answers, [500; 20]);
        // All of its workers were busy; they come back, and it serves again. By either door, for what one of them was given before may be kept.
        let began = Instant::now();
        while site.tftp(RUDE).is_err() || site.get(RUDE).status != 200 {
            assert!(began.elapsed() < Duration::from_secs(6), "the plugin does not come back");
            thread::sleep(Duration::from_millis(5));
        }
    }
    others_are_served(&site, &[RUDE]);
}

#[test]
fn nonsense_costs_its_own_request() {
    let site = rude_site();
    let cases = [
        ("Garbage", "not the JSON that was asked for"),
        ("Null", "has a length but no text"),
        ("Empty", "not the JSON that was asked for"),
        ("Status", "unknown status 77"),
        ("Negative", "unknown status -1"),
        ("Types", "neither variables, nor text or bytes"),
        ("Neither", "neither variables, nor text or bytes"),
        ("Misread", "does not understand the request"),
        ("Fails", "an error that cannot be read"),
        ("Panics", "the plugin panicked: panic in C"),
        ("Deep", "not the JSON that was asked for"),
        ("Huge", "longer than 32 MiB"),
        ("Misasks", "the host said no"),
    ];
    for ((model, reason), number) in cases.into_iter().zip(2..) {
        let path = format!("nonsense/{model}/02bad00000{number:02x}.cfg");
        let mark = site.mark();
        let answer = site.get(&path);
        assert_eq!(answer.status, 500, "{model}: {answer:?}");
        let line =
            site.wait_after(mark, model, |line| line.text.contains(&path) && line.text.contains("cannot render"));
        println!("{model}: {}", line.field("message").as_str().unwrap_or_default());
        assert!(line.text.contains(reason), "{model}: {}", line.text);
        assert!(!line.text.contains("secret-word"), "{}", line.text);
        let (code, words) = site.tftp(&path).unwrap_err();
        assert!(code == 0 && !words.is_empty(), "{code} {words}");
        others_are_served(&site, &[RUDE, "nonsense/Polite/02bad0000001.cfg"]);
    }
    // A content type that would be a second header line.
    let answer = site.get("nonsense/Header/02bad0000014.cfg");
    assert!(!answer.head.contains("\r\nX-Evil"), "{answer:?}");
    let cases = [
        ("Flood", "longer than 32 MiB"),
        ("Refuse", "the plugin was asked to refuse"),
        ("Exhaust", "there is no template"),
    ];
    for ((model, reason), number) in cases.into_iter().zip(5..) {
        let mark = site.mark();
        assert_eq!(site.get(&format!("rude/{model}/02badc00000{number}.cfg")).status, 500, "{model}");
        site.wait_after(mark, reason, |line| line.text.contains(reason));
    }
    others_are_served(&site, &[RUDE]);
}

#[test]
fn a_phone_that_makes_a_plugin_stall_delays_the_edits_of_others_once_and_wears_nothing_out() {
    let site = rude_site();
    let profile = |word: &str| {
        fs::read_to_string(site.path("profiles/site.yaml"))
            .unwrap()
            .lines()
            .map(|line| {
                if line.contains("sip:") {
                    format!("  sip: {{ server: {word}.example }}\n")
                } else {
                    format!("{line}\n")
                }
            })
            .collect::<String>()
    };
    // Now the profile itself says so, and every trial of known phones meets it.
    let stalls = profile("stalls")
        + "  02:ba:dc:00:00:fe:\n    identity: { vendor: rude, model: Stall }\n    lines: [{ number: \"8\" }]\n";
    let mark = site.mark();
    rename_over(&site.path("profiles/site.yaml"), stalls);
    let message = site.refused(mark, "profiles/site.yaml:");
    assert!(message.contains("did not answer within 2 s"), "{message}");
    let workers_before = workers(&site);
    for round in 0..20 {
        let began = Instant::now();
        let word = format!("round{round}");
        // A vendor of data, so that it is told by its file that the edit is in service.
        rename_over(&site.path("plugins/acme/templates/device.cfg.j2"), format!("# {word}\n"));
        site.until("an edit beside a stalling phone", &file(1), |answer| answer.says(&word));
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    for round in 0..20 {
        let began = Instant::now();
        rename_over(
            &site.path("profiles/devices.yaml"),
            format!("devices:\n  02:ac:de:00:00:{:02x}: {{}}\n", 0x20 + round),
        );
        site.until("a new phone beside a stalling one", &file(0x20 + round), |answer| answer.status == 200);
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    println!("workers {workers_before} → {}", workers(&site));
    // Forty looks at the disk: had each of them cost one of the sixteen workers, there would be none left to answer.
    others_are_served(&site, &[RUDE]);
}
