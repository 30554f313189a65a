//! The trust ladder: what an attacker on the phones' own network gets, rung by rung, and that the phone itself gets its file all the
//! same. The table is printed and written to TARGET/trust.md.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write as _},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use provost_plugin::MacAddr;
use provost_tests::{Host, Lan, Plan, Server, built};

use crate::{
    resync::administrator,
    wire::{Captured, Handset, decided, notified, subscribe},
};

const PASSWORD: &str = "pa55-w0rd-of-the-phone";
/// Who is who at the switch.
const PHONE: usize = 0;
/// It is a phone of the inventory as well, so it has a token of its own.
const ATTACKER: usize = 1;
const BYSTANDER: usize = 2;

struct Rung {
    name: &'static str,
    trust: &'static str,
    /// Of [`ATTACKS`], those that obtain the password.
    falls_to: &'static [&'static str],
}

const ATTACKS: [&str; 9] = [
    "names its MAC over HTTP",
    "names its MAC over TFTP",
    "announces itself as the phone, and fetches first",
    "announces itself as the phone with somebody else's Contact",
    "repeats the URL that the phone was told",
    "names its MAC with another phone's token",
    "repeats the phone's answer to a challenge",
    "forges X-Forwarded-For",
    "shows another phone's certificate",
];

const RUNGS: [Rung; 8] = [
    Rung {
        name: "address: anywhere",
        trust: "address: anywhere",
        falls_to: &[ATTACKS[0], ATTACKS[1], ATTACKS[2], ATTACKS[4], ATTACKS[7]],
    },
    Rung { name: "address: announced", trust: "address: announced", falls_to: &[ATTACKS[2]] },
    Rung { name: "address: phone (the default)", trust: "", falls_to: &[] },
    Rung { name: "token: required", trust: "address: anywhere, token: required", falls_to: &[ATTACKS[2]] },
    Rung { name: "window: 30, and it is over", trust: "address: anywhere, window: 30", falls_to: &[] },
    Rung { name: "certificate: true", trust: "address: anywhere, certificate: true", falls_to: &[] },
    Rung { name: "credentials: digest", trust: "address: anywhere, credentials: digest", falls_to: &[] },
    Rung {
        name: "tftp: nothing",
        trust: "address: anywhere, tftp: nothing",
        falls_to: &[ATTACKS[0], ATTACKS[2], ATTACKS[4], ATTACKS[7]],
    },
];

/// A host whose network card has this phone's MAC address.
fn become_phone(host: &Host, mac: MacAddr) {
    host.ip(&format!("link set eth0 address {mac}\n"));
    host.set_up("eth0", false);
    host.set_up("eth0", true);
}

fn curl(host: &Host, words: &[&str]) -> String {
    let output = host.command("curl").args(["--silent", "--max-time", "10"]).args(words).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn token(url: &str) -> Option<&str> {
    let path = url.split_once("://").unwrap().1.split_once('/').unwrap().1;
    path.split_once('/').map(|(token, _)| token)
}

/// What was told by NOTIFY, if anything was.
fn told(server: &Server, handset: &Handset, message: &[u8]) -> Option<String> {
    let mark = server.mark();
    handset.subscribe(message);
    let peer = handset.address.to_string();
    let line = server.wait_after(mark, "a decision", |line| line.is("message", "subscribe") && line.is("peer", &peer));
    if !line.is("outcome", "announced") {
        return None;
    }
    let (_, notify, from) = handset.hear_both();
    handset.accept(&notify, from);
    notified(server, handset, "notified");
    Some(notify.body)
}

/// Who of the attackers obtains the password.
fn assault(rung: &Rung) -> Vec<&'static str> {
    let lan = Lan::new(3);
    let (captured, other) = (Captured::one("02"), Captured::one("05"));
    become_phone(lan.phone(PHONE), captured.mac);
    become_phone(lan.phone(ATTACKER), other.mac);
    let address = lan.server().address();
    let plan = Plan::as_shipped_on(lan.server());
    let is_secured = rung.trust.contains("certificate");
    let data = plan.data().to_owned();
    let certs = |words: &[&str]| {
        let output =
            std::process::Command::new(&built().provost).arg("certs").args(words).arg("--data").arg(&data).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let plan = if is_secured {
        certs(&["init"]);
        certs(&["issue", &address.to_string()]);
        certs(&["client", &captured.mac.to_string()]);
        certs(&["client", &other.mac.to_string()]);
        plan.file("provost.yaml", "https: { enabled: true, client_certificates: optional }\n")
    } else {
        plan
    };
    let protocol = if is_secured { "https" } else { "http" };
    let secured = |mac: MacAddr| {
        let own = data.join(format!("state/certs/clients/{}.pem", mac.bare()));
        let root = data.join("state/certs/ca.pem").display().to_string();
        ["--cacert".to_owned(), root, "--cert".to_owned(), own.display().to_string()]
    };
    let server = plan
        .file(
            "profiles/site.yaml",
            format!(
                "defaults:\n  sip: {{ server: pbx }}\n  provisioning: {{ username: phones, password: known, protocol: {protocol} }}\n  trust: {{ {} }}\n\
                 devices:\n  \"{}\": {{ lines: [{{ number: 100, password: {PASSWORD} }}] }}\n  \"{}\": {{ lines: [{{ number: 101, password: another }}] }}\n",
                rung.trust, captured.mac, other.mac
            ),
        )
        .start()
        .ready();
    let (phone, attacker) = (lan.phone(PHONE), lan.phone(ATTACKER));
    let mut fallen = Vec::new();
    let mut tried = |attack: usize, obtained: &str| {
        if obtained.contains(PASSWORD) {
            fallen.push(ATTACKS[attack]);
        }
    };
    let file = own_file(&server, captured.mac);
    tried(0, &curl(attacker, &[&format!("http://{address}:8080/{file}")]));
    tried(1, &curl(attacker, &[&format!("tftp://{address}/{file}")]));
    let forged = format!("X-Forwarded-For: {}", phone.address());
    tried(7, &curl(attacker, &["--header", &forged, &format!("http://{address}:8080/{file}")]));

    let posing = Handset::at(attacker, attacker.address(), 0);
    let url = told(&server, &posing, &subscribe(&captured, &posing));
    tried(2, &url.map(|url| curl(attacker, &[&url])).unwrap_or_default());
    // The NOTIFY is not sent to a third one: nobody's packets can be turned on him.
    let bystander = Handset::at(lan.phone(BYSTANDER), lan.phone(BYSTANDER).address(), 5062);
    let misleading = Handset::at(attacker, attacker.address(), 0);
    misleading.subscribe(&subscribe(&captured, &bystander));
    server.wait_for("a decision", |line| {
        line.is("message", "subscribe") && line.is("peer", &misleading.address.to_string())
    });
    assert!(bystander.hear_within(Duration::from_millis(500)).is_none(), "{}", rung.name);

    // The phone itself, which has been told its credentials.
    let handset = Handset::at(phone, phone.address(), 0);
    let url = told(&server, &handset, &subscribe(&captured, &handset)).unwrap_or_else(|| panic!("{}", rung.name));
    if rung.trust.contains("window") {
        assert!(!curl(phone, &[&url]).contains(PASSWORD));
        let (good, said) = administrator(&lan, &server, &["open", &captured.mac.to_string()]);
        assert!(good && said.contains("open for 30 min"), "{said}");
    }
    let login = ["--digest", "--user", "phones:known", "--verbose", "--stderr", "-"];
    let certificate = if is_secured { secured(captured.mac).to_vec() } else { Vec::new() };
    let certificate: Vec<&str> = certificate.iter().map(String::as_str).collect();
    let own = curl(phone, &[&login[..], &certificate, &[url.as_str()]].concat());
    assert!(own.contains(PASSWORD), "{}: {own}", rung.name);
    if rung.trust.contains("window") {
        let (good, said) = administrator(&lan, &server, &["open", &captured.mac.to_string(), "--close"]);
        assert!(good, "{said}");
    }
    tried(4, &curl(attacker, &["--insecure", &url]));
    if is_secured {
        let other = secured(other.mac);
        let words: Vec<&str> = other.iter().map(String::as_str).chain([url.as_str()]).collect();
        tried(8, &curl(attacker, &words));
    }
    let other_handset = Handset::at(attacker, attacker.address(), 0);
    let other_url = told(&server, &other_handset, &subscribe(&other, &other_handset)).unwrap();
    if let Some(token) = token(&other_url) {
        tried(5, &curl(attacker, &[&format!("http://{address}:8080/{token}/{file}")]));
    }
    let answer = own.lines().find_map(|line| line.strip_prefix("> Authorization: "));
    assert_eq!(answer.is_some(), rung.trust.contains("credentials"), "{own}");
    if let Some(answer) = answer {
        let header = format!("Authorization: {answer}");
        tried(6, &curl(attacker, &["--header", &header, &url]));
        tried(6, &curl(phone, &["--header", &header, &url]));
    }
    assert!(!server.log().iter().any(|line| format!("{line:?}").contains(PASSWORD)), "{}", rung.name);
    fallen.sort_by_key(|attack| ATTACKS.iter().position(|known| known == attack));
    fallen.dedup();
    fallen
}

fn own_file(server: &Server, mac: MacAddr) -> String {
    let mut command = std::process::Command::new(&built().provost);
    command.args(["explain", &mac.to_string(), "--json", "--data"]).arg(server.data());
    let said = command.output().unwrap();
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let files = said["files"].as_array().unwrap();
    let names_it = |file: &&serde_json::Value| {
        file[1] == "device" && file[0].as_str().unwrap().to_lowercase().contains(&mac.bare())
    };
    let own = files.iter().find(names_it).unwrap_or_else(|| panic!("{said}"));
    own[0].as_str().unwrap().to_owned()
}

#[test]
#[allow(clippy::print_stdout, reason = "what came of it is to be read, not only judged")]
fn each_rung_stops_what_it_is_for_and_never_the_phone() {
    let mut table = format!("| what is asked for | {} |\n|---|{}\n", ATTACKS.join(" | "), "---|".repeat(ATTACKS.len()));
    let mut wrong = Vec::new();
    for rung in &RUNGS {
        let fallen = assault(rung);
        let cell = |attack: &&str| if fallen.contains(attack) { "**the password**" } else { "nothing" };
        let cells: Vec<&str> = ATTACKS.iter().map(cell).collect();
        writeln!(table, "| `{}` | {} |", rung.name, cells.join(" | ")).unwrap();
        if fallen != rung.falls_to {
            wrong.push(format!("{}: {fallen:?}, and not {:?}", rung.name, rung.falls_to));
        }
    }
    println!("{table}");
    let target = built().provost.parent().unwrap().parent().unwrap();
    std::fs::write(target.join("trust.md"), &table).unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[allow(clippy::print_stdout, reason = "what came of it is to be read, not only judged")]
fn a_scan_of_a_hundred_thousand_macs_obtains_nothing_and_the_phone_is_served_all_the_while() {
    const SCANNED: u32 = 100_000;
    let lan = Lan::new(2);
    let captured = Captured::one("02");
    become_phone(lan.phone(PHONE), captured.mac);
    let inventory =
        format!("devices:\n  \"{}\": {{ lines: [{{ number: 100, password: {PASSWORD} }}] }}\n", captured.mac);
    let server = Plan::as_shipped_on(lan.server()).file("profiles/site.yaml", inventory).start().ready();
    let (address, attacker) = (lan.server().address(), lan.phone(ATTACKER));
    let file = own_file(&server, captured.mac);
    let [a, b, c, d, e, f] = captured.mac.octets();
    let serial = u32::from_be_bytes([0, d, e, f]);
    let (locked_out, obtained) = attacker.enter(|| {
        let stream = TcpStream::connect((address, 8080)).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        let (mut locked_out, mut obtained) = (None, 0);
        // The real one is among them, early on.
        for number in 0..SCANNED {
            let [_, d, e, f] = serial.wrapping_add(number).wrapping_sub(5).to_be_bytes();
            let mac = MacAddr::new([a, b, c, d, e, f]);
            let name =
                file.replace(&captured.mac.bare(), &mac.bare()).replace(&captured.mac.bare_upper(), &mac.bare_upper());
            let request = format!("GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n");
            (&stream).write_all(request.as_bytes()).unwrap();
            let (status, body) = answer(&mut answers);
            obtained += usize::from(status == 200 || body.contains(PASSWORD));
            if status == 429 && locked_out.is_none() {
                locked_out = Some(number);
            }
        }
        (locked_out, obtained)
    });
    let line = server.wait_for("the lock-out", |line| line.is("message", "locked out"));
    assert!(line.is("peer", &attacker.address().to_string()) && *line.field("minutes") == 15, "{line:?}");
    println!(
        "a scan of {SCANNED} MAC addresses: locked out after {} requests, passwords obtained: {obtained}",
        locked_out.unwrap()
    );
    assert_eq!(obtained, 0);
    // Some points are forgotten while its answers are held back.
    assert!(locked_out.is_some_and(|requests| (30..=40).contains(&requests)), "{locked_out:?}");
    // Over the other door as well, but not the phone.
    assert_eq!(curl(attacker, &[&format!("tftp://{address}/{file}")]), "");
    assert!(curl(lan.phone(PHONE), &[&format!("http://{address}:8080/{file}")]).contains(PASSWORD));
    assert!(curl(lan.phone(PHONE), &[&format!("tftp://{address}/{file}")]).contains(PASSWORD));
    let (good, said) = administrator(&lan, &server, &["lockouts"]);
    assert!(good && said.contains(&format!("{}/32", attacker.address())), "{said}");
    let (good, said) = administrator(&lan, &server, &["lockouts", "--pardon", &attacker.address().to_string()]);
    assert!(good, "{said}");
    assert_eq!(administrator(&lan, &server, &["lockouts"]).1, "");
}

fn answer(stream: &mut impl BufRead) -> (u16, String) {
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let line = line.trim_end();
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest[..3].parse().unwrap();
        } else if let Some((name, value)) = line.split_once(": ") {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().unwrap();
            }
        } else {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            return (status, String::from_utf8_lossy(&body).into_owned());
        }
    }
}

#[test]
fn a_stranger_on_the_phones_address_changes_nothing_that_is_known_of_it() {
    let lan = Lan::new(2);
    let captured = Captured::one("02");
    become_phone(lan.phone(PHONE), captured.mac);
    let inventory =
        format!("devices:\n  \"{}\": {{ lines: [{{ number: 100, password: {PASSWORD} }}] }}\n", captured.mac);
    let server = Plan::as_shipped_on(lan.server()).file("profiles/site.yaml", inventory).start().ready();
    let handset = Handset::at(lan.phone(PHONE), lan.phone(PHONE).address(), 0);
    let url = told(&server, &handset, &subscribe(&captured, &handset)).unwrap();
    assert!(curl(lan.phone(PHONE), &[&url]).contains(PASSWORD));
    let posing = Handset::at(lan.phone(ATTACKER), lan.phone(ATTACKER).address(), 0);
    // The server's kernel learns the attacker's MAC address from the first packet that it has to answer.
    curl(lan.phone(ATTACKER), &[&url]);
    posing.subscribe(&subscribe(&captured, &posing));
    let line = decided(&server, &posing, "silence");
    assert!(line.field("reason").as_str().unwrap().contains("which is not this phone"), "{line:?}");
    let mac = captured.mac.to_string();
    let (_, said) = administrator(&lan, &server, &["history", &mac]);
    let attacker = lan.phone(ATTACKER).address();
    assert!(said.contains(&format!("{attacker} announced itself in its name")), "what it tried last: {said}");
    let (_, said) = administrator(&lan, &server, &["devices", "--json"]);
    let devices: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(devices[0]["address"], lan.phone(PHONE).address().to_string(), "{said}");
    assert_eq!(devices[0]["progress"], "in_step", "{said}");
}

#[test]
fn a_stranger_in_a_waiting_phones_name_does_not_keep_its_approval_from_it() {
    let lan = Lan::new(2);
    let captured = Captured::one("02");
    become_phone(lan.phone(PHONE), captured.mac);
    let server = Plan::as_shipped_on(lan.server()).start().ready();
    let handset = Handset::at(lan.phone(PHONE), lan.phone(PHONE).address(), 5060);
    handset.subscribe(&subscribe(&captured, &handset));
    decided(&server, &handset, "silence");
    // It spoke last, and hears nothing of it.
    let posing = Handset::at(lan.phone(ATTACKER), lan.phone(ATTACKER).address(), 5060);
    curl(lan.phone(ATTACKER), &[&server.http_url(lan.server().address())]);
    posing.subscribe(&subscribe(&captured, &posing));
    decided(&server, &posing, "silence");
    let password = server.data().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let mac = captured.mac.to_string();
    let words = ["approve", &mac, "--number", "100", "--password-file", password.to_str().unwrap()];
    let url = std::thread::scope(|scope| {
        let approved = scope.spawn(|| administrator(&lan, &server, &words));
        let (_, notify, from) = handset.hear_both();
        handset.accept(&notify, from);
        let (good, said) = approved.join().unwrap();
        assert!(good && said.contains("200"), "{said}");
        notify.body
    });
    assert!(curl(lan.phone(PHONE), &[&url]).contains(PASSWORD));
    posing.assert_silent("a stranger in a phone's name");
}

#[test]
fn a_token_is_told_once_and_the_file_holds_the_steady_one_until_it_is_revoked() {
    let lan = Lan::new(2);
    let captured = Captured::one("02");
    let inventory = format!(
        "defaults: {{ trust: {{ address: anywhere, token: required }} }}\ndevices:\n  \"{}\": {{ lines: [{{ number: 100, password: {PASSWORD} }}] }}\n",
        captured.mac
    );
    let server = Plan::as_shipped_on(lan.server()).file("profiles/site.yaml", inventory).start().ready();
    let (phone, elsewhere) = (lan.phone(PHONE), lan.phone(ATTACKER));
    let handset = Handset::at(phone, phone.address(), 0);
    let url = told(&server, &handset, &subscribe(&captured, &handset)).unwrap();
    let body = curl(phone, &[&url]);
    let first = token(&url).unwrap().to_owned();
    assert!(body.contains(PASSWORD) && !body.contains(&first), "{body}");
    let steady = body.split(|letter: char| !letter.is_ascii_alphanumeric());
    let steady = steady.into_iter().find(|word| word.len() == 33 && word.starts_with('s')).unwrap().to_owned();
    let again = url.replace(&first, &steady);
    assert_eq!(curl(phone, &[&again]), body, "the same file, whichever token brought it");
    assert_eq!(curl(elsewhere, &[&again]), body, "the steady one goes with the phone");
    assert!(!curl(elsewhere, &[&url]).contains(PASSWORD), "the first one stays where it was used");

    // Neither of them is ever shown.
    let mac = captured.mac.to_string();
    let shown = [
        administrator(&lan, &server, &["history", &mac]).1,
        server.log().iter().map(|line| format!("{line:?}")).collect(),
        {
            let mut explain = lan.server().command(&built().provost);
            explain.args(["explain", &mac, "--from", &Ipv4Addr::new(10, 200, 1, 1).to_string(), "--data"]);
            String::from_utf8(explain.arg(server.data()).output().unwrap().stdout).unwrap()
        },
    ];
    for text in &shown {
        assert!(!text.contains(&first) && !text.contains(&steady), "{text}");
    }
    assert!(shown[2].contains("its URLs have to have their token"), "{}", shown[2]);

    let (good, said) = administrator(&lan, &server, &["revoke", &mac]);
    assert!(good, "{said}");
    assert!(!curl(phone, &[&again]).contains(PASSWORD));
    let (_, said) = administrator(&lan, &server, &["history", &mac]);
    assert!(said.contains("the token in its URL is not this phone's, or was revoked"), "{said}");
    let url = told(&server, &handset, &subscribe(&captured, &handset)).unwrap();
    assert!(curl(phone, &[&url]).contains(PASSWORD));
}

#[test]
fn a_phone_that_waits_shows_that_it_does_and_fetches_when_it_is_approved() {
    let lan = Lan::new(1);
    let captured = Captured::one("02");
    become_phone(lan.phone(PHONE), captured.mac);
    let server = Plan::as_shipped_on(lan.server())
        .file("profiles/site.yaml", "defaults: { sip: { server: pbx-of-the-site }, trust: { pending: bootstrap } }\n")
        .start()
        .ready();
    let phone = lan.phone(PHONE);
    // Where phones listen that want to be told later.
    let handset = Handset::at(phone, phone.address(), 5060);
    let url = told(&server, &handset, &subscribe(&captured, &handset)).unwrap();
    let body = curl(phone, &[&url]);
    assert!(body.contains("Waiting for approval") && !body.contains("pbx-of-the-site"), "{body}");
    let mac = captured.mac.to_string();
    let (_, said) = administrator(&lan, &server, &["devices", "--standing", "pending"]);
    assert!(said.contains(&mac), "{said}");

    let password = server.data().join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let words = ["approve", &mac, "--number", "100", "--password-file", password.to_str().unwrap()];
    std::thread::scope(|scope| {
        let approved = scope.spawn(|| administrator(&lan, &server, &words));
        // It had its answer, so it is told to fetch again.
        let (notify, from) = handset.hear();
        assert!(notify.is_notify() && notify.header("Event").starts_with("check-sync"), "{notify:?}");
        handset.accept(&notify, from);
        let (good, said) = approved.join().unwrap();
        assert!(good, "{said}");
    });
    let body = curl(phone, &[&url]);
    assert!(body.contains(PASSWORD) && body.contains("pbx-of-the-site"), "{body}");
}

#[test]
fn over_tftp_there_may_be_files_without_passwords_only() {
    let lan = Lan::new(1);
    let captured = Captured::one("02");
    become_phone(lan.phone(PHONE), captured.mac);
    let device = |password: &str| {
        format!(
            "defaults: {{ trust: {{ tftp: without_secrets }} }}\ndevices:\n  \"{}\": {{ lines: [{{ number: 100{password} }}] }}\n",
            captured.mac
        )
    };
    let server = Plan::as_shipped_on(lan.server()).file("profiles/site.yaml", device("")).start().ready();
    let file = own_file(&server, captured.mac);
    let fetch = || curl(lan.phone(PHONE), &[&format!("tftp://{}/{file}", lan.server().address())]);
    assert!(fetch().contains("100"), "nothing secret is in it");
    let mark = server.mark();
    server.write("profiles/site.yaml", device(&format!(", password: {PASSWORD}")));
    server.wait_after(mark, "the reload", |line| line.is("message", "reloaded"));
    assert_eq!(fetch(), "");
    server.wait_after(mark, "the refusal", |line| line.is("message", "fetch") && line.is("outcome", "refused"));
}
