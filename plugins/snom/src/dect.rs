//! DECT bases keep servers apart from extensions: an extension names its server by number. And each extension rings one handset.

use provost_plugin::{
    Phone, Spec,
    model::{Dtmf, Handset, Line, Sip, Srtp},
};
use serde::Serialize;

use crate::{
    account::{identity_host, plain_transport, registrar, with_port},
    is_dect,
};

/// What a base has room for.
pub(crate) const SERVERS: usize = 10;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Server {
    alias: Option<String>,
    host: Option<String>,
    outbound: Option<String>,
    transport: Option<String>,
    srtp_auth: Option<&'static str>,
    dtmf: Option<Dtmf>,
    expires: Option<u32>,
    session_timers: Option<bool>,
    /// A base knows only whether.
    keepalive: Option<bool>,
}

/// The servers that the phone's lines use, in the order in which the lines name them.
pub(crate) fn servers(spec: &Spec, phone: &Phone) -> Vec<Server> {
    let mut servers = all_servers(spec, phone);
    servers.truncate(SERVERS);
    servers
}

pub(crate) fn all_servers(spec: &Spec, phone: &Phone) -> Vec<Server> {
    let mut servers = Vec::new();
    if is_dect(phone) {
        for server in phone.settings.lines.iter().filter_map(|line| server(spec, &line.sip)) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
    }
    servers
}

/// The number, counted from 1, of the server that `line` uses.
pub(crate) fn server_of(spec: &Spec, phone: &Phone, line: &Line) -> Option<usize> {
    let wanted = server(spec, &line.sip)?;
    servers(spec, phone).iter().position(|server| *server == wanted).map(|index| index + 1)
}

fn server(spec: &Spec, sip: &Sip) -> Option<Server> {
    let host = identity_host(sip)?;
    let outbound = match &sip.outbound_proxy {
        Some(proxy) => Some(with_port(proxy, sip.outbound_proxy_port)),
        None if sip.domain.is_some() => registrar(sip),
        None => None,
    };
    Some(Server {
        alias: Some(host.clone()),
        host: Some(host),
        outbound,
        transport: plain_transport(spec, sip.transport),
        // What the other words of SRTP are on a base is not known.
        srtp_auth: (sip.srtp == Some(Srtp::Off)).then_some("off"),
        dtmf: sip.dtmf,
        expires: sip.expires,
        session_timers: sip.session_timers,
        keepalive: sip.keepalive.map(|seconds| seconds > 0),
    })
}

/// The handset that `line` rings, and its position. A base without a list of handsets takes them in the order of the lines.
pub(crate) fn handset_of(phone: &Phone, line: &Line) -> Option<(u16, Handset)> {
    let position = line.position?;
    if !is_dect(phone) {
        return None;
    }
    let handsets = &phone.settings.dect.handsets;
    if handsets.is_empty() {
        return Some((position, Handset::default()));
    }
    (1..)
        .zip(handsets)
        .find(|(place, handset)| handset.line.unwrap_or(*place) == position)
        .map(|(place, handset)| (place, handset.clone()))
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Directory<'a> {
    location: &'a str,
    file: &'a str,
}

/// Where a base downloads its central directory, with the file apart from the rest. Only for a list of ours: what else a URL leads to
/// is asked while somebody searches.
pub(crate) fn directory(phone: &Phone) -> Option<Directory<'_>> {
    let remote = phone.settings.phonebook.remote.first().filter(|remote| remote.book.is_some())?;
    let url = remote.url.as_deref()?;
    let (location, file) = url.split_at(url.rfind('/')? + 1);
    Some(Directory { location, file })
}
