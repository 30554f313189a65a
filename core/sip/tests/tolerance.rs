//! What a strict parser refuses or misreads, one test a case. The cases marked "rsip:" are asserted against rsip as well,
//! so that the day it is mended this crate can be told to go.

mod support;

use provost_sip::compose;
use provost_sip::{BodyFit, MAX_DATAGRAM, Message, NotPnp, Subscribe, Unreadable, read};
use rsip::prelude::*;
use support::*;

const GXP: &str = "05-grandstream-gxp1628-1.0.2.7";

fn text(name: &str) -> String {
    String::from_utf8(capture(name)).unwrap()
}

fn rsip_request(bytes: &[u8]) -> Result<rsip::Request, rsip::Error> {
    rsip::Request::try_from(bytes)
}

/// The same phone, however it writes: everything that is drawn from the message must agree with the plain capture.
#[track_caller]
fn assert_same_phone(bytes: &[u8]) -> Subscribe {
    let (plain, heard) = (subscribe(&capture(GXP)), subscribe(bytes));
    assert_eq!(heard.mac, plain.mac);
    assert_eq!((&heard.vendor, &heard.model, &heard.firmware), (&plain.vendor, &plain.model, &plain.firmware));
    assert_eq!((&heard.user_agent, &heard.contact), (&plain.user_agent, &plain.contact));
    assert_eq!((&heard.call_id, heard.cseq, &heard.from_tag), (&plain.call_id, plain.cseq, &plain.from_tag));
    assert_eq!((&heard.via, heard.expires), (&plain.via, plain.expires));
    heard
}

#[test]
fn compact_names() {
    let mut compact = text(GXP);
    for (long, short) in [
        ("\r\nVia:", "\r\nv:"),
        ("\r\nFrom:", "\r\nf:"),
        ("\r\nTo:", "\r\nT:"),
        ("\r\nCall-ID:", "\r\ni:"),
        ("\r\nContact:", "\r\nm:"),
        ("\r\nEvent:", "\r\nO:"),
        ("\r\nSupported:", "\r\nk:"),
        ("\r\nContent-Length:", "\r\nl:"),
    ] {
        assert!(compact.contains(long));
        compact = compact.replace(long, short);
    }
    let heard = assert_same_phone(compact.as_bytes());
    let ok = compose::ok(&heard, &reply("172.18.32.197:5060")).unwrap();
    assert_eq!(only(&ok, "Call-ID"), "1278367207-5060-1@BHC.BI.DC.BJH");
    // rsip: parses, and then has no Call-ID.
    assert!(rsip_request(compact.as_bytes()).unwrap().call_id_header().is_err());
    let typed = request(compact.as_bytes()).to_rsip().unwrap();
    assert_eq!(typed.call_id_header().unwrap().value(), "1278367207-5060-1@BHC.BI.DC.BJH");
}

#[test]
fn folded_headers_are_read_and_go_back_as_one_line() {
    let folded = text(GXP)
        .replace(";vendor=", "\r\n ;vendor=")
        .replace("Call-ID: ", "Call-ID:\r\n\t")
        .replace(";branch=", "\r\n   ;branch=");
    let heard = assert_same_phone(folded.as_bytes());
    let ok = compose::ok(&heard, &reply("172.18.32.197:5060")).unwrap();
    assert_eq!(only(&ok, "Call-ID"), "1278367207-5060-1@BHC.BI.DC.BJH");
    let via = "SIP/2.0/UDP 172.18.32.197:5060 ;branch=z9hG4bK458721093;rport=5060;received=172.18.32.197";
    assert_eq!(only(&ok, "Via"), via);
    let notify = compose::notify(&heard, &reply("172.18.32.197:5060"), &first_notify("http://h/")).unwrap();
    assert!(only(&notify, "Event").starts_with("ua-profile;profile-type=\"device\" ;vendor="));
    // rsip: the whole message is refused.
    assert!(rsip_request(folded.as_bytes()).is_err());
}

#[test]
fn a_blank_before_the_colon() {
    let spaced = text(GXP).replace("Event:", "Event :").replace("Via:", "Via\t:");
    assert_same_phone(spaced.as_bytes());
    assert!(rsip_request(spaced.as_bytes()).is_err());
}

#[test]
fn no_blank_after_the_colon() {
    assert_same_phone(text(GXP).replace(": ", ":").as_bytes());
}

#[test]
fn line_feeds_alone() {
    let bare = text(GXP).replace("\r\n", "\n");
    assert_same_phone(bare.as_bytes());
    assert!(rsip_request(bare.as_bytes()).is_err());
    assert_same_phone(text(GXP).replacen("\r\n", "\n", 3).as_bytes());
    assert_same_phone(text(GXP).replace("\r\n", "\r\r\n").as_bytes());
}

#[test]
fn no_empty_line_at_the_end() {
    let bytes = capture(GXP);
    let open = bytes.strip_suffix(b"\r\n").unwrap();
    assert_same_phone(open);
    assert_eq!(request(open).body_fit, BodyFit::Exact);
    // The last line itself may be open too.
    assert_same_phone(open.strip_suffix(b"\r\n").unwrap());
    // rsip: one header, and all others are the body.
    let misread = rsip_request(open).unwrap();
    assert_eq!(misread.headers.iter().count(), 1);
    assert!(misread.body.len() > 500);
}

#[test]
fn line_ends_before_the_start_line() {
    let late = [b"\r\n\r\n".as_slice(), &capture(GXP)].concat();
    assert_same_phone(&late);
    assert!(rsip_request(&late).is_err());
}

#[test]
fn a_body_longer_than_stated_is_cut() {
    let long = text(GXP).replace("Content-Length: 0", "Content-Length: 4") + "abcdEXTRA";
    let read = request(long.as_bytes());
    assert_eq!((read.body, read.body_fit), (b"abcd".as_slice(), BodyFit::Cut { extra: 5 }));
    assert_eq!(rsip_request(long.as_bytes()).unwrap().body.len(), 9);
}

#[test]
fn a_body_shorter_than_stated_does_not_lose_the_phone() {
    let short = text(GXP).replace("Content-Length: 0", "Content-Length: 400");
    assert_same_phone(short.as_bytes());
    assert_eq!(request(short.as_bytes()).body_fit, BodyFit::Short { missing: 400 });
}

#[test]
fn bytes_that_are_not_utf8_are_kept_and_go_back() {
    let plain = text(GXP);
    let (before, after) = plain.split_once("<sip:MAC%3A000B82273B89@224.0.1.75>;tag=1692014507").unwrap();
    let from = b"\"J\xfcrgen \xff\" <sip:MAC%3A000B82273B89@224.0.1.75>;tag=1692014507".as_slice();
    let latin = [before.as_bytes(), from, after.as_bytes()].concat();
    let heard = assert_same_phone(&latin);
    let reply = reply("172.18.32.197:5060");
    let ok = compose::ok(&heard, &reply).unwrap();
    assert_eq!(read(&ok).unwrap().headers().get("From"), Some(from));
    let notify = compose::notify(&heard, &reply, &first_notify("http://h/")).unwrap();
    assert_eq!(read(&notify).unwrap().headers().get("To"), Some(from));
    assert!(rsip_request(&latin).is_err());
    assert!(request(&latin).to_rsip().is_ok());
}

#[test]
fn ipv6_in_request_uri_via_and_contact() {
    let six = text(GXP).replace("172.18.32.197", "[2001:db8::9:1]").replace("@224.0.1.75", "@[ff02::1:75]");
    let heard = subscribe(six.as_bytes());
    assert_eq!(heard.mac, subscribe(&capture(GXP)).mac);
    assert_eq!((heard.via.host.as_str(), heard.via.port), ("[2001:db8::9:1]", Some(5060)));
    assert_eq!(heard.contact.as_ref().unwrap().socket_addr(), Some(addr("[2001:db8::9:1]:5060")));
    let reply = compose::Reply { local: addr("[2001:db8::1]:5060"), ..reply("[2001:db8::9:1]:5070") };
    let ok = compose::ok(&heard, &reply).unwrap();
    let via = "SIP/2.0/UDP [2001:db8::9:1]:5060;branch=z9hG4bK458721093;rport=5070;received=2001:db8::9:1";
    assert_eq!(only(&ok, "Via"), via);
    assert_eq!(only(&ok, "Contact"), "<sip:[2001:db8::1]:5060>");
    let notify = compose::notify(&heard, &reply, &first_notify("http://[2001:db8::1]/")).unwrap();
    assert_eq!(request(&notify).uri, b"sip:[2001:db8::9:1]:5060");
    assert_eq!(only(&notify, "Via"), "SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bK-n1;rport");
    assert!(rsip_request(six.as_bytes()).is_err());
    assert_eq!(request(six.as_bytes()).to_rsip().unwrap().uri.to_string(), "sip:MAC%3A000B82273B89@[ff02::1:75]");
}

#[test]
fn a_uri_with_headers() {
    let with = text(GXP)
        .replace("@224.0.1.75 SIP", "@224.0.1.75?Route=%3Csip:a%3E SIP")
        .replace("<sip:172.18.32.197:5060>", "<sip:172.18.32.197:5060;transport=udp?Subject=hi>");
    let heard = subscribe(with.as_bytes());
    assert_eq!(heard.mac, subscribe(&capture(GXP)).mac);
    // They belong into a Contact, and must not come back in a request line.
    let notify = compose::notify(&heard, &reply("172.18.32.197:5060"), &first_notify("http://h/")).unwrap();
    assert_eq!(request(&notify).uri, b"sip:172.18.32.197:5060;transport=udp");
    assert!(rsip_request(with.as_bytes()).is_err());
}

#[test]
fn an_unknown_method_is_read_and_named() {
    let odd = text(GXP).replace("SUBSCRIBE", "!interesting-Method0123456789_*+`.%indeed'~");
    let read = request(odd.as_bytes());
    assert_eq!(read.method, "!interesting-Method0123456789_*+`.%indeed'~");
    let error = Subscribe::from_request(&read).unwrap_err();
    assert_eq!((error.as_str(), matches!(error, NotPnp::OtherMethod { .. })), ("other-method", true));
    assert!(rsip_request(odd.as_bytes()).is_err());
    assert!(read.to_rsip().is_err());
}

#[test]
fn a_display_name_with_quotes_semicolons_and_brackets() {
    let from = r#""Gr; \"x\" <a>" <sip:MAC%3A000B82273B89@224.0.1.75>;tag=1692014507"#;
    let odd = text(GXP).replace("<sip:MAC%3A000B82273B89@224.0.1.75>;tag=1692014507", from);
    let heard = assert_same_phone(odd.as_bytes());
    let ok = compose::ok(&heard, &reply("172.18.32.197:5060")).unwrap();
    assert_eq!(only(&ok, "From"), from);
    assert!(rsip_request(odd.as_bytes()).unwrap().from_header().unwrap().typed().is_err());
}

#[test]
fn a_status_line_without_a_reason() {
    let bare = "SIP/2.0 200\r\nCall-ID: c\r\nCSeq: 3 NOTIFY\r\nContent-Length: 0\r\n\r\n";
    assert_eq!((answer(bare.as_bytes()).status, answer(bare.as_bytes()).cseq), (200, 3));
    assert!(rsip::Response::try_from(bare).is_err());
}

#[test]
fn event_parameters_quoted_every_way() {
    let event = r#"Event:ua-profile ; profile-type = 'device';vender='Acme; Co';model="X \"1\"";version=2"#;
    let odd = text(GXP).replace(
        r#"Event: ua-profile;profile-type="device";vendor="Grandstream";model="GXP1628";version="1.0.2.7""#,
        event,
    );
    let heard = subscribe(odd.as_bytes());
    assert_eq!(heard.profile_type.as_deref(), Some("device"));
    assert_eq!((heard.vendor.as_deref(), heard.model.as_deref()), (Some("Acme; Co"), Some(r#"X "1""#)));
    assert_eq!(heard.firmware.as_deref(), Some("2"));
}

#[test]
fn joined_and_repeated_vias_go_back_as_they_came() {
    let via = "Via: SIP/2.0/UDP 172.18.32.197:5060;branch=z9hG4bK458721093;rport\r\n";
    let several = text(GXP).replace(
        via,
        "Via: SIP/2.0/UDP 172.18.32.197:5060;branch=z9hG4bK458721093;rport,SIP/2.0/TCP  b.example ;rport\r\n\
         v: SIP/2.0/UDP c.example;branch=z9hG4bKc\r\n",
    );
    let heard = assert_same_phone(several.as_bytes());
    let ok = compose::ok(&heard, &reply("172.18.32.197:5060")).unwrap();
    let message = read(&ok).unwrap();
    let vias: Vec<_> = message.headers().all("Via").map(|via| String::from_utf8_lossy(via).into_owned()).collect();
    assert_eq!(
        vias,
        [
            "SIP/2.0/UDP 172.18.32.197:5060;branch=z9hG4bK458721093;rport=5060;received=172.18.32.197,\
             SIP/2.0/TCP  b.example ;rport",
            "SIP/2.0/UDP c.example;branch=z9hG4bKc",
        ]
    );
}

/// After RFC 4475 §3.1.1.1, "a short tortuous INVITE", as a SUBSCRIBE of PnP.
#[test]
fn a_short_tortuous_subscribe() {
    let heard = subscribe(
        b"SUBSCRIBE sip:MAC%3A000B82273B89@224.0.1.75;unknownparam SIP/2.0\r\n\
          TO :\r\n sip:MAC%3A000B82273B89@224.0.1.75 ;   x    = 1918181833n\r\n\
          from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\n\
          MaX-fOrWaRdS: 0068\r\n\
          Call-ID: wsinv.ndaksdj@192.0.2.1\r\n\
          Content-Length   : 0\r\n\
          cseq: 0009\r\n  SUBSCRIBE\r\n\
          Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;branch=z9hG4bK390skdjuw\r\n\
          s :\r\n\
          NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n\
          UnknownHeaderWithUnusualValue: ;;,,;;,;\r\n\
          o:\r\n   ua-profile ;;profile-type=\"device\";vendor=\"a\\\\\\\"b;\"\r\n\
          v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n\
          \x20SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239\r\n\
          m:\"Quoted string \\\"\\\"\" <sip:jdrosen@192.0.2.9:5070> ; newparam =\r\n      newvalue ;\r\n  q = 0.33\r\n\
          \r\n",
    );
    assert_eq!(heard.mac.unwrap().address, [0x00, 0x0b, 0x82, 0x27, 0x3b, 0x89]);
    assert_eq!((heard.cseq, heard.from_tag.as_deref(), heard.to_tag.as_deref()), (9, Some("98asjd8"), None));
    assert_eq!((heard.via.host.as_str(), heard.via.port), ("192.0.2.2", None));
    assert_eq!(heard.via.branch.as_deref(), Some("z9hG4bK390skdjuw"));
    assert_eq!(heard.vendor.as_deref(), Some("a\\\"b;"));
    assert_eq!(heard.contact.as_ref().unwrap().socket_addr(), Some(addr("192.0.2.9:5070")));

    let ok = compose::ok(&heard, &reply("192.0.2.2:5060")).unwrap();
    assert_eq!(only(&ok, "CSeq"), "0009 SUBSCRIBE");
    assert_eq!(only(&ok, "To"), "sip:MAC%3A000B82273B89@224.0.1.75 ;   x    = 1918181833n;tag=91955270");
    assert_eq!(only(&ok, "From"), "\"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com> ; tag = 98asjd8");
    let message = read(&ok).unwrap();
    assert_eq!(message.headers().vias().count(), 3);
}

#[test]
fn odd_contacts_cost_only_themselves() {
    let with = |contact: &str| {
        let bytes = text(GXP).replace("Contact: <sip:172.18.32.197:5060>", contact);
        subscribe(bytes.as_bytes()).contact.map(|contact| contact.to_string())
    };
    assert_eq!(with("Contact: sip:a@10.0.0.1;expires=0").as_deref(), Some("sip:a@10.0.0.1"));
    assert_eq!(with("m: x <sip:a,b@10.0.0.1;lr>;q=1, <sip:c@h>").as_deref(), Some("sip:a,b@10.0.0.1;lr"));
    for contact in ["X: y", "Contact: *", "Contact:", "Contact: <sip:a b@10.0.0.1>", "Contact: <tel:+4930>"] {
        assert_eq!(with(contact), None, "{contact}");
    }
    // The NOTIFY then goes where the SUBSCRIBE came from.
    let bytes = text(GXP).replace("Contact: <sip:172.18.32.197:5060>", "Contact: *");
    let heard = subscribe(bytes.as_bytes());
    let notify = compose::notify(&heard, &reply("172.18.32.197:1053"), &first_notify("http://h/")).unwrap();
    assert_eq!(request(&notify).uri, b"sip:172.18.32.197:1053");
}

#[test]
fn a_to_that_has_a_tag_keeps_it() {
    let again = text(GXP).replace("To: <sip:MAC%3A000B82273B89@224.0.1.75>", "To: <sip:x@h>;TAG=ours");
    let heard = subscribe(again.as_bytes());
    assert_eq!(heard.to_tag.as_deref(), Some("ours"));
    let reply = reply("172.18.32.197:5060");
    assert_eq!(only(&compose::ok(&heard, &reply).unwrap(), "To"), "<sip:x@h>;TAG=ours");
    let notify = compose::notify(&heard, &reply, &first_notify("http://h/")).unwrap();
    assert_eq!(only(&notify, "From"), "<sip:x@h>;TAG=ours");
}

#[test]
fn what_is_not_for_us_is_dropped_with_its_reason() {
    let plain = text(GXP);
    let without = |name: &str| {
        let start = plain.find(&format!("\r\n{name}:")).unwrap();
        let end = start + 2 + plain[start + 2..].find("\r\n").unwrap();
        format!("{}{}", &plain[..start], &plain[end..])
    };
    let drop = |bytes: &str| Subscribe::from_request(&request(bytes.as_bytes())).unwrap_err();
    for header in ["Via", "From", "To", "Call-ID", "CSeq", "Event"] {
        let error = drop(&without(header));
        assert_eq!((&error, error.as_str()), (&NotPnp::Missing { header }, "missing-header"));
    }
    assert_eq!(drop(&plain.replace("CSeq: 20000", "CSeq: x")), NotPnp::Malformed { header: "CSeq" });
    assert_eq!(drop(&plain.replace("SIP/2.0/UDP", "UDP")), NotPnp::Malformed { header: "Via" });
    let error = drop(&plain.replace("ua-profile;", "message-summary;"));
    assert_eq!((&error, error.as_str()), (&NotPnp::OtherEvent { package: "message-summary".into() }, "other-event"));
    assert_eq!(drop(&plain.replace("SUBSCRIBE", "OPTIONS")), NotPnp::OtherMethod { method: "OPTIONS".into() });
    // A package's name may differ in case, a template of it is another package.
    assert!(Subscribe::from_request(&request(plain.replace("ua-profile", "UA-Profile").as_bytes())).is_ok());
    assert_eq!(drop(&plain.replace("ua-profile;", "ua-profile.winfo;")).as_str(), "other-event");
}

#[test]
fn a_giant_is_refused_before_it_is_walked() {
    let giant = format!("SUBSCRIBE sip:h SIP/2.0\r\n{}\r\n", "X-Header: 1\r\n".repeat(5000));
    assert!(giant.len() > 62_000);
    assert_eq!(read(giant.as_bytes()), Err(Unreadable::TooLong { length: giant.len() }));
}

#[test]
fn the_worst_that_is_read_is_read_once_over() {
    // Were any of these walked quadratically, a thousand of them would take minutes.
    let event = |unit: &str| {
        let head = "SUBSCRIBE sip:h SIP/2.0\nv:SIP/2.0/UDP h\nf:a\nt:b\ni:c\ncseq:1 SUBSCRIBE\no:ua-profile";
        format!("{head}{}", unit.repeat((MAX_DATAGRAM - head.len()) / unit.len()))
    };
    let uri = format!("SUBSCRIBE sip:{}@h SIP/2.0\n\n", "MAC%3a".repeat(1300));
    let hostile = [";a=\"\\", ";a='b", ";a= '", "\n x", "\n\t", ",;", "\"", ";;", "<", "\r", "\r\n o"].map(event);
    let began = std::time::Instant::now();
    for bytes in hostile.iter().chain([&uri]) {
        for _ in 0..100 {
            if let Ok(Message::Request(request)) = read(bytes.as_bytes())
                && let Ok(heard) = Subscribe::from_request(&request)
            {
                let _ = compose::ok(&heard, &reply("192.0.2.1:5060"));
            }
        }
    }
    assert!(began.elapsed().as_secs() < 20, "took {:?}", began.elapsed());
}
