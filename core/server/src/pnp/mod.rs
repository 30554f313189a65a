//! The PnP door: hears SUBSCRIBEs sent to the group, answers them, and sends the NOTIFY until the phone has it.
//!
//! `interfaces` follows the network, `listener` hears, `exchange` holds the conversations. What a phone is told is the desk's business.

pub mod exchange;
pub mod interfaces;
pub mod listener;
mod neighbours;
