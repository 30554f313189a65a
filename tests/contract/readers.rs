//! Files read as a phone reads them. None of this shares code with what wrote them.

use provost_plugin::MacAddr;

/// Settings in the order of the file: name, value.
pub(crate) type Settings = Vec<(String, String)>;

/// What a file is to whoever reads it. Seen in the file itself and not in `vendor.yaml`: what is declared there may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Xml,
    /// `NAME="value"`
    Quoted,
    /// `name = value`
    Lines,
    /// `name: value`
    Colons,
    /// `name   :value` under headings in angle brackets.
    Modules,
    /// The one format that is no text so far.
    Binary,
}

impl Shape {
    /// Of a file without hostile values in it.
    pub(crate) fn of(body: &[u8]) -> Shape {
        let text = std::str::from_utf8(body).ok().filter(|text| !text.contains('\0'));
        match text {
            None => Shape::Binary,
            Some(text) if text.starts_with("<<") => Shape::Modules,
            Some(text) if text.trim_start().starts_with('<') => Shape::Xml,
            Some(text) if quoted(text).is_ok_and(|settings| !settings.is_empty()) => Shape::Quoted,
            Some(text) if colons(text).is_ok_and(|settings| !settings.is_empty()) => Shape::Colons,
            Some(_) => Shape::Lines,
        }
    }

    /// Whatever is no setting of that shape is an error.
    pub(crate) fn read(self, body: &[u8]) -> Result<Settings, String> {
        let text = || std::str::from_utf8(body).map_err(|error| error.to_string());
        match self {
            Shape::Xml => xml(text()?),
            Shape::Quoted => quoted(text()?),
            Shape::Lines => lines(text()?),
            Shape::Colons => colons(text()?),
            Shape::Modules => modules(text()?),
            Shape::Binary => binary(body).map(|(_, settings)| settings),
        }
    }
}

/// Elements and attributes. An element is known by its name and its parents', and by an attribute that tells it from others.
pub(crate) fn xml(text: &str) -> Result<Settings, String> {
    // Some vendor's lists name a document type.
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(text, options).map_err(|error| error.to_string())?;
    let mut settings = Settings::new();
    let mut nodes = vec![(document.root_element(), String::new())];
    while let Some((node, parents)) = nodes.pop() {
        let mut name = format!("{parents}/{}", node.tag_name().name());
        let telling = |name: &str| matches!(name, "idx" | "name" | "id" | "ID" | "index");
        for attribute in node.attributes().filter(|attribute| telling(attribute.name())) {
            name.push_str(&format!("[{}={}]", attribute.name(), attribute.value()));
        }
        for attribute in node.attributes().filter(|attribute| !telling(attribute.name())) {
            settings.push((format!("{name}@{}", attribute.name()), attribute.value().to_owned()));
        }
        let below: Vec<_> = node.children().filter(roxmltree::Node::is_element).collect();
        if below.is_empty() {
            settings.push((name, node.text().unwrap_or_default().to_owned()));
        } else {
            nodes.extend(below.into_iter().rev().map(|child| (child, name.clone())));
        }
    }
    Ok(settings)
}

/// `NAME="value"` to the end of the line.
fn quoted(text: &str) -> Result<Settings, String> {
    let setting = |line: &str| {
        let (name, value) = line.split_once("=\"")?;
        let value = value.strip_suffix('"')?;
        (!value.contains('"') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
            .then(|| (name.to_owned(), value.to_owned()))
    };
    text.split("\r\n")
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| setting(line).ok_or_else(|| "a line is not NAME=\"value\"".to_owned()))
        .collect()
}

/// `name = value` to the end of the line, without blanks around it; and `name value`, for lines that include a file.
fn lines(text: &str) -> Result<Settings, String> {
    let setting = |line: &str| {
        let (name, value) = line.split_once('=').or_else(|| line.split_once(' '))?;
        Some((name.trim_matches(' ').to_owned(), value.trim_matches([' ', '\t']).to_owned()))
            .filter(|(name, _)| !name.is_empty())
    };
    text.split(['\n', '\r'])
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        .map(|line| setting(line).ok_or_else(|| "a line is not name = value".to_owned()))
        .collect()
}

/// `name: value` to the end of the line, in quotes where it would be misread without; no name has an equals sign in it.
fn colons(text: &str) -> Result<Settings, String> {
    let setting = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let value = value.trim_matches([' ', '\t']);
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        Some((name.trim_matches(' ').to_owned(), value.to_owned()))
            .filter(|(name, _)| !name.is_empty() && !name.contains('='))
    };
    text.split(['\n', '\r'])
        .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        .map(|line| setting(line).ok_or_else(|| "a line is not name: value".to_owned()))
        .collect()
}

/// `name   :value` to the end of the line, each under the heading that it stands below.
fn modules(text: &str) -> Result<Settings, String> {
    let mut heading = String::new();
    let mut settings = Settings::new();
    for line in text.split("\r\n").filter(|line| !line.is_empty()) {
        if line.starts_with('<') {
            heading = line.to_owned();
        } else if !line.starts_with("--") {
            let (name, value) = line.split_once(':').ok_or_else(|| "a line is not name :value".to_owned())?;
            settings.push((format!("{heading}{}", name.trim_end()), value.to_owned()));
        }
    }
    Ok(settings)
}

/// Length in words, checksum, MAC, an empty line, then `name=value` in percent-encoding, joined by `&`.
pub(crate) fn binary(body: &[u8]) -> Result<(MacAddr, Settings), String> {
    let words: Vec<u16> =
        body.chunks(2).map(|word| u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)])).collect();
    if body.len() < 16
        || !body.len().is_multiple_of(2)
        || words.iter().fold(0u16, |sum, word| sum.wrapping_add(*word)) != 0
    {
        return Err("length or checksum is wrong".into());
    }
    if (u32::from(words[0]) << 16 | u32::from(words[1])) as usize != words.len() || &body[12..16] != b"\r\n\r\n" {
        return Err("the header is wrong".into());
    }
    let mac = MacAddr::new(body[6..12].try_into().expect("six bytes"));
    let text = std::str::from_utf8(&body[16..]).map_err(|error| error.to_string())?.trim_end_matches('\0');
    let mut parameters: Vec<&str> = text.split('&').collect();
    if parameters.pop() != Some("gnkey=0b82") {
        return Err("the key is not last".into());
    }
    let setting = |parameter: &str| {
        let (name, value) = parameter.split_once('=').ok_or("a parameter is not name=value")?;
        let mut bytes = Vec::new();
        let mut rest = value.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&digits, 16).map_err(|_| "a percent sign without its digits")?);
            } else if byte.is_ascii_graphic() {
                bytes.push(byte);
            } else {
                return Err("a byte that is not encoded");
            }
        }
        Ok((name.to_owned(), String::from_utf8(bytes).map_err(|_| "not UTF-8")?))
    };
    let settings: Result<Settings, &str> = parameters.into_iter().map(setting).collect();
    Ok((mac, settings?))
}
