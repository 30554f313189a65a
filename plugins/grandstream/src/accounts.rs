//! Which P value holds what of which account, and what of an account has to be decided before it can be printed.
//!
//! The numbers of the desk phones follow a rule of position, those of the analogue adapters do not; both are tables here, so that the
//! templates can say `<{{ p.user }}>{{ line.username }}</{{ p.user }}>`. Aliases need no numbers: `account.2.sip.userid`.

use provost_plugin::{
    Secret,
    model::{Codec, Line, Phone, Transport},
};
use serde_json::{Map, Value, json};

use crate::family::{Family, Numbering};

/// How the number of a value follows from the position of its account.
#[derive(Clone, Copy)]
enum Rule {
    /// A block of its own for each account but the first: 401, 501, 601, 1701, 1801.
    Block(u16),
    /// 100 further on for each account: 2312, 2412, 2512.
    Step,
}

use Rule::{Block, Step};

/// Desk phones: what it is, its number for account 1, and the rule for the others.
const DESK: &[(&str, u16, Rule)] = &[
    ("enabled", 271, Block(1)),
    ("label", 270, Block(17)),
    ("server", 47, Block(2)),
    ("backup_server", 2312, Step),
    ("outbound_proxy", 48, Block(3)),
    ("backup_outbound_proxy", 2333, Step),
    ("user", 35, Block(4)),
    ("auth_user", 36, Block(5)),
    ("password", 34, Block(6)),
    ("display_name", 3, Block(7)),
    ("dns_mode", 103, Block(8)),
    ("expires", 32, Block(12)),
    ("nat", 52, Block(14)),
    ("mwi", 99, Block(15)),
    ("ringtone", 104, Block(23)),
    ("auto_answer", 90, Block(25)),
    ("voicemail", 33, Block(26)),
    ("srtp", 183, Block(43)),
    ("blf_list_uri", 134, Block(44)),
    ("transport", 130, Block(48)),
    ("dial_plan", 290, Block(59)),
    ("retry", 138, Block(71)),
    ("pickup_code", 1347, Block(81)),
    ("dtmf_in_audio", 2301, Step),
    ("dtmf_in_rtp", 2302, Step),
    ("dtmf_in_sip", 2303, Step),
    ("conference_uri", 2318, Step),
    ("dnd_on", 2344, Step),
    ("dnd_off", 2345, Step),
    ("session_timers", 2395, Step),
    ("forward_busy_on", 26009, Step),
    ("forward_busy_off", 26010, Step),
    ("forward_no_answer_on", 26011, Step),
    ("forward_no_answer_off", 26012, Step),
    ("forward_always_on", 26013, Step),
    ("forward_always_off", 26014, Step),
];

/// First numbers of the blocks of accounts 2 to 6. The GRP phones number account 5 differently, which is why they are told by alias.
const BLOCKS: [u16; 5] = [400, 500, 600, 1700, 1800];

/// Forwarding by the codes of the PBX, which the GXP16xx do not have.
const NOT_ON_GXP16: &[&str] = &[
    "forward_busy_on",
    "forward_busy_off",
    "forward_no_answer_on",
    "forward_no_answer_off",
    "forward_always_on",
    "forward_always_off",
];

/// Preferred codecs of account 1; the others have them in a row from 51 of their block.
const DESK_CODECS: [u16; 8] = [57, 58, 59, 60, 61, 62, 46, 98];

/// Adapters: what it is, and its number for the first and the second port.
const ADAPTER: &[(&str, u16, u16)] = &[
    ("enabled", 271, 401),
    ("server", 47, 747),
    ("backup_server", 967, 987),
    ("outbound_proxy", 48, 748),
    ("backup_outbound_proxy", 2333, 2433),
    ("user", 35, 735),
    ("auth_user", 36, 736),
    ("password", 34, 734),
    ("display_name", 3, 703),
    ("dns_mode", 103, 702),
    ("nat", 52, 730),
    ("expires", 32, 732),
    ("retry", 138, 471),
    ("transport", 130, 830),
    ("mwi", 99, 709),
    ("srtp", 183, 443),
    ("dtmf_first", 850, 860),
    ("dtmf_second", 851, 861),
    ("dtmf_third", 852, 862),
    ("conference_uri", 2318, 2418),
    ("session_timers", 2395, 2495),
    ("dial_plan", 4200, 4201),
];

const ADAPTER_CODECS: [[u16; 8]; 2] = [[57, 58, 59, 60, 61, 62, 46, 98], [757, 758, 759, 760, 761, 762, 814, 815]];

/// The P values of one account by what they hold; every name that a template may ask for is there, as `none` where the family has no
/// such value. Nothing for an account whose numbers are not known.
fn p_values(numbering: Numbering, position: u16) -> Option<Map<String, Value>> {
    let place = usize::from(position.checked_sub(1)?);
    let mut names: Map<String, Value> = DESK
        .iter()
        .map(|row| row.0)
        .chain(ADAPTER.iter().map(|row| row.0))
        .map(|name| (name.to_owned(), Value::Null))
        .collect();
    match numbering {
        Numbering::Adapter => {
            for (name, first, second) in ADAPTER {
                names.insert((*name).to_owned(), number(*[first, second].get(place)?));
            }
        }
        Numbering::Desk | Numbering::SmallDesk => {
            let block = if place == 0 { None } else { Some(BLOCKS.get(place - 1)?) };
            for (name, first, rule) in DESK {
                if numbering == Numbering::SmallDesk && NOT_ON_GXP16.contains(name) {
                    continue;
                }
                names.insert(
                    (*name).to_owned(),
                    match (block, rule) {
                        (None, _) => number(first),
                        (Some(block), Block(offset)) => number(&(block + offset)),
                        (Some(_), Step) => number(&(first + 100 * (position - 1))),
                    },
                );
            }
        }
    }
    Some(names)
}

fn number(number: &u16) -> Value {
    format!("P{number}").into()
}

fn codec_p_value(numbering: Numbering, position: u16, choice: u16) -> Option<String> {
    let place = usize::from(position.checked_sub(1)?);
    let choice = usize::from(choice - 1);
    let number = match numbering {
        Numbering::Adapter => *ADAPTER_CODECS.get(place)?.get(choice)?,
        _ if place == 0 => *DESK_CODECS.get(choice)?,
        _ => BLOCKS.get(place - 1)? + 51 + u16::try_from(choice).ok()?,
    };
    Some(format!("P{number}"))
}

/// The accounts of a phone as the templates print them: `line` as the profile has it, `p` the names of its P values (none with
/// aliases), and beside them what had to be decided.
pub(crate) fn accounts(family: &Family, phone: &Phone) -> Vec<Value> {
    let as_json = Secret::exposed(|| json!(phone.settings.lines));
    let lines = as_json.as_array().map_or(&[][..], Vec::as_slice);
    phone
        .settings
        .lines
        .iter()
        .zip(lines)
        .filter_map(|(line, line_json)| {
            let position = line.position?;
            // What is said about ports that a model lacks may mean something else on it.
            if phone.capabilities.lines > 0 && position > phone.capabilities.lines {
                return None;
            }
            let p = if family.aliases { Map::new() } else { p_values(family.numbering, position)? };
            let (server, outbound_proxy) = servers(line);
            Some(json!({
                "number": position,
                "line": line_json,
                "p": p,
                "server": server,
                "outbound_proxy": outbound_proxy,
                "transport": line.sip.transport.filter(|transport| *transport != Transport::Dns),
                "dns_mode": line.sip.transport.map(|transport| if transport == Transport::Dns { "naptr" } else { "a" }),
                "nat": nat(line),
                "codecs": codecs(family, line, position),
                "ringtone": line.ringtone.as_ref().or(phone.settings.audio.ringtone.as_ref()),
            }))
        })
        .collect()
}

/// P values that switch off the accounts that the model has and the profile does not use: what an older file put there would stay.
pub(crate) fn unused(family: &Family, phone: &Phone) -> Vec<Value> {
    let used = |position: &u16| phone.settings.lines.iter().any(|line| line.position == Some(*position));
    (1..=phone.capabilities.lines)
        .filter(|position| phone.mac.is_some() && !used(position))
        .filter_map(|position| {
            let p =
                if family.aliases { Value::Null } else { p_values(family.numbering, position)?.remove("enabled")? };
            Some(json!({ "number": position, "p": p }))
        })
        .collect()
}

/// Whether an account at this position can be told to the phone at all.
pub(crate) fn is_known(family: &Family, position: u16) -> bool {
    family.aliases || p_values(family.numbering, position).is_some()
}

/// "SIP server" is the domain of the address to these phones; where the registrar is another host, it becomes the outbound proxy.
fn servers(line: &Line) -> (Option<String>, Option<String>) {
    let with_port = |host: &Option<String>, port: Option<u16>| {
        host.as_ref().map(|host| port.map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
    };
    let sip = &line.sip;
    let registrar = with_port(&sip.server, sip.port);
    let proxy = with_port(&sip.outbound_proxy, sip.outbound_proxy_port);
    match &sip.domain {
        Some(domain) if sip.server.as_ref() != Some(domain) => (Some(domain.clone()), proxy.or(registrar)),
        _ => (registrar, proxy),
    }
}

fn nat(line: &Line) -> Option<&'static str> {
    match (&line.sip.stun_server, line.sip.keepalive) {
        (Some(_), _) => Some("stun"),
        (None, Some(0)) => Some("off"),
        (None, Some(_)) => Some("keepalive"),
        (None, None) => None,
    }
}

/// Every choice is filled, the last codec repeating: a choice that is left alone would keep a codec that nobody asked for.
fn codecs(family: &Family, line: &Line, position: u16) -> Vec<Value> {
    let asked = line.sip.codecs.as_deref().unwrap_or_default();
    let known: Vec<Codec> = asked.iter().copied().filter(|codec| family.can_play(*codec)).collect();
    let Some(last) = known.last() else {
        return Vec::new();
    };
    (1..=family.codec_choices)
        .filter_map(|choice| {
            let codec = known.get(usize::from(choice - 1)).unwrap_or(last);
            let p = if family.aliases { None } else { Some(codec_p_value(family.numbering, position, choice)?) };
            Some(json!({ "choice": choice, "p": p, "codec": codec }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(numbering: Numbering, position: u16, what: &str) -> Vec<Value> {
        let p = p_values(numbering, position).unwrap();
        what.split(' ').map(|name| p[name].clone()).collect()
    }

    #[test]
    fn the_numbers_of_an_account_follow_from_its_position() {
        let what =
            "enabled label server backup_server backup_outbound_proxy voicemail transport srtp dtmf_in_sip pickup_code";
        let first = ["P271", "P270", "P47", "P2312", "P2333", "P33", "P130", "P183", "P2303", "P1347"];
        let second = ["P401", "P417", "P402", "P2412", "P2433", "P426", "P448", "P443", "P2403", "P481"];
        let sixth = ["P1801", "P1817", "P1802", "P2812", "P2833", "P1826", "P1848", "P1843", "P2803", "P1881"];
        for (position, expected) in [(1, first), (2, second), (6, sixth)] {
            assert_eq!(names(Numbering::Desk, position, what), expected, "account {position}");
        }
        assert!(p_values(Numbering::Desk, 7).is_none() && p_values(Numbering::Desk, 0).is_none());
        let port = "enabled server user auth_user password display_name dtmf_first label";
        assert_eq!(
            names(Numbering::Adapter, 2, port),
            [
                json!("P401"),
                "P747".into(),
                "P735".into(),
                "P736".into(),
                "P734".into(),
                "P703".into(),
                "P860".into(),
                Value::Null
            ]
        );
        assert!(p_values(Numbering::Adapter, 3).is_none());
        let choices = |position| {
            (1..=8).map(|choice| codec_p_value(Numbering::Desk, position, choice).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(choices(1), ["P57", "P58", "P59", "P60", "P61", "P62", "P46", "P98"]);
        assert_eq!(choices(5), ["P1751", "P1752", "P1753", "P1754", "P1755", "P1756", "P1757", "P1758"]);
    }

    #[test]
    fn a_domain_that_is_not_the_registrar_turns_the_registrar_into_the_proxy() {
        let mut line = Line::default();
        line.sip.server = Some("10.0.0.2".into());
        line.sip.port = Some(5070);
        assert_eq!(servers(&line), (Some("10.0.0.2:5070".into()), None));
        line.sip.domain = Some("example.net".into());
        assert_eq!(servers(&line), (Some("example.net".into()), Some("10.0.0.2:5070".into())));
        line.sip.outbound_proxy = Some("proxy.example.net".into());
        assert_eq!(servers(&line), (Some("example.net".into()), Some("proxy.example.net".into())));
    }
}
