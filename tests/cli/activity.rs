use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, UdpSocket},
};

use serde_json::Value;

use crate::{
    pages::Visitor,
    site::{file, plan, serve, start},
};

fn json(visitor: &mut Visitor, path: &str) -> Value {
    let answer = visitor.get(path);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

#[test]
fn what_stands_in_the_log_stands_on_the_page_and_is_found_by_phone_level_and_text() {
    // The log itself says nothing of phones.
    let level = "log: { level: \"info,provost_server::dispatch=off\" }\n";
    let site = start(plan().file("provost.yaml", level));
    let mut visitor = Visitor::inside(&site);
    let mut stream = BufReader::new(visitor.send("GET", "/events?of=activity", "", "")).lines();
    assert!(stream.next().unwrap().unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(site.get(&file(1)).status, 200);
    assert_eq!(site.get("no-such-file.xml").status, 404);
    assert!(stream.map_while(Result::ok).any(|line| line == "event: changed"), "the stream ended");

    let all = json(&mut visitor, "/api/v1/activity");
    let events = all["events"].as_array().unwrap();
    let fetched: Vec<&Value> = events.iter().filter(|event| event["message"] == "fetch").collect();
    assert_eq!(fetched.len(), 2, "{all}");
    let fields = &fetched[0]["fields"];
    assert_eq!((&fields["device"], &fields["outcome"]), (&"02:ac:de:00:00:01".into(), &"rendered".into()));
    assert_eq!((&fields["door"], &fields["file"]), (&"http".into(), &file(1).into()));
    assert!(fetched[1]["fields"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{all}");

    // Everything before it is left out, and one does not miss what comes after.
    let next = all["next"].as_u64().unwrap();
    assert_eq!(json(&mut visitor, &format!("/api/v1/activity?since={next}"))["events"], serde_json::json!([]));
    site.write("profiles/devices/4.yaml", "devices:\n  02:ac:de:00:00:04: { lable: x }\n");
    let page = visitor.until("/activity?level=error", "lable");
    assert!(page.body.contains("devices&#x2f;4.yaml") && !page.body.contains(&file(1)), "{}", page.body);
    let later = json(&mut visitor, &format!("/api/v1/activity?since={next}&level=error&limit=1"));
    let (first, weight) = (&later["events"][0]["number"], &later["events"][0]["level"]);
    assert!(first.as_u64() > Some(next) && weight == "error", "{later}");

    // Who asks from the phone's address is taken for the phone.
    let one = json(&mut visitor, "/api/v1/activity?device=02-AC-DE-00-00-01");
    assert_eq!(one["events"].as_array().unwrap().len(), 2, "{one}");
    assert!(visitor.get("/activity?device=02:ac:de:00:00:01").says(&file(1)));
    assert!(visitor.get("/activity?device=02:ac:de:00:00:02").says("Nothing that is kept fits"));
    let page = visitor.get("/activity/rows?q=NO-SUCH");
    assert!(page.says("no-such-file.xml") && !page.says(&file(1)), "{}", page.body);
    for (query, at) in [("device=zz", "device"), ("limit=0", "limit"), ("level=loud", "level"), ("sinse=1", "sinse")] {
        let answer = visitor.get(&format!("/api/v1/activity?{query}"));
        assert!(answer.status == 422 && answer.body.contains(at), "{query}: {answer:?}");
    }
}

#[test]
fn the_plots_count_what_phones_did() {
    let site = start(plan());
    let mut visitor = Visitor::inside(&site);
    for number in [1, 2, 3, 1] {
        site.get(&file(number));
    }
    let series = json(&mut visitor, "/api/v1/activity/series?minutes=60&step=7");
    let points = series["points"].as_array().unwrap();
    let sum = |of: &str| points.iter().filter_map(|point| point[of].as_u64()).sum::<u64>();
    assert_eq!((points.len(), sum("fetches"), sum("failures"), sum("announcements")), (9, 4, 0, 0), "{series}");
    assert_eq!(json(&mut visitor, "/api/v1/activity/series")["points"].as_array().unwrap().len(), 1440);
    for span in ["minutes=0", "minutes=1441", "step=0", "step=61", "step=x"] {
        assert_eq!(visitor.get(&format!("/api/v1/activity/series?{span}")).status, 422, "{span}");
    }
    for span in ["", "?span=hour"] {
        let page = visitor.get(&format!("/activity{span}"));
        assert!(page.says("<strong>Fetches</strong> 4<") && page.says("<path d=\"M"), "{}", page.body);
    }
}

#[test]
fn the_network_page_tells_where_phones_are_heard_and_which_doors_are_open() {
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let settings = format!("pnp: {{ listen: udp, interfaces: [lo], port: {port} }}\n");
    let site = serve(plan().file("provost.yaml", settings));
    let mut visitor = Visitor::inside(&site);
    let network = json(&mut visitor, "/api/v1/network");
    let loopback = |network: &Value| {
        let interfaces = network["interfaces"].as_array().unwrap();
        interfaces.iter().find(|one| one["name"] == "lo").unwrap().clone()
    };
    let lo = loopback(&network);
    assert!(lo["joined"] == true && lo["reason"].is_null() && lo["last_heard"].is_null(), "{network}");
    assert!(lo["addresses"].as_array().unwrap().contains(&"127.0.0.1/8".into()), "{network}");
    assert_eq!((&network["pnp"]["socket"], &network["pnp"]["lost"]), (&"udp".into(), &0.into()), "{network}");
    let doors = |door: &str| {
        let doors = network["doors"].as_array().unwrap();
        doors.iter().find(|one| one["door"] == door).unwrap_or_else(|| panic!("no {door} in {network}")).clone()
    };
    assert_eq!(doors("http")["address"], site.http().to_string());
    assert_eq!(doors("people")["address"], site.admin().to_string());
    assert!(["http", "people"].iter().all(|door| doors(door)["open"] == true), "{network}");

    let phone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket2::SockRef::from(&phone).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    phone.send_to(b"no SIP at all", (Ipv4Addr::new(224, 0, 1, 75), port)).unwrap();
    let from = phone.local_addr().unwrap().to_string();
    let page = visitor.until("/network", &from);
    assert!(page.body.contains("Where phones are heard") && page.body.contains("127.0.0.1&#x2f;8"), "{}", page.body);
    let heard = loopback(&json(&mut visitor, "/api/v1/network"));
    assert_eq!((&heard["datagrams"], &heard["last_from"]), (&1.into(), &from.into()), "{heard}");
    assert!(heard["last_heard"].as_u64() > Some(1_600_000_000_000), "{heard}");
}

#[test]
fn a_plugin_tells_since_when_it_serves_and_since_when_its_successor_is_refused() {
    let site = start(plan());
    let mut visitor = Visitor::inside(&site);
    let first = json(&mut visitor, "/api/v1/status");
    let acme = |status: &Value| {
        let plugins = status["plugins"].as_array().unwrap();
        plugins.iter().find(|plugin| plugin["id"] == "acme").unwrap().clone()
    };
    assert!(acme(&first)["since"].as_u64() > Some(1_600_000_000_000), "{first}");

    site.write("templates/acme/device.cfg.j2", "changed = {{ phone.base_url }}\n");
    site.until("another template", &file(1), |answer| answer.says("changed = "));
    let second = json(&mut visitor, "/api/v1/status");
    assert!(acme(&second)["since"].as_u64() > acme(&first)["since"].as_u64(), "{second}");
    assert_ne!(acme(&second)["fingerprint"], acme(&first)["fingerprint"]);

    let mark = site.mark();
    site.write("templates/acme/device.cfg.j2", "{{ phone.base_url\n");
    site.refused(mark, "device.cfg.j2:");
    let page = visitor.until("/plugins", "the version before it serves");
    assert!(page.body.contains("device.cfg.j2:"), "{}", page.body);
    let third = json(&mut visitor, "/api/v1/status");
    assert_eq!(acme(&third), acme(&second), "it serves as it did");
    let refused = &third["refused"][0];
    assert!(refused["since"].as_u64() > acme(&third)["since"].as_u64() && refused["older_serves"] == true, "{third}");

    // It is as old as it is, however often it is looked at.
    let mark = site.mark();
    site.write("profiles/devices/3.yaml", "devices: {}\n");
    site.wait_after(mark, "another look", |line| line.is("message", "reloaded"));
    assert_eq!(&json(&mut visitor, "/api/v1/status")["refused"][0], refused);
}
