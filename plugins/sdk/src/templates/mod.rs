//! The template engine: one for all vendors, so that escaping, limits and site overrides are the same for every one of them.
//!
//! Only the host (and tests) build this; a library calls back through [`Render`].
//!
//! What a template author needs to know stands in `plugins/README.md`. In short: undefined names are errors; a line that prints
//! `none` is left out; where a setting is written twice, the later line wins; values are escaped by the format of the template.

mod escape;
mod filters;
mod lines;
mod values;

use std::{borrow::Cow, collections::BTreeMap, io, sync::Arc};

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, syntax::SyntaxConfig};

use self::values::Fields;
use crate::{
    model::{Phone, Secret},
    plugin::{PluginError, Render, RenderedFile, TemplateFailure, Variables},
    spec::{FileSpec, Spec, extension},
};

/// A rendered file larger than this is a mistake in a template, and must not take the server's memory with it.
const OUTPUT_LIMIT: usize = 4 << 20;
/// Nearly every file fits, with the lines that are left out of it.
const OUTPUT_USUAL: usize = 16 << 10;
/// Instructions a template may run: several hundred keys cost a few hundred thousand.
const FUEL: u64 = 5_000_000;
/// Deeper than any template of ours; stops one that includes itself.
const RECURSION: usize = 64;

/// A template file as the host found it.
#[derive(Clone, Debug)]
pub struct Source {
    /// Relative to the vendor's template directory, with `/`.
    pub name: String,
    /// The path that a person would open.
    pub shown: String,
    pub text: String,
    /// A site override of a shipped template. The shipped one stays within reach as `@shipped/NAME`.
    pub is_override: bool,
}

/// All templates of one vendor, compiled.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    /// The same for families with tables of their own.
    families: BTreeMap<String, Environment<'static>>,
    /// Template name → the file it came from.
    shown: BTreeMap<String, String>,
    spec: Arc<Spec>,
}

impl Templates {
    /// Compiles everything, and reports everything that does not compile. Nothing half-compiled is ever handed out.
    pub fn compile(spec: &Spec, sources: &[Source]) -> Result<Templates, Vec<TemplateFailure>> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        environment.set_auto_reload(false);
        // Ranges and source excerpts, so that an error can name the expression that failed.
        environment.set_debug(true);
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .keep_trailing_newline(true)
                .build()
                .expect("the delimiters are the engine's own"),
        );
        let formats = spec.formats.clone();
        environment.set_auto_escape_callback(move |name| {
            match extension(name).and_then(|extension| formats.get(extension)) {
                Some(format) => AutoEscape::Custom(escape::name(format.escape).into()),
                // No declared format, no way to know what is safe: the formatter refuses to print anything.
                None => AutoEscape::Custom("undeclared".into()),
            }
        });
        environment.set_formatter(escape::write);
        // A value that says of itself that it is safe is exactly what a generated password must not be.
        environment.remove_filter("safe");
        let spec = Arc::new(spec.clone());
        filters::add(&mut environment, &spec, None);

        let mut shown = BTreeMap::new();
        let mut failures = Vec::new();
        let mut add = |name: String, source: &Source| {
            shown.insert(name.clone(), source.shown.clone());
            if let Err(error) = environment.add_template_owned(name, source.text.clone()) {
                failures.push(failure(&error, &source.shown, &source.text));
            }
        };
        for source in sources.iter().filter(|source| !source.is_override) {
            // What begins so is another vendor's, and stays what it is.
            if !source.name.starts_with('@') {
                add(format!("@shipped/{}", source.name), source);
            }
            if !sources.iter().any(|other| other.is_override && other.name == source.name) {
                add(source.name.clone(), source);
            }
        }
        for source in sources.iter().filter(|source| source.is_override) {
            add(source.name.clone(), source);
        }
        // The same text was compiled under two names; one complaint is enough.
        failures.dedup();
        if !failures.is_empty() {
            return Err(failures);
        }
        let own = spec.families.iter().filter(|(_, family)| !family.tables.is_empty());
        let families = own
            .map(|(name, _)| {
                let mut environment = environment.clone();
                filters::add_tables(&mut environment, &spec, Some(name));
                (name.clone(), environment)
            })
            .collect();
        Ok(Templates { environment, families, shown, spec })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.shown.keys().map(String::as_str)
    }

    /// Every template: the name by which others reach it, the file it came from, its text. A shipped one goes by two names.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &str, String)> {
        self.shown.iter().filter_map(|(name, shown)| {
            let text = self.environment.get_template(name).ok()?.source().to_owned();
            Some((name.as_str(), shown.as_str(), text))
        })
    }

    /// The engine as it renders `file` for `phone`.
    pub fn bind(self: &Arc<Self>, file: &FileSpec, phone: &Phone) -> Bound {
        let mut named = Fields::default();
        named.push("name", file.name.to_string().into());
        named.push("kind", file.kind.as_str().into());
        let book_value = phone.book.as_deref().map(values::value);
        // A list is long, and once is enough.
        let phone = &match &phone.book {
            Some(_) => Cow::Owned(Phone { book: None, ..phone.clone() }),
            None => Cow::Borrowed(phone),
        };
        Bound {
            templates: Arc::clone(self),
            family: phone.capabilities.family.clone(),
            file: file.clone(),
            // The road to a rendered file: the only one on which passwords are in the clear.
            phone_value: Secret::exposed(|| values::value(&**phone)),
            file_value: named.into(),
            book_value,
        }
    }

    fn failure(&self, error: &minijinja::Error, asked: &str) -> TemplateFailure {
        // The innermost cause is where the mistake is; what lies around it is only who included whom.
        let mut cause = error;
        while let Some(inner) =
            std::error::Error::source(cause).and_then(|inner| inner.downcast_ref::<minijinja::Error>())
        {
            cause = inner;
        }
        let name = cause.name().unwrap_or(asked);
        let shown = self.shown.get(name).map_or(name, String::as_str);
        failure(cause, shown, cause.template_source().unwrap_or_default())
    }

    /// `settings`: of a setting that is written twice the later line stays.
    fn render(
        &self,
        family: Option<&str>,
        template: &str,
        context: Value,
        settings: bool,
    ) -> Result<String, TemplateFailure> {
        let missing = |name: &str| TemplateFailure {
            template: name.to_owned(),
            line: 0,
            message: format!("there is no template \"{name}\" for {}", self.spec.vendor),
        };
        if !self.shown.contains_key(template) {
            return Err(missing(template));
        }
        let environment = family.and_then(|family| self.families.get(family)).unwrap_or(&self.environment);
        let compiled = environment.get_template(template).map_err(|error| self.failure(&error, template))?;
        let mut output = Capped(Vec::with_capacity(OUTPUT_USUAL));
        compiled.render_captured_to(context, &mut output).map_err(|error| {
            if output_overflowed(&error) {
                return TemplateFailure {
                    template: self.shown[template].clone(),
                    line: 0,
                    message: format!("the file grows past {} MiB", OUTPUT_LIMIT >> 20),
                };
            }
            self.failure(&error, template)
        })?;
        let text = String::from_utf8(output.0).expect("the engine writes text");
        let format = self.spec.format_of(template);
        let setting = format.filter(|_| settings).and_then(|format| format.setting.as_ref());
        Ok(lines::settle(&text, setting, format.map(|format| format.newline).unwrap_or_default()))
    }
}

/// The engine, and the file and phone that it renders.
#[derive(Debug)]
pub struct Bound {
    templates: Arc<Templates>,
    family: Option<String>,
    file: FileSpec,
    phone_value: Value,
    file_value: Value,
    /// Only where there is a list: a name that no other file has.
    book_value: Option<Value>,
}

impl Bound {
    /// The file as its template makes it.
    pub fn finish(&self, variables: &Variables) -> Result<RenderedFile, PluginError> {
        let file = &self.file;
        let Some(template) = &file.template else {
            return Err(PluginError::Other(format!(
                "file \"{}\" has no template and the library does not render it",
                file.name
            )));
        };
        let text = self.render(template, variables)?;
        let content_type = match (&file.content_type, self.templates.spec.format_of(template)) {
            (Some(own), _) => own.clone(),
            (None, Some(format)) => format.content_type.clone(),
            (None, None) => "application/octet-stream".into(),
        };
        Ok(RenderedFile { body: text.into_bytes(), content_type })
    }
}

impl Render for Bound {
    fn render(&self, template: &str, variables: &Variables) -> Result<String, TemplateFailure> {
        let mut names = ["phone", "file"].into_iter().chain(self.book_value.as_ref().map(|_| "book"));
        if let Some(taken) = names.find(|name| variables.contains_key(*name)) {
            return Err(TemplateFailure {
                template: template.to_owned(),
                line: 0,
                message: format!("the library gives the template a value \"{taken}\", a name that is taken"),
            });
        }
        let mut context = Fields::default();
        context.push("phone", self.phone_value.clone());
        context.push("file", self.file_value.clone());
        self.book_value.iter().for_each(|book| context.push("book", book.clone()));
        variables.iter().for_each(|(name, value)| context.push_told(name, values::value(value)));
        // In a list of people no line stands for another that looks like it.
        self.templates.render(self.family.as_deref(), template, context.into(), self.book_value.is_none())
    }
}

/// The message a person can act on: what, where, and which expression.
fn failure(error: &minijinja::Error, shown: &str, source: &str) -> TemplateFailure {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let expression = error
        .range()
        .and_then(|range| printed(source, &range).or_else(|| source.get(whole_path(source, range.start)..range.end)))
        .map(str::trim)
        .filter(|expression| !expression.is_empty() && expression.len() <= 120 && !expression.contains('\n'))
        .map(|expression| format!(" in \"{expression}\""))
        .unwrap_or_default();
    let kind = error.kind();
    let what = if matches!(kind, minijinja::ErrorKind::UndefinedError) { "undefined value".to_owned() } else { what };
    TemplateFailure {
        template: shown.to_owned(),
        line: error.line().unwrap_or(0),
        message: format!("{what}{expression}"),
    }
}

/// What stands between the braces around a place: the engine points at the last filter, a person looks for the value that went in.
fn printed<'a>(source: &'a str, range: &std::ops::Range<usize>) -> Option<&'a str> {
    let start = source.get(..range.start)?.rfind("{{")? + 2;
    let end = range.start + source.get(range.start..)?.find("}}")?;
    source.get(start..end).filter(|inside| !inside.contains("}}") && !inside.contains("%}"))
}

/// The engine points at the last step of a path that failed (`.password`); a person looks for all of it (`line.password`).
fn whole_path(source: &str, start: usize) -> usize {
    let before = source.get(..start).unwrap_or_default();
    let path = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '[' | ']');
    before.trim_end_matches(path).len()
}

struct Capped(Vec<u8>);

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > OUTPUT_LIMIT {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn output_overflowed(error: &minijinja::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::FileTooLarge) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SPEC: &str = "
vendor: Acme
files: [{name: '{mac}.cfg', template: device.cfg.j2}]
formats:
  cfg: {escape: line, content_type: text/plain, newline: crlf, setting: '^([^=]+?) *='}
  xml: {escape: xml, content_type: text/xml}
  q: {escape: quoted, content_type: text/plain}
  p: {escape: percent, content_type: text/plain}
announce: {url: '{base}'}
tables: {transport: {udp: 0, tls: 2}}
";

    fn source(name: &str, text: &str) -> Source {
        Source { name: name.into(), shown: format!("templates/acme/{name}"), text: text.into(), is_override: false }
    }

    fn render(name: &str, text: &str, context: serde_json::Value) -> Result<String, TemplateFailure> {
        let templates = Templates::compile(&Spec::read(SPEC).unwrap(), &[source(name, text)]).unwrap();
        templates.render(None, name, values::value(&context), true)
    }

    #[test]
    fn a_line_that_prints_none_is_left_out_and_a_later_setting_wins() {
        let text = "a = {{ x }}\nb = {{ y }}\n# a = comment\na = {{ z }}\n";
        assert_eq!(
            render("device.cfg.j2", text, json!({"x": 1, "y": null, "z": true})).unwrap(),
            "# a = comment\r\na = 1\r\n"
        );
    }

    #[test]
    fn an_undefined_name_is_an_error_that_names_it_and_its_line() {
        let failure = render("device.cfg.j2", "a = 1\nb = {{ phone.lnies }}\n", json!({"phone": {}})).unwrap_err();
        assert_eq!((failure.line, failure.template.as_str()), (2, "templates/acme/device.cfg.j2"));
        assert!(failure.message.contains("undefined value") && failure.message.contains("phone.lnies"), "{failure}");
    }

    #[test]
    fn hostile_values_stay_in_their_field_or_are_refused_by_name() {
        let hostile = "<&>\"';#=%\\ä";
        let value = json!({ "line": {"password": hostile} });
        assert_eq!(
            render("a.cfg.j2", "p = {{ line.password }}\n", value.clone()).unwrap(),
            format!("p = {hostile}\r\n")
        );
        assert_eq!(
            render("a.xml.j2", "<p>{{ line.password }}</p>\n", value.clone()).unwrap(),
            "<p>&lt;&amp;&gt;&quot;&#39;;#=%\\ä</p>\n"
        );
        assert_eq!(
            render("a.p.j2", "{{ line.password }}", value.clone()).unwrap(),
            "%3C%26%3E%22%27%3B%23%3D%25%5C%C3%A4"
        );
        let failure = render("a.q.j2", "P=\"{{ line.password }}\"\n", value).unwrap_err();
        assert!(failure.message.contains("\"line.password\"") && failure.message.contains("double quote"), "{failure}");
        let deep = json!({ "phone": {"access": {"admin": {"password": "a\nb"}}} });
        let failure = render("a.cfg.j2", "p = {{ phone.access.admin.password }}\n", deep).unwrap_err();
        assert!(failure.message.contains("\"phone.access.admin.password\""), "{failure}");
        for control in ["a\nb", "a\rb", "a\0b", "a\u{85}b", "a\u{2028}b"] {
            let failure =
                render("a.cfg.j2", "\np = {{ line.password }}\n", json!({"line": {"password": control}})).unwrap_err();
            assert_eq!(failure.line, 2);
            assert!(failure.message.contains("line.password"), "{failure}");
            assert!(!failure.message.contains(control), "an error must not print the value: it may be a password");
        }
        assert_eq!(render("a.xml.j2", "{{ x }}", json!({"x": "a\r\n\tb"})).unwrap(), "a&#13;&#10;&#9;b");
        assert!(render("a.xml.j2", "{{ x }}", json!({"x": "a\u{1}b"})).is_err());
        assert!(render("a.cfg.j2", "{{ x }}", json!({"x": " a"})).is_err(), "a blank at the edge would be lost");
    }

    #[test]
    fn the_filter_that_marks_values_safe_is_gone() {
        assert!(render("a.xml.j2", "{{ x|safe }}", json!({"x": "<b>"})).is_err());
    }

    #[test]
    fn words_come_from_the_vendors_tables() {
        let text = "t = {{ x | table('transport') }}\n";
        assert_eq!(render("a.cfg.j2", text, json!({"x": "tls"})).unwrap(), "t = 2\r\n");
        assert_eq!(render("a.cfg.j2", text, json!({"x": null})).unwrap(), "");
        let failure = render("a.cfg.j2", text, json!({"x": "dns"})).unwrap_err();
        assert!(failure.message.contains("\"dns\"") && failure.message.contains("transport"), "{failure}");
    }

    #[test]
    fn a_template_cannot_run_or_grow_without_end() {
        assert!(
            render(
                "a.cfg.j2",
                "{% for a in range(90000) %}{% for b in range(90000) %}x{% endfor %}{% endfor %}",
                json!({})
            )
            .is_err()
        );
        let failure = render("a.cfg.j2", "{{ 'x' * 9000000 }}", json!({})).unwrap_err();
        assert!(failure.message.contains("4 MiB"), "{failure}");
        assert!(render("a.cfg.j2", "{% include 'a.cfg.j2' %}", json!({})).is_err());
    }

    #[test]
    fn an_override_can_extend_what_it_overrides() {
        let spec = Spec::read(SPEC).unwrap();
        let shipped = source("a.cfg.j2", "a = 1\n{% block more %}\nb = 2\n{% endblock %}\n");
        let site = Source {
            is_override: true,
            ..source("a.cfg.j2", "{% extends '@shipped/a.cfg.j2' %}{% block more %}{{ super() }}c = 3\n{% endblock %}")
        };
        let templates = Templates::compile(&spec, &[shipped, site]).unwrap();
        assert_eq!(
            templates.render(None, "a.cfg.j2", Value::from(BTreeMap::<String, Value>::new()), true).unwrap(),
            "a = 1\r\nb = 2\r\nc = 3\r\n"
        );
    }

    #[test]
    fn what_does_not_compile_is_reported_with_file_and_line() {
        let failures =
            Templates::compile(&Spec::read(SPEC).unwrap(), &[source("a.cfg.j2", "a\n{% if %}\n")]).unwrap_err();
        assert_eq!(failures.len(), 1);
        assert_eq!((failures[0].line, failures[0].template.as_str()), (2, "templates/acme/a.cfg.j2"));
    }
}
