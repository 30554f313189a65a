//! What templates can call beside the engine's own filters. Each passes `none` through, so that the line it is on is left out.

use std::{borrow::Cow, sync::Arc};

use minijinja::{Environment, Error, ErrorKind, Value};

use super::values;
use crate::spec::Spec;

/// The filters as they are for phones of one family.
pub(super) fn add(environment: &mut Environment<'static>, spec: &Arc<Spec>, family: Option<&str>) {
    add_tables(environment, spec, family);
    // {{ phone.zone.utc_offset | offset("%+:m") }}: see `offset`.
    environment.add_filter("offset", |value: Value, form: String| -> Result<Value, Error> {
        if value.is_none() {
            return Ok(value);
        }
        offset(i64::try_from(value)?, &form)
            .map(Value::from)
            .map_err(|why| Error::new(ErrorKind::InvalidOperation, why))
    });
    // {{ refuse("a colon ends the name") }}: the file cannot be made, and this is why.
    environment.add_function("refuse", |why: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, why))
    });
    // {{ line.mwi | choose("on", "off") }}
    environment.add_filter("choose", |value: Value, yes: Value, no: Value| -> Value {
        if value.is_none() {
            value
        } else if value.is_true() {
            yes
        } else {
            no
        }
    });
    // {{ sip.expires | minutes }}: rounded up, since a phone that is told 0 takes it for "never".
    environment.add_filter("minutes", |value: Value| -> Result<Value, Error> {
        if value.is_none() {
            return Ok(value);
        }
        Ok(Value::from(u64::try_from(value)?.div_ceil(60)))
    });
    // {{ sip.server | with_port(sip.port) }}: host:port where there is a port.
    environment.add_filter("with_port", |host: Value, port: Value| -> Value {
        if host.is_none() || port.is_none() { host } else { Value::from(format!("{host}:{port}")) }
    });
    // {{ phone.mac | bare }}: without colons, as in file names.
    environment.add_filter("bare", |mac: Value| -> Value {
        if mac.is_none() { mac } else { Value::from(mac.to_string().replace(':', "")) }
    });
}

/// Those that look tables up, each in that of the family.
pub(super) fn add_tables(environment: &mut Environment<'static>, spec: &Arc<Spec>, family: Option<&str>) {
    let family = family.map(str::to_owned);
    let (tables, of) = (Arc::clone(spec), family.clone());
    // {{ line.sip.transport | table("transport") }}: our word in the vendor's.
    environment.add_filter("table", move |value: Value, name: &str| -> Result<Value, Error> {
        if value.is_none() {
            return Ok(value);
        }
        let table = tables.table(name, of.as_deref()).ok_or_else(|| no_table(name))?;
        let word = text(&value);
        let entry = table.get(&*word).ok_or_else(|| {
            let why = format!("table \"{name}\" of vendor.yaml has no entry for \"{word}\"");
            Error::new(ErrorKind::InvalidOperation, why)
        })?;
        Ok(values::value(entry))
    });
    // {{ phone.locale.language | word("languages") }}: the same, but none where the table has no such word. What is looked up so stands
    // under "words" in vendor.yaml, so that it is reported.
    let words = Arc::clone(spec);
    environment.add_filter("word", move |value: Value, name: &str| -> Result<Value, Error> {
        if value.is_none() {
            return Ok(value);
        }
        if !words.has_table(name) {
            return Err(no_table(name));
        }
        let word = words.word(name, family.as_deref(), &text(&value));
        Ok(word.map_or_else(|| Value::from(()), values::value))
    });
}

fn text(value: &Value) -> Cow<'_, str> {
    value.as_str().map_or_else(|| value.to_string().into(), Cow::from)
}

fn no_table(name: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("vendor.yaml has no table \"{name}\""))
}

/// Seconds east of UTC as phones write them. `%z` is `+0530`, `%:z` is `+05:30`, `%h` is `+5:30` or `+1` or `0`, `%H` is whole hours, with
/// which half an hour is an error, `%m` is minutes, `%q` is quarters of an hour, `%s` is seconds.
fn offset(seconds: i64, form: &str) -> Result<String, String> {
    let (sign, hours, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 3600, seconds.abs() / 60 % 60);
    let mut text = String::new();
    let mut rest = form.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        text.push_str(&match rest.next() {
            Some('z') => format!("{sign}{hours:02}{minutes:02}"),
            Some(':') if rest.next() == Some('z') => format!("{sign}{hours:02}:{minutes:02}"),
            Some('h') if seconds == 0 => "0".into(),
            Some('h') if minutes == 0 => format!("{sign}{hours}"),
            Some('h') => format!("{sign}{hours}:{minutes:02}"),
            Some('H') if minutes != 0 => return Err("the time zone is not a whole number of hours from UTC".into()),
            Some('H') => (seconds / 3600).to_string(),
            Some('m') => (seconds / 60).to_string(),
            Some('q') => (seconds / 900).to_string(),
            Some('s') => seconds.to_string(),
            Some('%') => "%".into(),
            _ => return Err(format!("\"{form}\" is no form of an offset; it has %z, %:z, %h, %H, %m, %q or %s")),
        });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::offset;

    #[test]
    fn an_offset_is_written_in_each_form_that_phones_read() {
        for (seconds, form, text) in [
            (19800, "%z %:z %h %m %q", "+0530 +05:30 +5:30 330 22"),
            (-12600, "GMT%:z %h", "GMT-03:30 -3:30"),
            (3600, "%h %H %s", "+1 1 3600"),
            (-18000, "%h %H", "-5 -5"),
            (0, "%h %:z", "0 +00:00"),
        ] {
            assert_eq!(offset(seconds, form).unwrap(), text);
        }
        assert!(offset(19800, "%H").is_err() && offset(0, "%x").is_err() && offset(0, "%").is_err());
    }
}
