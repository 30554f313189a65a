//! SIP as a phone reads it: a message taken apart, the 200 OK it gives, and a strict eye on what the server wrote. No sockets.

use std::net::SocketAddr;

use crate::outcome::Finding;

#[derive(Clone, Debug)]
pub(crate) struct Message {
    start: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// A line of the header ended in LF alone, or the empty line was missing.
    sloppy: bool,
}

impl Message {
    pub(crate) fn read(datagram: &[u8]) -> Option<Message> {
        let (head, body, mut sloppy) = match find(datagram, b"\r\n\r\n") {
            Some(end) => (&datagram[..end], &datagram[end + 4..], false),
            None => match find(datagram, b"\n\n") {
                Some(end) => (&datagram[..end], &datagram[end + 2..], true),
                None => (datagram, &[][..], true),
            },
        };
        let head = std::str::from_utf8(head).ok()?;
        sloppy |= head.replace("\r\n", "").contains(['\r', '\n']);
        let mut lines = head.lines();
        let start = lines.next()?.to_owned();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            if line.starts_with([' ', '\t']) {
                let (_, value) = headers.last_mut()?;
                value.push(' ');
                value.push_str(line.trim());
            } else {
                let (name, value) = line.split_once(':')?;
                headers.push((full_name(name.trim()).to_owned(), value.trim().to_owned()));
            }
        }
        (start.ends_with("SIP/2.0") || start.starts_with("SIP/2.0 ")).then(|| Message {
            start,
            headers,
            body: body.to_vec(),
            sloppy,
        })
    }

    pub(crate) fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    pub(crate) fn method(&self) -> Option<&str> {
        if self.status().is_some() { None } else { self.start.split(' ').next() }
    }

    /// Of a request: whom it is for, as the request line has it.
    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The Event header up to its first parameter.
    pub(crate) fn event_package(&self) -> &str {
        self.header("Event").and_then(|event| event.split(';').next()).unwrap_or_default().trim()
    }

    /// What makes two datagrams the same request.
    pub(crate) fn transaction(&self) -> String {
        [self.header("Via"), self.header("Call-ID"), self.header("CSeq")].map(Option::unwrap_or_default).join(" ")
    }

    /// A phone's answer, written from what it answers alone: routing headers and identifiers come back as they came. `more` is whole
    /// header lines.
    pub(crate) fn answer(&self, status: &str, tag: u32, more: &str) -> Vec<u8> {
        let mut answer = format!("SIP/2.0 {status}\r\n");
        for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
            for value in self.all(name) {
                let tagless = name == "To" && parameter(value, "tag").is_none();
                let tag = if tagless { format!(";tag={tag}") } else { String::new() };
                answer.push_str(&format!("{name}: {value}{tag}\r\n"));
            }
        }
        answer.push_str(more);
        answer.push_str("Content-Length: 0\r\n\r\n");
        answer.into_bytes()
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn full_name(name: &str) -> &str {
    match name.to_ascii_lowercase().as_str() {
        "v" => "Via",
        "f" => "From",
        "t" => "To",
        "i" => "Call-ID",
        "m" => "Contact",
        "c" => "Content-Type",
        "l" => "Content-Length",
        "o" => "Event",
        _ => name,
    }
}

/// A parameter behind the address (or behind the value, where there are no angle brackets); a parameter without a value is "".
pub(crate) fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let after = value.rfind('>').map_or(value, |end| &value[end + 1..]);
    after.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn uri(value: &str) -> &str {
    value
        .split_once('<')
        .and_then(|(_, rest)| rest.split('>').next())
        .unwrap_or_else(|| value.split(';').next().unwrap_or(value))
        .trim()
}

/// The two ends of the subscription that a SUBSCRIBE opens, as far as the phone knows them.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    subscribe: Message,
    /// The server's tag: from the 200 or from a NOTIFY, whichever came first.
    remote_tag: Option<String>,
}

impl Dialog {
    pub(crate) fn open(subscribe: Message) -> Result<Dialog, &'static str> {
        if subscribe.method() != Some("SUBSCRIBE") {
            return Err("it does not begin with SUBSCRIBE");
        }
        for (name, complaint) in [
            ("Via", "it has no Via"),
            ("From", "it has no From"),
            ("To", "it has no To"),
            ("Call-ID", "it has no Call-ID"),
            ("CSeq", "it has no CSeq"),
            ("Contact", "it has no Contact"),
        ] {
            if subscribe.header(name).is_none() {
                return Err(complaint);
            }
        }
        Ok(Dialog { subscribe, remote_tag: None })
    }

    pub(crate) fn is_answered_by(&self, answer: &Message) -> bool {
        answer.header("Call-ID") == self.subscribe.header("Call-ID")
            && answer.header("CSeq") == self.subscribe.header("CSeq")
    }

    /// Looks at an answer to the SUBSCRIBE. `port`: where the SUBSCRIBE was sent from.
    pub(crate) fn judge_answer(&mut self, answer: &Message, port: u16) -> Vec<Finding> {
        let mut judge = Judge(Vec::new());
        judge.framing("200", answer);
        judge.that(
            answer.header("From") == self.subscribe.header("From"),
            "200: From differs from the SUBSCRIBE's",
            || shown(answer.header("From")),
        );
        let to = answer.header("To").unwrap_or_default();
        let asked = self.subscribe.header("To").unwrap_or_default();
        judge.that(
            to.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with(';')),
            "200: To differs from the SUBSCRIBE's",
            || to.to_owned(),
        );
        match parameter(to, "tag") {
            Some(tag) if !tag.is_empty() => judge.0.extend(self.learn_tag(tag)),
            _ => judge.0.push(Finding::new("200: To has no tag", to)),
        }
        let sent: Vec<_> = self.subscribe.all("Via").collect();
        let returned: Vec<_> = answer.all("Via").collect();
        judge.that(sent.len() == returned.len(), "200: not the SUBSCRIBE's Vias", || returned.join(", "));
        if let ([sent, ..], [returned, ..]) = (sent.as_slice(), returned.as_slice()) {
            judge.that(
                sent.split(';').next() == returned.split(';').next()
                    && parameter(sent, "branch") == parameter(returned, "branch"),
                "200: not the SUBSCRIBE's Vias",
                || (*returned).to_owned(),
            );
            if parameter(sent, "rport").is_some() {
                judge.that(
                    parameter(returned, "rport") == Some(&port.to_string()),
                    "200: rport is not the port it was sent from",
                    || format!("{returned}, sent from {port}"),
                );
            }
        }
        judge.0
    }

    /// Looks at a NOTIFY as the strictest of the phones would.
    pub(crate) fn judge_notify(&mut self, notify: &Message, from: SocketAddr) -> Vec<Finding> {
        let mut judge = Judge(Vec::new());
        judge.framing("NOTIFY", notify);
        for name in ["Via", "From", "To", "Call-ID", "CSeq", "Contact", "Max-Forwards", "Event", "Subscription-State"] {
            judge.that(notify.header(name).is_some(), "NOTIFY: a header is missing", || name.to_owned());
        }
        judge.that(
            notify.header("Max-Forwards").is_none_or(|hops| hops.parse::<u8>().is_ok_and(|hops| hops > 0)),
            "NOTIFY: Max-Forwards is no count of hops",
            || shown(notify.header("Max-Forwards")),
        );
        judge.that(
            notify.header("CSeq").is_none_or(|cseq| cseq.ends_with(" NOTIFY")),
            "NOTIFY: CSeq names another method",
            || shown(notify.header("CSeq")),
        );
        if let Some(via) = notify.header("Via") {
            let branch = parameter(via, "branch").unwrap_or_default();
            judge.that(branch.len() > 7 && branch.starts_with("z9hG4bK"), "NOTIFY: Via has no RFC 3261 branch", || {
                via.to_owned()
            });
            let host = via.split_whitespace().nth(1).unwrap_or_default().split([';', ':']).next().unwrap_or_default();
            judge.that(host == from.ip().to_string(), "NOTIFY: Via names another address than it came from", || {
                format!("{via}, from {from}")
            });
        }
        let event = notify.event_package();
        if event == "ua-profile" {
            judge.that(
                notify.header("Content-Type").is_some_and(|kind| kind.split(';').next() == Some("application/url")),
                "NOTIFY: Content-Type is not application/url",
                || shown(notify.header("Content-Type")),
            );
        }
        let remote_tag = notify.header("From").and_then(|from| parameter(from, "tag")).unwrap_or_default();
        judge.that(!remote_tag.is_empty(), "NOTIFY: From has no tag", || shown(notify.header("From")));
        // A NOTIFY with a Call-ID of its own is out of the dialog, which phones accept and a late one must use.
        if notify.header("Call-ID") == self.subscribe.header("Call-ID") {
            let own_tag = self.subscribe.header("From").and_then(|from| parameter(from, "tag"));
            let told = notify.header("To").and_then(|to| parameter(to, "tag"));
            judge.that(own_tag == told, "NOTIFY: To has not the tag of the SUBSCRIBE's From", || {
                shown(notify.header("To"))
            });
            let target = notify.target();
            let contact = uri(self.subscribe.header("Contact").unwrap_or_default());
            judge.that(target == contact, "NOTIFY: the request line is not the SUBSCRIBE's Contact", || {
                target.to_owned()
            });
            for (ours, theirs) in [("From", "To"), ("To", "From")] {
                let ours = uri(self.subscribe.header(ours).unwrap_or_default());
                judge.that(
                    notify.header(theirs).is_none_or(|value| uri(value) == ours),
                    "NOTIFY: From and To are not the SUBSCRIBE's",
                    || shown(notify.header(theirs)),
                );
            }
            if !remote_tag.is_empty() {
                judge.0.extend(self.learn_tag(remote_tag));
            }
        }
        judge.0
    }

    fn learn_tag(&mut self, tag: &str) -> Option<Finding> {
        match &self.remote_tag {
            Some(known) if known != tag => Some(Finding::new(
                "the 200 and the NOTIFY are of two dialogs",
                format!("tags \"{known}\" and \"{tag}\""),
            )),
            Some(_) => None,
            None => {
                self.remote_tag = Some(tag.to_owned());
                None
            }
        }
    }
}

struct Judge(Vec<Finding>);

impl Judge {
    fn that(&mut self, holds: bool, rule: &'static str, detail: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Finding::new(rule, detail()));
        }
    }

    fn framing(&mut self, what: &'static str, message: &Message) {
        self.that(!message.sloppy, "SIP: not every line of the header ends in CRLF", || what.to_owned());
        self.that(
            message.header("Content-Length").and_then(|length| length.parse().ok()) == Some(message.body.len()),
            "SIP: Content-Length is not the length of the body",
            || format!("{what}: {}, and {} bytes came", shown(message.header("Content-Length")), message.body.len()),
        );
    }
}

fn shown(value: Option<&str>) -> String {
    value.unwrap_or("none").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBSCRIBE: &str = "SUBSCRIBE sip:MAC%3a02005E000001@lan SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.7:1053;rport\r\n\
        From: <sip:MAC%3a02005E000001@lan>;tag=66\r\nTo: <sip:MAC%3a02005E000001@lan>\r\nCall-ID: 94@10.0.0.7\r\n\
        CSeq: 1 SUBSCRIBE\r\nEvent: ua-profile;vendor=\"acme\"\r\nContact: <sip:10.0.0.7:1053>\r\nContent-Length: 0\r\n\r\n";
    const ANSWER: &str = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.7:1053;rport=1053;received=10.0.0.7\r\n\
        From: <sip:MAC%3a02005E000001@lan>;tag=66\r\nTo: <sip:MAC%3a02005E000001@lan>;tag=srv\r\nCall-ID: 94@10.0.0.7\r\n\
        CSeq: 1 SUBSCRIBE\r\nContent-Length: 0\r\n\r\n";
    const NOTIFY: &str = "NOTIFY sip:10.0.0.7:1053 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKx1;rport\r\n\
        Max-Forwards: 70\r\nContact: <sip:10.0.0.1:5060>\r\nFrom: <sip:MAC%3a02005E000001@lan>;tag=srv\r\n\
        To: <sip:MAC%3a02005E000001@lan>;tag=66\r\nCall-ID: 94@10.0.0.7\r\nCSeq: 3 NOTIFY\r\nContent-Type: application/url\r\n\
        Subscription-State: terminated;reason=timeout\r\nEvent: ua-profile\r\nContent-Length: 12\r\n\r\nhttp://pbx/x";

    fn message(text: &str) -> Message {
        Message::read(text.as_bytes()).unwrap()
    }

    fn rules(answer: &str, notify: &str) -> Vec<&'static str> {
        let mut dialog = Dialog::open(message(SUBSCRIBE)).unwrap();
        let mut findings = dialog.judge_answer(&message(answer), 1053);
        findings.extend(dialog.judge_notify(&message(notify), "10.0.0.1:5060".parse().unwrap()));
        findings.into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_proper_answer_and_a_proper_notify_are_not_complained_of() {
        assert_eq!(rules(ANSWER, NOTIFY), Vec::<&str>::new());
    }

    #[test]
    fn every_deviation_is_found() {
        for (from, to, rule) in [
            ("rport=1053", "rport", "200: rport is not the port it was sent from"),
            (";tag=srv\r\nCall", "\r\nCall", "200: To has no tag"),
            ("%3a02005E000001@lan>;tag=srv", "%253a02005E000001@lan>;tag=srv", "200: To differs from the SUBSCRIBE's"),
            ("10.0.0.7:1053;rport", "10.0.0.9:1053;rport", "200: not the SUBSCRIBE's Vias"),
            ("tag=srv", "tag=other", "the 200 and the NOTIFY are of two dialogs"),
            ("Content-Length: 0\r\n", "", "SIP: Content-Length is not the length of the body"),
        ] {
            assert_eq!(rules(&ANSWER.replacen(from, to, 1), NOTIFY), [rule], "{from}");
        }
        for (from, to, rule) in [
            ("Max-Forwards: 70\r\n", "", "NOTIFY: a header is missing"),
            ("Max-Forwards: 70", "Max-Forwards: 0", "NOTIFY: Max-Forwards is no count of hops"),
            ("Contact: <sip:10.0.0.1:5060>\r\n", "", "NOTIFY: a header is missing"),
            ("application/url", "text/plain", "NOTIFY: Content-Type is not application/url"),
            ("Content-Length: 12", "Content-Length: 14", "SIP: Content-Length is not the length of the body"),
            ("sip:10.0.0.7:1053 ", "sip:10.0.0.8:1053 ", "NOTIFY: the request line is not the SUBSCRIBE's Contact"),
            (";tag=66", "", "NOTIFY: To has not the tag of the SUBSCRIBE's From"),
            ("z9hG4bKx1", "x1", "NOTIFY: Via has no RFC 3261 branch"),
            ("UDP 10.0.0.1", "UDP 10.9.0.1", "NOTIFY: Via names another address than it came from"),
            ("3 NOTIFY", "3 SUBSCRIBE", "NOTIFY: CSeq names another method"),
            ("\r\nMax", "\nMax", "SIP: not every line of the header ends in CRLF"),
        ] {
            assert_eq!(rules(ANSWER, &NOTIFY.replacen(from, to, 1)), [rule], "{from}");
        }
    }

    #[test]
    fn a_notify_out_of_the_dialog_is_as_good() {
        let notify = NOTIFY.replace("94@10.0.0.7", "other").replace("tag=66", "").replace("tag=srv", "tag=new");
        assert_eq!(rules(ANSWER, &notify), Vec::<&str>::new());
    }

    #[test]
    fn a_200_brings_back_what_came() {
        let ok =
            message(std::str::from_utf8(&message(&NOTIFY.replacen(";tag=66", "", 1)).answer("200 OK", 7, "")).unwrap());
        assert_eq!(ok.status(), Some(200));
        assert_eq!(ok.header("Via"), message(NOTIFY).header("Via"));
        assert_eq!(ok.header("To"), Some("<sip:MAC%3a02005E000001@lan>;tag=7"));
        assert_eq!(ok.header("CSeq"), Some("3 NOTIFY"));
    }

    #[test]
    fn compact_and_folded_headers_are_read() {
        let message = message("NOTIFY sip:x SIP/2.0\r\ni: 1@x\r\no: ua-profile;\r\n vendor=\"a\"\r\n\r\n");
        assert_eq!(message.header("call-id"), Some("1@x"));
        assert_eq!(message.event_package(), "ua-profile");
        assert!(Message::read(b"GET / HTTP/1.1\r\n\r\n").is_none());
        assert!(Message::read(b"\xff\xfe").is_none());
    }
}
