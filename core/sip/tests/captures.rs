//! What phones really send, and what this crate makes of it.

mod support;

use provost_sip::compose::{self, Unsolicited};
use provost_sip::{BodyFit, MacPlace, TransactionKey, Uri};
use rsip::prelude::*;
use support::*;

/// One row a capture: the identity as the plugins will see it.
struct Told {
    file: &'static str,
    mac: [u8; 6],
    vendor: &'static str,
    model: &'static str,
    firmware: &'static str,
    user_agent: Option<&'static str>,
    contact: &'static str,
    cseq: u32,
    branch: Option<&'static str>,
    asks_rport: bool,
}

const TOLD: &[Told] = &[
    Told {
        file: "01-snom-oem-7.1.19-via-without-branch",
        mac: [0x00, 0x13, 0x5e, 0x87, 0x4b, 0x49],
        vendor: "OEM",
        model: "OEM",
        firmware: "7.1.19",
        user_agent: None,
        contact: "192.168.10.67:5060",
        cseq: 1,
        branch: None,
        asks_rport: true,
    },
    Told {
        file: "02-snom370-8.7.5.48",
        mac: [0x00, 0x04, 0x13, 0x2e, 0x08, 0xb4],
        vendor: "snom",
        model: "snom370",
        firmware: "8.7.5.48",
        user_agent: Some("snom370/8.7.5.48"),
        contact: "192.168.12.155:1053",
        cseq: 1,
        branch: None,
        asks_rport: true,
    },
    Told {
        file: "04-snomM700-dect-03.23.0005",
        mac: [0x00, 0x04, 0x13, 0x60, 0x00, 0x01],
        vendor: "snom",
        model: "snomM700",
        firmware: "03.23.0005",
        user_agent: Some("snomM700/03.23.0005 (MAC=000413600001; SER= 00000; HW=255)"),
        contact: "10.0.0.90:5060",
        cseq: 20264,
        branch: Some("z9hG4bKl1d23iyadenuaa1jr4vm"),
        asks_rport: false,
    },
    Told {
        file: "05-grandstream-gxp1628-1.0.2.7",
        mac: [0x00, 0x0b, 0x82, 0x27, 0x3b, 0x89],
        vendor: "Grandstream",
        model: "GXP1628",
        firmware: "1.0.2.7",
        user_agent: Some("Grandstream GXP1628 1.0.2.7"),
        contact: "172.18.32.197:5060",
        cseq: 20000,
        branch: Some("z9hG4bK458721093"),
        asks_rport: true,
    },
    Told {
        file: "07-grandstream-gxp2160-0.7.24.2-lowercase-mac",
        mac: [0x00, 0x0b, 0x82, 0x27, 0xfc, 0xef],
        vendor: "Grandstream",
        model: "GXP2160",
        firmware: "0.7.24.2",
        user_agent: Some("Grandstream GXP2160 0.7.24.2"),
        contact: "192.168.2.102:5060",
        cseq: 10,
        branch: Some("z9hG4bK1520506307"),
        asks_rport: false,
    },
    Told {
        file: "09-yealink-t21p-34.72.14.6",
        mac: [0x00, 0x15, 0x65, 0xab, 0xcd, 0xef],
        vendor: "Yealink",
        model: "T21D",
        firmware: "34.72.14.6",
        user_agent: Some("Yealink SIP-T21P 34.72.14.6"),
        contact: "192.168.1.52:5059",
        cseq: 1,
        branch: Some("z9hG4bK42054260"),
        asks_rport: false,
    },
    Told {
        file: "10-flyingvoice-fip14g-RECONSTRUCTED",
        mac: [0x00, 0x21, 0xf2, 0x22, 0xab, 0xd9],
        vendor: "FLYINGVOICE",
        model: "FIP14G",
        firmware: "V0.6.61",
        user_agent: Some("FLYINGVOICE FIP14G V0.6.61"),
        contact: "192.168.20.2:5060",
        cseq: 1,
        branch: Some("z9hG4bK1536537630"),
        asks_rport: true,
    },
    Told {
        file: "synthetic/s1-yealink-t53w-mac-in-ua",
        mac: [0x80, 0x5e, 0x0c, 0x4d, 0x79, 0x6d],
        vendor: "Yealink",
        model: "T53W",
        firmware: "96.87.0.16",
        user_agent: Some("Yealink SIP-T53W 96.87.0.16 80:5e:0c:4d:79:6d"),
        contact: "192.168.0.121:5060",
        cseq: 1,
        branch: Some("z9hG4bK1234"),
        asks_rport: true,
    },
    Told {
        file: "synthetic/s2-panasonic-vender-typo",
        mac: [0x00, 0x80, 0xf0, 0xc8, 0xc3, 0x81],
        vendor: "Panasonic",
        model: "KX-UT113",
        firmware: "01.133",
        user_agent: Some("Panasonic_KX-UT113/01.133 (0080f0c8c381)"),
        contact: "192.168.1.80:5060",
        cseq: 1,
        branch: Some("z9hG4bK1001"),
        asks_rport: true,
    },
    Told {
        file: "synthetic/s4-fanvil-voip-phone",
        mac: [0x0c, 0x38, 0x3e, 0x55, 0x7e, 0xb1],
        vendor: "Fanvil",
        model: "VOIP PHONE",
        firmware: "2.12.16.17",
        user_agent: Some("Fanvil X5U-V2 2.12.16.17 0c383e557eb1"),
        contact: "192.168.1.80:5060",
        cseq: 1,
        branch: Some("z9hG4bK1001"),
        asks_rport: true,
    },
    Told {
        file: "synthetic/s6-mac-colon-form",
        mac: [0x00, 0x04, 0x13, 0x2e, 0x08, 0xb4],
        vendor: "snom",
        model: "snomD785",
        firmware: "10.1.169.16",
        user_agent: Some("snomD785/10.1.169.16"),
        contact: "192.168.1.80:5060",
        cseq: 1,
        branch: Some("z9hG4bK1001"),
        asks_rport: true,
    },
];

#[test]
fn every_phone_is_understood() {
    for told in TOLD {
        let bytes = capture(told.file);
        let heard = subscribe(&bytes);
        let file = told.file;
        let mac = heard.mac.expect(file);
        assert_eq!((mac.address, mac.place), (told.mac, MacPlace::RequestUri), "{file}");
        assert_eq!(heard.profile_type.as_deref(), Some("device"), "{file}");
        assert_eq!(heard.vendor.as_deref(), Some(told.vendor), "{file}");
        assert_eq!(heard.model.as_deref(), Some(told.model), "{file}");
        assert_eq!(heard.firmware.as_deref(), Some(told.firmware), "{file}");
        assert_eq!(heard.user_agent.as_deref(), told.user_agent, "{file}");
        assert_eq!(heard.contact.expect(file).socket_addr(), Some(addr(told.contact)), "{file}");
        assert_eq!((heard.cseq, heard.expires), (told.cseq, Some(0)), "{file}");
        assert_eq!(heard.via.branch.as_deref(), told.branch, "{file}");
        assert_eq!((heard.via.asks_rport, heard.via.transport.as_str()), (told.asks_rport, "UDP"), "{file}");
        assert!(heard.from_tag.is_some() && heard.to_tag.is_none(), "{file}");
    }
}

#[test]
fn the_mac_is_found_without_the_request_uri_too() {
    // Each time the place before is spoilt, the next must do.
    let base = String::from_utf8(capture("synthetic/s1-yealink-t53w-mac-in-ua")).unwrap();
    let mut spoilt = base.clone();
    for (from, place) in [
        ("SUBSCRIBE sip:MAC%3a", MacPlace::To),
        ("To: <sip:MAC%3a", MacPlace::From),
        ("From: <sip:MAC%3a", MacPlace::UserAgent),
    ] {
        assert!(spoilt.contains(from));
        spoilt = spoilt.replace(from, &from.replace("MAC%3a", "phone"));
        let mac = subscribe(spoilt.as_bytes()).mac.unwrap();
        assert_eq!((mac.address, mac.place), ([0x80, 0x5e, 0x0c, 0x4d, 0x79, 0x6d], place));
    }
    let silent = spoilt.replace(" 80:5e:0c:4d:79:6d", "");
    assert_eq!(subscribe(silent.as_bytes()).mac, None);
}

#[test]
fn a_phone_without_a_mac_is_still_a_phone() {
    // The form of the AudioCodes manual, page 67: no user in the request URI, no vendor, Via after CSeq.
    let heard = subscribe(
        b"SUBSCRIBE sip:224.0.1.75:5060 SIP/2.0\r\n\
          From: <sip:00000001@10.13.2.37:5060>;tag=87a5a8\r\n\
          To: <sip:224.0.1.75:5060>\r\n\
          Call-ID: 8884c8@10.13.2.37\r\n\
          CSeq: 1 SUBSCRIBE\r\n\
          Via: SIP/2.0/UDP 10.13.2.37:5060;rport;branch=z9hG4bK-386d4398\r\n\
          Event: ua-profile;profile-type=\"application\";model=\"420HD\";version=\"1.2.0\"\r\n\
          User-Agent: AUDC-IPPhone/1.2.1_build_6\r\n\
          Contact: <sip:00000001@10.13.2.37:5060>\r\n\
          Expires: 0\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!((heard.mac, heard.vendor), (None, None));
    assert_eq!((heard.profile_type.as_deref(), heard.model.as_deref()), (Some("application"), Some("420HD")));
}

#[test]
fn every_file_reads_whole_and_every_subscribe_gets_its_answers() {
    let subscribes = requests("SUBSCRIBE");
    assert!(subscribes.len() >= TOLD.len(), "captures are missing");
    for (name, bytes) in subscribes {
        let heard = request(&bytes);
        assert_eq!((heard.body_fit, heard.headers.skipped()), (BodyFit::Exact, 0), "{name}");
        let heard = subscribe(&bytes);
        let reply = reply("192.168.1.77:5062");
        let ok = compose::ok(&heard, &reply).expect(&name);
        let notify = compose::notify(&heard, &reply, &first_notify("http://192.168.100.10/")).expect(&name);
        assert_eq!(answer(&ok).status, 200, "{name}");
        assert_eq!(request(&notify).method, "NOTIFY", "{name}");
    }
    for (name, bytes) in requests("NOTIFY").into_iter().chain(requests("SIP/2.0")) {
        let message = provost_sip::read(&bytes).expect(&name);
        assert_eq!(message.headers().skipped(), 0, "{name}");
    }
}

#[test]
fn the_200_to_capture_01_is_the_one_of_the_trace() {
    let heard = subscribe(&capture("01-snom-oem-7.1.19-via-without-branch"));
    let ok = compose::ok(&heard, &reply("192.168.10.67:5060")).unwrap();
    let theirs = capture("replies/r1a-server-200ok-snom-seed");
    for name in ["From", "To", "Call-ID", "CSeq", "Expires", "Content-Length"] {
        assert_eq!(only(&ok, name), only(&theirs, name), "{name}");
    }
    // The server of the trace leaves out what RFC 3581 §4 says MUST be there.
    assert_eq!(only(&theirs, "Via"), "SIP/2.0/UDP 192.168.10.67:5060;rport=5060");
    assert_eq!(only(&ok, "Via"), "SIP/2.0/UDP 192.168.10.67:5060;rport=5060;received=192.168.10.67");
}

#[test]
fn the_200_byte_for_byte() {
    let heard = subscribe(&capture("09-yealink-t21p-34.72.14.6"));
    let ok = compose::ok(&heard, &reply("192.168.1.52:5059")).unwrap();
    let expected = "SIP/2.0 200 OK\r\n\
        Via: SIP/2.0/UDP 192.168.1.52:5059;branch=z9hG4bK42054260\r\n\
        From: <sip:MAC001565abcdef@224.0.1.75>;tag=42054258\r\n\
        To: <sip:MAC001565abcdef@224.0.1.75>;tag=91955270\r\n\
        Call-ID: 42054258@192.168.1.52\r\n\
        CSeq: 1 SUBSCRIBE\r\n\
        Contact: <sip:192.168.100.10:5060>\r\n\
        Expires: 0\r\n\
        Server: Provost/0.1\r\n\
        Content-Length: 0\r\n\r\n";
    assert_eq!(String::from_utf8(ok).unwrap(), expected);
}

#[test]
fn the_notify_after_capture_01_is_the_one_of_the_trace() {
    let heard = subscribe(&capture("01-snom-oem-7.1.19-via-without-branch"));
    let theirs = capture("replies/r1b-server-notify-snom-seed");
    let url = "http://192.168.100.10/sipphone/sipphoneconfig.xml?mac={mac}";
    let notify = compose::Notify { cseq: 3, ..first_notify(url) };
    let ours = compose::notify(&heard, &reply("192.168.10.67:5060"), &notify).unwrap();
    for name in ["To", "From", "Call-ID", "CSeq", "Content-Type", "Subscription-State", "Event", "Content-Length"] {
        assert_eq!(only(&ours, name), only(&theirs, name), "{name}");
    }
    assert_eq!(only(&ours, "Content-Length"), "59");
    let (ours, theirs) = (request(&ours), request(&theirs));
    assert_eq!((ours.uri, ours.body, ours.body_fit), (theirs.uri, theirs.body, BodyFit::Exact));
}

#[test]
fn the_notify_byte_for_byte() {
    let heard = subscribe(&capture("05-grandstream-gxp1628-1.0.2.7"));
    let url = "http://172.18.0.10:5481/provisioning/cfg000B82273B89";
    let notify = compose::notify(&heard, &reply("172.18.32.197:5060"), &first_notify(url)).unwrap();
    let expected = "NOTIFY sip:172.18.32.197:5060 SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.168.100.10:5060;branch=z9hG4bK-n1;rport\r\n\
        Max-Forwards: 70\r\n\
        Contact: <sip:192.168.100.10:5060>\r\n\
        To: <sip:MAC%3A000B82273B89@224.0.1.75>;tag=1692014507\r\n\
        From: <sip:MAC%3A000B82273B89@224.0.1.75>;tag=91955270\r\n\
        Call-ID: 1278367207-5060-1@BHC.BI.DC.BJH\r\n\
        CSeq: 1 NOTIFY\r\n\
        Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REGISTER, SUBSCRIBE, NOTIFY, REFER, INFO, MESSAGE\r\n\
        Supported: replaces\r\n\
        User-Agent: Provost/0.1\r\n\
        Event: ua-profile;profile-type=\"device\";vendor=\"Grandstream\";model=\"GXP1628\";version=\"1.0.2.7\"\r\n\
        Subscription-State: terminated;reason=timeout\r\n\
        Content-Type: application/url\r\n\
        Content-Length: 52\r\n\r\n\
        http://172.18.0.10:5481/provisioning/cfg000B82273B89";
    assert_eq!(String::from_utf8(notify).unwrap(), expected);
}

#[test]
fn the_caller_may_choose_where_the_notify_points() {
    let heard = subscribe(&capture("05-grandstream-gxp1628-1.0.2.7"));
    let target = Uri::user_at("MAC000B82273B89", addr("172.18.32.197:52969"));
    let notify = compose::Notify { target: Some(&target), ..first_notify("http://h/") };
    let notify = compose::notify(&heard, &reply("172.18.32.197:52969"), &notify).unwrap();
    assert_eq!(request(&notify).uri, b"sip:MAC000B82273B89@172.18.32.197:52969");
}

#[test]
fn a_late_notify_has_every_header_of_the_vendors_sample() {
    let sample = capture("replies/r2-server-notify-grandstream-seed");
    let phone = Uri::parse(b"sip:172.18.32.197:5060").unwrap();
    let message = Unsolicited { call_id: "late-1", ..unsolicited(&phone) };
    let url = "http://172.18.0.10:5481/provisioning/cfg000B82273B89";
    let late = compose::announce(&message, "ua-profile", url).unwrap();
    let ours = names(&late);
    for name in names(&sample) {
        assert!(ours.contains(&name), "{name} is missing");
    }
    for name in ["Event", "Content-Type", "Content-Length", "CSeq", "Supported", "Allow", "Max-Forwards"] {
        assert_eq!(only(&late, name), only(&sample, name), "{name}");
    }
    assert_eq!(only(&late, "To"), "<sip:172.18.32.197:5060>");
    assert_eq!(only(&late, "From"), "<sip:192.168.100.10:5060>;tag=tag1");
    assert_eq!(only(&late, "Call-ID"), "late-1");
    assert_eq!(request(&late).body, url.as_bytes());
}

#[test]
fn a_check_sync_is_the_one_that_worked_made_correct() {
    let sample = capture("replies/r4-server-notify-checksync-flyingvoice-seed");
    let phone = Uri::parse(b"sip:flyingvoice@192.168.20.2:5060").unwrap();
    let pbx = Uri::parse(b"sip:pbx@192.168.20.165").unwrap();
    let message = Unsolicited { from: Some(&pbx), cseq: 10, call_id: "1234@192.168.20.165", ..unsolicited(&phone) };
    let ours = compose::check_sync(&message, "check-sync;reboot=true").unwrap();
    for name in ["CSeq", "Call-ID", "Event", "Content-Length"] {
        assert_eq!(only(&ours, name), only(&sample, name), "{name}");
    }
    assert_eq!(request(&ours).uri, request(&sample).uri);
    let expected = "NOTIFY sip:flyingvoice@192.168.20.2:5060 SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.168.100.10:5060;branch=z9hG4bK-u1;rport\r\n\
        Max-Forwards: 70\r\n\
        Contact: <sip:192.168.100.10:5060>\r\n\
        To: <sip:flyingvoice@192.168.20.2:5060>\r\n\
        From: <sip:pbx@192.168.20.165>;tag=tag1\r\n\
        Call-ID: 1234@192.168.20.165\r\n\
        CSeq: 10 NOTIFY\r\n\
        User-Agent: Provost/0.1\r\n\
        Event: check-sync;reboot=true\r\n\
        Subscription-State: terminated\r\n\
        Content-Length: 0\r\n\r\n";
    assert_eq!(String::from_utf8(ours).unwrap(), expected);
}

#[test]
fn a_challenged_check_sync_is_the_same_with_the_answer_in_it() {
    let asked = b"SIP/2.0 401 Unauthorized\r\nCall-ID: c1\r\nCSeq: 1 NOTIFY\r\n\
        WWW-Authenticate: Digest realm=\"phone\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n\r\n";
    let Ok(provost_sip::Message::Response(response)) = provost_sip::read(asked) else { panic!("a response") };
    let challenge = provost_sip::Challenge::from_response(&response).unwrap();
    let phone = Uri::parse(b"sip:101@192.168.20.2:5060").unwrap();
    let first = compose::check_sync(&unsolicited(&phone), "check-sync").unwrap();
    let credentials = provost_sip::Credentials { user: "101", password: "secret" };
    let answer = challenge.answer(&credentials, "NOTIFY", phone.target(), "0a4f113b").unwrap();
    let message = Unsolicited { branch: "z9hG4bK-u2", cseq: 2, ..unsolicited(&phone) };
    let again = compose::check_sync_again(&message, "check-sync", &answer).unwrap();
    assert!(names(&again).iter().filter(|name| *name != "Authorization").eq(names(&first).iter()));
    assert_eq!(only(&again, "CSeq"), "2 NOTIFY");
    assert_eq!(
        only(&again, "Authorization"),
        "Digest username=\"101\", realm=\"phone\", nonce=\"n1\", uri=\"sip:101@192.168.20.2:5060\", \
         response=\"863b9e43fea76bd6f65bac9f67ea40cb\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"0a4f113b\""
    );
}

fn unsolicited(target: &Uri) -> Unsolicited<'_> {
    Unsolicited {
        target,
        local: addr("192.168.100.10:5060"),
        from: None,
        tag: "tag1",
        branch: "z9hG4bK-u1",
        call_id: "c1",
        cseq: 1,
        product: "Provost/0.1",
    }
}

#[test]
fn the_phones_answer_is_matched_to_the_notify() {
    let answer = answer(&capture("replies/r1c-phone-200ok-to-notify-snom-seed"));
    assert_eq!((answer.status, answer.reason.as_str(), answer.cseq), (200, "Ok", 3));
    let branch = "z9hG4bK-d8754z-c3ea5f0e74462613-1---d8754z-";
    assert_eq!(answer.branch.as_deref(), Some(branch));
    assert!(answer.answers(branch, "another", 9));
    assert!(answer.answers("another", "1930770594@192.168.10.67", 3));
    assert!(!answer.answers("another", "1930770594@192.168.10.67", 4));
    assert!(!answer.answers("another", "another", 3));
}

#[test]
fn a_transaction_is_the_branchs_or_else_the_dialogs() {
    let source = addr("192.168.12.155:1053");
    let with = subscribe(&capture("05-grandstream-gxp1628-1.0.2.7")).transaction_key(source);
    let sent_by = "172.18.32.197:5060".to_owned();
    assert_eq!(with, TransactionKey::Branch { branch: "z9hG4bK458721093".into(), sent_by });

    let without = subscribe(&capture("02-snom370-8.7.5.48"));
    assert_eq!(without.transaction_key(source), without.transaction_key(source));
    assert_ne!(without.transaction_key(source), without.transaction_key(addr("192.168.12.156:1053")));
    let TransactionKey::Dialog { call_id, cseq, from_tag, .. } = without.transaction_key(source) else { panic!() };
    assert_eq!((call_id.as_str(), cseq, from_tag.as_deref()), ("949137397@192.168.12.155", 1, Some("668717252")));

    // Host names are the same in any case, and 5060 is the port where none is named.
    let key = |via: &str| {
        let bytes = String::from_utf8(capture("05-grandstream-gxp1628-1.0.2.7")).unwrap();
        subscribe(bytes.replace("172.18.32.197:5060;branch", &format!("{via};branch")).as_bytes())
            .transaction_key(source)
    };
    assert_eq!(key("phone.lan:5060"), key("Phone.LAN"));
    assert_ne!(key("phone.lan:5060"), key("phone.lan:5062"));

    // A branch from before RFC 3261 says nothing.
    let old = String::from_utf8(capture("05-grandstream-gxp1628-1.0.2.7")).unwrap().replace("z9hG4bK", "");
    assert!(matches!(subscribe(old.as_bytes()).transaction_key(source), TransactionKey::Dialog { .. }));
}

#[test]
fn rsip_reads_the_same_from_what_it_can_read() {
    let mut compared = 0;
    for (name, bytes) in requests("SUBSCRIBE") {
        let theirs = rsip::Request::try_from(bytes.as_slice()).expect(&name);
        let ours = request(&bytes);
        let typed = ours.to_rsip().expect(&name);
        assert_eq!(typed.method, theirs.method, "{name}");
        assert_eq!(typed.uri, theirs.uri, "{name}");
        assert_eq!(typed.headers, theirs.headers, "{name}");
        assert_eq!(typed.body, theirs.body, "{name}");

        let heard = subscribe(&bytes);
        assert_eq!(heard.call_id, theirs.call_id_header().unwrap().value(), "{name}");
        assert_eq!(heard.cseq, theirs.cseq_header().unwrap().seq().unwrap(), "{name}");
        let tag = theirs.from_header().unwrap().tag().unwrap().map(|tag| tag.value().to_owned());
        assert_eq!(heard.from_tag, tag, "{name}");
        let via = theirs.via_header().unwrap().typed().unwrap();
        assert_eq!(heard.via.branch, via.branch().map(|branch| branch.value().to_owned()), "{name}");
        assert_eq!(heard.via.host, via.uri.host().to_string(), "{name}");
        let contact = theirs.contact_header().unwrap().typed().unwrap();
        assert_eq!(heard.contact.expect(&name).to_rsip(), contact.uri, "{name}");
        compared += 1;
    }
    assert!(compared >= TOLD.len());
}

#[test]
fn rsip_reads_what_we_compose_as_we_meant_it() {
    let heard = subscribe(&capture("05-grandstream-gxp1628-1.0.2.7"));
    let reply = reply("172.18.32.197:5060");
    let notify = compose::notify(&heard, &reply, &first_notify("http://192.168.100.10/")).unwrap();
    let read = rsip::Request::try_from(notify).unwrap();
    assert_eq!(read.method, rsip::Method::Notify);
    assert_eq!(read.body, b"http://192.168.100.10/");
    assert_eq!(read.from_header().unwrap().tag().unwrap().unwrap().value(), "91955270");
    assert_eq!(read.to_header().unwrap().tag().unwrap().unwrap().value(), "1692014507");
    let ok = rsip::Response::try_from(compose::ok(&heard, &reply).unwrap()).unwrap();
    assert_eq!(ok.status_code, rsip::StatusCode::OK);
    let received = ok.via_header().unwrap().typed().unwrap().received().unwrap();
    assert_eq!(received, Some(addr("172.18.32.197:5060").ip()));
}
