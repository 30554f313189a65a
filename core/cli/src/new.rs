//! `provost plugin new`: the folder of a plugin for another vendor, made of the files in `new/` and of what is known of its phones.
//!
//! What is not known is filled in so that the plugin passes its own check and tests as made, and every line can then be replaced by the
//! truth. In the files a word between two @ is a place to be filled in.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use provost_plugin::{MacAddr, Oui, spec::path_name};
use regex::Regex;

use crate::args::NewArgs;

/// Where each file of `new/` goes.
const FOLDER: &[(&str, &str)] = &[
    ("vendor.yaml", include_str!("new/vendor.yaml")),
    ("templates/device.cfg.j2", include_str!("new/device.cfg.j2")),
    ("README.md", include_str!("new/README.md")),
    ("captures/README.md", include_str!("new/captures.md")),
    ("goldens/first-phone/profiles.yaml", include_str!("new/profiles.yaml")),
    ("goldens/first-phone/expected/@BARE@.cfg", include_str!("new/expected.cfg")),
    ("goldens/first-phone/expected/url", "http://192.0.2.1:8080/@BARE@.cfg\n"),
];
const LIBRARY: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("new/library/Cargo.toml")),
    ("src/lib.rs", include_str!("new/library/lib.rs")),
    (".gitignore", include_str!("new/library/gitignore")),
];

pub(crate) fn new(words: &NewArgs, out: &mut impl Write) -> Result<ExitCode> {
    let id = path_name(&words.vendor);
    if id.is_empty() || words.vendor.chars().any(char::is_control) {
        bail!("a vendor's name takes a letter or a digit: \"{}\" has none", words.vendor.escape_debug());
    }
    let fill = answers(words, &id)?;
    let folder = words.within.join(&id);
    fs::create_dir_all(&words.within).with_context(|| format!("cannot make {}", words.within.display()))?;
    fs::create_dir(&folder).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => anyhow::anyhow!("{} is there already; nothing was changed", folder.display()),
        _ => anyhow::anyhow!("cannot make {}: {error}", folder.display()),
    })?;
    let library = if words.library { LIBRARY } else { &[] };
    for (name, text) in FOLDER.iter().chain(library) {
        let mut fill = fill.clone();
        if words.library {
            // The same line as the template writes it, and as it comes out.
            let count = if name.ends_with(".j2") { "{{ accounts_in_use }}" } else { "1" };
            fill.insert("COUNT", format!("accounts.in_use = {count}\n"));
        }
        write(&folder.join(filled(name, &fill)), &filled(text, &fill))?;
        writeln!(out, "{}", folder.join(filled(name, &fill)).display())?;
    }
    let shown = folder.display();
    writeln!(out, "\nWhat is known goes into vendor.yaml and the template; then:")?;
    if words.library {
        writeln!(out, "  (cd {shown} && cargo build --release && cp target/release/libprovost_{id}.so .)")?;
    }
    writeln!(
        out,
        "  provost plugin check {shown}\n  provost plugin test {shown} --update\n  provost plugin pack {shown}"
    )?;
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("")))?;
        fs::File::create_new(path)?.write_all(text.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn filled(text: &str, fill: &BTreeMap<&str, String>) -> String {
    let mut filled = String::with_capacity(text.len() * 2);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('@') {
        filled.push_str(before);
        match after.split_once('@').and_then(|(word, after)| Some((fill.get(word)?, after))) {
            Some((value, after)) => {
                filled.push_str(value);
                rest = after;
            }
            // An @ of its own, as in an address.
            None => {
                filled.push('@');
                rest = after;
            }
        }
    }
    filled + rest
}

/// What goes into the places.
fn answers(words: &NewArgs, id: &str) -> Result<BTreeMap<&'static str, String>> {
    let invented: Oui = invented_oui(id);
    let ouis = if words.oui.is_empty() { std::slice::from_ref(&invented) } else { &words.oui };
    let announces = if words.announces.is_empty() { vec![id.to_owned()] } else { words.announces.clone() };
    let models = if words.model.is_empty() { vec!["X1".to_owned()] } else { words.model.clone() };
    for (what, texts) in [("announced name", &announces), ("model", &models), ("User-Agent", &words.user_agent)] {
        if let Some(odd) =
            texts.iter().find(|text| text.is_empty() || text.chars().any(char::is_control) || text.contains('"'))
        {
            bail!("the {what} \"{}\" is none that a phone could send", odd.escape_debug());
        }
    }
    let model = models[0].replace('*', "1");
    let agents = if words.user_agent.is_empty() {
        let name: String = words.vendor.split_whitespace().collect::<Vec<_>>().join("-");
        vec![Agent {
            pattern: agent_pattern(&name),
            sample: format!("{name} {{model}} {{firmware}} {{mac}}"),
            firmware: None,
        }]
    } else {
        words.user_agent.iter().map(|agent| Agent::read(agent, &models, id)).collect::<Result<_>>()?
    };
    let mac = first_mac(&ouis[0])?;
    let list = |texts: &mut dyn Iterator<Item = String>| texts.collect::<Vec<_>>().join(", ");
    let row = |model: &String| format!("  {}: {{ lines: 2 }}", yaml(model));
    let firmware = agents.iter().find_map(|agent| agent.firmware.clone()).unwrap_or_else(|| "1.0".into());
    let version = env!("CARGO_PKG_VERSION");
    let minor = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
    let sdk = |features: &str| match &words.sdk {
        Some(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            format!("provost-plugin = {{ path = {:?}{features} }}", path.display().to_string())
        }
        None if features.is_empty() => format!(
            "provost-plugin = \"{minor}\"\n# From a checkout of Provost, or its repository, instead:\n# provost-plugin = {{ path = \"../provost/plugins/sdk\" }}\n# provost-plugin = {{ git = \"URL of the repository\", tag = \"v{version}\" }}"
        ),
        None => format!("provost-plugin = {{ version = \"{minor}\"{features} }}"),
    };
    if let Some(path) = &words.sdk
        && !path.join("Cargo.toml").is_file()
    {
        bail!("there is no SDK in {}: it is the folder plugins/sdk of a checkout of Provost", path.display());
    }
    let library = format!("# The library that goes with this data, without lib and .so.\nlibrary: provost_{id}\n");
    Ok(BTreeMap::from([
        ("NAME", words.vendor.clone()),
        ("ID", id.to_owned()),
        ("VENDOR", yaml(&words.vendor)),
        ("LIBRARY", if words.library { library } else { String::new() }),
        ("ANNOUNCES", list(&mut announces.iter().map(|name| yaml(name)))),
        ("ANNOUNCED", announces[0].clone()),
        (
            "OUI_NOTE",
            if words.oui.is_empty() { " (this one is made up: no maker has it)".into() } else { String::new() },
        ),
        ("OUIS", list(&mut ouis.iter().map(|oui| format!("'{oui}'")))),
        ("OUIS_SHOWN", list(&mut ouis.iter().map(|oui| format!("`{oui}`")))),
        ("OUI", ouis[0].to_string()),
        (
            "USER_AGENTS",
            agents.iter().map(|agent| format!("  - {}", yaml(&agent.pattern))).collect::<Vec<_>>().join("\n"),
        ),
        ("AGENT", yaml(&agents[0].sample)),
        (
            "AGENT_SHOWN",
            agents[0]
                .sample
                .replace("{model}", &model)
                .replace("{firmware}", &firmware)
                .replace("{mac}", &mac.bare())
                .replace("{mac:colons}", &mac.to_string()),
        ),
        ("MODELS", models.iter().map(row).collect::<Vec<_>>().join("\n")),
        ("MODEL", yaml(&model)),
        ("ROWS", models.iter().map(|model| format!("| {model} | 2 | not known |")).collect::<Vec<_>>().join("\n")),
        ("FIRMWARE", firmware),
        ("MAC", mac.to_string()),
        ("BARE", mac.bare()),
        ("NOT_YET", not_yet().iter().map(|path| format!("  - {path}")).collect::<Vec<_>>().join("\n")),
        ("SDK", sdk("")),
        ("SDK_TESTS", sdk(", features = [\"templates\"]")),
        ("COUNT", String::new()),
    ]))
}

/// Fields of the common model that `new/device.cfg.j2` writes.
const WRITTEN: &[&str] = &[
    "lines.auth_username",
    "lines.display_name",
    "lines.enabled",
    "lines.expires",
    "lines.label",
    "lines.password",
    "lines.port",
    "lines.server",
    "lines.transport",
    "lines.username",
    "lines.voicemail",
    "provisioning.url",
    "time.ntp",
];

/// All other fields, whole sections by the section's name.
fn not_yet() -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for field in provost_host::fields_of_the_model().iter().filter(|field| !WRITTEN.contains(&field.as_str())) {
        let untouched = |path: &&str| !WRITTEN.iter().any(|written| written.starts_with(&format!("{path}.")));
        let sections = field.match_indices('.').map(|(end, _)| &field[..end]).chain([field.as_str()]);
        let path = sections.into_iter().find(untouched).unwrap_or(field).to_owned();
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// A prefix that no maker has (locally administered), another for each vendor.
fn invented_oui(id: &str) -> Oui {
    let hash = id.bytes().fold(0x5eedu16, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    format!("02{hash:04X}").parse().expect("six digits")
}

/// The first phone of a prefix.
fn first_mac(oui: &Oui) -> Result<MacAddr> {
    let digits = oui.to_string();
    let mac = format!("{digits}{:0>width$}", 1, width = 12 - digits.len());
    mac.parse().map_err(anyhow::Error::msg)
}

/// Text as a YAML scalar that is text whatever it looks like.
fn yaml(text: &str) -> String {
    let plain = Regex::new(r"^[A-Za-z][A-Za-z0-9_.+-]*( [A-Za-z0-9_.+-]+)*$").expect("a pattern");
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if plain.is_match(text) && !word.contains(&text.to_lowercase().as_str()) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "''"))
}

fn agent_pattern(name: &str) -> String {
    format!(r"^{} (?<model>\S+) (?<firmware>\S+) (?<mac>[0-9A-Fa-f:]{{12,17}})$", regex::escape(name))
}

/// How a phone names itself to web servers.
struct Agent {
    pattern: String,
    /// With placeholders, for the simulated phone.
    sample: String,
    firmware: Option<String>,
}

impl Agent {
    /// From a User-Agent as it was seen: what tells phones apart becomes a group, the rest stays as it is.
    fn read(text: &str, models: &[String], id: &str) -> Result<Agent> {
        if text.starts_with('^') {
            Regex::new(text)
                .with_context(|| format!("the User-Agent \"{text}\" begins as a regular expression and is none"))?;
            return Ok(Agent {
                pattern: text.to_owned(),
                sample: format!("{id} {{model}} {{firmware}} {{mac}}"),
                firmware: None,
            });
        }
        let find = |pattern: &str| Regex::new(pattern).expect("a pattern").find(text).map(|found| found.range());
        let mac = find(r"(?i)\b([0-9a-f]{12}|([0-9a-f]{2}[:-]){5}[0-9a-f]{2})\b");
        let model = models
            .iter()
            .filter(|model| !model.contains('*'))
            .find_map(|model| text.find(model.as_str()).map(|start| start..start + model.len()));
        let firmware = find(r"\b[0-9]+(\.[0-9A-Za-z]+)+\b");
        let mut groups: Vec<(std::ops::Range<usize>, &str, &str)> = Vec::new();
        let colons = mac.clone().is_some_and(|mac| mac.len() > 12);
        let spaced = model.clone().is_some_and(|model| text[model].contains(' '));
        let model_group = if spaced { "(?<model>.+?)" } else { r"(?<model>[^\s/;()]+)" };
        groups.extend(
            mac.map(|range| (range, "(?<mac>[0-9A-Fa-f:-]{12,17})", if colons { "{mac:colons}" } else { "{mac}" })),
        );
        groups.extend(model.map(|range| (range, model_group, "{model}")));
        groups.extend(firmware.clone().map(|range| (range, r"(?<firmware>[0-9A-Za-z.]+)", "{firmware}")));
        groups.sort_by_key(|(range, ..)| range.start);
        let (mut pattern, mut sample, mut at) = (String::from("^"), String::new(), 0);
        for (range, group, placeholder) in groups {
            // What overlaps what came before says the same thing twice.
            if range.start < at {
                continue;
            }
            pattern.push_str(&regex::escape(&text[at..range.start]));
            pattern.push_str(group);
            sample.push_str(&text[at..range.start]);
            sample.push_str(placeholder);
            at = range.end;
        }
        pattern.push_str(&regex::escape(&text[at..]));
        pattern.push('$');
        sample.push_str(&text[at..]);
        Ok(Agent { pattern, sample, firmware: firmware.map(|range| text[range].to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_that_was_seen_becomes_a_pattern_that_reads_it() {
        for (text, models) in [
            ("Acme X52/2.1.0.7 (02acde000001)", &["X52"][..]),
            ("Mozilla/4.0 (compatible; Acme X-52 SIP 10.1.3 02:AC:DE:00:00:01)", &["X-52"]),
            ("Acme Desk Phone 5 1.0.2b 02-ac-de-00-00-01", &["Desk Phone 5"]),
        ] {
            let models: Vec<String> = models.iter().map(|&model| model.to_owned()).collect();
            let agent = Agent::read(text, &models, "acme").unwrap();
            let pattern = Regex::new(&agent.pattern).unwrap();
            let found = pattern.captures(text).unwrap_or_else(|| panic!("{} does not read {text}", agent.pattern));
            assert_eq!(&found["model"], models[0], "{}", agent.pattern);
            assert!(found["mac"].parse::<MacAddr>().is_ok(), "{}", agent.pattern);
            assert_eq!(found["firmware"], agent.firmware.unwrap());
            assert!(agent.sample.contains("{model}") && agent.sample.contains("{mac"), "{}", agent.sample);
        }
        assert!(Agent::read("^(", &[], "acme").is_err());
    }

    #[test]
    fn a_place_is_filled_and_an_address_stays() {
        let fill = BTreeMap::from([("ID", "acme".to_owned())]);
        assert_eq!(filled("a@b @ID@@ID@ <sip:x@224.0.1.75> @", &fill), "a@b acmeacme <sip:x@224.0.1.75> @");
    }
}
