//! Where each part of the entry of a device or a profile begins and ends in the text of its file, to the byte. The reader's tree
//! ([`yaml`](crate::yaml)) knows what was meant; this one knows what was typed: block or flow, quotes, aliases, and the blanks between.
//! It is read with the very parser that the reader stands on, so the two cannot disagree.

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, StructureStyle};

use crate::amend::Whose;

/// A value as typed.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) kind: Kind,
    /// Behind its last character, without the blanks and ends of lines that follow.
    pub(crate) end: usize,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// Nothing is written.
    Absent,
    Scalar(ScalarStyle),
    /// `*name`: it is written elsewhere.
    Alias,
    Map {
        flow: bool,
        entries: Vec<Entry>,
    },
    List {
        flow: bool,
        items: Vec<Entry>,
    },
}

/// An entry of a section or of a list.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Empty in a list.
    pub(crate) name: String,
    /// Where it begins: at its key, at its dash, or in a flow list at its value.
    pub(crate) start: usize,
    /// Behind the colon or the dash. In a flow list it is where the value begins, and so it is behind a key of flow style that has no colon.
    pub(crate) after: usize,
    pub(crate) has_colon: bool,
    pub(crate) value: Part,
}

impl Part {
    pub(crate) fn is_block(&self) -> bool {
        matches!(self.kind, Kind::Map { flow: false, .. } | Kind::List { flow: false, .. })
    }
}

/// An entry, and the first line in it with an anchor, an alias or a merge key.
#[derive(Debug)]
pub(crate) struct Extent {
    pub(crate) entry: Entry,
    /// Whether the section that it stands in is of flow style.
    pub(crate) in_flow: bool,
    pub(crate) woven: Option<u32>,
}

/// The entry of a device or a profile in the text of a file, if it can be found there.
pub(crate) fn entry(text: &str, whose: &Whose) -> Option<Extent> {
    let options = granit_parser::options! { emit_comments: false };
    let events = Parser::new_from_str_with_options(text, options);
    let mut walk = Walk { text, events, woven: None };
    // The stream, the document.
    walk.next()?;
    walk.next()?;
    let (Event::MappingStart(..), _) = walk.next()? else { return None };
    walk.seek(|name| name == whose.section())?;
    let (Event::MappingStart(style, ..), _) = walk.next()? else { return None };
    let key = walk.seek(|name| whose.is_named(name))?;
    walk.woven = None;
    let entry = walk.entry(String::new(), key)?;
    Some(Extent { entry, in_flow: style == StructureStyle::Flow, woven: walk.woven })
}

/// Everything that stands in the text of a file.
pub(crate) fn root(text: &str) -> Option<Part> {
    let options = granit_parser::options! { emit_comments: false };
    let mut walk = Walk { text, events: Parser::new_from_str_with_options(text, options), woven: None };
    walk.next()?;
    walk.next()?;
    let (event, span) = walk.next()?;
    walk.part(event, span, 0)
}

/// Behind blanks, ends of lines and comments.
pub(crate) fn skip(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = from;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'#' => at = text[at..].find('\n').map_or(text.len(), |end| at + end),
            _ => break,
        }
    }
    at
}

struct Walk<'a> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    woven: Option<u32>,
}

impl<'a> Walk<'a> {
    fn next(&mut self) -> Option<(Event<'a>, Span)> {
        let (event, span) = self.events.next()?.ok()?;
        let anchor = match &event {
            Event::Alias(_) => 1,
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(_, anchor, _) | Event::MappingStart(_, anchor, _) => {
                *anchor
            }
            _ => 0,
        };
        if anchor != 0 {
            self.woven.get_or_insert(span.start.line() as u32);
        }
        Some((event, span))
    }

    /// Leaves out entries of a section up to the one that is looked for; its key.
    fn seek(&mut self, wanted: impl Fn(&str) -> bool) -> Option<Range<usize>> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::MappingEnd => return None,
                Event::Scalar(name, ..) if wanted(&name) => return span.byte_range(),
                event => self.leave_out(event)?,
            }
            let (event, _) = self.next()?;
            self.leave_out(event)?;
        }
    }

    fn leave_out(&mut self, first: Event) -> Option<()> {
        let depth = |event: &Event| match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => 1_isize,
            Event::SequenceEnd | Event::MappingEnd => -1,
            _ => 0,
        };
        let mut open = depth(&first);
        while open > 0 {
            open += depth(&self.next()?.0);
        }
        Some(())
    }

    /// What stands under a key that was just read.
    fn entry(&mut self, name: String, key: Range<usize>) -> Option<Entry> {
        let colon = skip(self.text, key.end);
        let has_colon = self.text.as_bytes().get(colon) == Some(&b':');
        let after = if has_colon { colon + 1 } else { key.end };
        let (event, span) = self.next()?;
        Some(Entry { name, start: key.start, after, has_colon, value: self.part(event, span, after)? })
    }

    /// The value that begins with this event and may begin at `after`.
    fn part(&mut self, event: Event, span: Span, after: usize) -> Option<Part> {
        let range = span.byte_range()?;
        match event {
            Event::Alias(_) => Some(Part { kind: Kind::Alias, end: range.end }),
            Event::Scalar(_, ScalarStyle::Plain, ..) if range.is_empty() => {
                Some(Part { kind: Kind::Absent, end: after })
            }
            Event::Scalar(_, style, ..) => {
                // The head of a block scalar, `|`, is before its span, and the blanks behind it are in it.
                let head = skip(self.text, after);
                let first_line = self.text[head..].find('\n').map_or(self.text.len(), |end| head + end);
                let end = match style {
                    ScalarStyle::Literal | ScalarStyle::Folded => {
                        first_line.max(self.text.get(..range.end)?.trim_end().len())
                    }
                    _ => range.end,
                };
                Some(Part { kind: Kind::Scalar(style), end })
            }
            Event::MappingStart(style, ..) => {
                let flow = style == StructureStyle::Flow;
                let mut entries: Vec<Entry> = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    match event {
                        Event::MappingEnd if flow => {
                            return Some(Part { kind: Kind::Map { flow, entries }, end: span.byte_range()?.end });
                        }
                        Event::MappingEnd => {
                            let end = entries.last()?.value.end;
                            return Some(Part { kind: Kind::Map { flow, entries }, end });
                        }
                        Event::Scalar(name, ..) => {
                            if name == "<<" {
                                self.woven.get_or_insert(span.start.line() as u32);
                            }
                            let entry = self.entry(name.into_owned(), span.byte_range()?)?;
                            entries.push(entry);
                        }
                        // A key that is a list or a section is none of the model's.
                        _ => return None,
                    }
                }
            }
            Event::SequenceStart(style, ..) => {
                let flow = style == StructureStyle::Flow;
                let mut items: Vec<Entry> = Vec::new();
                // Behind the bracket, or before the first dash.
                let mut from = if flow { range.end } else { after };
                loop {
                    let (event, span) = self.next()?;
                    if let Event::SequenceEnd = event {
                        let end = if flow { span.byte_range()?.end } else { items.last()?.value.end };
                        return Some(Part { kind: Kind::List { flow, items }, end });
                    }
                    let start = skip(self.text, from);
                    let after = match self.text.as_bytes().get(start)? {
                        b'-' if !flow => start + 1,
                        // An anchor before the first dash, a pair without brackets.
                        _ if !flow => return None,
                        _ => start,
                    };
                    let value = self.part(event, span, after)?;
                    from = value.end;
                    if flow {
                        from = skip(self.text, from);
                        from += usize::from(self.text.as_bytes().get(from) == Some(&b','));
                    }
                    items.push(Entry { name: String::new(), start, after, has_colon: true, value });
                }
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_where_it_was_typed() {
        let text = "vendors: { 000413000001: {} }\ndevices:\n  # the first\n  \"00:04:13:00:00:01\": # of them\n    label:   a b   # c\n    empty:\n    \
                    sip: &x !!map\n      server: é\n    flow: { a: 1, b, \"c\":2, d: [1, {e: f} ], }\n    lit: |\n      abc\n\n    lines:\n    \
                    - number: 101\n      x:\n    -\n    - *x\n  0004.1300.0002: {}\n";
        let mac = |text: &str| Whose::Device(text.parse().unwrap());
        let found = entry(text, &mac("000413000001")).unwrap();
        assert_eq!((found.woven, found.in_flow), (Some(8), false), "a line behind an anchor is near enough");
        let Kind::Map { entries, flow: false } = &found.entry.value.kind else { panic!() };
        let typed = |entry: &Entry| text[entry.start..entry.value.end].to_owned();
        let all: Vec<String> = entries.iter().map(typed).collect();
        let expected = [
            "label:   a b",
            "empty:",
            "sip: &x !!map\n      server: é",
            "flow: { a: 1, b, \"c\":2, d: [1, {e: f} ], }",
            "lit: |\n      abc",
            "lines:\n    - number: 101\n      x:\n    -\n    - *x",
        ];
        assert_eq!(all, expected);
        let Kind::Map { entries: flow, flow: true } = &entries[3].value.kind else { panic!() };
        assert_eq!(flow.iter().map(typed).collect::<Vec<_>>(), ["a: 1", "b", "\"c\":2", "d: [1, {e: f} ]"]);
        let Kind::List { items, flow: true } = &flow[3].value.kind else { panic!() };
        assert_eq!(items.iter().map(typed).collect::<Vec<_>>(), ["1", "{e: f}"]);
        let Kind::List { items, flow: false } = &entries[5].value.kind else { panic!() };
        assert_eq!(items.iter().map(typed).collect::<Vec<_>>(), ["- number: 101\n      x:", "-", "- *x"]);
        assert_eq!(typed(&entry(text, &mac("000413000002")).unwrap().entry), "0004.1300.0002: {}");
        let profiles = "profiles:\n  a: {}\n  'b: c': # of it\n    extends: a\n";
        assert_eq!(
            &profiles[entry(profiles, &Whose::Profile("b: c".into())).unwrap().entry.start..],
            "'b: c': # of it\n    extends: a\n"
        );
        assert!(entry(text, &mac("000413000003")).is_none() && entry("- a\n", &mac("000413000003")).is_none());
    }
}
