//! The lists under `phonebooks/`: `NAME.yaml` or `NAME.csv`, read and checked as profiles are. Knows no vendor's form of them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use csv::{ReaderBuilder, StringRecord, Trim};
use provost_plugin::{
    model::{Book, Entry, Number, NumberKind},
    spec::is_book_name,
};
use serde_json::Value as Json;

use crate::{
    document,
    files::{self, Kind, Sources},
    node::{Node, Value},
    problem::{Problem, hint},
    shape::{self, Shape},
};

const BOOKS: Kind<Book> = Kind { extensions: &["yaml", "yml", "csv"], read };

static SCHEMA: LazyLock<Json> = LazyLock::new(|| shape::schema_of::<Book>("Provost phonebook"));
static SHAPE: LazyLock<Shape> = LazyLock::new(|| shape::compile(&SCHEMA, &SCHEMA, ""));

/// JSON Schema of a list in YAML, for editors.
pub fn schema() -> Json {
    SCHEMA.clone()
}

/// Every list that is in service.
#[derive(Debug)]
pub struct Phonebooks {
    sources: Sources<Book>,
    /// By name, with the file.
    books: BTreeMap<String, (Arc<Book>, Arc<str>)>,
    modified: SystemTime,
}

impl Default for Phonebooks {
    /// No lists.
    fn default() -> Phonebooks {
        Phonebooks { sources: Sources::new(), books: BTreeMap::new(), modified: SystemTime::UNIX_EPOCH }
    }
}

impl Phonebooks {
    /// Reads what is below `root`, which need not be there. A file with an error keeps the version that `previous` had in service.
    pub fn read(root: &Path, previous: Option<&Phonebooks>) -> (Phonebooks, Vec<Problem>) {
        let (sources, problems) = files::read_optional(root, &BOOKS, previous.map(|books| &books.sources));
        Phonebooks::of(sources, problems, previous)
    }

    /// These lists as they would be with these files written (none: deleted). Nothing is written.
    pub fn edited(&self, edits: &BTreeMap<PathBuf, Option<Vec<u8>>>) -> (Phonebooks, Vec<Problem>) {
        Phonebooks::of(files::edited(&self.sources, &BOOKS, edits), Vec::new(), Some(self))
    }

    /// Whether this content of a file (none: no such file) is what was last seen of it.
    pub fn has_seen(&self, path: &Path, content: Option<&[u8]>) -> bool {
        files::is_seen(&self.sources, path, content)
    }

    /// The files that were found.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.keys().map(PathBuf::as_path)
    }

    fn of(
        sources: Sources<Book>,
        mut problems: Vec<Problem>,
        previous: Option<&Phonebooks>,
    ) -> (Phonebooks, Vec<Problem>) {
        let mut books: BTreeMap<String, (Arc<Book>, Arc<str>)> = BTreeMap::new();
        for source in sources.values() {
            problems.extend(source.problems.iter().cloned());
            if !source.fit {
                continue;
            }
            match books.get(&source.document.name) {
                Some((_, other)) => problems.push(Problem::error(
                    &source.file,
                    0,
                    0,
                    format!("a list \"{}\" is already in {other}, which stays in service", source.document.name),
                )),
                None => {
                    let name = source.document.name.clone();
                    books.insert(name, (Arc::clone(&source.document), source.file.clone()));
                }
            }
        }
        let modified = files::modified(previous.map(|books| (&books.sources, books.modified)), &sources);
        (Phonebooks { sources, books, modified }, problems)
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Book>> {
        self.books.get(name).map(|(book, _)| book)
    }

    /// The file that a list stands in.
    pub fn file(&self, name: &str) -> Option<&str> {
        self.books.get(name).map(|(_, file)| &**file)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.books.keys().map(String::as_str)
    }

    /// Whether some version of this file is in service.
    pub fn serves(&self, file: &str) -> bool {
        self.sources.get(Path::new(file)).is_some_and(|source| source.fit)
    }

    /// When what is in service last changed.
    pub fn modified(&self) -> SystemTime {
        self.modified
    }
}

/// Reads a file's bytes. With an error among the problems, the list is not fit for service.
fn read(file: &Arc<str>, bytes: &[u8]) -> (Book, Vec<Problem>) {
    let path = Path::new(&**file);
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let (mut book, mut problems) = if is_csv { csv(file, bytes) } else { yaml(file, bytes) };
    if !is_book_name(&name) {
        let message = "a list is named by its file, and the name stands in a URL: letters of ASCII, digits, - and _";
        problems.push(Problem::error(file, 0, 0, message));
    }
    if book.title.is_empty() {
        book.title.clone_from(&name);
    }
    book.name = name;
    problems.sort_by_key(|problem| (problem.line, problem.column));
    (book, problems)
}

fn yaml(file: &Arc<str>, bytes: &[u8]) -> (Book, Vec<Problem>) {
    let (root, mut problems) = document::checked(file, bytes, &SHAPE);
    let Some(root) = root else { return (Book::default(), problems) };
    let mut lines = Lines { file, problems: &mut problems };
    let title = lines.text(root.get("title")).unwrap_or_default();
    let entries = items(root.get("entries")).iter().filter_map(|node| {
        let numbers = items(node.get("numbers")).iter().filter_map(|node| {
            let kind = match node.get("kind").and_then(Node::text) {
                Some("mobile") => NumberKind::Mobile,
                Some("home") => NumberKind::Home,
                _ => NumberKind::Work,
            };
            Some(Number { kind, number: dialled(&lines.text(node.get("number"))?) })
        });
        let numbers = numbers.collect();
        let mut text = |name| lines.text(node.get(name));
        let entry = Entry {
            name: text("name").unwrap_or_default(),
            first: text("first"),
            last: text("last"),
            numbers,
            group: text("group"),
            email: text("email"),
        };
        lines.whole(entry, (node.line, node.column))
    });
    let entries = entries.collect();
    (Book { name: String::new(), title, entries }, problems)
}

fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

/// What a column of a CSV file holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Name,
    First,
    Last,
    Number(NumberKind),
    Group,
    Email,
}

const COLUMNS: &[(&str, Column)] = &[
    ("name", Column::Name),
    ("first", Column::First),
    ("last", Column::Last),
    ("work", Column::Number(NumberKind::Work)),
    ("mobile", Column::Number(NumberKind::Mobile)),
    ("home", Column::Number(NumberKind::Home)),
    ("number", Column::Number(NumberKind::Work)),
    ("group", Column::Group),
    ("email", Column::Email),
];

fn csv(file: &Arc<str>, bytes: &[u8]) -> (Book, Vec<Problem>) {
    let text = match document::text(file, bytes) {
        Ok(text) => text,
        Err(problem) => return (Book::default(), vec![problem]),
    };
    let mut problems = Vec::new();
    // Where a comma is the decimal sign, spreadsheets part columns by semicolons.
    let head = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let often = |sign: char| head.matches(sign).count();
    let delimiter = [',', ';', '\t'].into_iter().rev().max_by_key(|sign| often(*sign)).unwrap_or(',');
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter as u8)
        .trim(Trim::All)
        .flexible(true)
        .has_headers(false)
        .from_reader(text.as_bytes());
    let mut rows = reader.records();
    let mut lines = Lines { file, problems: &mut problems };
    let columns = match rows.next() {
        Some(Ok(row)) => lines.columns(&row),
        Some(Err(error)) => {
            lines.wrong((1, 1), format!("cannot read the row: {error}"));
            None
        }
        None => lines.columns(&StringRecord::new()),
    };
    let Some(columns) = columns else { return (Book::default(), problems) };
    let mut entries = Vec::new();
    for row in rows {
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                let line = error.position().map_or(0, |at| at.line() as u32);
                lines.wrong((line, 1), format!("cannot read the row: {error}"));
                continue;
            }
        };
        let at = (row.position().map_or(0, |at| at.line() as u32), 1);
        if row.iter().all(str::is_empty) {
            continue;
        }
        if row.len() > columns.len() {
            let message = format!("the row has {} columns, and the first row names {}", row.len(), columns.len());
            lines.wrong(at, message);
            continue;
        }
        let mut entry = Entry::default();
        for (cell, column) in row.iter().zip(&columns) {
            let (Some(column), Some(text)) = (column, lines.clean(cell, at)) else { continue };
            match column {
                Column::Name => entry.name = text,
                Column::First => entry.first = Some(text),
                Column::Last => entry.last = Some(text),
                Column::Number(kind) => entry.numbers.push(Number { kind: *kind, number: dialled(&text) }),
                Column::Group => entry.group = Some(text),
                Column::Email => entry.email = Some(text),
            }
        }
        entries.extend(lines.whole(entry, at));
    }
    (Book { name: String::new(), title: String::new(), entries }, problems)
}

/// What both forms are checked for, and where it is told.
struct Lines<'a> {
    file: &'a Arc<str>,
    problems: &'a mut Vec<Problem>,
}

impl Lines<'_> {
    fn wrong(&mut self, at: (u32, u32), message: impl Into<String>) {
        self.problems.push(Problem::error(self.file, at.0, at.1, message));
    }

    /// The columns that the first row names; nothing if it is no such row.
    fn columns(&mut self, row: &StringRecord) -> Option<Vec<Option<Column>>> {
        let known = || COLUMNS.iter().map(|(name, _)| *name);
        let find = |name: &str| COLUMNS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, is)| *is);
        let columns: Vec<_> = row.iter().map(find).collect();
        let is_name = |column: &Column| matches!(column, Column::Name | Column::First | Column::Last);
        let is_number = |column: &Column| matches!(column, Column::Number(_));
        if !columns.iter().flatten().any(is_name) || !columns.iter().flatten().any(is_number) {
            let known = known().collect::<Vec<_>>().join(", ");
            self.wrong(
                (1, 1),
                format!("the first row must name the columns, of a name and a number at least: {known}"),
            );
            return None;
        }
        for (name, _) in row.iter().zip(&columns).filter(|(name, column)| column.is_none() && !name.is_empty()) {
            let message = format!("the column \"{name}\" is not known and left out{}", hint(name, known()));
            self.problems.push(Problem::warning(self.file, 1, 1, message));
        }
        Some(columns)
    }

    fn text(&mut self, node: Option<&Node>) -> Option<String> {
        let node = node?;
        self.clean(node.text()?, (node.line, node.column))
    }

    /// A value without blanks around it; nothing if it is empty. No form of a list has room for control characters.
    fn clean(&mut self, text: &str, at: (u32, u32)) -> Option<String> {
        let text = text.trim();
        if let Some(control) = text.chars().find(|sign| sign.is_control()) {
            let what = if matches!(control, '\n' | '\r') { "a line break" } else { "a control character" };
            let start: String = text.chars().take_while(|sign| !sign.is_control()).take(40).collect();
            self.wrong(at, format!("\"{start}…\" goes on after {what}; is a quote left open?"));
            return None;
        }
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The entry with its name filled in, if somebody can be called by it.
    fn whole(&mut self, mut entry: Entry, at: (u32, u32)) -> Option<Entry> {
        if entry.name.is_empty() {
            entry.name = [&entry.first, &entry.last].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
        }
        entry.numbers.retain(|number| !number.number.is_empty());
        if entry.name.is_empty() {
            self.wrong(at, "the entry has no name: it needs \"name\", \"first\" or \"last\"");
            return None;
        }
        if entry.numbers.is_empty() {
            let message = format!("\"{}\" has no number and is left out", entry.name);
            self.problems.push(Problem::warning(self.file, at.0, at.1, message));
            return None;
        }
        Some(entry)
    }
}

/// A number without what only parts it for the eye. What is no plain number, a SIP address say, stays as it is.
fn dialled(number: &str) -> String {
    let parting =
        |sign: char| sign.is_whitespace() || matches!(sign, '-' | '.' | '/' | '(' | ')' | '\u{2010}'..='\u{2014}');
    let plain = |sign: char| sign.is_ascii_digit() || matches!(sign, '+' | '*' | '#' | ',');
    if !number.chars().all(|sign| parting(sign) || plain(sign)) {
        return number.to_owned();
    }
    // The zero that is dialled only inside the country.
    let number = if number.starts_with('+') { number.replacen("(0)", "", 1) } else { number.to_owned() };
    number.chars().filter(|sign| !parting(*sign)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn list(name: &str, text: &str) -> (Option<Arc<Book>>, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(name), text).unwrap();
        let (books, problems) = Phonebooks::read(root.path(), None);
        let prefix = format!("{}/", root.path().display());
        let problems = problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect();
        let stem = name.split('.').next().unwrap();
        (books.get(stem).cloned(), problems)
    }

    #[test]
    fn yaml_and_csv_say_the_same() {
        let (yaml, problems) = list(
            "company.yaml",
            "title: company\nentries:\n  - { name: Anna <Berg> & Co, numbers: [{ number: 0049 30/123-45 }, { kind: mobile, number: +49 (0)151 1 }], group: Sales, email: a@b.example }\n  - { first: Ben, last: \"O'Neil \\\"B\\\"\", numbers: [{ kind: home, number: sip:ben@example.net }] }\n",
        );
        assert_eq!(problems, [""; 0]);
        let yaml = yaml.unwrap();
        assert_eq!(yaml.entries[0].numbers[0].number, "00493012345");
        assert_eq!(yaml.entries[0].numbers[1].number, "+491511", "the zero inside the country is left out");
        assert_eq!((yaml.entries[1].name.as_str(), yaml.title.as_str()), ("Ben O'Neil \"B\"", "company"));
        for (delimiter, number) in [(",", "+49 (0)151 1"), (";", "+49 (0)151 1"), ("\t", "+491511")] {
            let text = [
                "\u{feff}Name,First,Last,Work,Mobile,Home,Group,Email",
                &format!("Anna <Berg> & Co,,,0049 30/123-45,{number},,Sales,a@b.example"),
                "",
                ",Ben,\"O'Neil \"\"B\"\"\",,,sip:ben@example.net",
            ]
            .join("\r\n")
            .replace(',', delimiter);
            let (csv, problems) = list("company.csv", &text);
            assert_eq!(problems, [""; 0]);
            assert_eq!(csv.as_ref(), Some(&yaml), "{delimiter:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (name, text, told) in [
            (
                "a.yaml",
                "entries:\n  - { nmae: A }\n",
                "a.yaml:2:7: unknown key \"nmae\" in \"entries\", did you mean \"name\"?",
            ),
            ("a.yaml", "entries:\n  - { numbers: [{ number: 1 }] }\n", "a.yaml:2:5: the entry has no name"),
            (
                "a.yaml",
                "entries:\n  - { name: A, numbers: [{ kind: work }] }\n",
                "an entry of \"numbers\" needs \"number\"",
            ),
            (
                "a.yaml",
                "entries:\n  - { name: A, numbers: [{ kind: fax, number: 1 }] }\n",
                "\"kind\" does not know \"fax\"",
            ),
            (
                "a.yaml",
                "entries:\n  - { name: \"A\\nB\", numbers: [{ number: 1 }] }\n",
                "\"A…\" goes on after a line break",
            ),
            ("a.csv", "Anna,101\n", "a.csv:1:1: the first row must name the columns"),
            ("a.csv", "", "a.csv:1:1: the first row must name the columns"),
            ("a.csv", "name,work\nA,1\nB,2,3\n", "a.csv:3:1: the row has 3 columns"),
            (
                "a.csv",
                "name,work\n\"A,1\nB,2\n",
                "a.csv:2:1: \"A,1…\" goes on after a line break; is a quote left open?",
            ),
            ("über.csv", "name,work\nA,1\n", "über.csv: a list is named by its file"),
        ] {
            let (book, problems) = list(name, text);
            assert!(book.is_none(), "{text}");
            assert!(problems.iter().any(|problem| problem.contains(told)), "{told}: {problems:?}");
        }
        let (book, problems) = list("a.csv", "name,work,fax\nA,1,2\nB,,3\n");
        assert_eq!(book.unwrap().entries.len(), 1);
        let told = [
            "a.csv:1:1: warning: the column \"fax\" is not known and left out",
            "a.csv:3:1: warning: \"B\" has no number and is left out",
        ];
        assert!(
            problems.len() == 2 && told.iter().zip(&problems).all(|(told, said)| said.starts_with(told)),
            "{problems:?}"
        );
    }

    #[test]
    fn a_broken_list_keeps_its_last_good_version_and_a_name_is_taken_once() {
        let root = tempfile::tempdir().unwrap();
        let lists = root.path().join("phonebooks");
        let (none, problems) = Phonebooks::read(&lists, None);
        assert!(problems.is_empty() && none.names().next().is_none(), "the directory need not be there");
        fs::create_dir(&lists).unwrap();
        fs::write(lists.join("a.csv"), "name,work\nA,1\n").unwrap();
        let (first, problems) = Phonebooks::read(&lists, Some(&none));
        assert!(problems.is_empty() && first.modified() > none.modified());
        fs::write(lists.join("a.csv"), "nonsense\n").unwrap();
        let (second, problems) = Phonebooks::read(&lists, Some(&first));
        assert_eq!((problems.len(), second.modified()), (1, first.modified()));
        assert_eq!(second.get("a"), first.get("a"));
        assert!(second.serves(second.file("a").unwrap()));
        fs::write(lists.join("a.csv"), "name,work\nA,2\n").unwrap();
        fs::write(lists.join("a.yaml"), "title: other\n").unwrap();
        let (third, problems) = Phonebooks::read(&lists, Some(&second));
        assert!(problems.len() == 1 && problems[0].message.contains("a.csv"), "{problems:?}");
        assert_eq!(third.get("a").unwrap().entries[0].numbers[0].number, "2");
    }
}
