//! Plugins in service: data folders and libraries, their templates, and the calls into them.
//!
//! Whoever comes from outside asks the [`Shelf`]: whose phone is this, whose file is that, render it. Who writes a plugin asks [`review`]; who
//! passes one on makes a [`Package`] of it. How a vendor is found on disk is
//! [`discover`]'s business, how a library is made safe to open [`staging`]'s, how it is called [`library`]'s (the only unsafe code) and
//! [`service`]'s. Nothing here knows a socket, a profile or the name of a vendor.

mod coverage;
mod discover;
mod encryption;
mod install;
mod library;
mod outline;
mod package;
mod problem;
mod readback;
mod review;
mod service;
mod shelf;
mod staging;
mod trial;

pub use coverage::{Honour, Honours, coverage, everything, fields_of_the_model, in_all};
pub use discover::Places;
pub use install::{AddError, Added, add};
pub use library::{OpenError, probe};
pub use package::{EXTENSION, Manifest, Package, PackageError};
pub use problem::Problem;
pub use readback::{ReadBack, Reader, Unread};
pub use review::{Review, review};
pub use service::{CallError, InService, Limits};
pub use shelf::{Choice, Route, Shelf, Unplaced, mac_named};
pub use staging::{Prober, elsewhere};
