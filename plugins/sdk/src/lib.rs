//! What a Provost plugin is written against.
//!
//! A plugin maps what a phone said to a place to fetch from, and a resolved [`Phone`](model::Phone) to the bytes that its vendor's
//! firmware reads. It does no I/O: no socket, no file, no thread, no clock. Most of a vendor is data (`vendor.yaml`, see [`spec`]);
//! a library adds only what data cannot say, by implementing [`Plugin`].
//!
//! This crate depends on nothing else of ours, and a plugin depends on nothing of ours but this crate.

pub mod abi;
pub mod dhcp;
mod export;
pub mod model;
mod plugin;
pub mod scalar;
pub mod spec;
#[cfg(feature = "templates")]
pub mod templates;
#[cfg(feature = "templates")]
pub mod testing;

pub use model::{MacAddr, Oui, Phone, Secret};
pub use plugin::{
    Announced, Complaint, Plugin, PluginError, Render, RenderedFile, TemplateFailure, Variables, announce_by_data,
    complaints_by_data, expand_url, no_url, offered_files, offers, percent_encode, switches,
};
pub use scalar::Scalar;
pub use spec::Spec;
