//! A vendor's file as names and values, whatever its form: what an element, an attribute or a line is called, and what it says.
//!
//! Only the form that `vendor.yaml` declares is known here. A name is the way to a value: elements from the one below the root, each with
//! what tells it from its neighbours (an `idx`, an `id`, a child `ID`, else its place), or what stands before the sign on a line.

use std::collections::{BTreeMap, HashMap};

use provost_plugin::spec::{Escape, Format};
use regex::Regex;

/// What a file says, by name. Of a name that is written twice the later value stays, as phones have it.
pub(super) type Flat = BTreeMap<String, String>;

/// More than the largest file of any phone.
const BYTES: usize = 1 << 20;
const NODES: u32 = 100_000;
/// What tells elements of one name apart.
const TELLS_APART: [&str; 4] = ["id", "idx", "index", "name"];

/// The file's names and values; none where it is not of this form.
pub(super) fn flat(format: &Format, bytes: &[u8]) -> Option<Flat> {
    if bytes.len() > BYTES {
        return None;
    }
    let text = text(bytes)?;
    match format.escape {
        Escape::Xml => xml(&text),
        _ => Some(lines(format, &text)),
    }
}

/// UTF-8, or the Latin-1 of older files; nothing where it is no text.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    if bytes.iter().any(|byte| *byte < b' ' && !b"\t\r\n\x0c".contains(byte)) {
        return None;
    }
    Some(match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    })
}

fn xml(text: &str) -> Option<Flat> {
    let options = roxmltree::ParsingOptions { nodes_limit: NODES, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(text, options).ok()?;
    let mut flat = Flat::new();
    // The ways to elements, kept so that no file can be deep enough to break us.
    let mut open = vec![(document.root_element(), String::new())];
    while let Some((element, path)) = open.pop() {
        let told_apart = |name: &str| TELLS_APART.iter().any(|known| name.eq_ignore_ascii_case(known));
        let is_root = path.is_empty();
        for attribute in element.attributes().filter(|attribute| is_root || !told_apart(attribute.name())) {
            flat.insert(format!("{path}@{}", attribute.name()), attribute.value().to_owned());
        }
        let children: Vec<_> = element.children().filter(roxmltree::Node::is_element).collect();
        if children.is_empty() && !is_root {
            let text: String = element.children().filter_map(|child| child.text()).collect();
            flat.insert(path, text.trim().to_owned());
            continue;
        }
        let mut same: HashMap<String, usize> = HashMap::new();
        for child in children {
            let name = child.tag_name().name();
            let own =
                child.attributes().find(|attribute| told_apart(attribute.name())).map(|own| own.value().to_owned());
            let below = || {
                let id = child.first_element_child()?;
                let is_id = id.tag_name().name().eq_ignore_ascii_case("id") && id.first_element_child().is_none();
                id.text().filter(|_| is_id).map(|text| text.trim().to_owned())
            };
            let step = match own.or_else(below) {
                Some(own) => format!("{name}[{own}]"),
                None => name.to_owned(),
            };
            let count = same.entry(step.clone()).or_default();
            *count += 1;
            let step = if *count == 1 { step } else { format!("{step}#{count}") };
            open.push((child, if is_root { step } else { format!("{path}/{step}") }));
        }
    }
    Some(flat)
}

fn lines(format: &Format, text: &str) -> Flat {
    let usual = Regex::new(r"^([^=:]+?)\s*[=:]").expect("a literal");
    let setting = format.setting.as_ref().map_or(&usual, |pattern| &pattern.0);
    let mut flat = Flat::new();
    let mut section = String::new();
    for line in text.lines() {
        let bare = line.trim();
        for (open, close) in [('<', '>'), ('[', ']')] {
            if let Some(name) = bare.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)) {
                section = format!("{}/", name.trim());
            }
        }
        let Some(found) = setting.captures(line) else { continue };
        let parts: Vec<&str> = found.iter().skip(1).flatten().map(|part| part.as_str().trim()).collect();
        let value = line[found.get(0).map_or(0, |all| all.end())..].trim();
        // Quotes hold what a comment sign would cut off.
        let value = match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(inside) => inside.to_owned(),
            None => value.to_owned(),
        };
        let value = if format.escape == Escape::Percent { unescaped(&value) } else { value };
        flat.insert(format!("{section}{}", parts.join(":")), value);
    }
    flat
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| byte == b'%') {
            Some(value) => {
                bytes.push(value);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Ends of names, and the one name that each belongs to; none where it is several.
#[derive(Debug, Default)]
pub(super) struct Ends(HashMap<String, Option<String>>);

impl Ends {
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a String>) -> Ends {
        let mut ends: HashMap<String, Option<String>> = HashMap::new();
        for name in names {
            for end in ends_of(name) {
                ends.entry(end.to_owned())
                    .and_modify(|of| {
                        if of.as_ref() != Some(name) {
                            *of = None;
                        }
                    })
                    .or_insert_with(|| Some(name.clone()));
            }
        }
        Ends(ends)
    }

    /// The name that somebody else's file has under other sections: what wraps a setting differs, the setting does not.
    pub(super) fn find(&self, name: &str) -> Option<&str> {
        ends_of(name).find_map(|end| self.0.get(end)).and_then(Option::as_deref)
    }
}

/// What is left of a name without the sections around it, the longest first; never less than the last two steps of a deep name, which
/// by itself could be anybody's.
fn ends_of(name: &str) -> impl Iterator<Item = &str> {
    let steps = name.matches('/').count() + 1;
    let attribute = name.rfind('@').filter(|at| name.starts_with('@') || !name[..*at].contains('['));
    let cuts = name.match_indices('/').map(|(at, _)| at + 1).take(if steps <= 2 { steps - 1 } else { steps - 2 });
    let all = std::iter::once(0).chain(cuts);
    // Where everything is an attribute, the elements around it are for order alone.
    let dotted = attribute.filter(|at| name[*at..].contains('.'));
    all.chain(dotted).map(|at| &name[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(escape: &str, setting: &str) -> Format {
        let setting = if setting.is_empty() { String::new() } else { format!(", setting: '{setting}'") };
        serde_yaml::from_str(&format!("{{escape: {escape}, content_type: text/plain{setting}}}")).unwrap()
    }

    fn told(format: &Format, text: &str) -> Vec<String> {
        flat(format, text.as_bytes()).unwrap().into_iter().map(|(name, value)| format!("{name} is {value}")).collect()
    }

    #[test]
    fn elements_attributes_and_lines_have_names() {
        let xml = "<s e=\"2\"><p><u idx=\"1\" perm=\"R\">a &lt; b</u><u idx=\"2\">c</u></p>\
                   <l><e><ID>SIP1</ID><x>1</x></e><e><ID>SIP2</ID></e></l><k>1</k><k>2</k></s>";
        assert_eq!(
            told(&format("xml", ""), xml),
            ["@e is 2", "k is 1", "k#2 is 2", "l/e[SIP1]/ID is SIP1", "l/e[SIP1]/x is 1", "l/e[SIP2]/ID is SIP2"]
                .into_iter()
                .chain(["p/u[1] is a < b", "p/u[1]@perm is R", "p/u[2] is c"])
                .collect::<Vec<_>>()
        );
        let lines = "# no\na.1.b = x=y \r\nc: \"q # r\"\n<NEXT>\nc =\n";
        assert_eq!(told(&format("line", ""), lines), ["NEXT/c is ", "a.1.b is x=y", "c is q # r"].map(str::to_owned));
        assert_eq!(told(&format("percent", "^([a-z]+)="), "a=b%20%c3%a4%\n"), ["a is b ä%"]);
        assert_eq!(flat(&format("line", ""), b"\0\x01\x02"), None, "no text");
        assert_eq!(told(&format("line", ""), "a=b"), ["a is b"]);
    }

    #[test]
    fn no_file_is_too_deep_or_too_much() {
        let deep = format!("{}{}", "<a>".repeat(50_000), "</a>".repeat(50_000));
        drop(flat(&format("xml", ""), deep.as_bytes()));
        assert_eq!(flat(&format("xml", ""), "x".repeat(BYTES + 1).as_bytes()), None);
        let bomb = "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>";
        assert_eq!(flat(&format("xml", ""), bomb.as_bytes()), None, "no file of a phone declares entities");
    }

    #[test]
    fn a_setting_is_known_whatever_wraps_it() {
        let names = ["phone-settings/http_user", "config/P271", "@reg.1.address", "S/L[SIP1]/Pass", "S/L[SIP2]/Pass"];
        let names = names.map(str::to_owned);
        let ends = Ends::of(names.iter());
        assert_eq!(ends.find("http_user"), Some("phone-settings/http_user"));
        assert_eq!(ends.find("other/P271"), Some("config/P271"));
        assert_eq!(ends.find("reg/@reg.1.address"), ends.find("reg@reg.1.address"));
        assert_eq!(ends.find("reg@reg.1.address"), Some("@reg.1.address"));
        assert_eq!(ends.find("X/L[SIP2]/Pass"), Some("S/L[SIP2]/Pass"));
        assert_eq!(ends.find("Pass"), None);
    }
}
