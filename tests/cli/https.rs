use std::{
    fs,
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use provost_tests::{Line, Plan, tools};

use crate::site::{Site, command, file, plan, run, start};

const MAC: &str = "02:ac:de:00:00:01";
const PASSWORD: &str = "line.1.password = secret-word";

/// A server on loopback with HTTPS beside its other doors.
struct Secured {
    site: Site,
    address: SocketAddr,
}

/// What came of asking.
struct Asked {
    body: String,
    /// What curl complained of, if there was no answer.
    failed: Option<String>,
}

/// The site has its own authority, and a certificate of it for 127.0.0.1 and localhost.
fn with_authority() -> Plan {
    let plan = plan();
    certs(plan.data(), &["init"]);
    certs(plan.data(), &["issue", "127.0.0.1", "localhost"]);
    plan
}

fn certs(data: &Path, words: &[&str]) -> String {
    let (code, out, complaint) = run(command(data, &[&["certs"], words].concat()));
    assert_eq!(code, 0, "{words:?}: {out}{complaint}");
    out
}

/// `rest` is what else stands under `https` in the settings.
fn settings(address: SocketAddr, rest: &str) -> String {
    format!("https: {{ enabled: true, address: {}, port: {}{rest} }}\n", address.ip(), address.port())
}

fn secured(plan: Plan, rest: &str) -> Secured {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    Secured { site: start(plan.file("provost.yaml", settings(free, rest))), address: free }
}

impl Secured {
    /// As a phone that trusts the site's authority.
    fn ask(&self, path: &str, words: &[&str]) -> Asked {
        self.ask_at("127.0.0.1", path, &[&["--cacert", "state/certs/ca.pem"], words].concat())
    }

    fn ask_at(&self, host: &str, path: &str, words: &[&str]) -> Asked {
        let mut curl = Command::new(tools::require("curl"));
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "20"]).args(words);
        curl.args(["--resolve", &format!("{host}:{}:127.0.0.1", self.address.port())]);
        curl.arg(format!("https://{host}:{}/{path}", self.address.port())).current_dir(self.site.data());
        let output = curl.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Asked { body: text(&output.stdout), failed: (!output.status.success()).then(|| text(&output.stderr)) }
    }

    /// Asks until it is as wanted.
    fn until(&self, what: &str, ask: impl Fn() -> Asked, wanted: impl Fn(&Asked) -> bool) {
        let began = Instant::now();
        loop {
            let asked = ask();
            if wanted(&asked) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(8), "{what}: still {:?} {}", asked.failed, asked.body);
        }
    }

    /// The line about a file in the log.
    fn fetch(&self, mark: usize, file: &str) -> Line {
        self.site.wait_after(mark, "fetch", |line| line.is("message", "fetch") && line.is("file", file))
    }
}

/// Somebody else's authority, as openssl keeps one, in a directory of its own.
struct Foreign(PathBuf);

impl Foreign {
    fn new(directory: PathBuf) -> Foreign {
        fs::create_dir_all(&directory).unwrap();
        let config = "[ca]\ndefault_ca = d\n[d]\ndatabase = index\nnew_certs_dir = .\nrand_serial = yes\ndefault_md = sha256\n\
                      policy = p\nx509_extensions = e\nunique_subject = no\n[p]\ncommonName = supplied\n\
                      [e]\nextendedKeyUsage = clientAuth\n";
        fs::write(directory.join("config"), config).unwrap();
        fs::write(directory.join("index"), "").unwrap();
        let foreign = Foreign(directory);
        foreign.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "root.key",
            "-out",
            "root.pem",
            "-subj",
            "/CN=Acme Factory",
            "-days",
            "30",
        ]);
        foreign
    }

    fn openssl(&self, words: &[&str]) {
        let output = Command::new(tools::require("openssl")).args(words).current_dir(&self.0).output().unwrap();
        assert!(output.status.success(), "openssl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A certificate with its key, good until the end of this year.
    fn sign(&self, name: &str, subject: &str, until: u32) -> PathBuf {
        let (key, request, signed) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
        self.openssl(&[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &request,
            "-subj",
            subject,
        ]);
        let until = format!("{until}1231235959Z");
        self.openssl(&[
            "ca",
            "-batch",
            "-notext",
            "-config",
            "config",
            "-in",
            &request,
            "-out",
            &signed,
            "-keyfile",
            "root.key",
            "-cert",
            "root.pem",
            "-startdate",
            "20200101000000Z",
            "-enddate",
            &until,
        ]);
        let both = format!(
            "{}{}",
            fs::read_to_string(self.0.join(signed)).unwrap(),
            fs::read_to_string(self.0.join(key)).unwrap()
        );
        let path = self.0.join(format!("{name}.pem"));
        fs::write(&path, both).unwrap();
        path
    }
}

#[test]
fn a_phone_that_is_told_to_comes_by_https_and_gets_what_it_gets_over_http() {
    let plan = with_authority().file("profiles/secure.yaml", "defaults: { provisioning: { protocol: https } }\n");
    let server = secured(plan, "");
    let path = file(1);
    let plain = server.site.get(&path);
    assert!(
        plain.says(PASSWORD) && plain.says(&format!("base = https://127.0.0.1:{}/", server.address.port())),
        "{plain:?}"
    );
    for version in [["--tls-max", "1.2"], ["--tlsv1.3", "--no-progress-meter"]] {
        let mark = server.site.mark();
        let asked = server.ask(&path, &version);
        assert_eq!((asked.failed, asked.body.as_str()), (None, plain.body.as_str()), "{version:?}");
        assert!(server.fetch(mark, &path).field("encrypted") == true);
    }
    assert!(server.site.log().iter().any(|line| line.is("file", &path) && line.field("encrypted").is_null()));
    // The root is offered to whoever does not trust it yet; nothing else of its directory is.
    let root = fs::read_to_string(server.site.path("state/certs/ca.pem")).unwrap();
    assert!(server.site.get("ca.pem").says(&root));
    // The same for phones that read no PEM.
    let _ = server.ask("ca.der", &["--output", "fetched.der"]);
    let same = ["x509", "-inform", "DER", "-in", "fetched.der"];
    let same =
        tools::feed(Command::new(tools::require("openssl")).args(same).current_dir(server.site.data()), b"").unwrap();
    assert_eq!(String::from_utf8_lossy(&same).trim(), root.replace('\r', "").trim());
    for secret in ["ca.key", "server.key", "certs/ca.key", "state/certs/ca.key"] {
        assert_eq!(server.site.get(secret).status, 404, "{secret}");
    }
    // Who does not trust it does not go on, and the log says so.
    let stranger = server.ask_at("127.0.0.1", &path, &[]);
    assert!(stranger.failed.is_some_and(|why| why.contains("certificate")) && stranger.body.is_empty());
    server.site.wait_for("the phone's complaint", |line| {
        line.is("message", "no handshake; further ones within 10 s are told at level debug")
    });
}

#[test]
fn certificates_change_while_it_runs_and_broken_ones_do_not_take_service() {
    let server = secured(with_authority(), "");
    let path = file(1);
    let good = || server.ask(&path, &[]).body.contains(PASSWORD);
    assert!(good());
    let named = || server.ask_at("phones.example", &path, &["--cacert", "state/certs/ca.pem"]);
    assert!(named().failed.is_some_and(|why| why.contains("phones.example")));
    certs(server.site.data(), &["issue", "127.0.0.1", "phones.example"]);
    server.until("the new certificate", named, |asked| asked.body.contains(PASSWORD));

    // No certificate, one that does not fit its key, none at all: what served before goes on.
    let (certificate, key) = (server.site.path("state/certs/server.pem"), server.site.path("state/certs/server.key"));
    let (good_certificate, good_key) = (fs::read(&certificate).unwrap(), fs::read(&key).unwrap());
    let other = Foreign::new(server.site.path("foreign"));
    let other_key = fs::read(other.0.join("root.key")).unwrap();
    for (what, broken, why) in [
        (&certificate, Some(&b"broken"[..]), "there is no certificate in it"),
        (&key, Some(&b"broken"[..]), "there is no private key in it"),
        (&key, Some(&other_key[..]), "cannot be served with the key in"),
        (&certificate, None, "cannot read it"),
    ] {
        let mark = server.site.mark();
        match broken {
            Some(bytes) => server.site.write(what.strip_prefix(server.site.data()).unwrap().to_str().unwrap(), bytes),
            None => fs::remove_file(what).unwrap(),
        }
        let refusal = server.site.refused(mark, "no certificate for HTTPS");
        assert!(refusal.contains(why) && refusal.contains("stays in service"), "{refusal}");
        assert!(good(), "{why}");
        let (code, out, _) = run(server.site.command(&["check"]));
        assert!(code == 1 && out.contains(why), "{out}");
        let mark = server.site.mark();
        server.site.write("state/certs/server.pem", &good_certificate);
        server.site.write("state/certs/server.key", &good_key);
        // What serves did not change, so only who asks is told that it was looked at.
        server.site.signal(rustix::process::Signal::HUP);
        server.site.wait_after(mark, "the good pair again", |line| line.is("message", "reloaded"));
    }
    let (code, out, _) = run(server.site.command(&["check"]));
    assert!(code == 0 && !out.contains("certificate"), "{out}");
}

#[test]
fn phones_show_certificates_of_authorities_that_were_put_in_place() {
    let plan = with_authority();
    let foreign = Foreign::new(plan.data().join("foreign"));
    certs(plan.data(), &["client", MAC]);
    let own = plan.data().join("state/certs/clients/02acde000001.pem");
    let factory = foreign.sign("factory", "/CN=Desk-02ACDE000002", 2049);
    let ended = foreign.sign("ended", "/CN=02acde000003", 2021);
    fs::create_dir(plan.data().join("authorities")).unwrap();
    let server = secured(plan, ", client_certificates: optional, client_authorities: authorities");
    let ask = |certificate: &Path| server.ask("x", &["--cert", certificate.to_str().unwrap()]);
    let shown = |certificate: &Path| {
        let mark = server.site.mark();
        assert_eq!(ask(certificate).failed, None);
        server.fetch(mark, "x").field("certificate").as_str().map(str::to_owned)
    };
    assert_eq!(shown(&own).as_deref(), Some("02ACDE000001"));
    // That of an unknown factory is as good as none, and the log tells why.
    assert_eq!(shown(&factory), None);
    server.site.wait_for("the reason", |line| {
        line.field("message")
            .as_str()
            .is_some_and(|message| message.starts_with("a client's certificate does not count"))
            && line.text.contains("UnknownIssuer")
    });

    // The factory's authority is put in place, beside a file that is none, and one that could sign nothing.
    let mark = server.site.mark();
    server.site.write("authorities/acme.pem", fs::read(foreign.0.join("root.pem")).unwrap());
    server.site.wait_after(mark, "the authority", |line| line.is("message", "reloaded"));
    assert_eq!(shown(&factory).as_deref(), Some("Desk-02ACDE000002"));
    assert_eq!(shown(&ended), None);
    let mark = server.site.mark();
    server.site.write("authorities/odd.pem", "odd");
    assert!(server.site.refused(mark, "odd.pem").contains("there is no certificate in it"));
    let mark = server.site.mark();
    server.site.write("authorities/odd.pem", fs::read(&factory).unwrap());
    assert!(server.site.refused(mark, "odd.pem").contains("\"Desk-02ACDE000002\" is not an authority's"));
    // An authority that breaks stays as it was.
    let mark = server.site.mark();
    server.site.write("authorities/acme.pem", "half");
    assert!(server.site.refused(mark, "acme.pem").contains("stays in service"));
    assert_eq!(shown(&factory).as_deref(), Some("Desk-02ACDE000002"));

    // From now on nobody is served without a good one.
    server.site.write("authorities/acme.pem", fs::read(foreign.0.join("root.pem")).unwrap());
    server.site.write(
        "provost.yaml",
        settings(server.address, ", client_certificates: required, client_authorities: authorities"),
    );
    server.until("certificates are required", || server.ask("x", &[]), |asked| asked.failed.is_some());
    assert!(ask(&ended).failed.is_some());
    assert_eq!(shown(&own).as_deref(), Some("02ACDE000001"));
    assert_eq!(shown(&factory).as_deref(), Some("Desk-02ACDE000002"));
    assert_eq!(server.site.get(&file(1)).status, 200, "HTTP is as it was");
}

#[test]
fn a_crowd_that_never_shakes_hands_holds_nobody_up() {
    let server = secured(with_authority(), "");
    let crowd: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let began = Instant::now();
    assert!(server.ask(&file(1), &[]).body.contains(PASSWORD));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // Each is let go once its time is up, before it has said a word.
    for mut one in crowd {
        one.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(one.read(&mut [0; 64]).unwrap_or(0), 0);
    }
    let mut server = server;
    let _hanging = TcpStream::connect(server.address).unwrap();
    let began = Instant::now();
    assert!(server.site.stop().success() && began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn a_proxy_is_believed_and_nobody_else() {
    let plan = with_authority();
    certs(plan.data(), &["client", MAC]);
    let pem = fs::read_to_string(plan.data().join("state/certs/clients/02acde000001.pem")).unwrap();
    let escaped: String = pem.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let foreign = Foreign::new(plan.data().join("foreign"));
    let theirs = fs::read_to_string(foreign.sign("theirs", "/CN=02acde000001", 2049)).unwrap();
    let theirs: String = theirs.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let settings = "http: { proxies: [127.0.0.2/32, 127.0.0.3/32], proxy_certificate_header: X-Client-Cert }\n";
    let site = start(plan.file("provost.yaml", settings));
    let ask = |from: &str, certificate: &str, forwarded: &str| {
        let mark = site.mark();
        let mut curl = Command::new(tools::require("curl"));
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--interface", from]);
        curl.args(["-H", &format!("X-Forwarded-For: {forwarded}"), "-H", "X-Forwarded-Proto: https"]);
        curl.args(["-H", &format!("X-Client-Cert: {certificate}")]);
        let output = curl.arg(format!("http://{}/x", site.http())).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let line = site.wait_after(mark, "fetch", |line| line.is("message", "fetch") && line.is("file", "x"));
        let field = |name: &str| line.field(name).as_str().unwrap_or_default().to_owned();
        (field("peer"), field("via"), line.field("encrypted") == true, field("certificate"))
    };
    let told = |peer: &str, via: &str, encrypted, certificate: &str| {
        (peer.to_owned(), via.to_owned(), encrypted, certificate.to_owned())
    };
    assert_eq!(ask("127.0.0.2", &escaped, "192.0.2.7"), told("192.0.2.7", "127.0.0.2", true, "02ACDE000001"));
    assert_eq!(
        ask("127.0.0.2", &escaped, "6.6.6.6, 192.0.2.7, 127.0.0.3"),
        told("192.0.2.7", "127.0.0.2", true, "02ACDE000001")
    );
    // A proxy hands on what it was shown; whether it counts is for us to say.
    assert_eq!(ask("127.0.0.2", &theirs, "192.0.2.7"), told("192.0.2.7", "127.0.0.2", true, ""));
    assert_eq!(ask("127.0.0.2", "", "192.0.2.7"), told("192.0.2.7", "127.0.0.2", true, ""));
    // From anybody else these are only words.
    assert_eq!(ask("127.0.0.4", &escaped, "192.0.2.7"), told("127.0.0.4", "", false, ""));
    assert_eq!(ask("127.0.0.1", &escaped, "127.0.0.2"), told("127.0.0.1", "", false, ""));
}

#[test]
fn the_authority_is_made_once_and_its_keys_are_for_the_owner() {
    use std::os::unix::fs::PermissionsExt;
    let plan = plan();
    let refused = |words: &[&str]| {
        let (code, out, complaint) = run(command(plan.data(), words));
        assert!(code == 1 && out.is_empty(), "{out}");
        complaint
    };
    assert!(refused(&["certs", "issue"]).contains("`provost certs init` makes one"));
    assert!(certs(plan.data(), &["show"]).contains("no certificates"));
    assert!(certs(plan.data(), &["init"]).contains("state/certs/ca.pem"));
    assert!(refused(&["certs", "init"]).contains("there is an authority already"));
    assert!(refused(&["certs", "issue", "https://x"]).contains("\"https://x\""));
    certs(plan.data(), &["issue", "phones.example"]);
    let made = certs(plan.data(), &["client", MAC, "--output", "phone.pem"]);
    assert!(made.contains("phone.pem") && made.contains("02ACDE000001"), "{made}");
    for secret in ["state/certs/ca.key", "state/certs/server.key", "phone.pem"] {
        assert_eq!(fs::metadata(plan.data().join(secret)).unwrap().permissions().mode() & 0o777, 0o600, "{secret}");
    }
    // Made anew without a name it keeps those that it has.
    let before = fs::read(plan.data().join("state/certs/server.pem")).unwrap();
    let again = certs(plan.data(), &["issue"]);
    assert!(again.contains("phones.example") && again.contains("127.0.0.1"), "{again}");
    assert_ne!(before, fs::read(plan.data().join("state/certs/server.pem")).unwrap());
    let shown: serde_json::Value = serde_json::from_str(&certs(plan.data(), &["show", "--json"])).unwrap();
    let what: Vec<_> = shown.as_array().unwrap().iter().map(|row| row["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["server", "authority"]);
    // As openssl sees it: a chain that holds, for a server, for no longer than browsers allow.
    let openssl =
        |words: &[&str]| tools::feed(Command::new(tools::require("openssl")).args(words).current_dir(plan.data()), b"");
    openssl(&[
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-CAfile",
        "state/certs/ca.pem",
        "state/certs/server.pem",
    ])
    .unwrap();
    openssl(&["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "state/certs/ca.pem", "phone.pem"])
        .unwrap();
    assert!(
        openssl(&["verify", "-purpose", "sslclient", "-CAfile", "state/certs/ca.pem", "state/certs/server.pem"])
            .is_err()
    );
    let days = 825 * 24 * 60 * 60;
    assert!(openssl(&["x509", "-in", "state/certs/server.pem", "-checkend", &days.to_string()]).is_err());
    openssl(&["x509", "-in", "state/certs/server.pem", "-checkend", &(days - 3 * 24 * 60 * 60).to_string()]).unwrap();

    // What nears its end is told.
    let foreign = Foreign::new(plan.data().join("foreign"));
    foreign.openssl(&[
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "soon.key", "-out", "soon.pem", "-subj",
        "/CN=soon", "-days", "20",
    ]);
    let settings = "https: { enabled: true, certificate: foreign/soon.pem, key: foreign/soon.key }\n";
    fs::write(plan.data().join("provost.yaml"), settings).unwrap();
    let (code, out, _) = run(command(plan.data(), &["check"]));
    assert!(code == 0 && out.contains("foreign/soon.pem: warning: the certificate of \"soon\" ends on "), "{out}");
}

#[test]
fn the_device_manager_is_encrypted_where_that_is_asked_for() {
    let plan = with_authority().file("provost.yaml", "admin: { tls: true }\n");
    let site = start(plan);
    let key = fs::read_to_string(site.path("state/admin.key")).unwrap();
    let door = site.admin();
    let curl = |words: &[&str], url: &str| {
        let mut curl = Command::new(tools::require("curl"));
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "20", "--include"]).args(words);
        let output = curl.arg(url).current_dir(site.data()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let trusting = ["--cacert", "state/certs/ca.pem"];
    let setup = format!("key={}&password=a+long+password&again=a+long+password", key.trim());
    let entering = [&trusting[..], &["--data", &setup]].concat();
    let (done, said) = curl(&entering, &format!("https://{door}/setup"));
    let cookie =
        said.lines().find(|line| line.to_lowercase().starts_with("set-cookie: ")).unwrap_or_else(|| panic!("{said}"));
    assert!(done && cookie.ends_with("; Secure"), "{cookie}");
    let (done, said) = curl(&trusting, &format!("https://{door}/healthz"));
    assert!(done && said.starts_with("HTTP/1.1 200"), "{said}");
    // In the clear there is nobody, and whoever does not trust the authority does not go on.
    assert!(!curl(&[], &format!("http://{door}/healthz")).0);
    assert!(curl(&[], &format!("https://{door}/healthz")).1.contains("certificate"));

    // Commands know it by its certificate, whatever its name is, and nobody else.
    let address = door.to_string();
    let asks = |words: &[&str]| run(site.command(&[&["devices", "--admin", &address], words].concat()));
    let (code, said, complaint) = asks(&[]);
    assert!(code == 0 && said.contains(MAC), "{said}{complaint}");
    let (code, _, complaint) = asks(&["--admin-certificate", "state/certs/ca.pem"]);
    assert!(code == 1 && complaint.contains("does not show the certificate of state/certs/ca.pem"), "{complaint}");
    certs(site.data(), &["issue", "phones.example"]);
    let until = Instant::now() + Duration::from_secs(20);
    while asks(&[]).0 != 0 {
        assert!(Instant::now() < until, "the new certificate does not take service: {}", asks(&[]).2);
    }
}

#[test]
fn a_device_manager_that_the_network_reads_along_with_is_warned_of() {
    let exposed = "what goes there is not encrypted";
    for (settings, warned) in [
        ("admin: { address: 0.0.0.0 }", true),
        ("admin: { address: 0.0.0.0, tls: true }", false),
        ("admin: { address: 0.0.0.0 }\nhttp: { proxies: [10.0.0.9/32] }", false),
        ("admin: { port: 8082 }", false),
    ] {
        let plan = with_authority().file("provost.yaml", settings);
        let (_, said, _) = run(command(plan.data(), &["check"]));
        assert_eq!(said.contains(exposed), warned, "{settings}: {said}");
    }
}
