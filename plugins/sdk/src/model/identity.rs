//! Who a phone says it is.

use serde::{Deserialize, Serialize};

use super::MacAddr;

/// What one request told us about its sender. Every field may be missing; a request that fills none of them is nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    pub mac: Option<MacAddr>,
    /// The maker as the phone spells it: the `vendor` of its Event header. May be `OEM`, misspelt or somebody else.
    pub vendor: Option<String>,
    pub model: Option<String>,
    pub firmware: Option<String>,
    pub user_agent: Option<String>,
}

/// A plugin's answer to "is this one of yours?".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    #[default]
    No,
    Possible,
    Certain,
}

/// Why a plugin claims a phone, strongest last. `explain` prints it; dispatch compares it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by", content = "what")]
pub enum Evidence {
    UserAgent(String),
    /// The prefix that matched: the more digits, the better. Digits come first so that the derived order is the right one.
    Oui { digits: usize, prefix: String },
    Announced(String),
    /// The administrator said so in a profile.
    Stated(String),
}

impl Evidence {
    pub fn claim(&self) -> Claim {
        match self {
            Evidence::Stated(_) | Evidence::Announced(_) => Claim::Certain,
            Evidence::Oui { .. } | Evidence::UserAgent(_) => Claim::Possible,
        }
    }
}
