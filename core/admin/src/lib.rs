//! The people's door: the API and the pages of the device manager, what stands in them for whom, and the client that the command line
//! uses.
//!
//! Nothing is decided here that the desk ([`provost_server::dispatch::Dispatch`]) does not decide for phones, and nothing is kept here:
//! what phones should be are the profile files, what they were seen doing is the registry, and of the log only the last events stay in
//! memory. A handler reads a request, asks the desk,
//! and words the answer.

mod activity;
mod api;
mod audit;
mod auth;
pub mod client;
mod keys;
mod metrics;
mod pinned;
mod problem;
mod serve;
mod ui;

pub use activity::Activity;
pub use api::{doctor::Looks, document};
pub use audit::Audit;
pub use keys::{Keys, KeysError};
pub use serve::{Admin, routes, serve};
pub use ui::{Encrypted, Visitor};
