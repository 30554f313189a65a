use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use crate::site::{Answer, Site, file, plan, start};

const PASSWORD: &str = "correct horse battery";

/// Somebody with a browser.
pub(crate) struct Visitor<'a> {
    site: &'a Site,
    cookie: String,
}

impl<'a> Visitor<'a> {
    pub(crate) fn at(site: &'a Site) -> Visitor<'a> {
        Visitor { site, cookie: String::new() }
    }

    /// One who has set the password and is logged in.
    pub(crate) fn inside(site: &'a Site) -> Visitor<'a> {
        let mut visitor = Visitor::at(site);
        let answer = visitor.set_up(&site.key(), PASSWORD);
        assert_eq!((answer.status, answer.header("location")), (303, "/"), "{answer:?}");
        visitor
    }

    fn set_up(&mut self, key: &str, password: &str) -> Answer {
        self.post("/setup", &[("key", key), ("password", password), ("again", password)])
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.site.admin()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let cookie = if self.cookie.is_empty() { String::new() } else { format!("Cookie: {}\r\n", self.cookie) };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{cookie}{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.site.admin(),
            body.len()
        )
        .unwrap();
        stream
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut bytes = Vec::new();
        self.send(method, path, headers, body).read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) =
            text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {method} {path}: {text}"));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap();
        let answer = Answer { status, head: head.to_owned(), body: body.to_owned() };
        let cookie = answer.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
        if !cookie.is_empty() {
            self.cookie = cookie;
        }
        answer
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    pub(crate) fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_with(path, "", fields)
    }

    fn post_with(&mut self, path: &str, headers: &str, fields: &[(&str, &str)]) -> Answer {
        let encoded = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
        let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let headers = format!("Content-Type: application/x-www-form-urlencoded\r\n{headers}");
        self.ask("POST", path, &headers, &pairs.join("&"))
    }

    /// The token that the forms of a page carry.
    pub(crate) fn token(&mut self) -> String {
        let page = self.get("/");
        let (_, rest) = page.body.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("{page:?}"));
        rest.split('"').next().unwrap().to_owned()
    }

    /// Asks until a page says so: what phones do is on it within a moment.
    pub(crate) fn until(&mut self, path: &str, words: &str) -> Answer {
        let began = Instant::now();
        loop {
            let answer = self.get(path);
            if answer.body.contains(words) {
                return answer;
            }
            assert!(began.elapsed() < Duration::from_secs(8), "{path} never says \"{words}\": {}", answer.body);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap_or_default()
    }
}

impl Site {
    fn key(&self) -> String {
        fs::read_to_string(self.path("state/admin.key")).unwrap().trim().to_owned()
    }
}

#[test]
fn the_first_password_takes_the_key_and_is_kept_as_a_digest() {
    let site = start(plan());
    let mut visitor = Visitor::at(&site);
    let answer = visitor.get("/devices/02:ac:de:00:00:01");
    assert_eq!((answer.status, answer.header("location")), (303, "/login?next=%2Fdevices%2F02:ac:de:00:00:01"));
    assert_eq!(visitor.get("/login").header("location"), "/setup");
    assert!(visitor.get("/setup").says("Choose a password"));
    // Also from this machine: other users and a proxy come from there too.
    for (key, password, status) in [("", PASSWORD, 403), ("0".repeat(64).as_str(), PASSWORD, 403)] {
        assert_eq!(visitor.set_up(key, password).status, status);
    }
    let key = site.key();
    assert_eq!(visitor.set_up(&key, "short").status, 422);
    assert_eq!(visitor.post("/setup", &[("key", &key), ("password", PASSWORD), ("again", "another one")]).status, 422);
    assert!(visitor.cookie.is_empty() && !site.path("state/admin.password").exists());

    let answer = visitor.set_up(&key, PASSWORD);
    assert_eq!(answer.status, 303);
    let cookie = answer.header("set-cookie");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
    let kept = fs::read_to_string(site.path("state/admin.password")).unwrap();
    assert!(kept.starts_with("$argon2id$") && !kept.contains("horse"), "{kept}");
    let mode = fs::metadata(site.path("state/admin.password")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // Once: who has the key cannot set another over it.
    let answer = Visitor::at(&site).set_up(&key, "another password");
    assert_eq!((answer.status, answer.header("location")), (303, "/login"));
    assert_eq!(fs::read_to_string(site.path("state/admin.password")).unwrap(), kept);
    assert!(site.log().iter().all(|line| !line.text.contains("horse") && !line.text.contains(&key)));
}

#[test]
fn a_wrong_password_is_refused_and_then_slowed_and_a_session_ends_with_logging_out() {
    let site = start(plan());
    let mut visitor = Visitor::inside(&site);
    let token = visitor.token();
    assert_eq!(visitor.post("/logout", &[("csrf", &token)]).header("location"), "/login");
    assert_eq!(visitor.get("/").status, 303);

    let mut visitor = Visitor::at(&site);
    let answer = visitor.post("/login", &[("password", "wrong"), ("next", "//evil.example")]);
    assert_eq!((answer.status, answer.header("set-cookie")), (403, ""));
    let answer = visitor.post("/login", &[("password", PASSWORD), ("next", "//evil.example")]);
    assert_eq!((answer.status, answer.header("location")), (303, "/"), "only to pages of this server");
    assert_eq!(visitor.get("/").status, 200);

    let mut stranger = Visitor::at(&site);
    let codes: Vec<u16> = (0..8).map(|_| stranger.post("/login", &[("password", "guess")]).status).collect();
    assert_eq!(codes, [403, 403, 403, 403, 403, 429, 429, 429]);
    let answer = stranger.post("/login", &[("password", PASSWORD)]);
    assert!(answer.status == 429 && answer.header("retry-after").parse::<u64>().unwrap() <= 60, "{answer:?}");
    assert_eq!(visitor.get("/").status, 200, "who is inside stays there");
}

#[test]
fn a_form_without_its_token_or_of_another_site_changes_nothing() {
    let site = start(plan());
    let mut visitor = Visitor::inside(&site);
    site.get("acme-02acde0000aa.cfg");
    let token = visitor.token();
    let approve = "/devices/02:ac:de:00:00:aa/approve";
    for fields in [&[][..], &[("csrf", "")], &[("csrf", &"0".repeat(64))]] {
        assert_eq!(visitor.post(approve, fields).status, 403, "{fields:?}");
    }
    let answer = visitor.post_with(approve, "Origin: http://evil.example\r\n", &[("csrf", &token)]);
    assert_eq!(answer.status, 403);
    assert_eq!(
        Visitor::at(&site).post(approve, &[("csrf", &token)]).status,
        401,
        "a token is nothing without its session"
    );
    // The same at the API, for scripts of our pages.
    let ignore = "/api/v1/devices/02:ac:de:00:00:aa/ignore";
    assert_eq!(visitor.get("/api/v1/devices").status, 200);
    assert_eq!(visitor.ask("PUT", ignore, "", "").status, 403);
    assert_eq!(visitor.ask("PUT", ignore, "X-CSRF-Token: guess\r\n", "").status, 403);
    assert!(!site.path("profiles/devices/02acde0000aa.yaml").exists());
    assert_eq!(visitor.ask("PUT", ignore, &format!("X-CSRF-Token: {token}\r\n"), "").status, 204);
    assert_eq!(Visitor::at(&site).get("/api/v1/devices").status, 401);
}

#[test]
fn a_phone_that_asks_shows_up_is_approved_in_the_page_and_comes_into_step() {
    let site = start(plan());
    let mut visitor = Visitor::inside(&site);
    let page = visitor.get("/");
    assert!(page.says("02:ac:de:00:00:01") && !page.says("pending-title"), "{}", page.body);

    // An open page is told.
    let mut events = BufReader::new(visitor.send("GET", "/events", "", "")).lines();
    assert!(events.next().unwrap().unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(site.get_as("acme-02acde0000aa.cfg", "Acme Desk 1.0 02acde0000aa").status, 404);
    assert!(events.map_while(Result::ok).any(|line| line == "event: changed"), "the stream ended");
    let strip = visitor.get("/rows");
    assert!(strip.says("1 pending") && strip.says("02:ac:de:00:00:aa") && strip.says("Acme Desk"), "{}", strip.body);

    let token = visitor.token();
    let path = "/devices/02:ac:de:00:00:aa";
    assert!(visitor.get(path).says("id=\"approve\""));
    let wrong = [("csrf", token.as_str()), ("profile", "nobody"), ("label", "Front <desk>"), ("password", "s3<&>")];
    let answer = visitor.post(&format!("{path}/approve"), &wrong);
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains("there is no profile") && answer.body.contains("value=\"Front &lt;desk&gt;\""));
    let right = [("csrf", token.as_str()), ("label", "Front <desk>"), ("number", "42"), ("password", "s3<&>")];
    let answer = visitor.post(&format!("{path}/approve"), &right);
    assert_eq!((answer.status, answer.header("location")), (303, "/devices/02:ac:de:00:00:aa?done=approved"));
    assert!(visitor.get("/?q=front").says("Front &lt;desk&gt;"));
    assert!(visitor.get(path).says("never fetched"));

    assert!(site.get_as("acme-02acde0000aa.cfg", "Acme Desk 1.0 02acde0000aa").says("line.1.password = s3<&>"));
    let page = visitor.until(path, "in step");
    assert!(page.body.contains("acme-02acde0000aa.cfg") && page.body.contains("+"), "{}", page.body);
    assert!(page.body.contains("line.1.number = 42") && page.body.contains("line.1.password = •••"), "{}", page.body);
    assert!(!page.body.contains("s3<") && !page.body.contains("s3&lt;"), "{}", page.body);

    // Another phone takes its place, and what the first one did is forgotten.
    let answer = visitor.post(&format!("{path}/swap"), &[("csrf", &token), ("to", "02-AC-DE-00-00-BB")]);
    assert_eq!(answer.header("location"), "/devices/02:ac:de:00:00:bb?done=swapped");
    assert!(visitor.get("/devices/02:ac:de:00:00:bb").says("Front &lt;desk&gt;"));
    assert_eq!(visitor.post(&format!("{path}/forget"), &[("csrf", &token)]).header("location"), "/");
    assert_eq!(visitor.get(path).status, 404);
}

#[test]
fn phones_that_are_ticked_are_approved_together_or_not_at_all() {
    let site = start(plan());
    let mut visitor = Visitor::inside(&site);
    for last in ["a1", "a2", "a3"] {
        site.get(&format!("acme-02acde0000{last}.cfg"));
    }
    let token = visitor.token();
    let with = |macs: [&'static str; 2]| [("csrf", token.clone()), ("mac", macs[0].into()), ("mac", macs[1].into())];
    let post = |visitor: &mut Visitor, fields: &[(&str, String)]| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        visitor.post("/approve", &fields)
    };
    let answer = post(&mut visitor, &with(["02:ac:de:00:00:a1", "02:ac:de:00:00:01"]));
    assert!(answer.status == 409 && answer.body.contains("enrolled already"), "{answer:?}");
    assert!(!site.path("profiles/devices/02acde0000a1.yaml").exists());
    let answer = post(&mut visitor, &with(["02:ac:de:00:00:a1", "02:ac:de:00:00:a2"]));
    assert_eq!((answer.status, answer.header("location")), (303, "/?approved=2"));
    assert_eq!(site.get("acme-02acde0000a2.cfg").status, 200);
    assert!(visitor.get("/").says("1 pending"));
    assert_eq!(post(&mut visitor, &[("csrf", token.clone())]).status, 422, "nothing was ticked");
}

#[test]
fn a_password_stands_in_no_page_but_the_editor() {
    let site = start(plan());
    let mut visitor = Visitor::inside(&site);
    assert!(site.get(&file(1)).says("secret-word"));
    let pages = [
        "/",
        "/rows",
        "/plugins",
        "/activity",
        "/network",
        "/import",
        "/profiles",
        "/phonebooks",
        "/devices/02:ac:de:00:00:01",
        "/api/v1/devices/02:ac:de:00:00:01/explanation",
    ];
    for path in pages {
        let page = visitor.get(path);
        assert!(page.status == 200 && !page.body.contains("secret-word"), "{path}: {}", page.body);
    }
    let preview = visitor.get(&format!("/api/v1/devices/02:ac:de:00:00:01/preview?file={}", file(1)));
    assert!(preview.says("•••") && !preview.says("secret-word"), "{preview:?}");
    let another = visitor.get(&format!("/api/v1/devices/02:ac:de:00:00:01/preview?file={}", file(2)));
    assert_eq!(another.status, 404);
    assert!(visitor.get("/devices/02:ac:de:00:00:01/source").says("secret-word"));
}

#[test]
fn an_edit_is_saved_or_told_what_is_wrong_with_it_and_no_text_is_lost() {
    let site = start(plan());
    let mut visitor = Visitor::inside(&site);
    let token = visitor.token();
    let path = "/devices/02:ac:de:00:00:01/source";
    let version = |page: &Answer| {
        let (_, rest) = page.body.split_once("name=\"version\" value=\"").unwrap_or_else(|| panic!("{page:?}"));
        rest.split('"').next().unwrap().to_owned()
    };
    let opened = version(&visitor.get(path));
    let text = |label: &str| format!("devices:\r\n  02:ac:de:00:00:01:\r\n    label: {label}\r\n");
    let save = |visitor: &mut Visitor, version: &str, text: &str| {
        visitor.post(path, &[("csrf", &token), ("version", version), ("text", text)])
    };
    let answer = save(&mut visitor, &opened, &text("<b>\r\n    lable: twice"));
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains("Line 4") && answer.body.contains("lable: twice"), "{}", answer.body);
    assert!(!answer.body.contains("<b>"), "{}", answer.body);

    // Somebody else was faster.
    site.write("profiles/devices/1.yaml", "devices:\n  02:ac:de:00:00:01: { label: theirs }\n");
    let conflict = save(&mut visitor, &opened, &text("mine"));
    assert_eq!(conflict.status, 412);
    assert!(conflict.body.contains("label: mine") && conflict.body.contains("label: theirs"), "{}", conflict.body);
    assert!(fs::read_to_string(site.path("profiles/devices/1.yaml")).unwrap().contains("theirs"));
    let answer = save(&mut visitor, &version(&conflict), &text("mine"));
    assert_eq!(answer.header("location"), "/devices/02:ac:de:00:00:01?done=saved", "{}", answer.body);
    let written = fs::read_to_string(site.path("profiles/devices/1.yaml")).unwrap();
    assert_eq!(written, text("mine").replace("\r\n", "\n"));
}

#[test]
fn pages_tell_browsers_to_be_strict_and_hold_no_script_of_their_own() {
    let site = start(plan());
    site.get("acme-02acde0000aa.cfg");
    let mut visitor = Visitor::inside(&site);
    let mut stranger = Visitor::at(&site);
    let mut pages =
        vec![stranger.get("/login"), visitor.get("/devices/02:ac:de:00:00:99"), visitor.get("/?state=%3Cx%3E")];
    let paths = ["/", "/rows", "/plugins", "/devices/02:ac:de:00:00:01", "/devices/02:ac:de:00:00:aa"];
    let others = ["/activity", "/activity/rows", "/network", "/import", "/profiles", "/phonebooks"];
    let others = others.iter().chain(&["/files/profiles/site.yaml"]);
    pages.extend(paths.iter().chain(others).map(|path| visitor.get(path)));
    let statuses: Vec<u16> = pages.iter().map(|page| page.status).collect();
    assert_eq!(statuses[..3], [200, 404, 422]);
    assert!(statuses[3..].iter().all(|status| *status == 200), "{statuses:?}");
    for page in &pages {
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{}", page.head);
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!((page.header("referrer-policy"), page.header("cache-control")), ("same-origin", "no-store"));
        for word in [" style=", "<style", " onclick", "javascript:", "http://www", "https://"] {
            assert!(!page.body.contains(word), "{word} in {}", page.body);
        }
        assert_eq!(page.body.matches("<script").count(), page.body.matches("<script src=\"/assets/").count());
    }
    let (_, rest) = pages[0].body.split_once("<script src=\"").unwrap();
    let script = stranger.get(rest.split('"').next().unwrap());
    assert_eq!((script.status, script.header("content-type")), (200, "text/javascript; charset=utf-8"));
    assert_eq!(script.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(stranger.get("/assets/0000000000000000/page.js").status, 404);
}

#[test]
fn what_makes_no_sense_is_answered_and_never_breaks_the_server() {
    let site = start(plan());
    let mut visitor = Visitor::inside(&site);
    let token = visitor.token();
    for (path, status) in [
        ("/devices/zz", 422),
        ("/devices/%ff%00", 422),
        ("/devices/02:ac:de:00:00:01?file=../../etc/passwd", 200),
        ("/devices/02:ac:de:00:00:99/edit", 404),
        ("/?page=99999999999999999999", 200),
        ("/?page=-1&sort=nothing", 422),
        ("/?q=%00%22%3E%3Cscript%3E", 200),
        ("/?progress=in_step", 200),
    ] {
        let answer = visitor.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(!answer.body.contains("\"><script>"), "{path}");
    }
    let answer = visitor.ask("POST", "/login", "Content-Type: application/x-www-form-urlencoded\r\n", "password=%");
    assert!(answer.status == 403 || answer.status == 422 || answer.status == 400, "{answer:?}");
    let answer = visitor.post("/devices/02:ac:de:00:00:01/swap", &[("csrf", &token), ("to", "<nobody>")]);
    assert!(answer.status == 422 && answer.body.contains("no MAC address"), "{answer:?}");
    drop(visitor.send("POST", "/login", "Content-Type: application/x-www-form-urlencoded\r\n", "p"));
    assert_eq!(visitor.get("/").status, 200);
}

#[test]
fn a_key_is_shown_once_and_another_password_ends_the_other_sessions() {
    let site = start(plan());
    let mut visitor = Visitor::inside(&site);
    let mut other = Visitor::at(&site);
    assert_eq!(other.post("/login", &[("password", PASSWORD)]).status, 303);
    let token = visitor.token();
    let made = visitor.post("/keys", &[("csrf", &token), ("name", "<dash>"), ("scope", "read"), ("expires", "")]);
    let (_, rest) = made.body.split_once("provost_").unwrap_or_else(|| panic!("{made:?}"));
    let key = format!("provost_{}", rest.split('<').next().unwrap());
    let mut page = visitor.get("/keys");
    assert!(
        !page.body.contains(&key) && page.body.contains("&lt;dash&gt;") && !page.body.contains("<dash>"),
        "{page:?}"
    );
    let answer = Visitor::at(&site).ask("GET", "/api/v1/devices", &format!("Authorization: Bearer {key}\r\n"), "");
    assert_eq!(answer.status, 200, "{answer:?}");
    page = visitor.post("/keys", &[("csrf", &token), ("name", "x"), ("scope", "read"), ("expires", "soon")]);
    assert!(page.status == 422 && page.body.contains("is no day") && page.body.contains("value=\"x\""), "{page:?}");
    assert_eq!(visitor.post("/keys/remove", &[("name", "<dash>")]).status, 403, "without the token");
    let gone = visitor.post("/keys/remove", &[("csrf", &token), ("name", "<dash>")]);
    assert_eq!((gone.status, gone.header("location")), (303, "/keys?done=removed"));

    let mut change = |old: &str, new: &str, again: &str| {
        visitor.post("/keys/password", &[("csrf", &token), ("old", old), ("new", new), ("again", again)])
    };
    assert!(
        change("not the password", "another password", "another password").body.contains("this is not the password")
    );
    assert!(change(PASSWORD, "another password", "another passwort").body.contains("are not the same"));
    assert!(change(PASSWORD, "short", "short").body.contains("10 characters or more"));
    assert_eq!(other.get("/keys").status, 200, "nothing was changed");
    assert_eq!(change(PASSWORD, "another password", "another password").status, 303);
    assert_eq!((visitor.get("/keys").status, other.get("/keys").status), (200, 303));
    assert_eq!(other.post("/login", &[("password", PASSWORD)]).status, 403);
    assert_eq!(other.post("/login", &[("password", "another password")]).status, 303);
}

#[test]
fn a_template_is_edited_in_the_page_with_what_it_would_come_to_and_taken_back() {
    let site = start(plan());
    let mut visitor = Visitor::inside(&site);
    let csrf = visitor.token();
    let listed = visitor.get("/templates");
    assert!(listed.body.replace("&#x2f;", "/").contains(">acme/device.cfg.j2<"), "{}", listed.body);
    let path = "/files/templates/acme/device.cfg.j2";
    let page = visitor.get(path);
    assert!(page.status == 200 && page.body.contains("As shipped"), "{page:?}");
    let own = format!("# of the site\n{}", crate::site::TEMPLATE);
    let act = |visitor: &mut Visitor, act: &str, text: &str, version: &str| {
        visitor.post(
            path,
            &[("csrf", &csrf), ("do", act), ("text", text), ("version", version), ("phone", "02:ac:de:00:00:01")],
        )
    };
    let weighed = act(&mut visitor, "preview", &own, "");
    assert!(weighed.body.contains("data-phones=\"3\"") && weighed.body.contains("+# of the site"), "{}", weighed.body);
    assert!(weighed.body.matches("<details class=\"changed\">").count() == 3, "{}", weighed.body);
    assert!(!weighed.body.contains("secret-word") && !site.get(&file(1)).says("# of the site"));
    let broken = act(&mut visitor, "preview", "a\n{% if %}", "");
    assert!(broken.status == 422 && broken.body.contains("data-line=\"2\""), "{}", broken.body);
    let nobody = visitor.post(path, &[("csrf", &csrf), ("do", "preview"), ("text", &own), ("phone", "nobody")]);
    assert!(nobody.body.contains("no phone of the inventory"), "{}", nobody.body);

    let saved = act(&mut visitor, "save", &own, "");
    assert_eq!(saved.status, 303, "{saved:?}");
    assert!(site.get(&file(1)).says("# of the site"));
    let page = visitor.get(saved.header("location"));
    assert!(page.body.contains("Saved, and in force. No phone is out of date"), "{}", page.body);
    let version = page.body.split("name=\"version\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    // Somebody who had not seen that is told, and keeps the text.
    let late = act(&mut visitor, "save", "# mine\n", "");
    assert!(
        late.status == 409 && late.body.contains("Somebody else changed") && late.body.contains("# mine"),
        "{late:?}"
    );
    let reverted = act(&mut visitor, "revert", &own, &version);
    assert_eq!(reverted.status, 303, "{reverted:?}");
    assert!(!site.get(&file(1)).says("# of the site"));
    let page = visitor.get(path);
    assert!(
        page.body.contains("Earlier versions") && page.body.contains(&format!("version={version}")),
        "{}",
        page.body
    );
    let before = visitor.get(&format!("{path}?version={version}"));
    assert!(before.body.contains("# of the site") && before.body.contains("data-phones=\"3\""), "{}", before.body);
}
