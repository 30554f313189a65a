//! Function keys. The phones have two sections for them: line keys beside the screen, and four programmable keys. A profile counts them
//! in one row, line keys first.

use provost_plugin::{
    Phone, Scalar, Spec,
    model::{FunctionKey, KeyKind},
};
use serde_json::{Value, json};

/// `programablekey.1` to `.4`; the vendor spells it with one m.
const PROGRAMMABLE_KEYS: u16 = 4;

/// One entry for each key that the phone has and that is of a kind it knows; the others are in `complaints`.
pub(crate) fn key_lines(spec: &Spec, phone: &Phone) -> Vec<Value> {
    let line_keys = phone.capabilities.columns.get("line_keys").and_then(|column| match column {
        Scalar::Integer(number) => u16::try_from(*number).ok(),
        _ => None,
    });
    phone.settings.keys.iter().filter_map(|key| key_line(spec, phone, key, line_keys)).collect()
}

/// `line_keys` is none for a model that is not in the table: then all of them are taken for line keys.
fn key_line(spec: &Spec, phone: &Phone, key: &FunctionKey, line_keys: Option<u16>) -> Option<Value> {
    let position = key.position?;
    let word = serde_json::to_value(key.kind).ok()?;
    let kind = spec.tables.get("key_kind")?.get(word.as_str()?)?;
    let (name, on_line_key) = match line_keys {
        Some(count) if position > count + PROGRAMMABLE_KEYS => return None,
        Some(count) if position > count => (format!("programablekey.{}", position - count), false),
        _ => (format!("linekey.{position}"), true),
    };
    if key.kind == KeyKind::None {
        // Values that were left behind would come back to life with the next kind; an empty one clears.
        return Some(
            json!({ "name": name, "type": kind, "line": null, "value": "", "label": "", "pickup_name": "extension", "pickup": null }),
        );
    }
    // Conference (1) and BLF (16) on a line key keep the pickup code apart; everywhere else it is the "extension".
    let pickup_name = if on_line_key && matches!(kind, Scalar::Integer(1 | 16)) { "pickup_value" } else { "extension" };
    let line = phone.settings.lines.iter().find(|line| line.position == key.line);
    let of_line = line.filter(|_| key.kind == KeyKind::Blf).and_then(|line| line.sip.pickup_code.clone());
    Some(json!({
        "name": name,
        "type": kind,
        "line": key.line,
        "value": key.value,
        "label": key.label,
        "pickup_name": pickup_name,
        "pickup": key.pickup.clone().or(of_line),
    }))
}
