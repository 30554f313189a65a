//! SIPp plays the phones: a SIP stack that somebody else wrote reads our 200 and our NOTIFY, and its scenario fails on what it would
//! not have expected.

use std::fmt::Write;

use provost_plugin::MacAddr;
use provost_tests::{Lan, Plan, tools};

/// A phone from its SUBSCRIBE to its answer to the NOTIFY. What the NOTIFY carries is looked at closely.
const SCENARIO: &str = r#"<?xml version="1.0" encoding="ISO-8859-1" ?>
<!DOCTYPE scenario SYSTEM "sipp.dtd">
<scenario name="a phone that is plugged in">
  <send retrans="500">
    <![CDATA[
      SUBSCRIBE sip:MAC%3a[field0]@[remote_ip] SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
      From: <sip:MAC%3a[field0]@[remote_ip]>;tag=[pid]t[call_number]
      To: <sip:MAC%3a[field0]@[remote_ip]>
      Call-ID: [call_id]
      CSeq: 1 SUBSCRIBE
      Contact: <sip:[local_ip]:[local_port]>
      Max-Forwards: 70
      Event: ua-profile;profile-type="device";vendor="snom";model="snomD785";version="10.1.169.16"
      Expires: 0
      Accept: application/url
      Content-Length: 0

    ]]>
  </send>
  <recv response="200" rtd="true" />
  <recv request="NOTIFY">
    <action>
      <ereg regexp="http://[^/]+:8080/000413AA00[0-9A-F]+[.]xml$" search_in="body" check_it="true" assign_to="1" />
      <ereg regexp="terminated" search_in="hdr" header="Subscription-State:" check_it="true" assign_to="2" />
      <ereg regexp="application/url" search_in="hdr" header="Content-Type:" check_it="true" assign_to="3" />
      <ereg regexp="ua-profile" search_in="hdr" header="Event:" check_it="true" assign_to="4" />
    </action>
  </recv>
  <Reference variables="1,2,3,4" />
  <send>
    <![CDATA[
      SIP/2.0 200 Ok
      [last_Via:]
      [last_From:]
      [last_To:]
      [last_Call-ID:]
      [last_CSeq:]
      Content-Length: 0

    ]]>
  </send>
</scenario>
"#;

#[test]
fn a_sip_stack_of_somebody_elses_has_the_whole_conversation() {
    tools::require("sipp");
    const PHONES: usize = 50;
    let macs: Vec<MacAddr> = (0..PHONES as u8).map(|number| MacAddr::new([0, 4, 0x13, 0xaa, 0, number])).collect();
    let mut profile = String::from("devices:\n");
    let mut names = String::from("SEQUENTIAL\n");
    for mac in &macs {
        writeln!(profile, "  \"{mac}\": {{ lines: [{{ number: \"1\", password: sipp }}] }}").unwrap();
        writeln!(names, "{};", mac.bare_upper()).unwrap();
    }
    let lan = Lan::new(1);
    let server = Plan::on(lan.server()).file("profiles/fleet.yaml", profile).start().ready();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (scenario, names) = (write("phone.xml", SCENARIO), write("macs.csv", &names));
    let phone = lan.phone(0);
    let output = phone
        .command("sipp")
        .arg("224.0.1.75:5060")
        .args(["-sf".as_ref(), scenario.as_os_str(), "-inf".as_ref(), names.as_os_str()])
        .args(["-i", &phone.address().to_string(), "-p", "5062"])
        .args(["-m", &PHONES.to_string(), "-r", "50", "-nostdin", "-timeout", "30s", "-timeout_error"])
        .current_dir(directory.path())
        .output()
        .expect("sipp was found");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "SIPp ended with {}:\n{said}", output.status);
    // SIPp sends its own 200s to the group, for it knows one address to send to; so that the server hears the answer is for others to
    // show.
    drop(server);
}
