//! The servers that phones are told to take their time from, and what time those say it is.
//!
//! That is asked instead of the kernel's own word whether its clock is synchronised: virtual machines whose host keeps the time say no, and
//! so does chrony without `rtcsync`.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rsntp::{Config, SntpClient};
use serde_json::Value;

use crate::facts::{Phone, TimeServer};

/// A server that is there answers at once.
const PATIENCE: Duration = Duration::from_secs(2);
/// Phones whose settings are asked for; what most are told is among those of a few.
const PHONES: usize = 8;
/// Servers that are asked.
const SERVERS: usize = 8;

/// Those that the phones which were seen last are told.
pub(crate) fn told(phones: &[Phone], ask: &dyn Fn(&str) -> Result<Value, String>) -> Vec<String> {
    let mut servers: Vec<String> = Vec::new();
    for phone in phones.iter().filter(|phone| phone.state == "enrolled").take(PHONES) {
        let explanation = ask(&format!("/api/v1/devices/{}/explanation", phone.mac)).unwrap_or_default();
        for server in named(&explanation) {
            if servers.len() < SERVERS && !servers.contains(&server) {
                servers.push(server);
            }
        }
    }
    servers
}

fn named(explanation: &Value) -> Vec<String> {
    let values = explanation["values"].as_array().into_iter().flatten();
    let is_ntp = |valued: &&Value| {
        let rest = valued["field"].as_str().and_then(|field| field.strip_prefix("time.ntp"));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let words = values.filter(is_ntp).flat_map(|valued| match &valued["value"] {
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    });
    words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// What time these say it is, all asked at once. The library's resolver may take its time, and nobody is to wait for it.
pub(crate) fn ask(names: Vec<String>) -> Vec<TimeServer> {
    let until = Instant::now() + PATIENCE * 2;
    let asked: Vec<_> = names
        .into_iter()
        .map(|name| {
            let (tell, told) = mpsc::channel();
            let of = name.clone();
            thread::spawn(move || tell.send(offset(&of)));
            (name, told)
        })
        .collect();
    let answered = asked.into_iter().map(|(name, told)| {
        let left = until.saturating_duration_since(Instant::now());
        TimeServer { name, ahead: told.recv_timeout(left).ok().flatten() }
    });
    answered.collect()
}

/// Seconds by which a server's clock is ahead of this machine's.
fn offset(name: &str) -> Option<f64> {
    let mut config = Config::default().timeout(PATIENCE);
    if name.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) {
        config = config.bind_address(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    }
    Some(SntpClient::with_config(config).synchronize(name).ok()?.clock_offset().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_among_what_a_phone_is_told() {
        let whole = serde_json::json!({ "values": [{ "field": "time.ntp", "value": ["a", "b"] }, { "field": "time.zone", "value": "x" }] });
        assert_eq!(named(&whole), ["a", "b"]);
        let each = serde_json::json!({ "values": [{ "field": "time.ntp.0", "value": "a" }, { "field": "time.ntp_fallback", "value": "x" }] });
        assert_eq!(named(&each), ["a"]);
        assert_eq!(named(&Value::Null), [] as [String; 0]);
    }
}
