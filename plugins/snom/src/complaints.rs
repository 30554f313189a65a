//! What a phone asks for and cannot have, beyond what `vendor.yaml` can say by itself.

use provost_plugin::{
    Complaint, Phone, Spec, complaints_by_data,
    model::{DateFormat, FunctionKey, Srtp},
};

use crate::{
    clock,
    dect::{SERVERS, all_servers},
    is_dect, keys, words,
};

pub(crate) fn complaints(spec: &Spec, phone: &Phone) -> Vec<Complaint> {
    let mut complaints = complaints_by_data(spec, phone);
    lines(spec, phone, &mut complaints);
    if !is_dect(phone) {
        function_keys(spec, phone, &mut complaints);
    }
    general(spec, phone, &mut complaints);
    complaints
}

fn complaint(field: String, reason: impl Into<String>) -> Complaint {
    Complaint { field, reason: reason.into() }
}

fn lines(spec: &Spec, phone: &Phone, complaints: &mut Vec<Complaint>) {
    for (index, line) in phone.settings.lines.iter().enumerate() {
        for codec in line.sip.codecs.iter().flatten() {
            let codec = words::name_of(codec);
            if words::word(spec, "codec", &codec).is_none() {
                complaints.push(complaint(
                    format!("lines.{index}.codecs"),
                    format!("the name of the codec {codec} is not known for snom phones; it is left out"),
                ));
            }
        }
        if is_dect(phone) && matches!(line.sip.srtp, Some(Srtp::Optional | Srtp::Required)) {
            complaints.push(complaint(format!("lines.{index}.srtp"), "how SRTP is switched on at a base is not known"));
        }
        let first = phone.settings.lines.first().and_then(|first| first.call_waiting);
        if !is_dect(phone) && line.call_waiting.is_some() && line.call_waiting != first {
            complaints.push(complaint(
                format!("lines.{index}.call_waiting"),
                "snom phones have one setting for all lines, and the first line's is used",
            ));
        }
    }
    if all_servers(spec, phone).len() > SERVERS {
        complaints.push(complaint("lines".into(), format!("a base has room for {SERVERS} servers")));
    }
}

fn function_keys(spec: &Spec, phone: &Phone, complaints: &mut Vec<Complaint>) {
    let mut check = |field: String, key: &FunctionKey| {
        let kind = words::name_of(&key.kind);
        let known = words::word(spec, "key_kind", &kind).is_some();
        if known && keys::text(spec, phone, key).is_none() {
            complaints.push(complaint(format!("{field}.value"), format!("a {kind} key needs one")));
        }
    };
    for (index, key) in phone.settings.keys.iter().enumerate() {
        check(format!("keys.{index}"), key);
    }
    for (module, keys) in phone.settings.expansion.iter().enumerate() {
        for (index, key) in keys.keys.iter().enumerate() {
            check(format!("expansion.{module}.keys.{index}"), key);
        }
    }
    let counted = phone.capabilities.keys.is_some() && phone.capabilities.expansion_keys.is_some();
    if !phone.settings.expansion.is_empty() && !counted {
        complaints.push(complaint(
            "expansion".into(),
            "how this model counts the keys of a module is not known; they are left out",
        ));
    }
}

fn general(spec: &Spec, phone: &Phone, complaints: &mut Vec<Complaint>) {
    let settings = &phone.settings;
    let locale = &settings.locale;
    for (field, language) in [("language", &locale.language), ("web_language", &locale.web_language)] {
        if let Some(code) = language
            && words::language(spec, code).is_none()
        {
            complaints.push(complaint(format!("locale.{field}"), format!("snom's word for \"{code}\" is not known")));
        }
    }
    if let Some(country) = &locale.tones
        && words::word(spec, "tones", country).is_none()
    {
        complaints.push(complaint("locale.tones".into(), format!("snom's word for \"{country}\" is not known")));
    }
    if !is_dect(phone) && phone.zone.as_ref().is_some_and(clock::is_approximate) {
        complaints
            .push(complaint("time.zone".into(), "the phone changes its clocks at the edge of the day, some hours off"));
    }
    if settings.time.date == Some(DateFormat::YearMonthDay) {
        complaints.push(complaint("time.date".into(), "snom phones have no such format"));
    }
    let lists = [("time.ntp", settings.time.ntp.len(), 1), ("phonebook.remote", settings.phonebook.remote.len(), 1)];
    for (field, length, limit) in lists {
        for index in limit..length {
            complaints.push(complaint(format!("{field}.{index}"), format!("snom phones take {limit}")));
        }
    }
    if settings.provisioning.on_boot == Some(false) {
        complaints.push(complaint("provisioning.on_boot".into(), "snom phones look at every start"));
    }
}
