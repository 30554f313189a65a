//! What we know of phones: profiles and devices read from files, resolved layer by layer, and the phones that were seen.
//!
//! What a phone *should* be is a [`Fleet`], an immutable snapshot of the profile files. What phones *were seen doing* is the
//! [`Registry`]. The two never mix: nothing is learnt into the files, and nothing that was seen changes a configuration.

mod check;
mod document;
mod files;
mod fleet;
mod index;
mod merge;
mod node;
mod origin;
mod problem;
mod registry;
mod resolve;
mod shape;
mod yaml;
mod zone;

pub use document::Device;
pub use fleet::Fleet;
pub use origin::{LayerRef, Origin, Origins};
pub use problem::{Problem, Severity};
pub use registry::{Counts, Event, Happening, Record, Registry, Sighting, State};
pub use resolve::{Asker, Place, ResolveError, Resolved};
pub use shape::schema;
pub use zone::zone;
