//! The real `provost` and simulated phones on a network that the test makes.
//!
//! A test makes a [`provost_tests::Lan`], starts a [`provost_tests::Server`] on it, lets phones boot, and judges by what the phones
//! got, by the capture, and by the log. It speaks to the server over the wire and through files only, never through its crates.

/// Rubbish, attacks, and ports that somebody else holds: told or dropped, while others are served.
mod bad_input;
/// The bench by itself: phones, network, loss and capture against a server of thirty lines. When this fails, nothing below can be
/// believed.
mod bench;
/// Real phones' SUBSCRIBEs, byte for byte: who is answered, with what, how often, and what stands behind the URL.
mod captures;
/// Phones that nobody knows are enrolled by a rule of the profile files.
mod enrol;
/// Phones of every kind that the vendors know, from the SUBSCRIBE to the file: alone, over each door, and in numbers on a bad network.
mod fleet;
/// Names of files that several vendors have.
mod names;
/// Interfaces and addresses that come, go and move while it serves.
mod network;
/// Beside a PBX that owns port 5060.
mod pbx;
/// Phones that run are told to fetch again, and some want to know by whom.
mod resync;
mod rollouts;
/// Phones played by SIPp: our messages before a SIP stack that is not ours.
mod sipp;
/// Hundreds of phones at once, on a good and on a bad network, by the command line alone.
mod storm;
/// Who gets a phone's file that is not the phone.
mod trust;
/// The walk-through for authors of plugins, from an empty folder to a configured phone.
mod walkthrough;
/// A phone played by hand, for what the simulated one would be too clever to do.
mod wire;
