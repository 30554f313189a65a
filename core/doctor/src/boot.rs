//! How far a phone has come since somebody began to watch it, and what is missing: by what the server notes of it, or, where none runs, by
//! what is heard of it.

use std::{
    io,
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use provost_server::{
    pnp::{
        interfaces,
        listener::{Ears, group},
    },
    settings::Settings,
};
use provost_sip::{Message, Subscribe};
use serde_json::Value;

/// Room for a site's worth of announcements while we look at each.
const ROOM: usize = 1 << 20;

/// The steps of a boot that were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// It has asked where its configuration is.
    pub announced: bool,
    /// Why it was given no answer.
    pub refused: Option<String>,
    /// It was told a URL.
    pub told: bool,
    /// Its answer to that, or why there is none.
    pub took: Option<Result<u16, String>>,
    /// Files that it has got.
    pub fetched: Vec<String>,
    /// The last file that it did not get, and why.
    pub failed: Option<(String, String)>,
    /// It has everything that it would get now.
    pub in_step: bool,
}

/// The step that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub what: String,
    pub do_next: String,
}

impl Boot {
    /// Takes note of an event as `/api/v1/devices/MAC` tells it.
    pub fn note(&mut self, event: &Value) {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let is_pnp = event["door"] == "pnp";
        match event["what"].as_str().unwrap_or_default() {
            "announced" => (self.announced, self.told, self.refused) = (true, true, None),
            "refused" => (self.announced, self.refused) = (true, Some(text("reason"))),
            "denied" if is_pnp => (self.announced, self.refused) = (true, Some(text("reason"))),
            "notify_answered" => self.took = Some(Ok(event["code"].as_u64().unwrap_or_default() as u16)),
            "notify_timed_out" => self.took = Some(Err(text("reason"))),
            "fetched" if event["outcome"] == "rendered" || event["outcome"] == "asset" => {
                self.fetched.push(text("file"))
            }
            "fetched" => self.failed = Some((text("file"), text("outcome"))),
            "denied" => self.failed = Some((text("file"), text("reason"))),
            _ => {}
        }
    }

    pub fn is_done(&self) -> bool {
        self.in_step && !self.fetched.is_empty()
    }

    /// What is missing. None: nothing.
    pub fn missing(&self) -> Option<Missing> {
        let missing = |what: String, do_next: &str| Some(Missing { what, do_next: do_next.to_owned() });
        if self.is_done() {
            return None;
        }
        if let Some((file, why)) = self.failed.as_ref().filter(|_| !self.in_step) {
            return match why.as_str() {
                "unknown" => missing(
                    format!("it asked for {file}, and there is no such file"),
                    "`provost explain` with that name says why. Optional files are asked for in vain by many phones; what counts is its own.",
                ),
                "failed" => missing(
                    format!("it asked for {file}, which cannot be made"),
                    "`provost check` says what is wrong in its profile or template.",
                ),
                _ => missing(
                    format!("it asked for {file} and was refused it: {why}"),
                    "`provost explain MAC` says what it has to show; `provost open MAC` lets it have its files once.",
                ),
            };
        }
        if !self.fetched.is_empty() {
            return missing(
                format!("it has fetched {}, and not all that it would get now", self.fetched.join(", ")),
                "Wait, or look at `provost explain MAC` for the files that it reads; a restart makes it fetch the rest.",
            );
        }
        if let Some(why) = &self.refused {
            return missing(
                format!("it has announced itself, and was given no answer: {why}"),
                "If it is yours, enrol it: `provost approve MAC`, or write it into profiles/.",
            );
        }
        match (&self.took, self.told) {
            (Some(Ok(200..300)), _) => missing(
                "it took the URL, and has fetched nothing from there".into(),
                "It cannot reach the URL (`provost explain MAC` has it): look at what `provost doctor` says of the firewall and of the doors, at public_url, and at VLANs between the two.",
            ),
            (Some(Ok(code)), _) => missing(
                format!("it was told the URL, and refused it with {code}"),
                "Look at its own settings for PnP or auto provisioning; some want a restart or a factory reset first.",
            ),
            (Some(Err(why)), _) => missing(
                format!("it was told the URL, and did not answer: {why}"),
                "What is sent to it does not arrive: look at the firewall's rules for what goes out, at the phone's own network, and at VLANs.",
            ),
            (None, true) => missing(
                "it was told the URL, and has not answered yet".into(),
                "It is told again for 32 s. If it stays silent, what is sent to it does not arrive: look at firewalls and VLANs.",
            ),
            (None, false) => missing(
                "nothing was heard of it".into(),
                "Restart it. Then: is PnP on in its own settings, is it in the same network and VLAN as this machine, does `provost doctor` find nothing, does the switch snoop IGMP without a querier (`provost doctor --listen`)? \
                 A phone that was told a URL by DHCP or a cloud service asks nobody; many do so only after a factory reset.",
            ),
        }
    }
}

/// Listens for a phone where no server runs: where and on which interface it was heard, or nothing until then. `ready` is called when it
/// can be heard.
pub fn overhear(
    settings: &Settings,
    mac: [u8; 6],
    until: Instant,
    ready: impl FnOnce() -> io::Result<()>,
) -> io::Result<Option<(SocketAddrV4, String)>> {
    let pnp = &settings.pnp;
    let interfaces = interfaces::list()?;
    let mut ears = Ears::open(pnp.listen, group(pnp.group, pnp.port), ROOM).map_err(io::Error::other)?;
    ears.follow(&interfaces, &pnp.interfaces);
    ready()?;
    while Instant::now() < until {
        let heard = match ears.hear() {
            Ok(heard) => heard,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(error) => {
                // An interface that goes down reports itself here.
                std::thread::sleep(Duration::from_millis(100));
                if until <= Instant::now() {
                    return Err(error);
                }
                None
            }
        };
        let Some(datagram) = heard else { continue };
        let Ok(Message::Request(request)) = provost_sip::read(&datagram.bytes) else { continue };
        let Ok(subscribe) = Subscribe::from_request(&request) else { continue };
        if subscribe.mac.is_some_and(|found| found.address == mac) {
            let name = interfaces.iter().find(|interface| Some(interface.index) == datagram.interface());
            return Ok(Some((datagram.from, name.map(|interface| interface.name.clone()).unwrap_or_default())));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn after(events: &[Value]) -> String {
        let mut boot = Boot::default();
        events.iter().for_each(|event| boot.note(event));
        boot.missing().map(|missing| missing.what).unwrap_or_default()
    }

    #[test]
    fn the_missing_step_is_the_first_that_did_not_come() {
        let announced = json!({ "what": "announced", "plugin": "x" });
        let took = json!({ "what": "notify_answered", "code": 200 });
        let found = json!({ "what": "fetched", "door": "http", "file": "x.cfg", "outcome": "rendered", "bytes": 9 });
        assert_eq!(after(&[]), "nothing was heard of it");
        assert!(
            after(&[json!({ "what": "refused", "reason": "it is in no file" })])
                .ends_with("no answer: it is in no file")
        );
        assert_eq!(after(std::slice::from_ref(&announced)), "it was told the URL, and has not answered yet");
        let silent = json!({ "what": "notify_timed_out", "reason": "nothing came back" });
        assert!(after(&[announced.clone(), silent]).contains("did not answer"));
        assert_eq!(
            after(&[announced.clone(), json!({ "what": "notify_answered", "code": 489 })]),
            "it was told the URL, and refused it with 489"
        );
        assert_eq!(after(&[announced.clone(), took.clone()]), "it took the URL, and has fetched nothing from there");
        let denied = json!({ "what": "denied", "door": "http", "file": "x.cfg", "reason": "it lacks a token" });
        assert_eq!(
            after(&[announced.clone(), took.clone(), denied]),
            "it asked for x.cfg and was refused it: it lacks a token"
        );
        assert!(after(&[announced.clone(), took.clone(), found.clone()]).starts_with("it has fetched x.cfg"));
        let mut boot = Boot { in_step: true, ..Boot::default() };
        assert!(!boot.is_done(), "it may have been in step before it was watched");
        [announced, took, found].iter().for_each(|event| boot.note(event));
        assert_eq!(boot.missing(), None);
    }
}
