//! Many phones made to fetch again: told at a rate, each followed until it is in step, and no further one once too many have failed.

use std::{process::Stdio, thread};

use provost_tests::{Host, Lan, Plan, Server, built};
use serde_json::Value;

const VENDOR: &str = "yealink";

fn mac(number: u8) -> String {
    format!("80:5e:c0:00:00:{number:02x}")
}

fn inventory(phones: u8) -> String {
    let device = |number: u8| {
        format!(
            "  \"{}\":\n    identity: {{ vendor: {VENDOR}, model: T46S }}\n    lines: [{{ number: \"1{number:02}\", password: s3cret, server: pbx }}]\n",
            mac(number)
        )
    };
    format!("devices:\n{}", (1..=phones).map(device).collect::<String>())
}

/// The command line in the server's namespace, as the administrator has it there.
fn provost(lan: &Lan, server: &Server, words: &[&str]) -> String {
    let mut command = lan.server().command(&built().provost);
    command.args(words).arg("--state").arg(server.data().join("state"));
    command.args(["--admin", &server.admin().to_string()]).env("NO_COLOR", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Asks until the roll-out is so far.
fn until(lan: &Lan, server: &Server, id: &str, state: &str) -> Value {
    let began = std::time::Instant::now();
    loop {
        let said: Value = serde_json::from_str(&provost(lan, server, &["rollouts", id, "--json"])).unwrap();
        if said["state"] == state {
            return said;
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(90), "never {state}: {said}");
        thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// A phone that stays, wants to know who orders it about, and ends when it was told once.
fn phone(host: &Host, server: &Server, mac: &str) -> std::process::Command {
    let mut command = host.command(&built().provost);
    command.args(["simulate", "--mac", mac, "--json", "--challenge=md5", "--source", &host.address().to_string()]);
    command.args(["--credentials", &format!("1{:02}:s3cret", u8::from_str_radix(&mac[15..], 16).unwrap())]);
    for directory in ["profiles", "templates", "plugins"] {
        command.arg(format!("--{directory}")).arg(server.data().join(directory));
    }
    command.arg("--state").arg(built().phones_state()).stdin(Stdio::null());
    command
}

#[test]
fn a_change_is_rolled_out_until_every_phone_is_in_step() {
    const PHONES: u8 = 3;
    let lan = Lan::new(usize::from(PHONES));
    let server = Plan::on(lan.server()).file("profiles/site.yaml", inventory(PHONES)).start().ready();
    thread::scope(|scope| {
        let reports: Vec<_> = (1..=PHONES)
            .map(|number| {
                let mut command = phone(lan.phone(usize::from(number) - 1), &server, &mac(number));
                scope.spawn(move || command.output().unwrap())
            })
            .collect();
        let fetched = |number: u8, mark: usize| {
            let device = mac(number);
            server.wait_after(mark, "fetch", |line| {
                line.is("message", "fetch") && line.is("device", &device) && line.is("outcome", "rendered")
            });
        };
        (1..=PHONES).for_each(|number| fetched(number, 0));
        let progress = |wanted: &str| provost(&lan, &server, &["devices", "--progress", wanted, "--json"]);
        let count = |wanted: &str| {
            let rows: Value = serde_json::from_str(&progress(wanted)).unwrap();
            rows.as_array().unwrap().len()
        };
        assert_eq!(count("in_step"), usize::from(PHONES));

        // What the change would come to is told before it is made.
        let new = inventory(PHONES).replace("server: pbx", "server: pbx2");
        let file = server.data().join("new.yaml");
        std::fs::write(&file, &new).unwrap();
        let said = provost(&lan, &server, &["diff", "profiles/site.yaml", file.to_str().unwrap()]);
        assert!(said.starts_with("3 phones would change, 0 of them would restart\n"), "{said}");
        assert!(said.contains("pbx2") && !said.contains("s3cret"), "{said}");

        let mark = server.mark();
        std::fs::rename(&file, server.data().join("profiles/site.yaml")).unwrap();
        server.wait_after(mark, "reload", |line| line.is("message", "reloaded"));
        assert_eq!(count("out_of_date"), usize::from(PHONES));

        let begun = provost(&lan, &server, &["resync", "--progress", "out_of_date", "--per-minute", "600"]);
        assert!(begun.starts_with("roll-out 1 of 3 phones, 600 a minute"), "{begun}");
        let done = until(&lan, &server, "1", "done");
        assert_eq!((&done["in_step"], &done["failed"]), (&3.into(), &0.into()), "{done}");
        assert_eq!(count("in_step"), usize::from(PHONES));
        for report in reports {
            let output = report.join().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        // The first of the phones that are gone by now stops the next one.
        provost(&lan, &server, &["resync", "--all", "--per-minute", "6000", "--stop-after", "1"]);
        let stopped = until(&lan, &server, "2", "stopped");
        assert!(stopped["reason"] == "a phone has failed" && stopped["waiting"] != 3, "{stopped}");
        assert!(stopped["items"][0]["why"].as_str().unwrap().contains("no answer within"), "{stopped}");
        let cancelled = provost(&lan, &server, &["rollouts", "2", "--cancel"]);
        assert!(cancelled.starts_with("2: cancelled"), "{cancelled}");
    });
}
