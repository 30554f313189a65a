//! What `nft --json list ruleset` writes (libnftables-json(5)).

use std::collections::HashMap;

use serde_json::Value;

use super::{Chain, Condition, Hook, Ranges, Rule, Verdict, prefix, protocol};

/// The chains that packets of phones come through, and those that these call. None: it is not the JSON of nft.
pub(crate) fn read(text: &str) -> Option<Vec<Chain>> {
    let root: Value = serde_json::from_str(text).ok()?;
    let items = root["nftables"].as_array()?;
    let mut sets: HashMap<(String, String), &Value> = HashMap::new();
    let mut chains: Vec<Chain> = Vec::new();
    for item in items {
        if let Some(set) = item.get("set").or_else(|| item.get("map")) {
            sets.insert((table(set), word(set, "name").to_owned()), &set["elem"]);
        }
        if let Some(chain) = item.get("chain").filter(|chain| is_ours(chain)) {
            // What NAT drops is not what firewalls are written with, and its policy counts for first packets only.
            let is_filter = word(chain, "type") != "nat";
            let hook = match word(chain, "hook") {
                "input" | "prerouting" | "ingress" => Some(Hook::In),
                "output" | "postrouting" | "egress" => Some(Hook::Out),
                _ => None,
            };
            chains.push(Chain {
                table: table(chain),
                name: word(chain, "name").to_owned(),
                hook: hook.filter(|_| is_filter),
                devices: words(&chain["dev"]),
                drops: word(chain, "policy") == "drop",
                rules: Vec::new(),
            });
        }
    }
    for rule in items.iter().filter_map(|item| item.get("rule")).filter(|rule| is_ours(rule)) {
        let (of, name) = (table(rule), word(rule, "chain"));
        if let Some(chain) = chains.iter_mut().find(|chain| chain.table == of && chain.name == name) {
            let place = format!("rule {} of chain {name} ({of})", rule["handle"]);
            chain.rules.extend(rules(&rule["expr"], &place, &|set| sets.get(&(of.clone(), set.to_owned())).copied()));
        }
    }
    Some(chains)
}

fn is_ours(item: &Value) -> bool {
    matches!(word(item, "family"), "ip" | "inet" | "netdev")
}

fn word<'a>(item: &'a Value, name: &str) -> &'a str {
    item[name].as_str().unwrap_or_default()
}

fn table(item: &Value) -> String {
    format!("nft {} {}", word(item, "family"), word(item, "table"))
}

/// One word, or a list of words.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(word) => vec![word.clone()],
        Value::Array(words) => words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

type Sets<'a> = &'a dyn Fn(&str) -> Option<&'a Value>;

/// One rule; several where it holds a map of verdicts.
fn rules(expressions: &Value, place: &str, sets: Sets<'_>) -> Vec<Rule> {
    let mut conditions = Vec::new();
    let rule =
        |conditions: &[Condition], verdict| Rule { conditions: conditions.to_vec(), verdict, place: place.to_owned() };
    let mut made = Vec::new();
    for expression in expressions.as_array().into_iter().flatten() {
        let Some((kind, what)) = expression.as_object().and_then(|object| object.iter().next()) else { continue };
        if let Some(verdict) = verdict(kind, what) {
            made.push(rule(&conditions, verdict));
            return made;
        }
        match kind.as_str() {
            "match" => conditions.extend(matches(&what["left"], word(what, "op"), &what["right"], sets)),
            "vmap" => {
                let elements = match what["data"].as_str().and_then(|name| name.strip_prefix('@')) {
                    Some(name) => sets(name),
                    None => Some(&what["data"]["set"]),
                };
                for pair in elements.and_then(Value::as_array).into_iter().flatten() {
                    let Some((kind, to)) = pair[1].as_object().and_then(|object| object.iter().next()) else {
                        continue;
                    };
                    if let Some(verdict) = verdict(kind, to) {
                        let more = matches(&what["key"], "==", &pair[0], sets);
                        made.push(rule(&[conditions.clone(), more].concat(), verdict));
                    }
                }
            }
            // A match or a target of iptables, which nft itself does not understand.
            "xt" if word(what, "type") == "target" => {
                let verdict = if word(what, "name") == "REJECT" { Verdict::Drop } else { Verdict::Next };
                made.push(rule(&conditions, verdict));
                return made;
            }
            "xt" if word(what, "name") == "comment" => {}
            "counter" | "log" | "mangle" | "notrack" | "comment" | "flow" | "ct helper" => {}
            _ => conditions.push(Condition::Unknown),
        }
    }
    made
}

fn verdict(kind: &str, what: &Value) -> Option<Verdict> {
    let target = || word(what, "target").to_owned();
    Some(match kind {
        "accept" => Verdict::Accept,
        "drop" | "reject" => Verdict::Drop,
        "jump" => Verdict::Jump(target()),
        "goto" => Verdict::Goto(target()),
        "return" => Verdict::Return,
        "continue" => Verdict::Next,
        _ => return None,
    })
}

fn matches(left: &Value, op: &str, right: &Value, sets: Sets<'_>) -> Vec<Condition> {
    let named = right.as_str().and_then(|name| name.strip_prefix('@'));
    let right = match named.map(sets) {
        Some(Some(elements)) => elements,
        // A set without elements has no list of them.
        Some(None) => return vec![Condition::Unknown],
        None => right,
    };
    let is_empty_set = named.is_some() && right.is_null();
    let (also, condition) = match left.as_object().and_then(|object| object.iter().next()) {
        Some((kind, what)) => one(kind, what, right, op),
        None => (None, Condition::Unknown),
    };
    let condition = if is_empty_set { Condition::Always(false) } else { condition };
    let condition = match op {
        "!=" if condition != Condition::Unknown => Condition::Not(Box::new(condition)),
        "!=" | "==" | "in" | "<" | ">" | "<=" | ">=" => condition,
        _ => Condition::Unknown,
    };
    also.into_iter().chain([condition]).collect()
}

/// The condition, and the one that stands in it unsaid: who names a UDP port means UDP.
fn one(kind: &str, what: &Value, right: &Value, op: &str) -> (Option<Condition>, Condition) {
    let or = |condition: Option<Condition>| condition.unwrap_or(Condition::Unknown);
    match kind {
        "meta" => (
            None,
            or(match word(what, "key") {
                "iifname" | "iif" => texts(right).map(Condition::CameIn),
                "oifname" | "oif" => texts(right).map(Condition::GoesOut),
                "l4proto" => numbers(right, op, &protocol).map(Condition::Protocol),
                "nfproto" => texts(right).map(|names| Condition::Always(names.iter().any(|name| name == "ipv4"))),
                "protocol" => texts(right).map(|names| Condition::Always(names.iter().any(|name| name == "ip"))),
                "pkttype" => texts(right).map(Condition::Kind),
                _ => None,
            }),
        ),
        "payload" => {
            let of = word(what, "protocol");
            let also =
                (of == "udp" || of == "tcp").then(|| protocol(of).map(|one| Condition::Protocol(vec![(one, one)])));
            let port = |text: &str| text.parse().ok();
            let condition = match (of, word(what, "field")) {
                ("udp" | "tcp" | "th", "dport") => numbers(right, op, &port).map(Condition::Port),
                ("udp" | "tcp" | "th", "sport") => numbers(right, op, &port).map(Condition::SourcePort),
                ("ip", "saddr") => numbers(right, op, &address).map(Condition::Source),
                ("ip", "daddr") => numbers(right, op, &address).map(Condition::Destination),
                ("ip", "protocol") => numbers(right, op, &protocol).map(Condition::Protocol),
                // Of the other family, and so never of a packet that is asked about here.
                ("ip6" | "icmpv6" | "icmp", _) => Some(Condition::Always(op == "!=")),
                _ => None,
            };
            (also.flatten(), or(condition))
        }
        "ct" if word(what, "key") == "state" => (None, or(texts(right).map(Condition::State))),
        "fib" if word(what, "result") == "type" && words(&what["flags"]).iter().any(|flag| flag == "daddr") => {
            (None, or(texts(right).map(Condition::Kind)))
        }
        _ => (None, Condition::Unknown),
    }
}

fn address(text: &str) -> Option<u32> {
    text.parse::<std::net::Ipv4Addr>().ok().map(u32::from)
}

/// The elements of whatever form of set; None for what has none.
fn elements(value: &Value) -> Vec<&Value> {
    let list = match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(object) => match object.get("set") {
            Some(Value::Array(list)) => list.iter().collect(),
            _ => vec![value],
        },
        _ => vec![value],
    };
    // With a comment, a counter or a time limit of its own.
    list.into_iter().map(|element| element.get("elem").map_or(element, |element| &element["val"])).collect()
}

fn texts(value: &Value) -> Option<Vec<String>> {
    elements(value).into_iter().map(|element| element.as_str().map(str::to_owned)).collect()
}

fn numbers(value: &Value, op: &str, read: &dyn Fn(&str) -> Option<u32>) -> Option<Ranges> {
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
        Value::String(text) => read(text),
        _ => None,
    };
    let range = |element: &Value| {
        if let Some(range) = element.get("range") {
            return Some((number(&range[0])?, number(&range[1])?));
        }
        if let Some(network) = element.get("prefix") {
            return prefix(network["addr"].as_str()?, u32::try_from(network["len"].as_u64()?).ok()?);
        }
        let one = number(element)?;
        Some(match op {
            "<" => (0, one.checked_sub(1)?),
            "<=" => (0, one),
            ">" => (one.checked_add(1)?, u32::MAX),
            ">=" => (one, u32::MAX),
            _ => (one, one),
        })
    };
    elements(value).into_iter().map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Fate, Packet, fate, subscribe},
        *,
    };

    /// As nft 1.0.6 writes what stands in each comment.
    fn chains(rules: &str, policy: &str) -> Vec<Chain> {
        let text = format!(
            r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}}}},
            {{"table": {{"family": "inet", "name": "filter", "handle": 1}}}},
            {{"set": {{"family": "inet", "name": "phones", "table": "filter", "type": "ipv4_addr", "handle": 3, "flags": ["interval"],
              "elem": [{{"prefix": {{"addr": "10.0.0.0", "len": 8}}}}, {{"range": ["192.0.2.1", "192.0.2.9"]}}]}}}},
            {{"set": {{"family": "inet", "name": "nobody", "table": "filter", "type": "ipv4_addr", "handle": 4}}}},
            {{"chain": {{"family": "inet", "table": "filter", "name": "sip", "handle": 1}}}},
            {{"chain": {{"family": "inet", "table": "filter", "name": "input", "handle": 2, "type": "filter", "hook": "input", "prio": 0,
              "policy": "{policy}"}}}},
            {{"rule": {{"family": "inet", "table": "filter", "chain": "sip", "handle": 5, "expr": [{{"match": {{"op": "==", "left":
              {{"payload": {{"protocol": "udp", "field": "dport"}}}}, "right": {{"set": [5060, {{"range": [5070, 5080]}}]}}}}}},
              {{"drop": null}}]}}}}{rules}]}}"#
        );
        read(&text).unwrap()
    }

    fn rule(expressions: &str) -> String {
        format!(
            r#", {{"rule": {{"family": "inet", "table": "filter", "chain": "input", "handle": 6, "expr": [{expressions}]}}}}"#
        )
    }

    const ACCEPT: &str = r#", {"accept": null}"#;
    const DROP: &str = r#", {"drop": null}"#;

    fn of(expressions: &str, policy: &str) -> Fate {
        fate(&chains(&rule(expressions), policy), &subscribe("eth0"))
    }

    #[test]
    fn a_subscribe_is_dropped_by_the_rule_that_drops_it() {
        let dropped = Fate::Dropped("rule 6 of chain input (nft inet filter)".into());
        // udp dport 5060 drop
        let udp =
            r#"{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 5060}}"#;
        assert_eq!(of(&format!("{udp}{DROP}"), "accept"), dropped);
        // th dport 5060 counter reject
        let any = udp.replace("udp", "th");
        assert_eq!(
            of(&format!(r#"{any}, {{"counter": {{"packets": 0, "bytes": 0}}}}, {{"reject": null}}"#), "accept"),
            dropped
        );
        assert_eq!(of(&format!("{}{DROP}", udp.replace("udp", "tcp")), "accept"), Fate::Passes);
        assert_eq!(of(&format!("{}{DROP}", udp.replace("==", "!=")), "accept"), Fate::Passes);
        assert_eq!(of(&format!("{}{DROP}", udp.replace("==", ">=")), "accept"), dropped);
        assert_eq!(of(&format!("{}{DROP}", udp.replace("==", "<")), "accept"), Fate::Passes);
        // udp dport vmap { 53 : accept, 5060 : drop }
        let vmap = r#"{"vmap": {"key": {"payload": {"protocol": "udp", "field": "dport"}}, "data": {"set": [[53, {"accept": null}],
            [5060, {"drop": null}]]}}}"#;
        assert_eq!(of(vmap, "accept"), dropped);
        // ip daddr 224.0.0.0/4 jump sip
        let jump = r#"{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": {"prefix":
            {"addr": "224.0.0.0", "len": 4}}}}, {"jump": {"target": "sip"}}"#;
        assert_eq!(of(jump, "accept"), Fate::Dropped("rule 5 of chain sip (nft inet filter)".into()));
    }

    #[test]
    fn a_policy_drops_what_no_rule_lets_pass() {
        let policy = Fate::Dropped("the policy of chain input (nft inet filter)".into());
        // iifname "lo" accept
        let iifname = r#"{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "lo"}}"#;
        assert_eq!(of(&format!("{iifname}{ACCEPT}"), "drop"), policy);
        assert_eq!(of(&format!("{}{ACCEPT}", iifname.replace("lo", "eth*")), "drop"), Fate::Passes);
        // ct state established,related accept
        let state = r#"{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, {"accept": null}"#;
        assert_eq!(of(state, "drop"), policy);
        let answer = Packet { is_answer: true, ..subscribe("eth0") };
        assert_eq!(fate(&chains(&rule(state), "drop"), &answer), Fate::Passes);
        // ip saddr @phones accept
        let saddr = r#"{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@phones"}}, {"accept": null}"#;
        assert_eq!(of(saddr, "drop"), Fate::Passes);
        assert_eq!(of(&saddr.replace("phones", "nobody"), "drop"), policy);
        // meta pkttype multicast accept, fib daddr type multicast accept
        let kind =
            r#"{"match": {"op": "==", "left": {"meta": {"key": "pkttype"}}, "right": "multicast"}}, {"accept": null}"#;
        assert_eq!(of(kind, "drop"), Fate::Passes);
        let fib = r#"{"match": {"op": "==", "left": {"fib": {"result": "type", "flags": ["daddr"]}}, "right": "multicast"}}, {"accept": null}"#;
        assert_eq!(of(fib, "drop"), Fate::Passes);
        assert_eq!(of(&fib.replace("\"multicast", "\"broadcast"), "drop"), policy);
    }

    #[test]
    fn what_is_not_understood_decides_nothing() {
        // limit rate 10/second accept
        let limit = r#"{"limit": {"rate": 10, "burst": 5, "per": "second"}}, {"accept": null}"#;
        assert_eq!(of(limit, "drop"), Fate::Open);
        // meta mark 7 drop
        let mark = r#"{"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": 7}}, {"drop": null}"#;
        assert_eq!(of(mark, "accept"), Fate::Open);
        // -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT, as nft sees it
        assert_eq!(of(r#"{"xt": {"type": "match", "name": "conntrack"}}, {"accept": null}"#, "drop"), Fate::Open);
        assert_eq!(read("nonsense"), None);
        assert_eq!(read("{}"), None);
    }

    #[test]
    fn a_chain_of_one_device_sees_its_packets_only() {
        let text = r#"{"nftables": [{"chain": {"family": "netdev", "table": "x", "name": "i", "handle": 1, "dev": "ea", "type": "filter",
            "hook": "ingress", "prio": 0, "policy": "accept"}}, {"rule": {"family": "netdev", "table": "x", "chain": "i", "handle": 2,
            "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 5060}}, {"drop": null}]}}]}"#;
        let chains = read(text).unwrap();
        assert_eq!(fate(&chains, &subscribe("eth0")), Fate::Passes);
        assert!(matches!(fate(&chains, &subscribe("ea")), Fate::Dropped(_)));
    }
}
