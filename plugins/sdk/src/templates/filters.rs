//! What templates can call beside the engine's own filters. Each passes `none` through, so that the line it is on is left out.

use minijinja::{Environment, Error, ErrorKind, Value, value::Serde};

use crate::spec::Spec;

pub(super) fn add(environment: &mut Environment<'static>, spec: &Spec) {
    let tables = spec.tables.clone();
    // {{ line.sip.transport | table("transport") }}: our word in the vendor's.
    environment.add_filter("table", move |value: Value, name: String| -> Result<Value, Error> {
        if value.is_none() {
            return Ok(value);
        }
        let refuse = |why: String| Error::new(ErrorKind::InvalidOperation, why);
        let table = tables.get(&name).ok_or_else(|| refuse(format!("vendor.yaml has no table \"{name}\"")))?;
        let word = value.to_string();
        let entry = table
            .get(&word)
            .ok_or_else(|| refuse(format!("table \"{name}\" of vendor.yaml has no entry for \"{word}\"")))?;
        Ok(Value::from(Serde(entry)))
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
