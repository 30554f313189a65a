//! Which P values or alias hold a function key, and how its kind is written there.
//!
//! A phone's keys come in two rows with numbering of their own. Positions in a profile count through the line keys (the vendor's VPK)
//! first and the multi-purpose keys beside them (MPK) after them. How many there are of each is in the models table, columns
//! `line_keys` (those that can hold a line), `vpk` and `mpk`.

use provost_plugin::{
    Scalar, Spec,
    model::{FunctionKey, KeyKind, Phone},
};
use serde_json::{Value, json};

use crate::family::Family;

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A line key, or a further page of it.
    Vpk {
        number: u16,
        line: bool,
    },
    Mpk(u16),
    /// A key of an expansion module, counted through all modules.
    Ext(u16),
}

/// Keys on one expansion module (GXP2200EXT, GBX20).
const EXT_KEYS: u16 = 40;

/// Every key that can be told to this phone.
pub(crate) fn keys(spec: &Spec, family: &Family, phone: &Phone) -> Vec<Value> {
    let own = phone.settings.keys.iter().map(|key| (None, key));
    let expansion = phone.settings.expansion.iter().enumerate();
    let expansion = expansion.flat_map(|(module, keys)| keys.keys.iter().map(move |key| (Some(module), key)));
    own.chain(expansion)
        .filter_map(|(module, key)| {
            let place = place(family, phone, module, key.position?).ok()?;
            let mode = mode(spec, family, place, key.kind)?;
            let account = key.line.unwrap_or(1).checked_sub(1)?;
            Some(if family.aliases {
                by_alias(place, mode, account, key)
            } else {
                by_p_value(family, place, mode, account, key)?
            })
        })
        .collect()
}

/// Why a key cannot be told to this phone: the field of the key that is at fault, empty for the key itself, and the reason.
pub(crate) fn complaint(
    spec: &Spec,
    family: &Family,
    phone: &Phone,
    module: Option<usize>,
    key: &FunctionKey,
) -> Option<(&'static str, String)> {
    let place = match place(family, phone, module, key.position?) {
        Ok(place) => place,
        Err(reason) => return Some(("", reason)),
    };
    let model = phone.model.as_deref().unwrap_or("the phone");
    if mode(spec, family, place, key.kind).is_none() {
        let row = match place {
            Place::Vpk { line: true, .. } => "line key",
            Place::Vpk { .. } => "virtual key",
            Place::Mpk(_) => "multi-purpose key",
            Place::Ext(_) => "expansion key",
        };
        return Some((".kind", format!("a {row} of {model} has no such kind")));
    }
    let lockable = !family.aliases && lock_p_value(family, place).is_some();
    (key.locked == Some(true) && !lockable)
        .then(|| (".locked", format!("{model} has no known setting that locks this key")))
}

fn place(family: &Family, phone: &Phone, module: Option<usize>, position: u16) -> Result<Place, String> {
    let model = phone.model.as_deref().unwrap_or("the phone");
    if family.is_adapter() {
        return Err("an analogue adapter has no keys".into());
    }
    if position == 0 {
        return Err("keys are counted from 1".into());
    }
    if let Some(module) = module {
        let known = family.aliases || phone.capabilities.expansion_modules.is_some_and(|modules| modules > 0);
        if !known || position > EXT_KEYS {
            return Err(format!("{model} is not known to take an expansion module with this key"));
        }
        let module = u16::try_from(module).map_err(|_| "there are too many expansion modules".to_owned())?;
        return Ok(Place::Ext(module * EXT_KEYS + position));
    }
    let column = |name: &str| match phone.capabilities.columns.get(name) {
        Some(Scalar::Integer(number)) => u16::try_from(*number).ok(),
        _ => None,
    };
    let (line_keys, vpk, mpk) = match (column("vpk"), family.aliases) {
        (Some(vpk), _) => (column("line_keys").unwrap_or(vpk), vpk, column("mpk").unwrap_or(0)),
        // Aliases number all line keys alike, so a model whose keys nobody counted can still be told of them.
        (None, true) => (u16::MAX, u16::MAX, 0),
        (None, false) if phone.model.is_none() => {
            return Err("where its keys lie depends on its model, which it has not told yet".into());
        }
        (None, false) => return Err(format!("which P values hold the keys of {model} is not known")),
    };
    if position <= vpk {
        Ok(Place::Vpk { number: position, line: position <= line_keys })
    } else if position - vpk <= mpk {
        Ok(Place::Mpk(position - vpk))
    } else {
        Err(format!("{model} has {} keys", vpk + mpk))
    }
}

/// The vendor's number or name for a kind of key, where a key at this place can be of that kind.
fn mode<'a>(spec: &'a Spec, family: &Family, place: Place, kind: KeyKind) -> Option<&'a Scalar> {
    let table = match (family.aliases, family.id.as_str(), place) {
        (true, _, Place::Vpk { .. }) => "key_alias_vpk",
        (true, _, _) => "key_alias_mpk",
        (_, "gxp16", Place::Vpk { .. }) => "key_gxp16_line",
        (_, "gxp16", _) => "key_gxp16_mpk",
        (_, "gxp17", Place::Vpk { line: true, .. }) => "key_gxp17_line",
        (_, "gxp17", _) => "key_gxp17_virtual",
        (_, _, Place::Vpk { line: true, .. }) => "key_gxp21_line",
        (_, _, Place::Vpk { .. }) => "key_gxp21_virtual",
        (_, _, Place::Mpk(_) | Place::Ext(_)) => "key_gxp21_mpk",
    };
    let word = serde_json::to_value(kind).ok()?;
    spec.tables.get(table)?.get(word.as_str()?)
}

fn by_alias(place: Place, mode: &Scalar, account: u16, key: &FunctionKey) -> Value {
    let (name, account) = match place {
        Place::Vpk { number, .. } => (format!("pks.vpk.{number}"), account.to_string()),
        // The other rows name the account and do not number it.
        Place::Mpk(number) => (format!("pks.mpk.{number}"), format!("Account{}", account + 1)),
        Place::Ext(number) => (format!("pks.ext.{number}"), format!("Account{}", account + 1)),
    };
    json!({ "name": name, "mode": mode, "account": account, "label": key.label, "value": key.value })
}

fn by_p_value(family: &Family, place: Place, mode: &Scalar, account: u16, key: &FunctionKey) -> Option<Value> {
    let [p_mode, p_account, p_label, p_value] = p_values(place)?;
    let lock = lock_p_value(family, place).filter(|_| key.locked.is_some());
    Some(json!({
        "p": {
            "mode": format!("P{p_mode}"),
            "account": format!("P{p_account}"),
            "label": format!("P{p_label}"),
            "value": format!("P{p_value}"),
            "lock": lock.map(|number| format!("P{number}")),
        },
        "mode": mode,
        "account": account,
        "label": key.label,
        "value": key.value,
        "locked": key.locked,
    }))
}

/// Mode, account, label and value.
fn p_values(place: Place) -> Option<[u16; 4]> {
    let row = |first: u16| [first, first + 1, first + 2, first + 3];
    Some(match place {
        Place::Vpk { number: number @ 1..=6, .. } => {
            let offset = 2 * (number - 1);
            [1363 + offset, 1364 + offset, 1465 + offset, 1466 + offset]
        }
        Place::Vpk { number: number @ 7..=48, .. } => row(23800 + 4 * (number - 7)),
        Place::Mpk(number @ 1..=7) => {
            let offset = 3 * (number - 1);
            [323 + number - 1, 301 + offset, 302 + offset, 303 + offset]
        }
        Place::Mpk(number @ 8..=18) => row(353 + 4 * (number - 8)),
        Place::Mpk(number @ 19..=24) => row(1440 + 4 * (number - 19)),
        Place::Ext(number @ 1..=160) => row(23000 + 5 * (number - 1)),
        _ => return None,
    })
}

fn lock_p_value(family: &Family, place: Place) -> Option<u16> {
    match place {
        Place::Vpk { number: number @ 1..=12, line: true } if family.id == "gxp21" => Some(23968 + number - 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_vendors_lists() {
        let vpk = |number| p_values(Place::Vpk { number, line: true }).unwrap();
        assert_eq!(vpk(1), [1363, 1364, 1465, 1466]);
        assert_eq!(vpk(6), [1373, 1374, 1475, 1476]);
        assert_eq!(vpk(7), [23800, 23801, 23802, 23803]);
        assert_eq!(vpk(28), [23884, 23885, 23886, 23887]);
        let mpk = |number| p_values(Place::Mpk(number)).unwrap();
        assert_eq!(mpk(1), [323, 301, 302, 303]);
        assert_eq!(mpk(7), [329, 319, 320, 321]);
        assert_eq!(mpk(8), [353, 354, 355, 356]);
        assert_eq!(mpk(18), [393, 394, 395, 396]);
        assert_eq!(mpk(19), [1440, 1441, 1442, 1443]);
        assert_eq!(mpk(24), [1460, 1461, 1462, 1463]);
        assert_eq!(p_values(Place::Mpk(25)), None);
        assert_eq!(p_values(Place::Ext(54)).unwrap(), [23265, 23266, 23267, 23268]);
        assert_eq!(p_values(Place::Ext(154)).unwrap(), [23765, 23766, 23767, 23768]);
    }
}
