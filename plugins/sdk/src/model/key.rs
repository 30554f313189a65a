//! Function keys: on the phone and on its expansion modules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a function key does. The union of what vendors offer; `vendor.yaml` says what each can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// Left empty on purpose; clears what a weaker layer put there.
    None,
    Line,
    SharedLine,
    SpeedDial,
    /// Busy lamp field: shows the state of `value`, and dials or picks up.
    Blf,
    /// Busy lamp field fed by an event list (RFC 4662).
    BlfList,
    Intercom,
    Pickup,
    GroupPickup,
    Park,
    Retrieve,
    Transfer,
    Conference,
    Forward,
    Dnd,
    Hold,
    Dtmf,
    Prefix,
    Record,
    Voicemail,
    Redial,
    CallReturn,
    Ldap,
    Phonebook,
    History,
    Url,
    XmlApp,
    MulticastPaging,
    Headset,
    PhoneLock,
    Menu,
}

/// One programmable key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionKey {
    /// Counted from 1. Left out, it is one past the key before it. A stronger layer replaces the key at the same position.
    #[serde(default)]
    pub position: Option<u16>,
    pub kind: KeyKind,
    /// The number, URI or code it acts on.
    #[serde(default)]
    pub value: Option<String>,
    #[serde(default)]
    pub label: Option<String>,
    /// The line it uses, counted from 1.
    #[serde(default)]
    pub line: Option<u16>,
    /// What is dialled to pick up a call seen on this key, where it differs from the line's `pickup_code`.
    #[serde(default)]
    pub pickup: Option<String>,
    /// The user may not change it on the phone.
    #[serde(default)]
    pub locked: Option<bool>,
}

/// A sidecar with more keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ExpansionModule {
    pub keys: Vec<FunctionKey>,
}
