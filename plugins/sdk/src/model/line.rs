//! Lines: the positions on a phone at which an account appears.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Secret, Sip};

/// One line and the account on it. What it does not say about SIP comes from the layer's `sip` section.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Line {
    /// Counted from 1. Left out, it is one past the line before it.
    pub position: Option<u16>,
    pub enabled: Option<bool>,
    /// What the screen shows beside the line key. Defaults to the number.
    pub label: Option<String>,
    /// The number or name in this line's own SIP address.
    pub number: Option<String>,
    /// The user part of the SIP address where it is not the number.
    pub username: Option<String>,
    /// The user of the Digest credentials where it is not `username`.
    pub auth_username: Option<String>,
    pub password: Option<Secret>,
    /// Caller name sent to others.
    pub display_name: Option<String>,
    pub ringtone: Option<String>,
    pub auto_answer: Option<bool>,
    pub call_waiting: Option<bool>,
    pub dnd: Option<bool>,
    pub forward: Option<Forwards>,
    #[serde(flatten)]
    pub sip: Sip,
}

/// Call forwarding as it should stand after provisioning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Forwards {
    pub always: Option<Forward>,
    pub busy: Option<Forward>,
    pub no_answer: Option<Forward>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Forward {
    pub enabled: Option<bool>,
    pub target: Option<String>,
    /// Seconds of ringing before the call goes on; for `no_answer`.
    pub timeout: Option<u16>,
}
