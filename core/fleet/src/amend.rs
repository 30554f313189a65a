//! Changes what a file says of a device or a profile, in the text that people wrote: only the lines that the change is about are
//! touched, and comments, order, quotes and blanks stay as they are.
//!
//! A change is a merge patch (RFC 7396). What comes of it is checked against the form of a profile file before a letter is moved. Then
//! the text is changed piece by piece, read again, and compared: with anything in it that is not exactly what was asked for, in this
//! entry or elsewhere in the file, it is given up. So an anchor that two devices share is never changed for both behind anybody's back.

use std::{cmp::Ordering, fmt, ops::Range, sync::Arc};

use provost_plugin::MacAddr;
use serde_json::{Map, Value as Json};

use crate::{
    check::vendor_id,
    document,
    extent::{self, Entry, Kind, Part, skip},
    node::{Node, Value},
    problem::Problem,
    shape::{self, Shape},
    spell,
};

/// Whose entry in a profile file is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    Device(MacAddr),
    Profile(Box<str>),
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whose::Device(mac) => write!(f, "{mac}"),
            Whose::Profile(name) => write!(f, "the profile \"{name}\""),
        }
    }
}

impl Whose {
    /// The section that it stands in.
    pub(crate) fn section(&self) -> &'static str {
        match self {
            Whose::Device(_) => "devices",
            Whose::Profile(_) => "profiles",
        }
    }

    /// Whether a key of that section, as it is typed, is its own.
    pub(crate) fn is_named(&self, key: &str) -> bool {
        match self {
            Whose::Device(mac) => key.parse() == Ok(*mac),
            Whose::Profile(name) => key == &**name,
        }
    }

    /// Its key as the reader has it.
    fn key(&self) -> String {
        match self {
            Whose::Device(mac) => mac.to_string(),
            Whose::Profile(name) => name.to_string(),
        }
    }

    fn in_tree<'a>(&self, root: &'a Node) -> Option<&'a Node> {
        root.get(self.section())?.get(&self.key())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AmendError {
    /// The file as it is.
    #[error("the file cannot be read: {0}")]
    Unreadable(Problem),
    #[error("the file does not hold {0}")]
    Absent(String),
    /// What is wrong with the values, each with the dotted path of its field.
    #[error("{}", told(.0))]
    Wrong(Vec<(String, String)>),
    #[error("{}", woven(.line, *.shared))]
    Woven { line: u32, shared: bool },
}

fn told(wrong: &[(String, String)]) -> String {
    let tell = |(field, message): &(String, String)| match field.as_str() {
        "" => message.clone(),
        field => format!("{field}: {message}"),
    };
    wrong.iter().map(tell).collect::<Vec<_>>().join("; ")
}

fn woven(line: &u32, shared: bool) -> String {
    let how = match shared {
        true => "with an anchor, an alias or a merge key",
        false => "in a form",
    };
    format!("it is written {how} (line {line}) that cannot be changed piece by piece; edit the file")
}

/// What the file says of a device or a profile itself, without any other layer. Passwords are in it.
pub fn settings(file: &str, text: &str, whose: &Whose) -> Result<Json, AmendError> {
    let read = read(file, text)?;
    Ok(json(whose.in_tree(&read).ok_or_else(|| AmendError::Absent(whose.to_string()))?))
}

/// The text with the device or profile changed by a merge patch.
pub fn amend(file: &str, text: &str, whose: &Whose, patch: &Json) -> Result<String, AmendError> {
    let before = read(file, text)?;
    let is = whose.in_tree(&before).ok_or_else(|| AmendError::Absent(whose.to_string()))?;
    let (old, line) = (json(is), is.line);
    if !patch.is_object() {
        return Err(AmendError::Wrong(vec![(String::new(), "a change is an object".to_owned())]));
    }
    let mut wanted = old.clone();
    merge(&mut wanted, patch, shape::DOCUMENT.field(whose.section()).and_then(|entries| entries.field("")));
    let wanted = checked(&wanted, whose)?;
    let new = json(&wanted);
    if new == old {
        return Ok(text.to_owned());
    }
    let mark = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    // With an end to each line a line can be added behind any.
    let whole = text[mark..].ends_with('\n');
    let body = if whole { text[mark..].to_owned() } else { format!("{}\n", &text[mark..]) };
    let found = extent::entry(&body, whose).ok_or(AmendError::Woven { line, shared: false })?;
    let woven = || AmendError::Woven { line: found.woven.unwrap_or(line), shared: found.woven.is_some() };
    let mut changes = Changes { text: &body, all: Vec::new() };
    let place = Place {
        after: found.entry.after,
        has_colon: found.entry.has_colon,
        in_list: false,
        in_flow: found.in_flow,
        indent: column(&body, found.entry.start),
    };
    changes.change(&found.entry.value, place, &old, &new, "").ok_or_else(woven)?;
    let mut changed = changes.applied().ok_or_else(woven)?;
    if !whole {
        changed.truncate(changed.trim_end_matches(['\r', '\n']).len());
    }
    let changed = format!("{}{changed}", &text[..mark]);
    match read(file, &changed) {
        Ok(after) if is_changed_only_there(&before, &after, whose, &new) => Ok(changed),
        _ => Err(woven()),
    }
}

/// The field of a device or a profile at a place of its file: that of a complaint about it.
pub fn field_at(file: &str, text: &str, whose: &Whose, line: u32, column: u32) -> Option<String> {
    fn walk(node: &Node, path: &str, at: (u32, u32)) -> Option<String> {
        let below =
            |step: &dyn std::fmt::Display| if path.is_empty() { step.to_string() } else { format!("{path}.{step}") };
        let inside = match &node.value {
            Value::Map(entries) => entries.iter().find_map(|(key, node)| walk(node, &below(&key.as_str()), at)),
            Value::List(items) => items.iter().enumerate().find_map(|(index, node)| walk(node, &below(&index), at)),
            _ => None,
        };
        inside.or_else(|| ((node.line, node.column) == at && !path.is_empty()).then(|| path.to_owned()))
    }
    walk(whose.in_tree(&read(file, text).ok()?)?, "", (line, column))
}

fn read(file: &str, text: &str) -> Result<Node, AmendError> {
    let file: Arc<str> = file.into();
    let (root, problems) = document::checked(&file, text.as_bytes(), &shape::DOCUMENT);
    // What the checker leaves out of a file with mistakes would be lost to us, and the file is not in service anyway.
    match problems.into_iter().find(Problem::is_error) {
        Some(problem) => Err(AmendError::Unreadable(problem)),
        None => Ok(root.unwrap_or(Node { line: 0, column: 0, value: Value::Null })),
    }
}

/// A value as JSON. Nothing written for an entry as a whole is an entry that says nothing.
fn json(node: &Node) -> Json {
    fn value(node: &Node) -> Json {
        match &node.value {
            Value::Null => Json::Null,
            Value::Switch(on) => Json::Bool(*on),
            Value::Integer(number) => Json::from(*number),
            Value::Number(number) => Json::from(*number),
            Value::Text(text) => Json::from(&**text),
            Value::Refer(refer) => refer.json(),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|(key, node)| (key.as_str().to_owned(), value(node))).collect())
            }
            Value::List(items) => Json::Array(items.iter().map(value).collect()),
        }
    }
    match value(node) {
        Json::Null => Json::Object(Map::new()),
        value => value,
    }
}

/// RFC 7396, section 2. What stands in the place of a password is one value, though it is written as a section.
fn merge(target: &mut Json, patch: &Json, shape: Option<&Shape>) {
    let fields = match (patch, shape) {
        (Json::Object(fields), None | Some(Shape::Section { .. } | Shape::Table(_))) => fields,
        _ => {
            *target = patch.clone();
            return;
        }
    };
    if !target.is_object() {
        *target = Json::Object(Map::new());
    }
    let Json::Object(target) = target else { return };
    for (name, value) in fields {
        match value {
            Json::Null => drop(target.remove(name)),
            value => {
                let shape = shape.and_then(|shape| shape.field(name));
                merge(target.entry(name.clone()).or_insert(Json::Null), value, shape);
            }
        }
    }
}

/// The values of an entry as the reader takes them, or what is wrong with them.
fn checked(values: &Json, whose: &Whose) -> Result<Node, AmendError> {
    let mut text = format!("{}:\n {}: ", whose.section(), spell::quoted(&whose.key()));
    let mut paths = vec![String::new()];
    spell::spread(values, "", &mut text, &mut paths);
    let (root, problems) = document::checked(&"".into(), text.as_bytes(), &shape::DOCUMENT);
    let wrong = problems.into_iter().filter(Problem::is_error).map(|problem| {
        let path = |line: usize| paths.get(line.saturating_sub(1)).cloned().unwrap_or_default();
        // A line of what was only made for the checker tells nobody anything.
        let message = match problem.message.rsplit_once("it is already on line ") {
            Some((what, line)) => format!("{what}the other is {}", path(line.parse().unwrap_or_default())),
            None => problem.message,
        };
        (path(problem.line as usize), message)
    });
    let wrong: Vec<_> = wrong.collect();
    let node = root.as_ref().and_then(|root| whose.in_tree(root)).cloned();
    match node {
        Some(node) if wrong.is_empty() => Ok(node),
        _ => Err(AmendError::Wrong(wrong)),
    }
}

/// Whether two files say the same, but for the one entry, which is as it is wanted in the second.
fn is_changed_only_there(before: &Node, after: &Node, whose: &Whose, wanted: &Json) -> bool {
    fn same(one: &Node, other: &Node, swapped: &dyn Fn(&Node) -> Option<bool>) -> bool {
        if let Some(verdict) = swapped(other) {
            return verdict;
        }
        match (&one.value, &other.value) {
            (Value::Null, Value::Null) => true,
            (Value::Switch(one), Value::Switch(other)) => one == other,
            (Value::Integer(one), Value::Integer(other)) => one == other,
            (Value::Number(one), Value::Number(other)) => one.total_cmp(other) == Ordering::Equal,
            (Value::Text(one), Value::Text(other)) => one == other,
            (Value::Refer(one), Value::Refer(other)) => one == other,
            (Value::Map(one), Value::Map(other)) => {
                one.len() == other.len()
                    && one
                        .iter()
                        .zip(other)
                        .all(|((name, one), (key, other))| name.as_str() == key.as_str() && same(one, other, swapped))
            }
            (Value::List(one), Value::List(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other, swapped))
            }
            _ => false,
        }
    }
    let Some(is) = whose.in_tree(after) else { return false };
    let is_wanted = json(is) == *wanted;
    let swapped = |node: &Node| std::ptr::eq(node, is).then_some(is_wanted);
    same(before, after, &swapped)
}

/// The text of a flat file with these values, where its text can be changed piece by piece.
pub(crate) fn rewritten(text: &str, root: &Part, old: &Map<String, Json>, new: &Map<String, Json>) -> Option<String> {
    let whole = text.ends_with('\n');
    let body = if whole { text.to_owned() } else { format!("{text}\n") };
    let Kind::Map { flow, entries } = &root.kind else { return None };
    let mut changes = Changes { text: &body, all: Vec::new() };
    if new.is_empty() && !flow {
        // A file of comments alone is one that says nothing.
        entries.iter().for_each(|entry| changes.cut_lines(entry.start, entry.value.end));
    } else {
        let place = Place { after: 0, has_colon: true, in_list: false, in_flow: false, indent: 0 };
        changes.change_map(root, place, *flow, entries, old, new, "")?;
    }
    let mut changed = changes.applied()?;
    if !whole {
        changed.truncate(changed.trim_end_matches(['\r', '\n']).len());
    }
    Some(changed)
}

/// Where a value stands: what a new one in its place has to fit into.
#[derive(Clone, Copy)]
struct Place {
    /// Behind the colon or the dash.
    after: usize,
    has_colon: bool,
    in_list: bool,
    in_flow: bool,
    /// The column of the key or the dash.
    indent: usize,
}

/// Changes of a text, each of a part of it.
struct Changes<'a> {
    text: &'a str,
    all: Vec<(Range<usize>, String)>,
}

fn column(text: &str, at: usize) -> usize {
    at - line_start(text, at)
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |end| end + 1)
}

/// Where the next line begins. The text ends with a line's end.
fn next_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |end| at + end + 1)
}

impl Changes<'_> {
    fn put(&mut self, range: Range<usize>, with: impl Into<String>) {
        let with = with.into();
        let first = self.text.find('\n').unwrap_or_default();
        let with = if self.text[..first].ends_with('\r') { with.replace('\n', "\r\n") } else { with };
        self.all.push((range, with));
    }

    /// None: two of them are about the same place, so there was something that was not thought of.
    fn applied(mut self) -> Option<String> {
        // What is put in comes before what is taken out behind it.
        self.all.sort_by_key(|(range, _)| (range.start, range.end));
        let mut out = String::with_capacity(self.text.len() + 256);
        let mut at = 0;
        for (range, with) in self.all {
            out.push_str(self.text.get(at..range.start)?);
            out.push_str(&with);
            at = range.end;
        }
        out.push_str(self.text.get(at..)?);
        Some(out)
    }

    fn is_first_on_its_line(&self, at: usize) -> bool {
        self.text[line_start(self.text, at)..at].trim().is_empty()
    }

    /// Takes out the lines from one place to another.
    fn cut_lines(&mut self, start: usize, end: usize) {
        self.put(line_start(self.text, start)..next_line(self.text, end), "");
    }

    /// None where it cannot be done. `path` is the name of the section, for names that are compared in a way of their own.
    fn change(&mut self, part: &Part, place: Place, old: &Json, new: &Json, section: &str) -> Option<()> {
        if old == new {
            return Some(());
        }
        match (&part.kind, old, new) {
            (Kind::Map { flow, entries }, Json::Object(old), Json::Object(new)) if !entries.is_empty() => {
                self.change_map(part, place, *flow, entries, old, new, section)
            }
            (Kind::List { flow, items }, Json::Array(old), Json::Array(new)) if !items.is_empty() => {
                self.change_list(part, place, *flow, items, old, new)
            }
            // To write a shared section out here would part it from the others for good: that is for its owner to decide.
            (Kind::Alias, old, new) if old.is_object() || old.is_array() || new.is_object() || new.is_array() => None,
            _ => self.replace(part, place, old, new),
        }
    }

    /// Another value in the place of this one.
    fn replace(&mut self, part: &Part, place: Place, old: &Json, new: &Json) -> Option<()> {
        let text = self.text;
        let start = match part.kind {
            Kind::Absent => None,
            _ => Some(skip(text, place.after)),
        };
        let on_same_line = start.is_some_and(|start| start < next_line(text, place.after));
        let in_line = place.in_flow || spell::fits_inline(new, place.in_list);
        match start {
            None if in_line => {
                let colon = if place.has_colon { "" } else { ":" };
                self.put(place.after..place.after, format!("{colon} {}", spell::inline(new)));
            }
            None if place.in_list => {
                let lines = spell::lines(new, place.indent + 2);
                self.put(place.after..place.after, format!(" {}", lines.trim()));
            }
            None => {
                let at = next_line(text, place.after);
                self.put(at..at, spell::lines(new, place.indent + 2));
            }
            Some(start) if in_line && part.is_block() && !on_same_line => {
                self.put(place.after..place.after, format!(" {}", spell::inline(new)));
                self.cut_lines(start, part.end);
            }
            Some(start) if in_line => {
                let with = match part.kind {
                    Kind::Scalar(style) => spell::instead(new, style, old.is_string(), &text[start..part.end]),
                    _ => spell::inline(new),
                };
                self.put(start..part.end, with);
            }
            Some(start) if place.in_list => {
                self.put(start..part.end, spell::lines(new, place.indent + 2).trim());
            }
            Some(start) if part.is_block() && !on_same_line => {
                let lines = spell::lines(new, place.indent + 2);
                self.put(line_start(text, start)..next_line(text, part.end), lines);
            }
            Some(start) => {
                self.put(if on_same_line { place.after } else { start }..part.end, "");
                let at = next_line(text, part.end);
                self.put(at..at, spell::lines(new, place.indent + 2));
            }
        }
        Some(())
    }

    #[allow(clippy::too_many_arguments, reason = "a value, its place, and what it is to be")]
    fn change_map(
        &mut self,
        part: &Part,
        place: Place,
        flow: bool,
        entries: &[Entry],
        old: &Map<String, Json>,
        new: &Map<String, Json>,
        section: &str,
    ) -> Option<()> {
        // As the reader names it.
        let name = |entry: &Entry| match section {
            "vendor" | "options" => vendor_id(&entry.name),
            _ => entry.name.clone(),
        };
        let names: Vec<String> = entries.iter().map(name).collect();
        let is_cut: Vec<bool> = names.iter().map(|name| old.contains_key(name) && !new.contains_key(name)).collect();
        if old.keys().any(|name| !new.contains_key(name) && !names.contains(name)) {
            // It comes in by a merge key.
            return None;
        }
        let added: Vec<(&String, &Json)> = new.iter().filter(|(name, _)| !names.contains(name)).collect();
        if is_cut.iter().all(|cut| *cut) {
            if added.is_empty() {
                return self.empty(part, place, flow, entries, "{}");
            }
            if flow {
                let open = skip(self.text, place.after);
                let pairs = Map::from_iter(added.into_iter().map(|(name, value)| (name.clone(), value.clone())));
                self.put(open..part.end, format!("{{ {} }}", spell::pairs(&pairs)));
                return Some(());
            }
            // The first that goes makes room for those that come, so that what stands around it has something to stand around.
            let indent = column(self.text, entries[0].start);
            let lines: String = added.iter().map(|(name, value)| spell::entry(name, value, indent)).collect();
            self.put(entries[0].start..entries[0].value.end, lines.trim());
            for entry in &entries[1..] {
                self.cut_lines(entry.start, entry.value.end);
            }
            return Some(());
        }
        for ((entry, name), cut) in entries.iter().zip(&names).zip(&is_cut) {
            if let (false, Some(old), Some(new)) = (cut, old.get(name), new.get(name)) {
                let place = Place {
                    after: entry.after,
                    has_colon: entry.has_colon,
                    in_list: false,
                    in_flow: flow,
                    indent: column(self.text, entry.start),
                };
                self.change(&entry.value, place, old, new, name)?;
            }
        }
        let last = entries.iter().zip(&is_cut).rfind(|(_, cut)| !**cut)?.0;
        if flow {
            self.cut_flow(entries, &is_cut);
            for (name, value) in added {
                self.put(last.value.end..last.value.end, format!(", {}: {}", spell::key(name), spell::inline(value)));
            }
            return Some(());
        }
        self.cut_block(entries, &is_cut)?;
        let at = next_line(self.text, last.value.end);
        for (name, value) in added {
            self.put(at..at, spell::entry(name, value, column(self.text, entries[0].start)));
        }
        Some(())
    }

    fn change_list(
        &mut self,
        part: &Part,
        place: Place,
        flow: bool,
        items: &[Entry],
        old: &[Json],
        new: &[Json],
    ) -> Option<()> {
        if items.len() != old.len() {
            return None;
        }
        if new.is_empty() {
            return self.empty(part, place, flow, items, "[]");
        }
        // What is the same at both ends stays out of it, so that a line taken out of the middle is that line and no other.
        let alike = |pairs: &mut dyn Iterator<Item = (&Json, &Json)>| pairs.take_while(|(old, new)| old == new).count();
        let before = alike(&mut old.iter().zip(new));
        let mut behind = alike(&mut old[before..].iter().rev().zip(new[before..].iter().rev()));
        if before == 0 && behind == old.len() {
            // Something new in front of all: there is no line behind which it could be put, so all move on by one.
            behind = 0;
        }
        let (was, is) = (&items[before..items.len() - behind], &new[before..new.len() - behind]);
        let indent = column(self.text, items[0].start);
        for (index, item) in was.iter().enumerate().take(is.len()) {
            let place = Place { after: item.after, has_colon: true, in_list: true, in_flow: flow, indent };
            self.change(&item.value, place, &old[before + index], &is[index], "")?;
        }
        let is_cut: Vec<bool> =
            (0..items.len()).map(|index| index >= before + is.len() && index < before + was.len()).collect();
        if flow {
            self.cut_flow(items, &is_cut);
        } else {
            self.cut_block(items, &is_cut)?;
        }
        let more = is.get(was.len()..).unwrap_or_default();
        if more.is_empty() {
            return Some(());
        }
        let last = &items[before + was.len() - 1];
        if flow {
            for value in more {
                self.put(last.value.end..last.value.end, format!(", {}", spell::inline(value)));
            }
            return Some(());
        }
        let style = match last.value.kind {
            Kind::Map { flow, .. } => Some(flow),
            _ => None,
        };
        let at = next_line(self.text, last.value.end);
        for value in more {
            self.put(at..at, spell::item(value, indent, style));
        }
        Some(())
    }

    /// Takes all entries out.
    fn empty(&mut self, part: &Part, place: Place, flow: bool, entries: &[Entry], with: &str) -> Option<()> {
        let start = skip(self.text, place.after);
        if flow || start < next_line(self.text, place.after) {
            self.put(start..part.end, with);
            return Some(());
        }
        self.put(place.after..place.after, format!(" {with}"));
        for entry in entries {
            self.cut_lines(entry.start, entry.value.end);
        }
        Some(())
    }

    fn cut_block(&mut self, entries: &[Entry], is_cut: &[bool]) -> Option<()> {
        let text = self.text;
        let mut from = 0;
        if is_cut[0] && !self.is_first_on_its_line(entries[0].start) {
            // The first of a section in a list, on the line of its dash: the first that stays moves up to there.
            let next = is_cut.iter().position(|cut| !cut)?;
            let (gone, stays) = (&entries[0], &entries[next]);
            let between = next_line(text, gone.value.end)..line_start(text, stays.start);
            let comments = |range: Range<usize>| text[range].lines().any(|line| line.trim_start().starts_with('#'));
            if next == 1 && !comments(between) {
                self.put(gone.start..stays.start, "");
            } else {
                let dash = text[..gone.start].trim_end().len();
                let end = next_line(text, gone.value.end);
                self.put(dash..end - (1 + usize::from(text[..end].ends_with("\r\n"))), "");
            }
            from = 1;
        }
        for (entry, _) in entries.iter().zip(is_cut).skip(from).filter(|(_, cut)| **cut) {
            if !self.is_first_on_its_line(entry.start) {
                return None;
            }
            self.cut_lines(entry.start, entry.value.end);
        }
        Some(())
    }

    /// Takes entries out of brackets, of which at least one stays.
    fn cut_flow(&mut self, entries: &[Entry], is_cut: &[bool]) {
        let text = self.text;
        for (index, entry) in entries.iter().enumerate().filter(|(index, _)| is_cut[*index]) {
            let end = entry.value.end;
            let comma = skip(text, end);
            let behind = if text.as_bytes().get(comma) == Some(&b',') { comma + 1 } else { end };
            let rest = text[behind..].lines().next().unwrap_or_default().trim_start();
            let stays_before = is_cut[..index].iter().any(|cut| !cut);
            if self.is_first_on_its_line(entry.start) && (rest.is_empty() || rest.starts_with('#')) {
                self.cut_lines(entry.start, behind.max(end));
            } else if stays_before {
                self.put(entries[index - 1].value.end..end, "");
            } else {
                self.put(entry.start..entries.get(index + 1).map_or(behind, |next| next.start), "");
            }
        }
    }
}
