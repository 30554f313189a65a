//! Looks: the one place where the kernel, the firewall's tools, the disk and the running server are asked.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use provost_server::{limits, pnp::interfaces, rtnetlink::Kernel, settings::Settings};
use serde_json::Value;

use crate::{
    NotLooked, Report, Seen, checks,
    facts::{Clock, Door, Echo, Facts, Held, Link, Listened, NotBelieved, Phone, Resolver, Told, Wanted},
    firewall::{Chain, Fate, iptables, nft},
    link::{is_believed, surroundings, way_to},
    ntp,
    probe::{Probe, Probes, probe},
    querier::Listening,
    tables::{Table, members, sockets},
};

/// Phones that are looked at; more tell nothing new of the network.
const PHONES: usize = 200;
/// The longest list of rules that is read.
const RULES: u64 = 16 << 20;
const RESOLVER: &str = "/etc/resolv.conf";
const NEIGHBOURS: &str = "/proc/sys/net/ipv4/neigh/default/gc_thresh3";
/// Names that are looked up; a site has some.
const NAMES: usize = 64;
/// For a tool that lists rules, a DNS server, a name.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the server may take to count what it heard.
const COUNTED: Duration = Duration::from_secs(2);

/// Looks at everything, and listens for IGMP queries for as long as is said. `ask` puts a question to the running server's API, and says why there is no answer.
pub fn look(settings: &Settings, listen: Option<Duration>, ask: &dyn Fn(&str) -> Result<Value, String>) -> Report {
    let mut not_looked = Vec::new();
    let mut not = |check: &'static str, why: String| not_looked.push(NotLooked { check, why });
    let began = Instant::now();
    let listening = listen.and_then(|_| Listening::open().map_err(|error| not("snooping", cannot_listen(&error))).ok());
    let wanted = wanted(settings);
    let sockets = held();
    let told = match ask("/api/v1/network") {
        Ok(answer) => serde_json::from_value::<Told>(answer).map_err(|error| not("server", error.to_string())).ok(),
        Err(why) => {
            // Where none runs, that is a finding and not something that could not be looked at.
            if sockets.iter().any(|held| held.is_ours() || held.holder.is_none()) {
                not("server", why);
            }
            None
        }
    };
    let (phones, phones_in_all) =
        match told.as_ref().map(|_| ask(&format!("/api/v1/devices?sort=last_seen&limit={PHONES}"))) {
            Some(Ok(answer)) => {
                let phones = serde_json::from_value::<Vec<Phone>>(answer["items"].clone()).unwrap_or_default();
                (phones, answer["total"].as_u64().unwrap_or(0))
            }
            Some(Err(why)) => {
                not("subnet", why);
                (Vec::new(), 0)
            }
            None => (Vec::new(), 0),
        };
    let mut links = match links(wanted.group.ip()) {
        Ok(links) => links,
        Err(error) => {
            not("links", format!("the kernel does not say which interfaces there are: {error}"));
            Vec::new()
        }
    };
    links.sort_by_key(|link| link.interface.index);
    let chains = chains().unwrap_or_else(|why| {
        not("firewall", why);
        Vec::new()
    });
    let fit: Vec<_> = links
        .iter()
        .filter(|link| wanted.pnp && link.interface.is_chosen(&wanted.interfaces))
        .map(|link| link.interface.clone())
        .collect();
    let Probes { mut sent, deaf } = probe(wanted.group, &fit);
    let mut unheard = Vec::new();
    match (deaf, &told) {
        (None, None) => {}
        (None, Some(told)) => unheard = missed(told, &sources(&sent, &Echo::CameBack), ask),
        // The server's own ears will do where it has any.
        (Some(_), Some(told)) if told.pnp.socket.is_some() => {
            sent.retain(|probe| probe.echo != Echo::Lost || told.has_joined(&probe.interface));
            let lost = missed(told, &sources(&sent, &Echo::Lost), ask);
            let heard = |probe: &&mut Probe| probe.echo == Echo::Lost && !lost.contains(&probe.interface);
            sent.iter_mut().filter(heard).for_each(|probe| probe.echo = Echo::CameBack);
        }
        (Some(why), _) => {
            sent.retain(|probe| probe.echo != Echo::Lost);
            if !fit.is_empty() {
                not("echo", format!("{why}, and no server can be asked what it hears; root may"));
            }
        }
    }
    let echoes = sent.into_iter().map(|probe| (probe.interface, probe.echo)).collect();
    let not_believed = not_believed(&links, &fit, &phones, told.as_ref()).unwrap_or_else(|error| {
        not("reverse-path", format!("the kernel does not say how it would route: {error}"));
        Vec::new()
    });
    let resolver = resolver(settings).map_err(|error| not("resolver", cannot_read(&error))).ok();
    let mut servers = ntp::told(&phones, ask);
    if resolver.is_none() {
        servers.retain(|server| server.parse::<IpAddr>().is_ok());
    }
    let mut facts = Facts {
        listened: None,
        clock: Clock { now: SystemTime::now(), newest: newest(&settings.state), servers: ntp::ask(servers) },
        resolver,
        buffer_limit: read_number("/proc/sys/net/core/rmem_max"),
        may_exceed: has_net_admin(),
        neighbour_limit: read_number(NEIGHBOURS),
        wanted,
        links,
        sockets,
        told,
        phones,
        phones_in_all,
        chains,
        echoes,
        unheard,
        not_believed,
        not_looked: Vec::new(),
    };
    if let Some(why) = open_rules(&facts) {
        not("firewall", why);
    }
    if let (Some(listening), Some(time)) = (listening, listen) {
        let awaited: Vec<u32> = facts.beyond().map(|link| link.interface.index).collect();
        match listening.until(began + time, &awaited) {
            Ok(queries) => facts.listened = Some(Listened { seconds: time.as_secs(), queries }),
            Err(error) => not("snooping", cannot_listen(&error)),
        }
    }
    facts.not_looked = not_looked;
    Report {
        interfaces: facts.links.iter().map(|link| seen(&facts, link)).collect(),
        findings: checks::findings(&facts),
        not_looked: facts.not_looked,
    }
}

fn cannot_read(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{RESOLVER} may not be read from here, so no name can be looked up; `provost doctor` as root may")
        }
        _ => format!("cannot read {RESOLVER}: {error}"),
    }
}

fn cannot_listen(error: &io::Error) -> String {
    format!("cannot listen for IGMP queries: {error}; root may")
}

fn wanted(settings: &Settings) -> Wanted {
    let mut doors = Vec::new();
    if settings.http.enabled {
        doors.push(Door { name: "HTTP", protocol: 6, port: settings.http.port });
    }
    if settings.https.enabled {
        doors.push(Door { name: "HTTPS", protocol: 6, port: settings.https.port });
    }
    if settings.tftp.enabled {
        doors.push(Door { name: "TFTP", protocol: 17, port: settings.tftp.port });
    }
    let pnp = &settings.pnp;
    Wanted {
        pnp: pnp.enabled,
        group: provost_server::pnp::listener::group(pnp.group, pnp.port),
        interfaces: pnp.interfaces.clone(),
        off_link: pnp.off_link,
        receive_buffer: pnp.receive_buffer,
        reply_port: pnp.reply_port,
        doors,
    }
}

/// Every socket that could be in a phone's way, with its holder.
fn held() -> Vec<Held> {
    let tables =
        [("udp", Table::Udp), ("udp6", Table::Udp), ("tcp", Table::Tcp), ("tcp6", Table::Tcp), ("raw", Table::Raw)];
    let all: Vec<_> = tables
        .into_iter()
        .filter_map(|(name, table)| Some((fs::read_to_string(format!("/proc/self/net/{name}")).ok()?, table)))
        .flat_map(|(text, table)| sockets(&text, table))
        .collect();
    let inodes: Vec<u64> = all.iter().map(|socket| socket.inode).collect();
    let (holders, _) = limits::holders(&inodes).unwrap_or_default();
    let held = all.into_iter().map(|socket| {
        let holder = holders.iter().find(|(inode, _)| *inode == socket.inode).map(|(_, holder)| holder.clone());
        Held { socket, holder }
    });
    held.collect()
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn links(group: &Ipv4Addr) -> io::Result<Vec<Link>> {
    let interfaces = interfaces::list()?;
    let mut kernel = Kernel::open()?;
    let members = members(&fs::read_to_string("/proc/self/net/igmp").unwrap_or_default(), *group);
    let filter = |name: &str| read_number(&format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")).unwrap_or(0) as u8;
    let name_of = |index: u32| {
        interfaces.iter().find(|interface| interface.index == index).map(|interface| interface.name.clone())
    };
    let mut links = Vec::new();
    let mut carried = Vec::new();
    for interface in &interfaces {
        // It may be gone again by now.
        let Ok(around) = surroundings(&mut kernel, interface.index) else { continue };
        if let (Some(vlan), Some(on)) = (around.vlan, around.on) {
            carried.push((on, vlan));
        }
        links.push(Link {
            loopback: around.loopback,
            broadcast: around.broadcast,
            carrier: around.carrier,
            vlan: around.vlan.map(|vlan| (vlan, around.on.and_then(name_of))),
            carries: Vec::new(),
            bridge: around.bridge,
            part_of: around.part_of.and_then(name_of),
            members: members.iter().find(|(index, _)| *index == interface.index).map_or(0, |(_, users)| *users),
            reverse_path: filter("all").max(filter(&interface.name)),
            interface: interface.clone(),
        });
    }
    for link in &mut links {
        link.carries = carried.iter().filter(|(on, _)| *on == link.interface.index).map(|(_, vlan)| *vlan).collect();
    }
    Ok(links)
}

/// The firewall's rules by all tools that there are.
fn chains() -> Result<Vec<Chain>, String> {
    let mut chains = Vec::new();
    let mut why = Vec::new();
    let mut found = false;
    match run("nft", &["--json", "list", "ruleset"]) {
        Ok(Some(text)) => match nft::read(&text) {
            Some(read) => {
                found = true;
                chains.extend(read);
            }
            // It has nothing to say where there is no rule at all.
            None if text.trim().is_empty() => found = true,
            None => why.push("nft does not write JSON here".to_owned()),
        },
        Ok(None) => {}
        Err(error) => why.push(error),
    }
    for program in ["iptables-save", "iptables-legacy-save"] {
        match run(program, &[]) {
            Ok(Some(text)) => {
                found = true;
                let read = iptables::read(&text);
                // What nft lists of iptables lacks what only that understands.
                for chain in &read {
                    let table = chain.table.replace("iptables", "nft ip");
                    chains.retain(|other: &Chain| other.table != table || other.name != chain.name);
                }
                for chain in read {
                    if !chains.contains(&chain) {
                        chains.push(chain);
                    }
                }
            }
            Ok(None) => {}
            Err(error) => why.push(error),
        }
    }
    match (found, why.is_empty()) {
        (true, _) => Ok(chains),
        (false, false) => {
            why.dedup();
            Err(format!("{}; `provost doctor` as root may", why.join(", ")))
        }
        (false, true) => Err("neither nft nor iptables-save is installed, with which rules could be read".into()),
    }
}

/// What a tool prints; none where it is not installed.
fn run(program: &str, words: &[&str]) -> Result<Option<String>, String> {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];
    let Some(path) = places.iter().map(|place| Path::new(place).join(program)).find(|path| path.is_file()) else {
        return Ok(None);
    };
    let mut child = Command::new(path)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| match error.kind() {
            // Landlock, mostly, and then it is so of all.
            io::ErrorKind::PermissionDenied => "no program that lists rules may be started from here".to_owned(),
            _ => format!("cannot start {program}: {error}"),
        })?;
    let stdout = child.stdout.take();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.map(|stdout| stdout.take(RULES).read_to_string(&mut text));
        let _ = tell.send(read.transpose().map(|_| text));
    });
    let text = told.recv_timeout(PATIENCE * 2);
    if text.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| format!("cannot wait for {program}: {error}"))?;
    match text {
        Ok(Ok(text)) if status.success() => Ok(Some(text)),
        Ok(Ok(_)) => Err(format!("{program} does not list the rules ({status})")),
        Ok(Err(error)) => Err(format!("cannot read what {program} prints: {error}")),
        Err(_) => Err(format!("{program} did not end")),
    }
}

/// Whether a rule that is not understood may decide over phones, where our own SUBSCRIBE does not show that it lets them through.
fn open_rules(facts: &Facts) -> Option<String> {
    let is_open = facts.fit().any(|link| {
        let came_back = facts.echoes.iter().any(|(name, echo)| name == link.name() && *echo == Echo::CameBack);
        !came_back && checks::fates(facts, link).contains(&Fate::Open)
    });
    is_open.then(|| "it has rules that are not understood here, and that may drop what phones send".into())
}

/// Where those of which this became were sent from, by interface.
fn sources<'a>(probes: &'a [Probe], echo: &Echo) -> Vec<(&'a str, String)> {
    let such = probes.iter().filter(|probe| probe.echo == *echo);
    such.filter_map(|probe| Some((probe.interface.as_str(), probe.from?.to_string()))).collect()
}

/// On which of these interfaces the server did not hear what was sent from there.
fn missed(before: &Told, sent: &[(&str, String)], ask: &dyn Fn(&str) -> Result<Value, String>) -> Vec<String> {
    let count = |told: &Told, name: &str| {
        told.interfaces.iter().find(|told| told.name == name).map(|told| (told.datagrams, told.last_from.clone()))
    };
    let until = Instant::now() + COUNTED;
    loop {
        let Ok(now) = ask("/api/v1/network")
            .and_then(|answer| serde_json::from_value::<Told>(answer).map_err(|error| error.to_string()))
        else {
            return Vec::new();
        };
        let is_missed = |(name, from): &&(&str, String)| {
            let (then, now) = (count(before, name), count(&now, name));
            before.has_joined(name)
                && now.as_ref().is_some_and(|(datagrams, last)| {
                    last.as_ref() != Some(from) && then.is_some_and(|(then, _)| then == *datagrams)
                })
        };
        let missed: Vec<String> = sent.iter().filter(is_missed).map(|(name, _)| (*name).to_owned()).collect();
        if missed.is_empty() || Instant::now() > until {
            return missed;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Phones, seen or thought of, that the reverse-path filter would silence.
fn not_believed(
    links: &[Link],
    fit: &[interfaces::Interface],
    phones: &[Phone],
    told: Option<&Told>,
) -> io::Result<Vec<NotBelieved>> {
    let mut kernel = Kernel::open()?;
    let mut refused = Vec::new();
    let own: BTreeSet<Ipv4Addr> =
        links.iter().flat_map(|link| &link.interface.addresses).map(|address| address.address).collect();
    for link in links.iter().filter(|link| link.reverse_path != 0 && fit.contains(&link.interface)) {
        let mut senders = BTreeSet::new();
        for address in &link.interface.addresses {
            let (number, mask) = (u32::from(address.address), u32::from(address.mask));
            let hosts = (1..!mask).take(64).map(|host| Ipv4Addr::from(number & mask | host));
            senders.extend(hosts.into_iter().find(|host| !own.contains(host)));
        }
        let here = phones.iter().filter(|phone| phone.interface.as_deref() == Some(link.name()));
        senders.extend(here.filter_map(Phone::ipv4).take(64));
        let last = told.iter().flat_map(|told| &told.interfaces).find(|told| told.name == link.name());
        let last = last.and_then(|told| told.last_from.as_ref()?.parse::<std::net::SocketAddrV4>().ok());
        senders.extend(last.map(|last| *last.ip()));
        let Some(at) = link.interface.addresses.first() else { continue };
        for from in senders.into_iter().filter(|from| !own.contains(from)) {
            if !is_believed(&mut kernel, from, link.interface.index, at.address)? {
                let back = way_to(&mut kernel, from)?;
                let back = back.and_then(|index| links.iter().find(|link| link.interface.index == index));
                refused.push(NotBelieved {
                    interface: link.name().to_owned(),
                    from,
                    back: back.map(|link| link.name().to_owned()),
                });
                break;
            }
        }
    }
    Ok(refused)
}

/// The file of the server's own that was written last.
fn newest(state: &Path) -> Option<(PathBuf, SystemTime)> {
    let entries = fs::read_dir(state).ok()?.flatten().take(1000);
    entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.modified().ok()?))).max_by_key(|(_, at)| *at)
}

/// Whether this process may exceed the limit on buffers: CAP_NET_ADMIN is the 13th bit.
fn has_net_admin() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).is_some_and(|bits| bits & (1 << 12) != 0)
}

/// Whoever may not read its file can look up no name either, and that is no fault of the machine.
fn resolver(settings: &Settings) -> io::Result<Resolver> {
    let text = match fs::read_to_string(RESOLVER) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let servers = name_servers(&text);
    let silent = without(&servers, |server| answers(*server));
    let urls = settings.public_url.iter().chain(settings.networks.iter().map(|network| &network.public_url));
    let hosts: BTreeSet<String> = urls.filter_map(|url| host(url)).collect();
    let hosts: Vec<String> = hosts.into_iter().take(NAMES).collect();
    let unknown = without(&hosts, |name| is_known(name));
    Ok(Resolver { servers, silent, unknown })
}

/// Those for which it is not so; all are asked at once, so that it takes no longer than the slowest.
fn without<T: Clone + Sync>(all: &[T], is_so: impl Fn(&T) -> bool + Sync) -> Vec<T> {
    let is_so = &is_so;
    thread::scope(|scope| {
        let asked: Vec<_> = all.iter().map(|one| (one, scope.spawn(move || is_so(one)))).collect();
        let not_so = asked.into_iter().filter_map(|(one, asked)| (!asked.join().unwrap_or(false)).then(|| one.clone()));
        not_so.collect()
    })
}

fn name_servers(text: &str) -> Vec<IpAddr> {
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next());
    // The resolver of the C library takes three.
    named.filter_map(|address| address.split('%').next()?.parse().ok()).take(3).collect()
}

/// The name in a URL; none where an address stands.
fn host(url: &str) -> Option<String> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    (!host.starts_with('[') && host.parse::<IpAddr>().is_err() && !host.is_empty()).then(|| host.to_owned())
}

fn is_known(name: &str) -> bool {
    let (tell, told) = mpsc::channel();
    let name = name.to_owned();
    // The library's resolver may take its time, and nobody is to wait for it.
    thread::spawn(move || {
        tell.send((name.as_str(), 80).to_socket_addrs().is_ok_and(|mut found| found.next().is_some()))
    });
    told.recv_timeout(PATIENCE * 2).unwrap_or(false)
}

/// Whether a DNS server says anything at all: it is asked for the root's name servers, which needs no name of anybody.
fn answers(server: IpAddr) -> bool {
    const QUESTION: &[u8] = b"\x50\x56\x01\x00\0\x01\0\0\0\0\0\0\0\0\x02\0\x01";
    let ask = || -> io::Result<bool> {
        let socket = UdpSocket::bind(match server {
            IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            IpAddr::V6(_) => SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0)),
        })?;
        socket.connect((server, 53))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(QUESTION)?;
        let mut answer = [0; 2048];
        let length = socket.recv(&mut answer)?;
        Ok(length >= 12 && answer[..2] == QUESTION[..2])
    };
    ask().unwrap_or(false)
}

/// One interface in words.
fn seen(facts: &Facts, link: &Link) -> Seen {
    let interface = &link.interface;
    let mut how: Vec<String> = Vec::new();
    how.push(match (interface.up, link.carrier) {
        (false, _) => "down".into(),
        (true, false) => "up, no link".into(),
        (true, true) => "up".into(),
    });
    if !interface.multicast && !link.loopback {
        how.push("no multicast".into());
    }
    match interface.addresses.is_empty() {
        true => how.push("no IPv4 address".into()),
        false => how.extend(interface.addresses.iter().map(ToString::to_string)),
    }
    if let Some((vlan, on)) = &link.vlan {
        how.push(format!("VLAN {vlan} of {}", on.as_deref().unwrap_or("?")));
    }
    if let Some(bridge) = &link.part_of {
        how.push(format!("part of {bridge}"));
    }
    if link.bridge.as_ref().is_some_and(|bridge| bridge.snoops) {
        how.push("a bridge that snoops IGMP".into());
    }
    if let Some(why) = interface.unfit(&facts.wanted.interfaces) {
        how.push(format!("not listened on: {why}"));
        return Seen { interface: interface.name.clone(), how };
    }
    let group = facts.wanted.group.ip();
    how.push(match link.members {
        0 => format!("{group} not joined"),
        1 => format!("{group} joined"),
        more => format!("{group} joined by {more} sockets"),
    });
    let ears = facts.sockets.iter().filter(|held| held.socket.address == *group && held.socket.table != Table::Tcp);
    let who: BTreeSet<String> = ears.map(Held::who).collect();
    if link.members > 0 && !who.is_empty() {
        how.push(format!("heard by {}", who.into_iter().collect::<Vec<_>>().join(" and ")));
    }
    if let Some((_, echo)) = facts.echoes.iter().find(|(name, _)| *name == interface.name) {
        how.push(match echo {
            Echo::CameBack => "a SUBSCRIBE sent there comes back".into(),
            Echo::Lost => "a SUBSCRIBE sent there is lost".into(),
            Echo::NotSent(_) => "a SUBSCRIBE cannot be sent there".into(),
        });
    }
    for query in facts.listened.iter().flat_map(|listened| &listened.queries) {
        if query.interface == interface.index {
            let every = query.every.map(|every| format!(" every {every} s")).unwrap_or_default();
            how.push(format!("{} asks for members of groups{every} (IGMP version {})", query.from, query.version));
        }
    }
    Seen { interface: interface.name.clone(), how }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_looked_up_is_found_in_urls_and_files() {
        assert_eq!(host("https://prov.example:8443/a/b"), Some("prov.example".into()));
        assert_eq!(host("http://192.0.2.1:8080/"), None);
        assert_eq!(host("http://[2001:db8::1]:8080/"), None);
        assert_eq!(host("nonsense"), None);
        let text =
            "# x\nsearch lan\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\n  nameserver 9.9.9.9 # y\nnameserver x\n";
        let found: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.53", "fe80::1", "9.9.9.9"]);
        assert_eq!(name_servers(""), [] as [IpAddr; 0]);
    }
}
