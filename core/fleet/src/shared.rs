//! What a phone's settings name and other files hold: lists of people and firmware. Both become URLs here, before a plugin sees the
//! phone, so that no plugin knows of lists or policies.

use std::cmp::Ordering;

use provost_plugin::{
    Complaint, Phone, Spec,
    model::{FirmwarePolicy, RemotePhonebook},
    spec::{FileKind, FileSpec},
};

use crate::{
    Images, Origins, Phonebooks, Resolved,
    images::{Wanted, compare},
    problem::hint,
    resolve::absolute,
};

impl Resolved {
    /// Fills in the URLs of the lists and of the firmware that this phone is to be told.
    pub fn furnish(&mut self, spec: &Spec, books: &Phonebooks, images: &Images) {
        self.furnish_books(spec, books);
        self.furnish_firmware(images);
    }

    fn furnish_books(&mut self, spec: &Spec, books: &Phonebooks) {
        let Resolved { phone, origins, in_vain, .. } = self;
        let mut remotes = std::mem::take(&mut phone.settings.phonebook.remote);
        for (index, remote) in remotes.iter_mut().enumerate() {
            let field = format!("phonebook.remote.{index}");
            if let Err(reason) = furnish_book(remote, &field, phone, spec, books, origins) {
                in_vain.push(Complaint { field: format!("{field}.book"), reason });
                remote.book = None;
            }
        }
        phone.settings.phonebook.remote = remotes;
    }

    fn furnish_firmware(&mut self, images: &Images) {
        let Resolved { phone, origins, in_vain, firmware, .. } = self;
        let Some(policy) = phone.settings.firmware_update.policy else { return };
        let given = std::mem::take(&mut phone.settings.firmware_update);
        phone.settings.firmware_update.policy = Some(policy);
        // What many phones share cannot say what one of them should do.
        if phone.mac.is_none() {
            return;
        }
        if policy == FirmwarePolicy::Off {
            *firmware = Some("policy off: it is told of none".into());
            return;
        }
        let found = match &given.url {
            Some(url) => Found { url: url.clone(), version: given.version.clone(), from: "as given".into() },
            None => match find(phone, given.version.as_deref(), images) {
                Ok(found) => found,
                Err(reason) => {
                    *firmware = Some(format!("policy {}: it is told of none, since {reason}", word(policy)));
                    // Of a phone that has not spoken yet nobody can say that there is nothing for it.
                    if phone.model.is_some() || !images.has(&phone.vendor) {
                        in_vain.push(Complaint { field: "firmware_update.policy".into(), reason });
                    }
                    return;
                }
            },
        };
        let runs = phone.firmware.as_deref().filter(|runs| runs.bytes().any(|byte| byte.is_ascii_digit()));
        let (told, why) = match (&found.version, runs) {
            (None, _) => {
                let reason = "beside a url it needs a version to compare with; the phone is told of it always";
                in_vain.push(Complaint { field: "firmware_update.policy".into(), reason: reason.into() });
                (true, "the version is not stated".to_owned())
            }
            (Some(version), None) => (true, format!("what it runs is not known, and it should run {version}")),
            (Some(version), Some(runs)) => {
                let relation = compare(runs, version);
                let told = match policy {
                    FirmwarePolicy::Pin => relation != Ordering::Equal,
                    FirmwarePolicy::Minimum => relation == Ordering::Less,
                    FirmwarePolicy::Off => false,
                };
                let word = match relation {
                    Ordering::Less => "older than",
                    Ordering::Equal => "the same as",
                    Ordering::Greater => "newer than",
                };
                (told, format!("it runs {runs}, which is {word} {version}"))
            }
        };
        let outcome =
            if told { format!("it is told of {} ({})", found.url, found.from) } else { "it is told of none".into() };
        *firmware = Some(format!("policy {}: {why}; {outcome}", word(policy)));
        if told {
            for field in ["url", "version"].into_iter().filter(|_| given.url.is_none()) {
                origins.fill(format!("firmware_update.{field}"), format!("policy {}, {}", word(policy), found.from));
            }
            phone.settings.firmware_update.url = Some(found.url);
            phone.settings.firmware_update.version = found.version;
        }
    }
}

fn word(policy: FirmwarePolicy) -> &'static str {
    match policy {
        FirmwarePolicy::Pin => "pin",
        FirmwarePolicy::Minimum => "minimum",
        FirmwarePolicy::Off => "off",
    }
}

fn furnish_book(
    remote: &mut RemotePhonebook,
    field: &str,
    phone: &Phone,
    spec: &Spec,
    books: &Phonebooks,
    origins: &mut Origins,
) -> Result<(), String> {
    let Some(name) = remote.book.clone() else { return Ok(()) };
    let Some(book) = books.get(&name) else {
        let names = books.names();
        return Err(format!("there is no list \"{name}\" under phonebooks/{}", hint(&name, names)));
    };
    if remote.url.is_none() {
        let file = spec.directory(phone.capabilities.family.as_deref());
        let path = file
            .and_then(|file| file.name.expand_for(Some(&name), phone.mac, phone.model.as_deref(), &phone.capabilities));
        let Some(path) = path else {
            // Some phones ask under a name of their own, and need not be told.
            let asked = |file: &FileSpec| file.kind == FileKind::Directory && !file.name.names_a_book();
            if spec.files.iter().any(asked) {
                return Ok(());
            }
            return Err(format!("how {} phones of this model read a list is not known here", spec.vendor));
        };
        remote.url = Some(absolute(&path, &phone.base_url));
        let from = books.file(&name).unwrap_or_default();
        origins.fill(format!("{field}.url"), format!("the list {from}, as {} phones read it", spec.vendor));
    }
    if remote.name.is_none() {
        remote.name = Some(book.title.clone());
        origins.fill(format!("{field}.name"), "the title of the list");
    }
    Ok(())
}

/// Firmware that a phone may be told of.
struct Found {
    url: String,
    version: Option<String>,
    from: String,
}

fn find(phone: &Phone, version: Option<&str>, images: &Images) -> Result<Found, String> {
    let models: Vec<&str> = phone.model.iter().chain(&phone.capabilities.aliases).map(String::as_str).collect();
    let wanted = Wanted { vendor: &phone.vendor, models: &models, hardware: phone.hardware.as_deref(), version };
    let Some(image) = images.choose(&wanted) else {
        return Err(match (&phone.model, version) {
            (None, _) if images.has(&phone.vendor) => "its model is not known yet".to_owned(),
            (None, _) => format!("firmware.yaml has nothing for {}", phone.vendor),
            (Some(model), None) => format!("firmware.yaml has nothing for {} {model}", phone.vendor),
            (Some(model), Some(version)) => format!("firmware.yaml has no {version} for {} {model}", phone.vendor),
        });
    };
    Ok(Found {
        url: absolute(&format!("firmware/{}", image.file), &phone.base_url),
        version: Some(image.version.clone()),
        from: format!("{}:{}", images.file(), image.line),
    })
}
