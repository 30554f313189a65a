//! What `iptables-save` writes.

use super::{Chain, Condition, Hook, Ranges, Rule, Verdict, network, protocol};

pub(crate) fn read(text: &str) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    let mut table = String::new();
    let mut is_filter = true;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            (table, is_filter) = (format!("iptables {name}"), name != "nat");
        } else if let Some((name, rest)) = line.strip_prefix(':').and_then(|line| line.split_once(' ')) {
            let hook = match name {
                "INPUT" | "PREROUTING" => Some(Hook::In),
                "OUTPUT" | "POSTROUTING" => Some(Hook::Out),
                _ => None,
            };
            chains.push(Chain {
                table: table.clone(),
                name: name.to_owned(),
                hook: hook.filter(|_| is_filter),
                devices: Vec::new(),
                drops: rest.starts_with("DROP"),
                rules: Vec::new(),
            });
        } else if let Some(words) = line.strip_prefix("-A ").map(split)
            && let Some((name, words)) = words.split_first()
            && let Some(chain) = chains.iter_mut().find(|chain| chain.table == table && chain.name == *name)
        {
            chain.rules.push(rule(words, format!("`{line}` ({table})")));
        }
    }
    chains
}

/// Words, of which those in quotes may hold spaces.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut escaped, mut begun) = (Vec::new(), String::new(), false, false, false);
    for character in line.chars() {
        match character {
            _ if escaped => {
                word.push(character);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => (quoted, begun) = (!quoted, true),
            ' ' if !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            _ => {
                word.push(character);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

fn rule(words: &[String], place: String) -> Rule {
    let mut conditions = Vec::new();
    let mut words = words.iter().map(String::as_str).peekable();
    let mut negated = false;
    let mut verdict = Verdict::Next;
    while let Some(word) = words.next() {
        if word == "!" {
            negated = true;
            continue;
        }
        let mut arguments = Vec::new();
        while let Some(argument) = words.next_if(|next| !next.starts_with('-') && *next != "!") {
            arguments.push(argument);
        }
        let argument = arguments.first().copied().unwrap_or_default();
        let condition = match word {
            "-i" => Some(Condition::CameIn(vec![argument.to_owned()])),
            "-o" => Some(Condition::GoesOut(vec![argument.to_owned()])),
            "-p" if argument == "all" => None,
            "-p" => {
                protocol(argument).map(|one| Condition::Protocol(vec![(one, one)])).or(Some(Condition::Always(false)))
            }
            "-s" => Some(network(argument).map_or(Condition::Unknown, |range| Condition::Source(vec![range]))),
            "-d" => Some(network(argument).map_or(Condition::Unknown, |range| Condition::Destination(vec![range]))),
            "--dport" | "--dports" => Some(ports(argument).map_or(Condition::Unknown, Condition::Port)),
            "--sport" | "--sports" => Some(ports(argument).map_or(Condition::Unknown, Condition::SourcePort)),
            "--ctstate" | "--state" => Some(Condition::State(argument.split(',').map(str::to_lowercase).collect())),
            "--pkt-type" | "--dst-type" => Some(Condition::Kind(argument.split(',').map(str::to_lowercase).collect())),
            // A module says what it means in its options.
            "-m" | "--comment" => None,
            "-j" | "-g" => {
                verdict = match argument {
                    "ACCEPT" => Verdict::Accept,
                    "DROP" | "REJECT" => Verdict::Drop,
                    "RETURN" => Verdict::Return,
                    "LOG" | "NFLOG" | "MARK" | "CONNMARK" | "CT" | "NOTRACK" | "TRACE" => Verdict::Next,
                    chain if word == "-g" => Verdict::Goto(chain.to_owned()),
                    chain => Verdict::Jump(chain.to_owned()),
                };
                // What follows says how to reject or log.
                break;
            }
            _ => Some(Condition::Unknown),
        };
        let condition = condition.map(|condition| match condition {
            Condition::Unknown => Condition::Unknown,
            condition if negated => Condition::Not(Box::new(condition)),
            condition => condition,
        });
        conditions.extend(condition);
        negated = false;
    }
    Rule { conditions, verdict, place }
}

/// `69,5060:5070`
fn ports(text: &str) -> Option<Ranges> {
    let port = |text: &str, empty: u32| if text.is_empty() { Some(empty) } else { text.parse().ok() };
    let range = |part: &str| match part.split_once(':') {
        Some((from, to)) => Some((port(from, 0)?, port(to, 65_535)?)),
        None => part.parse().ok().map(|one| (one, one)),
    };
    text.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Fate, Packet, fate, subscribe},
        *,
    };

    /// As iptables-save 1.8.9 wrote it, cut to what differs.
    fn of(rules: &str, policy: &str) -> Fate {
        let text = format!(
            "# Generated by iptables-save v1.8.9 (nf_tables) on Sun Nov 22 14:33:12 2026\n*filter\n:INPUT {policy} [0:0]\n\
             :FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:ufw-user-input - [0:0]\n-A ufw-user-input -p udp -m udp --dport 5060 -j ACCEPT\n\
             {rules}\nCOMMIT\n# Completed on Sun Nov 22 14:33:12 2026\n"
        );
        fate(&read(&text), &subscribe("ea"))
    }

    #[test]
    fn a_subscribe_is_dropped_by_the_rule_that_drops_it() {
        let rule = "-A INPUT -i ea -p udp -m udp --dport 5060 -j DROP";
        assert_eq!(of(rule, "ACCEPT"), Fate::Dropped(format!("`{rule}` (iptables filter)")));
        assert_eq!(of(&rule.replace("ea", "eth+"), "ACCEPT"), Fate::Passes);
        assert_eq!(of(&rule.replace("udp", "tcp"), "ACCEPT"), Fate::Passes);
        let several = r#"-A INPUT ! -s 10.0.0.0/8 -p udp -m multiport --dports 69,5060:5070 -m comment --comment "a b" -j REJECT --reject-with icmp-port-unreachable"#;
        assert_eq!(of(several, "ACCEPT"), Fate::Passes, "the phone is in that network");
        assert!(matches!(of(&several.replace("! -s 10", "! -s 11"), "ACCEPT"), Fate::Dropped(_)));
    }

    #[test]
    fn a_policy_drops_what_no_rule_lets_pass() {
        let policy = Fate::Dropped("the policy of chain INPUT (iptables filter)".into());
        let states = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
        assert_eq!(of(states, "DROP"), policy);
        assert_eq!(of(&format!("{states}\n-A INPUT -j ufw-user-input"), "DROP"), Fate::Passes);
        assert_eq!(of("-A INPUT -m limit --limit 3/min --limit-burst 10 -j ACCEPT", "DROP"), Fate::Open);
        assert_eq!(of("-A INPUT -m pkttype --pkt-type multicast -j RETURN", "DROP"), policy);
        assert_eq!(of("-A INPUT -d 224.0.0.0/4 -j ACCEPT", "DROP"), Fate::Passes);
        let packet = Packet { is_answer: true, ..subscribe("ea") };
        let text = format!("*filter\n:INPUT DROP [0:0]\n{states}\nCOMMIT\n");
        assert_eq!(fate(&read(&text), &packet), Fate::Passes);
        assert_eq!(read("nonsense\n-A NOWHERE -j DROP\n"), []);
    }
}
