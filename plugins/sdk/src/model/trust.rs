//! What a phone has to show before it is given its own file. The server's business alone: no plugin sees it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// What a phone has to show before it is given its own file. Everything that is asked for has to be shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Trust {
    /// Where it has to ask from. Left out, `phone`.
    pub address: Option<Asking>,
    /// An unguessable part of its URLs, new at each NOTIFY and then a steady one. Left out, `off`.
    pub token: Option<TokenUse>,
    /// Minutes for which it is served after it was approved, told to fetch again, or opened; closed for the rest. Left out or 0, it is
    /// served at any time.
    pub window: Option<u32>,
    /// `provisioning.username` and `provisioning.password` over HTTP. Left out, `off`.
    pub credentials: Option<Authentication>,
    /// A password that is still good while phones change to `provisioning.password`.
    pub old_password: Option<Secret>,
    /// A certificate that names its MAC address, which takes HTTPS. Left out, false.
    pub certificate: Option<bool>,
    /// Only over HTTPS. Left out, false.
    pub encrypted: Option<bool>,
    /// What goes out over TFTP, which can prove nothing. Left out, `everything`.
    pub tftp: Option<TftpFiles>,
    /// What a phone is given that is not in the inventory. Left out, `nothing`.
    pub pending: Option<PendingFiles>,
}

impl Trust {
    pub(super) fn is_unsaid(&self) -> bool {
        *self == Trust::default()
    }
}

/// Where a phone has to ask from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Asking {
    /// From anywhere: whoever knows the MAC address gets the file.
    Anywhere,
    /// From the address from which it announced itself last, or else as `phone` says.
    Announced,
    /// From an address on one of this server's own networks behind which its MAC address is. From beyond a router, where that cannot
    /// be seen, a token, credentials or a certificate have to stand in.
    #[default]
    Phone,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenUse {
    #[default]
    Off,
    /// URLs have one, and a request without one is served too. From beyond a router it stands in for the address.
    Offered,
    /// A request without a good one is refused.
    Required,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    #[default]
    Off,
    /// Digest (MD5 or SHA-256); over HTTPS Basic too.
    Digest,
    /// Basic is enough without encryption too, for phones that know nothing else: who listens on the way gets the password.
    Basic,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TftpFiles {
    #[default]
    Everything,
    /// Only files in which no password stands.
    WithoutSecrets,
    Nothing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PendingFiles {
    #[default]
    Nothing,
    /// The files of its vendor with what holds for all phones there, without accounts and passwords, so that it comes back for more.
    Bootstrap,
}
