//! Who a phone says it is.

use std::fmt;

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
    /// Revision of the hardware, where it tells one: firmware may differ by it.
    pub hardware: Option<String>,
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

/// Why a plugin claims a phone: everything that speaks for it, so that `explain` can print it and dispatch can compare it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The vendor that the Event header named.
    pub announced: Option<String>,
    /// The MAC prefix that matched; the more digits, the better.
    pub oui: Option<String>,
    /// The User-Agent that reads like one of this vendor's.
    pub user_agent: Option<String>,
}

impl Evidence {
    /// The Event header counts most, then the longest MAC prefix, then the User-Agent. Phones are known to say `OEM`, nothing or
    /// somebody else's name, and then the next one decides.
    pub fn strength(&self) -> (bool, usize, bool) {
        (self.announced.is_some(), self.oui.as_ref().map_or(0, String::len), self.user_agent.is_some())
    }

    pub fn claim(&self) -> Claim {
        match self.strength() {
            (true, ..) => Claim::Certain,
            (false, 0, false) => Claim::No,
            _ => Claim::Possible,
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = [
            self.announced.as_ref().map(|vendor| format!("the Event header names the vendor \"{vendor}\"")),
            self.oui.as_ref().map(|oui| format!("the MAC begins with {oui}")),
            self.user_agent.as_ref().map(|agent| format!("the User-Agent reads \"{agent}\"")),
        ];
        let said: Vec<String> = said.into_iter().flatten().collect();
        f.write_str(if said.is_empty() { "nothing speaks for it".to_owned() } else { said.join(", ") }.as_str())
    }
}
