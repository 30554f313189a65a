//! What we know of phones: profiles and devices read from files, resolved layer by layer, and the phones that were seen.
//!
//! What a phone *should* be is a [`Fleet`], an immutable snapshot of the profile files, with the lists and firmware that profiles name
//! in [`Phonebooks`] and [`Images`]. What phones *were seen doing* is the [`Registry`], which a [`Store`] keeps on disk. The two never mix: nothing is learnt into the files, and nothing that was seen changes a configuration.

mod amend;
mod books;
mod check;
mod day;
mod document;
mod enrol;
mod extent;
mod files;
mod fleet;
mod images;
mod index;
mod merge;
mod node;
mod origin;
mod overview;
mod problem;
mod registry;
mod resolve;
mod shape;
mod shared;
mod spell;
mod store;
mod written;
mod yaml;
mod zone;

pub use amend::{AmendError, Whose, amend, field_at, settings};
pub use books::{Phonebooks, schema as phonebook_schema};
pub use day::Day;
pub use document::Device;
pub use enrol::{Account, Enrolment, Given, Rule, Stranger};
pub use fleet::Fleet;
pub use images::{Image, Images, MANIFEST, schema as firmware_schema};
pub use origin::{LayerRef, Origin, Origins};
pub use overview::ProfileView;
pub use problem::{Problem, Severity};
pub use registry::{Before, Counts, Event, Happening, Open, Record, Registry, Sighting, State, Taken};
pub use resolve::{Asker, Place, ResolveError, Resolved, Suggestion};
pub use shape::schema;
pub use store::{Opened, Store, StoreError};
pub use written::{WrittenDevice, devices_of};
pub use zone::{local_clock, refusal as zone_refusal, zone};
