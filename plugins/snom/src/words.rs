//! Our words in snom's, from the tables of `vendor.yaml`. Unlike the templates' `table`, a word that is not there is no error here: the
//! setting is left out, and `complaints` says so.

use provost_plugin::{
    Spec,
    model::{Codec, Dtmf},
};
use serde::Serialize;

pub(crate) fn word(spec: &Spec, table: &str, ours: &str) -> Option<String> {
    Some(spec.tables.get(table)?.get(ours)?.to_string())
}

/// `de-AT` is `de` to a phone that has no Austrian.
pub(crate) fn language(spec: &Spec, code: &str) -> Option<String> {
    word(spec, "language", code).or_else(|| word(spec, "language", code.split_once('-')?.0))
}

/// `codec_priority_list`. Telephone events are a codec to snom, and are what "no DTMF over SIP" falls back to, so they are in the list
/// unless tones are wanted.
pub(crate) fn codecs(spec: &Spec, codecs: Option<&[Codec]>, dtmf: Option<Dtmf>) -> Option<String> {
    let mut list: Vec<String> = codecs?.iter().filter_map(|codec| word(spec, "codec", &name_of(codec))).collect();
    if list.is_empty() {
        return None;
    }
    if dtmf != Some(Dtmf::Inband) {
        list.push("telephone-event".into());
    }
    Some(list.join(","))
}

/// The word under which a value of ours stands in YAML, and so in the tables.
pub(crate) fn name_of(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}
