//! What a phone would get now and why, for eyes that are not to see its passwords.

use std::{borrow::Cow, time::SystemTime};

use axum::{Json, extract::State};
use provost_plugin::{MacAddr, Phone};
use provost_server::{
    explain, progress,
    request::ConfigFile,
    tokens,
    world::{self, Located, Peer, World},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{Mac, Query, aside};
use crate::{Admin, problem::Problem};

/// Enough for any file that a person reads; what is longer is cut.
const LONGEST: usize = 512 << 10;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// The file's name, as the phone asks for it
    pub(crate) file: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Preview {
    file: String,
    content_type: String,
    /// What stands for each password.
    mask: &'static str,
    text: String,
    /// The text is only the beginning.
    cut: bool,
    /// The phone gets it encrypted.
    encrypted: bool,
}

/// A file as the phone would get it now, with every password masked
///
/// It is rendered anew from a phone that has masks for passwords, so that none is in it in any form. Values of `vendor:` are masked
/// too, since any of them may be a password under the vendor's own name. Shown before it is encrypted.
#[utoipa::path(get, path = "/api/v1/devices/{mac}/preview", tag = "devices", params(("mac" = String, Path), Which), responses(
    (status = 200, body = Preview),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn preview(
    State(admin): State<Admin>,
    Mac(mac): Mac,
    Query(Which { file }): Query<Which>,
) -> Result<Json<Preview>, Problem> {
    aside(move || masked(own(&admin, mac, &file)?, file).map(Json)).await?
}

/// A file of a phone's own list: another name might mean another phone.
pub(crate) fn own(admin: &Admin, mac: MacAddr, file: &str) -> Result<Located, Problem> {
    let world = admin.desk.world();
    let peer = progress::peer(mac, admin.desk.registry.by_mac(mac).as_ref());
    let offer = world.files_of(mac, &peer).map_err(Problem::not_found)?;
    if !offer.files.iter().any(|(name, _)| name == file) {
        return Err(Problem::not_found(format!("{mac} has no file \"{file}\"")));
    }
    world.locate(file, &peer).map_err(|error| Problem::not_found(error.to_string()))
}

/// A file of that name as this phone would get it, with masks for passwords.
pub(crate) fn of(world: &World, peer: &Peer, file: &str) -> Result<Preview, Problem> {
    let located = world.locate(file, peer).map_err(|error| Problem::not_found(error.to_string()))?;
    masked(located, file.to_owned())
}

impl Preview {
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

fn masked(located: Located, file: String) -> Result<Preview, Problem> {
    let asked = located.resolved.phone.settings.provisioning.encryption.active == Some(true);
    let encrypted = asked && located.file().encrypted && located.plugin.spec.encryption.is_some();
    let (_, rendered, mask) = in_mask(located)?;
    let mut text = String::from_utf8_lossy(&rendered.body).into_owned();
    let cut = text.len() > LONGEST;
    if cut {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
    }
    Ok(Preview { file, content_type: rendered.content_type.to_string(), mask, text, cut, encrypted })
}

/// The file in the first mask that its format can carry, with the phone that wears it: some take ASCII alone, and a PIN is of digits.
pub(crate) fn in_mask(located: Located) -> Result<(Located, ConfigFile, &'static str), Problem> {
    let mut why = String::new();
    for mask in ["•••", "********", "00000000"] {
        let mut located = located.clone();
        let phone = &mut located.resolved.phone;
        *phone = with_mask(phone, mask).map_err(|error| Problem::internal(format!("cannot mask it: {error}")))?;
        phone.settings.provisioning.encryption.active = None;
        match world::render(&located, SystemTime::UNIX_EPOCH) {
            Ok(rendered) => return Ok((located, rendered, mask)),
            Err(error) => why = error,
        }
    }
    Err(Problem::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, why))
}

fn with_mask(phone: &Phone, mask: &str) -> Result<Phone, serde_json::Error> {
    // Outside of `Secret::exposed` every password is serialised as this.
    const MASKED: &str = "•••";
    fn change(value: &mut Value, mask: &str) {
        match value {
            Value::String(text) if text == MASKED => mask.clone_into(text),
            // The token in its URLs is as good as a password.
            Value::String(text) => {
                if let Cow::Owned(masked) = tokens::masked(text) {
                    *text = masked.replace(tokens::MASK, mask);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| change(item, mask)),
            Value::Object(fields) => fields.values_mut().for_each(|field| change(field, mask)),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(phone)?;
    change(&mut value, mask);
    if let Some(raw) = value.get_mut("raw").and_then(Value::as_object_mut) {
        raw.values_mut().for_each(|value| *value = mask.into());
    }
    serde_json::from_value(value)
}

/// Why a phone is served as it is: evidence, layers, and each value with the place it comes from
#[utoipa::path(get, path = "/api/v1/devices/{mac}/explanation", tag = "devices", params(("mac" = String, Path)), responses(
    (status = 200, body = Object),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn explanation(State(admin): State<Admin>, Mac(mac): Mac) -> Result<Json<Value>, Problem> {
    aside(move || {
        let world = admin.desk.world();
        let peer = progress::peer(mac, admin.desk.registry.by_mac(mac).as_ref());
        let explanation = explain::phone(&world, mac, &peer);
        serde_json::to_value(explanation).map(Json).map_err(|error| Problem::internal(error.to_string()))
    })
    .await?
}

#[cfg(test)]
mod tests {
    use provost_plugin::Secret;

    use super::*;

    #[test]
    fn a_masked_phone_is_the_same_but_for_what_is_secret() {
        let mut phone = Phone { vendor: "acme".into(), ..Phone::default() };
        phone.settings.provisioning.password = Some(Secret::new("hunter2"));
        phone.raw.insert("Admin_P1".into(), provost_plugin::Scalar::Text("hunter2".into()));
        let masked = with_mask(&phone, "***").unwrap();
        assert_eq!(masked.settings.provisioning.password, Some(Secret::new("***")));
        let shown = Secret::exposed(|| serde_json::to_string(&masked).unwrap());
        assert!(!shown.contains("hunter2") && shown.contains("acme") && shown.contains("Admin_P1"), "{shown}");
    }
}
