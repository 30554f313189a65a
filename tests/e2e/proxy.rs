//! The reverse proxy of the README: taken out of it, and run by a real nginx beside the server.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use provost_tests::{Host, Lan, Line, Plan, Server, built, repository, tools};

const VENDOR: &str = "\
vendor: Acme
announces: [acme]
ouis: ['02ACDE']
models: { Desk: { lines: 4 } }
files: [{ name: 'acme-{mac}.cfg', template: device.cfg.j2 }]
formats: { cfg: { escape: line, content_type: text/plain, setting: '^([^#=]+?) *=' } }
announce: { url: '{base}acme-{mac}.cfg' }
";
const MAC: &str = "02:ac:de:00:00:01";
const FILE: &str = "acme-02acde000001.cfg";
const SECRET: &str = "password = secret-word";

/// What the README says between two words, the first of them on a line of its own or within one.
fn readme(begin: &str, end: &str) -> String {
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("the README has no {begin:?}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end:?} after {begin:?}")).0.to_owned()
}

/// A real nginx, until it goes.
struct Nginx(Child);

impl Nginx {
    fn start(host: &Host, directory: &Path, server: &str) -> Nginx {
        let place = directory.display();
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {place}/{what};\n"))
            .concat();
        let configuration = format!(
            "daemon off;\nuser root;\nworker_processes 1;\npid {place}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{server}\n}}\n"
        );
        fs::write(directory.join("nginx.conf"), configuration).unwrap();
        let mut nginx = host.command(tools::require("nginx"));
        nginx.arg("-p").arg(directory).arg("-c").arg(directory.join("nginx.conf")).args(["-e", "stderr"]);
        let mut nginx = Nginx(nginx.stdin(Stdio::null()).spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(20);
        while host.enter(|| TcpStream::connect((Ipv4Addr::LOCALHOST, 8443))).is_err() {
            assert!(nginx.0.try_wait().unwrap().is_none() && Instant::now() < until, "nginx does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with it.
        if let Some(pid) = Pid::from_raw(self.0.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// Asks as the phone does; what came, and the line of the log about it.
fn ask(lan: &Lan, server: &Server, url: &str, words: &[&str]) -> (String, Line) {
    let mark = server.mark();
    let mut curl = lan.phone(0).command(tools::require("curl"));
    curl.args(["--silent", "--show-error", "--max-time", "20"]).args(words).arg(url).current_dir(server.data());
    let output = curl.output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    let line = server.wait_after(mark, "a fetch", |line| line.is("message", "fetch") && line.is("file", FILE));
    (String::from_utf8_lossy(&output.stdout).into_owned(), line)
}

#[test]
fn old_phones_come_through_the_nginx_of_the_readme_and_are_known_for_who_they_are() {
    let lan = Lan::new(1);
    let (here, phone) = (lan.server().address(), lan.phone(0).address().to_string());
    let settings = readme("\nwith `http: ", "`");
    let plan = Plan::on(lan.server())
        .file("provost.yaml", format!("http: {settings}\n"))
        .file("plugins/acme/vendor.yaml", VENDOR)
        .file("templates/acme/device.cfg.j2", "{% for line in phone.lines %}\npassword = {{ line.password }}\n{% endfor %}\n")
        .file(
            "profiles/site.yaml",
            format!("devices:\n  {MAC}:\n    trust: {{ certificate: true }}\n    lines: [{{ number: \"1\", password: secret-word }}]\n"),
        );
    for words in [&["init"][..], &["issue", &here.to_string()], &["client", MAC, "--output", "phone.pem"]] {
        let mut certs = Command::new(&built().provost);
        certs.arg("--data").arg(plan.data()).arg("certs").args(words).current_dir(plan.data());
        tools::feed(&mut certs, b"").unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let state = plan.data().join("state/certs");
    let snippet = readme("```nginx\n", "```")
        .replace("/etc/ssl/phones.pem", state.join("server.pem").to_str().unwrap())
        .replace("/etc/ssl/phones.key", state.join("server.key").to_str().unwrap());
    let server = plan.start().ready();
    let _nginx = Nginx::start(lan.server(), directory.path(), &snippet);

    let url = format!("https://{here}:8443/{FILE}");
    let trusting = ["--cacert", "state/certs/ca.pem"];
    let as_phone = [&trusting[..], &["--cert", "phone.pem"]].concat();
    let told = |line: &Line| {
        let field = |name: &str| line.field(name).as_str().unwrap_or_default().to_owned();
        (field("peer"), field("via"), line.field("encrypted") == true, field("certificate"))
    };
    let itself = (phone.clone(), "127.0.0.1".to_owned(), true, "02ACDE000001".to_owned());
    // What a phone of ten years ago speaks, and what one of today does.
    for version in
        [["--tlsv1.0", "--tls-max", "1.0"], ["--tlsv1.1", "--tls-max", "1.1"], ["--tlsv1.3", "--tls-max", "1.3"]]
    {
        let old = [&as_phone[..], &version, &["--ciphers", "DEFAULT@SECLEVEL=0"]].concat();
        let (body, line) = ask(&lan, &server, &url, &old);
        assert!(body.contains(SECRET), "{version:?}: {body}");
        assert_eq!(told(&line), itself, "{version:?}");
    }
    // Who tells the proxy to be somebody else is still who he is.
    let elsewhere = [&as_phone[..], &["-H", "X-Forwarded-For: 127.0.0.1"]].concat();
    assert_eq!(told(&ask(&lan, &server, &url, &elsewhere).1), itself);
    // A certificate that is written into the header was not shown, be it sent to the proxy or past it.
    let pem = fs::read_to_string(server.data().join("phone.pem")).unwrap();
    let pem: String = pem
        .split_inclusive("-----END CERTIFICATE-----")
        .next()
        .unwrap()
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let header = format!("X-Client-Cert: {pem}");
    let forged = ["-H", &header, "-H", "X-Forwarded-For: 127.0.0.1", "-H", "X-Forwarded-Proto: https"];
    let (body, line) = ask(&lan, &server, &url, &[&trusting[..], &forged].concat());
    assert!(!body.contains(SECRET), "{body}");
    assert_eq!(told(&line), (phone.clone(), "127.0.0.1".to_owned(), true, String::new()));
    let (body, line) = ask(&lan, &server, &format!("http://{here}:8080/{FILE}"), &forged);
    assert!(!body.contains(SECRET), "{body}");
    assert_eq!(told(&line), (phone, String::new(), false, String::new()));
}
