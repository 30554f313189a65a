//! What we know of phones: profiles and devices read from files, resolved layer by layer, and the phones that were seen.
//!
//! What a phone *should* be is a [`Fleet`], an immutable snapshot of the profile files, with the lists and firmware that profiles name
//! in [`Phonebooks`] and [`Images`]. What phones *were seen doing* is the [`Registry`], which a [`Store`] keeps on disk. The two never mix: nothing is learnt into the files, and nothing that was seen changes a configuration.

mod amend;
mod books;
mod check;
mod day;
mod derived;
mod document;
mod enrol;
mod extent;
mod files;
mod fleet;
mod images;
mod index;
mod merge;
mod moving;
mod node;
mod origin;
mod overview;
mod problem;
mod refer;
mod registry;
mod resolve;
mod sealed;
mod secrets;
mod shape;
mod shared;
mod spell;
mod store;
mod vault;
mod written;
mod yaml;
mod zone;

pub use amend::{AmendError, Whose, amend, field_at, settings};
pub use books::{Phonebooks, schema as phonebook_schema};
pub use day::Day;
pub use derived::password as new_password;
pub use document::Device;
pub use enrol::{Account, Enrolment, Given, Rule, Stranger};
pub use fleet::Fleet;
pub use images::{Image, Images, MANIFEST, schema as firmware_schema};
pub use moving::{MoveError, Moved, Moving, moving, name_of_line};
pub use origin::{LayerRef, Origin, Origins};
pub use overview::ProfileView;
pub use problem::{Problem, Severity};
pub use refer::Refer;
pub use registry::{Before, Counts, Event, Happening, Open, Record, Registry, Relay, Sighting, State, Taken};
pub use resolve::{Asker, Place, ResolveError, Resolved, Suggestion};
pub use sealed::{new_identity, recipients, seal};
pub use secrets::{is_name as is_name_of_secret, names as names_of_secrets, with as secrets_with};
pub use shape::schema;
pub use store::{Opened, Store, StoreError};
pub use vault::{Places, WithoutKey, keep};
pub use written::{WrittenDevice, devices_of};
pub use zone::{local_clock, refusal as zone_refusal, zone};
