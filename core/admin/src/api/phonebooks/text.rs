//! Single entries of a list in the text of its file. What these make is read again before it is written: here is only found where.

use csv::{ReaderBuilder, StringRecord, Terminator, Trim, WriterBuilder};

use super::{Kind, Person};
use crate::problem::Problem;

/// The sign that parts the columns, as the reader of lists finds it.
fn delimiter(text: &str) -> u8 {
    let head = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let often = |sign: char| head.matches(sign).count();
    [',', ';', '\t'].into_iter().rev().max_by_key(|sign| often(*sign)).unwrap_or(',') as u8
}

fn rows(text: &str) -> Vec<(usize, StringRecord)> {
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter(text))
        .trim(Trim::All)
        .flexible(true)
        .has_headers(false)
        .from_reader(text.as_bytes());
    // The reader ends a row with the CR, and takes the LF for the beginning of the next.
    let place = |row: &StringRecord| {
        let at = row.position().map_or(0, |at| at.byte() as usize);
        at + usize::from(text[at..].starts_with('\n'))
    };
    reader.records().map_while(Result::ok).map(|row| (place(&row), row)).collect()
}

/// The text with somebody at its end. None where it has no row that names the columns.
pub(super) fn csv_with(text: &str, person: &Person) -> Result<Option<String>, Problem> {
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rows = rows(bare);
    let Some((_, head)) = rows.first() else { return Ok(None) };
    let mut numbers: Vec<(&str, &str)> =
        person.numbers.iter().map(|number| (number.kind.as_str(), number.number.as_str())).collect();
    let mut others = [
        ("name", Some(person.name.as_str()).filter(|name| !name.is_empty())),
        ("first", person.first.as_deref()),
        ("last", person.last.as_deref()),
        ("group", person.group.as_deref()),
        ("email", person.email.as_deref()),
    ];
    let mut row: Vec<String> = Vec::new();
    for column in head.iter() {
        let column = column.to_lowercase();
        let kind = if column == "number" { Kind::Work.as_str() } else { &column };
        let value = if let Some(at) = numbers.iter().position(|(known, _)| *known == kind) {
            Some(numbers.remove(at).1)
        } else {
            others.iter_mut().find(|(known, _)| *known == column).and_then(|(_, value)| value.take())
        };
        row.push(value.unwrap_or_default().to_owned());
    }
    // A list may have columns for the parts of a name alone, or for the whole of it.
    let names = ["name", "first", "last"];
    let is_named = row
        .iter()
        .zip(head.iter())
        .any(|(cell, column)| !cell.is_empty() && names.iter().any(|name| column.eq_ignore_ascii_case(name)));
    let lost = others.iter().find(|(name, value)| value.is_some() && !(is_named && names.contains(name)));
    let lost = lost.map(|(name, _)| *name).or(numbers.first().map(|(kind, _)| *kind));
    if let Some(what) = lost {
        return Err(Problem::field(what, "the file has no column of that name left for it; add one to its first row"));
    }
    let crlf = text.contains("\r\n");
    let mut writer = WriterBuilder::new()
        .delimiter(delimiter(bare))
        .terminator(if crlf { Terminator::CRLF } else { Terminator::Any(b'\n') })
        .from_writer(Vec::new());
    let written = writer.write_record(&row).ok().and_then(|()| writer.into_inner().ok());
    let Some(line) = written.and_then(|line| String::from_utf8(line).ok()) else { return Ok(None) };
    let end = if text.ends_with('\n') {
        ""
    } else if crlf {
        "\r\n"
    } else {
        "\n"
    };
    Ok(Some(format!("{text}{end}{line}")))
}

/// The text without the row of the entry of this place.
pub(super) fn csv_without(text: &str, index: usize) -> Option<String> {
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mark = text.len() - bare.len();
    let rows = rows(bare);
    let (_, head) = rows.first()?;
    let has = |row: &StringRecord, wanted: &[&str]| {
        row.iter()
            .zip(head.iter())
            .any(|(cell, column)| !cell.is_empty() && wanted.iter().any(|wanted| column.eq_ignore_ascii_case(wanted)))
    };
    // The reader of lists leaves out rows without a name or without a number.
    let counts =
        |row: &StringRecord| has(row, &["name", "first", "last"]) && has(row, &["work", "mobile", "home", "number"]);
    let (place, _) = rows.iter().enumerate().skip(1).filter(|(_, (_, row))| counts(row)).nth(index)?;
    let from = mark + rows[place].0;
    let to = rows.get(place + 1).map_or(text.len(), |(at, _)| mark + at);
    Some(format!("{}{}", text.get(..from)?, text.get(to..)?))
}

fn quoted(text: &str) -> String {
    // JSON's, which is YAML's in double quotes.
    serde_json::to_string(text).unwrap_or_default()
}

fn in_yaml(person: &Person) -> String {
    let mut parts = Vec::new();
    let fields = [
        ("name", Some(&person.name).filter(|name| !name.is_empty())),
        ("first", person.first.as_ref()),
        ("last", person.last.as_ref()),
    ];
    parts.extend(fields.iter().filter_map(|(name, value)| Some(format!("{name}: {}", quoted(value.as_ref()?)))));
    let number = |number: &super::Number| match number.kind {
        Kind::Work => format!("{{ number: {} }}", quoted(&number.number)),
        kind => format!("{{ kind: {}, number: {} }}", kind.as_str(), quoted(&number.number)),
    };
    let numbers: Vec<String> = person.numbers.iter().map(number).collect();
    parts.push(format!("numbers: [{}]", numbers.join(", ")));
    let fields = [("group", &person.group), ("email", &person.email)];
    parts.extend(fields.iter().filter_map(|(name, value)| Some(format!("{name}: {}", quoted(value.as_ref()?)))));
    format!("{{ {} }}", parts.join(", "))
}

/// The lines of the entries: how far they are indented, where each begins, and where the last one ends. None where they are not
/// written one below the other.
struct Block {
    indent: usize,
    starts: Vec<usize>,
    end: usize,
}

fn block(text: &str) -> Option<Block> {
    let mut at = 0;
    let lines: Vec<(usize, &str)> = text
        .split_inclusive('\n')
        .map(|line| {
            let here = at;
            at += line.len();
            (here, line)
        })
        .collect();
    let head = lines.iter().position(|(_, line)| {
        let rest = line.strip_prefix("entries:").map(str::trim);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
    })?;
    let (mut indent, mut starts, mut end) = (None, Vec::new(), lines[head].0 + lines[head].1.len());
    for (place, line) in &lines[head + 1..] {
        let body = line.trim_start_matches(' ');
        let deep = line.len() - body.len();
        if body.trim().is_empty() || body.starts_with('#') {
            continue;
        }
        let is_item = body.starts_with("- ") || body.trim_end() == "-";
        match indent {
            None if is_item => indent = Some(deep),
            None => break,
            Some(indent) if deep < indent || deep == indent && !is_item => break,
            Some(_) => {}
        }
        if indent == Some(deep) && is_item {
            starts.push(*place);
        }
        end = place + line.len();
    }
    Some(Block { indent: indent.unwrap_or(2), starts, end })
}

/// The text with somebody at the end of the entries.
pub(super) fn yaml_with(text: &str, person: &Person) -> Option<String> {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    if let Some(line) = text.lines().find(|line| line.trim_end() == "entries: []") {
        return Some(text.replacen(line, &format!("entries:{newline}  - {}", in_yaml(person)), 1));
    }
    let Block { indent, end, .. } = block(text)?;
    let before = text.get(..end)?;
    let gap = if before.ends_with('\n') { "" } else { newline };
    Some(format!("{before}{gap}{}- {}{newline}{}", " ".repeat(indent), in_yaml(person), text.get(end..)?))
}

/// The text without the lines of the entry of this place.
pub(super) fn yaml_without(text: &str, index: usize) -> Option<String> {
    let Block { starts, end, .. } = block(text)?;
    let from = *starts.get(index)?;
    let to = starts.get(index + 1).copied().unwrap_or(end);
    if starts.len() == 1 {
        // Nothing is left to stand below the key.
        let head = text.get(..from)?.rfind("entries:")?;
        return Some(format!("{}entries: []\n{}", text.get(..head)?, text.get(to..)?));
    }
    Some(format!("{}{}", text.get(..from)?, text.get(to..)?))
}

#[cfg(test)]
mod tests {
    use super::{super::Number, *};

    fn anna() -> Person {
        Person {
            name: "Anna: \"B\", #1".into(),
            numbers: vec![
                Number { kind: Kind::Work, number: "101".into() },
                Number { kind: Kind::Mobile, number: "+49 151".into() },
            ],
            ..Person::default()
        }
    }

    #[test]
    fn a_row_is_added_in_the_files_own_columns_and_one_is_taken_out() {
        let text = "\u{feff}Mobile;Name;Fax;Number\r\n1;Ben;;2\r\n\r\n;\"C\r\nD\";;\r\n3;Eve;;4";
        let with = csv_with(text, &anna()).unwrap().unwrap();
        assert_eq!(with, format!("{text}\r\n+49 151;\"Anna: \"\"B\"\", #1\";;101\r\n"));
        let problem = csv_with("name,work\n", &anna()).unwrap_err();
        assert_eq!(problem.errors[0].at, "mobile");
        assert_eq!(csv_with("", &anna()).unwrap(), None);
        // The one without a number is in the file and not in the list.
        assert_eq!(csv_without(text, 1).unwrap(), text.replace("3;Eve;;4", ""));
        assert_eq!(csv_without(text, 0).unwrap(), text.replace("1;Ben;;2\r\n", ""));
        assert_eq!(csv_without(text, 2), None);
    }

    #[test]
    fn an_entry_is_added_below_the_others_and_the_rest_of_the_file_stays() {
        let text = "title: a\nentries: # people\n  # one\n  - { name: Ben,\n      numbers: [{ number: 1 }] }\n\n  - name: Eve\n    numbers:\n      - { number: 2 }\n# end\n";
        let with = yaml_with(text, &anna()).unwrap();
        let line = "  - { name: \"Anna: \\\"B\\\", #1\", numbers: [{ number: \"101\" }, { kind: mobile, number: \"+49 151\" }] }\n";
        assert_eq!(with, text.replace("# end\n", &format!("{line}# end\n")));
        let without = yaml_without(text, 0).unwrap();
        assert_eq!(without, text.replace("  - { name: Ben,\n      numbers: [{ number: 1 }] }\n\n", ""));
        let last = yaml_without(&without, 0).unwrap();
        assert_eq!(last, "title: a\nentries: []\n# end\n");
        assert_eq!(yaml_with(&last, &anna()).unwrap(), format!("title: a\nentries:\n{line}# end\n"));
        assert!(yaml_with("entries: [{ name: A }]\n", &anna()).is_none());
        assert_eq!(yaml_with("entries:", &anna()).unwrap(), format!("entries:\n{line}"));
        assert!(yaml_without("entries:\n", 0).is_none() && yaml_without(text, 2).is_none());
    }
}
