//! The API of the device manager before a judge that knows nothing of it but its OpenAPI document: schemathesis makes requests that keep
//! to the document and requests that do not, and the answers must be the ones that it promises.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use provost_tests::{Host, Lan, Plan, Server, receive, repository};

/// Some phones of each standing, and something for each list.
const PROFILES: &str = r#"
profiles:
  office:
    time: { zone: Europe/Berlin }
devices:
  "80:5e:c0:00:00:01":
    label: Reception
    profile: office
    identity: { vendor: yealink, model: SIP-T46U }
    lines: [{ number: "101", display_name: Anna Berg, password: s3cret-101, server: pbx.example }]
  "80:5e:c0:00:00:02": { label: "Nobody's", identity: { vendor: nobody } }
  "80:5e:c0:00:00:03": { label: Switched off, enabled: false, identity: { vendor: yealink } }
"#;

/// Obeys every NOTIFY, until `done`: what is told to a phone that is off takes half a minute to fail.
fn obey(socket: &UdpSocket, done: &AtomicBool) {
    let mut buffer = [0; 4096];
    while !done.load(Ordering::Relaxed) {
        let Ok((length, from)) = receive(socket, &mut buffer) else { continue };
        let asked = String::from_utf8_lossy(&buffer[..length]);
        let mut answer = "SIP/2.0 200 OK\r\n".to_owned();
        for line in asked.lines().take_while(|line| !line.is_empty()) {
            if ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name)) {
                answer += &format!("{line}\r\n");
            }
        }
        answer += "Content-Length: 0\r\n\r\n";
        drop(socket.send_to(answer.as_bytes(), from));
    }
}

/// Ends [`obey`] when it goes, also with a test that fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A further key of this scope, made as a program would.
fn key_of(host: &Host, server: &Server, admin: &str, scope: &str) -> String {
    let body = format!("{{\"name\":\"judge {scope}\",\"scope\":\"{scope}\"}}");
    let address = server.admin();
    let answer = host.enter(|| {
        let mut stream = TcpStream::connect(address).expect("the door for people is open");
        write!(
            stream,
            "POST /api/v1/keys HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {admin}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("it is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    });
    let made = answer.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<serde_json::Value>(body).ok());
    let key = made.and_then(|made| Some(made["key"].as_str()?.to_owned()));
    key.unwrap_or_else(|| panic!("no key was made: {answer}"))
}

/// What schemathesis has against the server, asked with this key.
fn judge(host: &Host, server: &Server, key: &str, words: &[&str]) -> Result<String, String> {
    let folder = repository().join("tests/api");
    let program = folder.join(".venv/bin/schemathesis");
    assert!(program.is_file(), "this test needs schemathesis in tests/api/.venv; tests/run installs it there");
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let mut command = host.command(program);
    command.arg("--config-file").arg(folder.join("schemathesis.toml"));
    command.arg("run").arg(format!("http://{}/api/v1/openapi.json", server.admin()));
    command.args(["--header", &format!("Authorization: Bearer {key}")]);
    // The same requests each time.
    command.args(["--generation-deterministic", "--continue-on-failure", "--no-color", "--warnings", "off"]);
    // Few words may stand in some paths, and looking for them is no fault.
    command.args(["--suppress-health-check", "filter_too_much"]).args(words);
    // It keeps what it found in the directory where it is started.
    let output = command.current_dir(scratch.path()).stdin(Stdio::null()).output().expect("it starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).replace(key, "KEY");
    if output.status.success() { Ok(said) } else { Err(said) }
}

#[test]
fn the_api_answers_as_its_document_says_whatever_is_asked_of_it() {
    let lan = Lan::new(1);
    let phone = lan.phone(0);
    let server = Plan::on(lan.server()).file("profiles/site.yaml", PROFILES).start().ready();
    for mac in ["805ec0000001", "805ec00000aa", "805ec00000bb"] {
        phone.fetch(&format!("{}{mac}.cfg", server.http_url(lan.server().address())));
    }
    let socket = phone.udp((phone.address(), 5060));
    socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).expect("a timeout above zero");
    let key = fs::read_to_string(server.data().join("state/admin.key")).expect("the server makes a key");
    let done = AtomicBool::new(false);
    let said = thread::scope(|scope| {
        scope.spawn(|| obey(&socket, &done));
        let _end = End(&done);
        // A name that keeps to the document may still be nobody's: what is not accepted is no fault.
        let words = ["--checks", "all", "--exclude-checks", "positive_data_acceptance", "--max-examples", "10"];
        let said = judge(lan.server(), &server, key.trim(), &words)?;
        // Whoever may do less is told so, in the words of the document too.
        let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
        let words = ["--checks", checks, "--phases", "coverage", "--mode", "positive"];
        for scope in ["read", "operate"] {
            let less = key_of(lan.server(), &server, key.trim(), scope);
            judge(lan.server(), &server, &less, &words)?;
        }
        Ok(said)
    });
    let said: String = said.unwrap_or_else(|said: String| panic!("{said}"));
    // Nothing was left out.
    let number = |before: &str| said.split_once(before).and_then(|(_, rest)| rest.split([' ', '\n', '/']).next());
    assert!(number("Selected: ").is_some_and(|selected| number("Tested: ") == Some(selected)), "{said}");
}
