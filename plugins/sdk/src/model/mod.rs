//! The words of the trade: what a phone is and what it should be told, in terms that no vendor owns.

mod book;
mod identity;
mod key;
mod line;
mod mac;
mod phone;
mod secret;
mod settings;
mod trust;
mod zone;

pub use book::{Book, Entry, Number, NumberKind};
pub use identity::{Claim, Evidence, Identity};
pub use key::{ExpansionModule, FunctionKey, KeyKind};
pub use line::{Forward, Forwards, Line};
pub use mac::{MacAddr, Oui, ParseMacError};
pub use phone::Phone;
pub use secret::Secret;
pub use settings::{
    Access, Audio, Codec, Codes, Credentials, DateFormat, Dect, Display, Dtmf, Encryption, Firmware, FirmwarePolicy,
    Handset, HourFormat, Ldap, Locale, Network, Phonebook, Protocol, Provisioning, Qos, RemotePhonebook, Settings, Sip,
    Srtp, Syslog, SyslogLevel, Time, Transport, Vlan, VlanPort, Web,
};
pub use trust::{Asking, Authentication, PendingFiles, TftpFiles, TokenUse, Trust};
pub use zone::{Changeover, DstRule, Zone};
