//! A device with all its settings resolved: what a plugin renders.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Book, MacAddr, Settings, Zone};
use crate::{Scalar, spec::Model};

/// In a template this is `phone`: `phone.mac`, `phone.lines`, `phone.time.ntp`, …
///
/// For a file that many phones share (kinds `common` and `directory`) there is no `mac`, and no lines, keys or passwords.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Phone {
    /// `80:5e:c0:aa:bb:cc`; none in a common file. `{{ phone.mac | bare }}` is `805ec0aabbcc`.
    pub mac: Option<MacAddr>,
    /// The plugin's name for the vendor.
    pub vendor: String,
    /// Type designation as `vendor.yaml` spells it, or as the phone does if `vendor.yaml` does not know it.
    pub model: Option<String>,
    pub firmware: Option<String>,
    /// Revision of the hardware, where the phone tells one.
    pub hardware: Option<String>,
    /// Where this phone fetches from: `http://10.20.0.5:8080/`, with the slash.
    pub base_url: String,
    /// What the model can do.
    pub capabilities: Model,
    /// From `time.zone`.
    pub zone: Option<Zone>,
    /// `vendor.<this vendor>` of the settings: raw parameters that win over everything else.
    pub raw: BTreeMap<String, Scalar>,
    /// `options.<this vendor>` over the defaults that `vendor.yaml` declares.
    pub switches: BTreeMap<String, Scalar>,
    /// In a file of kind `directory`: the list that is asked for. A template sees it as `book`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub book: Option<Arc<Book>>,
    /// Every line carries the `sip` section that applies to it, and every position is filled in.
    #[serde(flatten)]
    pub settings: Settings,
}
