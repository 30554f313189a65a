//! `provost dhcp`: what a DHCP server has to be told so that it tells phones this server, in that server's own words.
//!
//! What each vendor's phones take is data of the plugins (`dhcp` in `vendor.yaml`); the modules below are one syntax each and know no
//! vendor. The same rule in all of them: what a client's option 60 begins with tells whose phone it is; of those that tell nothing
//! that is known, the prefix of the MAC does.

mod dnsmasq;
mod isc;
mod kea;
mod mikrotik;
mod windows;

use std::{io::Write, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use provost_host::{Limits, Shelf};
use provost_plugin::{
    Oui, Spec,
    dhcp::{DhcpOption, DhcpValue},
};
use provost_server::settings::Settings;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DhcpServer {
    /// dnsmasq; tested with 2.90
    Dnsmasq,
    /// ISC Kea; tested with 2.2
    Kea,
    /// ISC dhcpd; tested with 4.4
    Isc,
    /// RouterOS, 7.16 or later; not tried on a router
    Mikrotik,
    /// Windows Server 2012 or later, PowerShell; not tried on one
    Windows,
}

#[derive(Debug, Args)]
pub(crate) struct DhcpArgs {
    /// The DHCP server that is to be told
    pub(crate) server: DhcpServer,
    /// This server as phones reach it [default: public_url of the settings]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Only phones of these vendors [default: all whose plugins are in service]
    #[arg(long, short, value_name = "VENDOR", value_delimiter = ',')]
    pub(crate) vendor: Vec<String>,
    /// Option 66 also for clients that are no known phone
    #[arg(long)]
    pub(crate) everybody: bool,
}

/// What is to be said, whoever is told.
#[derive(Debug)]
struct Advice {
    /// This server's URL, with a slash at its end.
    base: String,
    groups: Vec<Group>,
    everybody: bool,
    /// Remarks for whoever reads it.
    remarks: Vec<String>,
}

/// Clients that get the same.
#[derive(Debug)]
struct Group {
    /// Lower-case letters, digits and a hyphen: a name that every server takes.
    name: String,
    vendor: String,
    classes: Vec<String>,
    prefixes: Vec<Oui>,
    told: Vec<Told>,
}

/// An option as it will go over the wire.
#[derive(Debug)]
struct Told {
    code: u8,
    octets: Vec<u8>,
    /// Where it is text.
    text: Option<String>,
    /// For people, of option 43: what is in it.
    holds: Option<String>,
}

pub(crate) fn dhcp(settings: &Settings, words: &DhcpArgs, out: &mut impl Write) -> Result<ExitCode> {
    crate::log(settings, "warn")?;
    let Some(base) = &settings.public_url else {
        bail!(
            "how phones reach this server is not known: say --url http://ADDRESS:{}/, or set public_url",
            settings.http.port
        );
    };
    let (shelf, _) = Shelf::build(&settings.places(), None, Limits::default(), Some(&crate::prober()?));
    for vendor in &words.vendor {
        if shelf.get(vendor).is_none() {
            bail!("no plugin \"{vendor}\" is in service; `provost plugin list` shows those that are");
        }
    }
    let wanted = |id: &str| {
        words.vendor.is_empty()
            || words.vendor.iter().any(|vendor| shelf.get(vendor).is_some_and(|plugin| plugin.id == id))
    };
    let specs = shelf.plugins().filter(|plugin| wanted(&plugin.id)).map(|plugin| (plugin.id.as_str(), &*plugin.spec));
    let advice = Advice::of(specs, base, words.everybody)?;
    write!(out, "{}", advice.write(words.server))?;
    Ok(ExitCode::SUCCESS)
}

impl Advice {
    fn of<'a>(specs: impl Iterator<Item = (&'a str, &'a Spec)>, base: &str, everybody: bool) -> Result<Advice> {
        // Between the quotes of every server's file, and no phone's URL needs one of these.
        if base.chars().any(|c| "\"'`\\".contains(c)) {
            bail!("the URL \"{base}\" holds a quote or a backslash, which the files of DHCP servers cannot hold");
        }
        let mut advice = Advice { base: base.to_owned(), groups: Vec::new(), everybody, remarks: Vec::new() };
        for (id, spec) in specs {
            if spec.dhcp.is_empty() {
                advice.remarks.push(format!("{}: its plugin does not say what these phones take.", spec.vendor));
            }
            for (index, said) in spec.dhcp.iter().enumerate() {
                let name = if index == 0 { id.to_owned() } else { format!("{id}-{}", index + 1) };
                let told = said.options.iter().map(|option| Told::of(option, base));
                let told = told.collect::<Option<_>>().with_context(|| {
                    format!("cannot write the options of {}: with {base} one is longer than 255 octets", spec.vendor)
                })?;
                let mut group =
                    Group { name, vendor: spec.vendor.clone(), classes: Vec::new(), prefixes: Vec::new(), told };
                for class in &said.class {
                    match advice.owner_of_class(class) {
                        Some(owner) => advice.remarks.push(format!(
                            "{}: option 60 \"{class}\" is left to {owner}, whose phones could not be told from these.",
                            spec.vendor
                        )),
                        None => group.classes.push(class.clone()),
                    }
                }
                for oui in spec.ouis.iter().filter(|_| said.by_mac) {
                    match advice.owner_of_prefix(oui) {
                        Some(owner) => advice.remarks.push(format!(
                            "{}: the MAC prefix {oui} is left to {owner}, whose phones could not be told from these.",
                            spec.vendor
                        )),
                        None => group.prefixes.push(oui.clone()),
                    }
                }
                if !group.classes.is_empty() || !group.prefixes.is_empty() {
                    advice.groups.push(group);
                }
            }
        }
        Ok(advice)
    }

    /// Of servers one takes the first of two that fit and another the last, so none may fit where another does.
    fn owner_of_class(&self, class: &str) -> Option<String> {
        let overlaps = |known: &String| known.starts_with(class) || class.starts_with(known.as_str());
        let owner = self.groups.iter().find(|group| group.classes.iter().any(overlaps))?;
        Some(owner.vendor.clone())
    }

    fn owner_of_prefix(&self, oui: &Oui) -> Option<String> {
        let digits = oui.to_string();
        let overlaps = |known: &Oui| {
            let known = known.to_string();
            known.starts_with(&digits) || digits.starts_with(&known)
        };
        let owner = self.groups.iter().find(|group| group.prefixes.iter().any(overlaps))?;
        Some(owner.vendor.clone())
    }

    fn write(&self, server: DhcpServer) -> String {
        match server {
            DhcpServer::Dnsmasq => dnsmasq::write(self),
            DhcpServer::Kea => kea::write(self),
            DhcpServer::Isc => isc::write(self),
            DhcpServer::Mikrotik => mikrotik::write(self),
            DhcpServer::Windows => windows::write(self),
        }
    }

    /// The first lines, which are comments with `#` in every one of these languages.
    fn head(&self, how: &[&str]) -> String {
        let mut text = format!("# Phones are told {}, by what `provost dhcp` has written here.\n", self.base);
        let rule = "Whose phone a client is, its option 60 tells; of those that tell nothing known there, the prefix of their MAC.";
        for line in how.iter().copied().chain([rule]).chain(self.remarks.iter().map(String::as_str)) {
            text.push_str(&format!("# {line}\n"));
        }
        text
    }

    /// Option 66 for everybody, behind `#` where it was not asked for.
    fn for_everybody(&self, lines: &str) -> String {
        if self.everybody {
            return format!("\n# Everybody else.\n{lines}");
        }
        let lines: String = lines.lines().map(|line| format!("# {line}\n")).collect();
        format!("\n# Everybody else gets nothing; to tell them too (provost dhcp --everybody):\n{lines}")
    }

    fn classes(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().flat_map(|group| group.classes.iter().map(String::as_str))
    }
}

impl Group {
    /// A line on who they are.
    fn who(&self) -> String {
        let mut by: Vec<_> = self.classes.iter().map(|class| format!("option 60 \"{class}...\"")).collect();
        if !self.prefixes.is_empty() {
            let prefixes: Vec<_> = self.prefixes.iter().map(ToString::to_string).collect();
            by.push(format!("MAC {}", prefixes.join(" ")));
        }
        format!("{}: {}", self.vendor, by.join(", "))
    }

    /// Their MAC prefixes in whole octets: one that ends between two is sixteen.
    fn whole_prefixes(&self) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        for digits in self.prefixes.iter().map(ToString::to_string) {
            let ends: Vec<String> = match digits.len() % 2 {
                0 => vec![String::new()],
                _ => (0..16).map(|last| format!("{last:X}")).collect(),
            };
            for end in ends {
                let digits = format!("{digits}{end}");
                let octets = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16));
                // A prefix is hexadecimal digits: that is how it was read.
                whole.extend(octets.collect::<Result<Vec<u8>, _>>());
            }
        }
        whole
    }
}

impl Told {
    fn text(code: u8, text: &str) -> Told {
        Told { code, octets: text.as_bytes().to_vec(), text: Some(text.to_owned()), holds: None }
    }

    fn of(option: &DhcpOption, base: &str) -> Option<Told> {
        let holds = option.sub.iter().map(|sub| match &sub.value {
            DhcpValue::Flag(flag) => format!("{} {flag}", sub.code),
            text => format!("{} {}", sub.code, String::from_utf8_lossy(&text.octets(base))),
        });
        let holds: Vec<_> = holds.collect();
        Some(Told {
            code: option.code,
            octets: option.octets(base)?,
            text: option.text(base),
            holds: (!holds.is_empty()).then(|| format!("option {} holds {}", option.code, holds.join(", "))),
        })
    }
}

/// Octets as two hexadecimal digits each.
fn hex(octets: &[u8], between: &str) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    /// Two vendors that nobody has heard of, with everything that a vendor can say.
    fn advice(everybody: bool) -> Advice {
        let spec = |yaml: &str| Spec::read(yaml).unwrap();
        let acme = spec(
            "{vendor: Acme, files: [], announce: {url: '{base}'}, ouis: ['02FE12', '02FE135'], dhcp: [\n\
             {class: ['Acme, Inc. ', AcmePhone], options: [{code: 160, value: '{server}'}, {code: 66, value: '{base}$mac.cfg'}]},\n\
             {class: [acmebase], by_mac: false, options: [{code: 43, sub: [{code: 2, value: '{server}'}, {code: 3, value: false}]}]}]}",
        );
        let bolt = spec(
            "{vendor: Bolt, files: [], announce: {url: '{base}'}, ouis: ['02FE12', '02FE14'],\n\
             dhcp: [{class: [AcmePhone9], options: [{code: 114, value: '{base}%MACD.xml'}]}]}",
        );
        let mute = spec("{vendor: Mute, files: [], announce: {url: '{base}'}}");
        let specs = [("acme", &acme), ("bolt", &bolt), ("mute", &mute)];
        Advice::of(specs.into_iter(), "http://192.0.2.1:8080/", everybody).unwrap()
    }

    #[test]
    fn each_servers_file_reads_as_it_was_written_down() {
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dhcp/goldens");
        for (server, name) in [
            (DhcpServer::Dnsmasq, "dnsmasq.conf"),
            (DhcpServer::Kea, "kea.json"),
            (DhcpServer::Isc, "dhcpd.conf"),
            (DhcpServer::Mikrotik, "routeros.rsc"),
            (DhcpServer::Windows, "windows.ps1"),
        ] {
            let written = advice(false).write(server);
            if env::var_os("UPDATE_GOLDEN").is_some() {
                fs::create_dir_all(&place).unwrap();
                fs::write(place.join(name), &written).unwrap();
            }
            let golden = fs::read_to_string(place.join(name)).unwrap();
            assert_eq!(written, golden, "{name}; UPDATE_GOLDEN=1 accepts it");
            let everybody = advice(true).write(server);
            assert!(everybody.lines().count() == written.lines().count() && everybody != written, "{name}");
        }
    }

    #[test]
    fn of_two_vendors_that_could_not_be_told_apart_the_first_has_the_phone() {
        let advice = advice(false);
        assert_eq!(advice.groups[2].classes.len(), 0, "AcmePhone9 begins as AcmePhone does");
        assert_eq!(advice.groups[2].whole_prefixes(), [[0x02, 0xfe, 0x14]]);
        assert_eq!(advice.remarks.len(), 3, "{:?}", advice.remarks);
        assert_eq!(advice.groups[0].whole_prefixes().len(), 17, "half an octet is sixteen prefixes");
    }

    #[test]
    fn a_url_that_would_end_a_quotation_is_refused() {
        assert!(Advice::of(std::iter::empty(), "http://x/\"/", false).is_err());
    }
}
