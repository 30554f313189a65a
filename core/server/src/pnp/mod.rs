//! The PnP door: hears SUBSCRIBEs sent to the group, answers them, and sends the NOTIFY until the phone has it.
//!
//! `interfaces` follows the network, `listener` hears, `exchange` holds the conversations. What a phone is told is the desk's business.
//! `relay` hears phones beyond a router and answers them there. `resync` is the other direction: a phone is told to fetch again, or to reboot, when nobody asked.

pub mod exchange;
pub mod interfaces;
pub mod listener;
pub mod relay;
pub mod resync;
mod way;
