//! One line's account: where its packets go, and on a DECT base which handset rings.

use provost_plugin::{
    Phone, Spec,
    model::{Forward, Line, Sip, Transport},
};
use serde::Serialize;

use crate::{dect, is_dect, words};

#[derive(Debug, Serialize)]
pub(crate) struct Account {
    enabled: bool,
    user: Option<String>,
    host: Option<String>,
    outbound: Option<String>,
    codecs: Option<String>,
    stun: Option<String>,
    forwards: Vec<Forwarding>,
    handset: Option<u16>,
    ipei: Option<String>,
    server: Option<usize>,
}

/// Call forwarding as a DECT base has it: `fwd_all_enabled`, `fwd_all_target`.
#[derive(Debug, Serialize)]
struct Forwarding {
    setting: &'static str,
    enabled: Option<bool>,
    target: Option<String>,
    timeout: Option<u16>,
}

pub(crate) fn account(spec: &Spec, phone: &Phone, line: &Line) -> Account {
    let sip = &line.sip;
    let handset = dect::handset_of(phone, line);
    Account {
        enabled: line.enabled.unwrap_or(true),
        user: line.username.clone().or_else(|| line.number.clone()),
        host: identity_host(sip),
        outbound: outbound(spec, sip),
        codecs: words::codecs(spec, sip.codecs.as_deref(), sip.dtmf),
        stun: sip.stun_server.as_ref().map(|host| with_port(host, sip.stun_port)),
        forwards: if is_dect(phone) { forwards(line) } else { Vec::new() },
        handset: handset.as_ref().map(|(position, _)| *position),
        ipei: handset.and_then(|(_, handset)| handset.ipei),
        server: dect::server_of(spec, phone, line),
    }
}

/// `user_host`: the host of the line's own SIP address, and the registrar unless `user_outbound` says otherwise.
pub(crate) fn identity_host(sip: &Sip) -> Option<String> {
    sip.domain.clone().or_else(|| registrar(sip))
}

pub(crate) fn registrar(sip: &Sip) -> Option<String> {
    sip.server.as_ref().map(|host| with_port(host, sip.port))
}

/// `user_outbound`: where packets go if not where `user_host` says, and the only place where snom is told the transport. A second
/// host, behind a comma, is tried when the first does not answer.
fn outbound(spec: &Spec, sip: &Sip) -> Option<String> {
    let backup_server = sip.backup_server.as_ref().map(|host| with_port(host, sip.backup_port));
    let backup_proxy = sip.backup_outbound_proxy.as_ref().map(|host| with_port(host, sip.backup_outbound_proxy_port));
    let proxy = sip.outbound_proxy.as_ref().map(|host| with_port(host, sip.outbound_proxy_port));
    let transport = sip.transport.and_then(|transport| words::word(spec, "transport", &words::name_of(&transport)));
    let said_by_user_host = sip.domain.is_none() && backup_server.is_none() && transport.is_none();
    let hosts = match proxy {
        Some(proxy) => [Some(proxy), backup_proxy],
        None if said_by_user_host => return None,
        None => [registrar(sip), backup_server],
    };
    let suffix = transport.map(|transport| format!(";transport={transport}")).unwrap_or_default();
    let hosts: Vec<String> = hosts.into_iter().flatten().map(|host| format!("{host}{suffix}")).collect();
    if hosts.is_empty() { None } else { Some(hosts.join(",")) }
}

/// `host:port`, with brackets around an IPv6 address, whose colons would be taken for the port's.
pub(crate) fn with_port(host: &str, port: Option<u16>) -> String {
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    port.map_or(host.clone(), |port| format!("{host}:{port}"))
}

fn forwards(line: &Line) -> Vec<Forwarding> {
    let forward = |setting, forward: &Option<Forward>| {
        forward.as_ref().map(|forward| Forwarding {
            setting,
            enabled: forward.enabled,
            target: forward.target.clone(),
            timeout: forward.timeout,
        })
    };
    let Some(forwards) = &line.forward else {
        return Vec::new();
    };
    [
        forward("fwd_all", &forwards.always),
        forward("fwd_busy", &forwards.busy),
        forward("fwd_time", &forwards.no_answer),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// snom is told of no transport where DNS is to decide.
pub(crate) fn plain_transport(spec: &Spec, transport: Option<Transport>) -> Option<String> {
    words::word(spec, "transport", &words::name_of(&transport?))
}
