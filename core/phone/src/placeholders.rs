//! The words in braces that a simulation's texts may hold: `{mac}`, `{MAC}`, `{mac:colons}`, `{MAC:colons}`, `{model}`,
//! `{model:lower}`, `{firmware}`, and in the SUBSCRIBE `{ip}`, `{port}` and `{number}`.

use std::net::Ipv4Addr;

use provost_plugin::{MacAddr, spec::Simulation};

#[derive(Clone, Debug)]
pub(crate) struct Words {
    pub(crate) mac: MacAddr,
    pub(crate) model: String,
    pub(crate) firmware: String,
    pub(crate) ip: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) number: u32,
}

impl Words {
    pub(crate) fn new(simulation: &Simulation, mac: MacAddr, ip: Ipv4Addr, port: u16) -> Words {
        Words { mac, model: simulation.model.clone(), firmware: simulation.firmware.clone(), ip, port, number: 0 }
    }

    fn word(&self, name: &str) -> Option<String> {
        Some(match name {
            "mac" => self.mac.bare(),
            "MAC" => self.mac.bare_upper(),
            "mac:colons" => self.mac.to_string(),
            "MAC:colons" => self.mac.to_string().to_uppercase(),
            "model" => self.model.clone(),
            "model:lower" => self.model.to_lowercase(),
            "firmware" => self.firmware.clone(),
            "ip" => self.ip.to_string(),
            "port" => self.port.to_string(),
            "number" => self.number.to_string(),
            _ => return None,
        })
    }

    /// One pass from left to right: a value that looks like a placeholder stays what it is. Unknown names stay too, since a URL from
    /// the network may hold any brace.
    pub(crate) fn expand(&self, text: &str) -> String {
        let mut expanded = String::with_capacity(text.len() + 32);
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            expanded.push_str(&rest[..open]);
            rest = &rest[open..];
            let word = rest.find('}').and_then(|close| Some((self.word(&rest[1..close])?, close + 1)));
            match word {
                Some((word, after)) => {
                    expanded.push_str(&word);
                    rest = &rest[after..];
                }
                None => {
                    expanded.push('{');
                    rest = &rest[1..];
                }
            }
        }
        expanded.push_str(rest);
        expanded
    }

    /// The SUBSCRIBE as it goes out: YAML's LF become CRLF, and the empty line that ends the header is put behind.
    pub(crate) fn subscribe(&self, template: &str) -> Vec<u8> {
        let mut message = String::with_capacity(template.len() + 64);
        for line in self.expand(template).trim_end().lines() {
            message.push_str(line.trim_end());
            message.push_str("\r\n");
        }
        message.push_str("\r\n");
        message.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        Words {
            mac: "02:00:5e:aa:bb:0c".parse().unwrap(),
            model: "{mac}".into(),
            firmware: "1.2".into(),
            ip: Ipv4Addr::new(10, 0, 0, 7),
            port: 5059,
            number: 41,
        }
    }

    #[test]
    fn every_placeholder_is_filled_once_and_braces_of_others_stay() {
        assert_eq!(
            words().expand("{mac} {MAC} {mac:colons} {MAC:colons} {model} {firmware} {ip}:{port} {number}"),
            "02005eaabb0c 02005EAABB0C 02:00:5e:aa:bb:0c 02:00:5E:AA:BB:0C {mac} 1.2 10.0.0.7:5059 41"
        );
        assert_eq!(Words { model: "X-1".into(), ..words() }.expand("{model:lower}"), "x-1");
        assert_eq!(words().expand("{{mac}} {serial} {mac"), "{02005eaabb0c} {serial} {mac");
    }

    #[test]
    fn the_subscribe_ends_its_lines_as_sip_wants() {
        assert_eq!(words().subscribe("A: {ip}\nB: 1\n"), b"A: 10.0.0.7\r\nB: 1\r\n\r\n");
    }
}
