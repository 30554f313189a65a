//! TFTP for those who serve files: RFC 1350 with the options of RFC 2347 to 2349 and 7440.
//!
//! [`packet`] turns bytes into values and back, and [`Transfer`] is one file on its way, as a state machine: neither touches a socket or
//! a clock. [`serve`] is the engine for Linux on top of them, and [`Files`] what it needs of its caller.

#[cfg(target_os = "linux")]
mod batch;
#[cfg(target_os = "linux")]
mod bell;
#[cfg(target_os = "linux")]
mod engine;
mod files;
mod netascii;
pub mod packet;
mod transfer;

#[cfg(target_os = "linux")]
pub use engine::{Manner, serve};
pub use files::{Content, Denied, Files};
pub use transfer::{End, Terms, Transfer};
