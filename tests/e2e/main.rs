//! The real `provost` and simulated phones on a network that the test makes.
//!
//! A test makes a [`provost_tests::Lan`], starts a [`provost_tests::Server`] on it, lets phones boot, and judges by what the phones
//! got, by the capture, and by the log. It speaks to the server over the wire and through files only, never through its crates.

/// How much comes back for what is sent in somebody else's name. The table is TARGET/amplification.md.
mod amplification;
/// Rubbish, attacks, and ports that somebody else holds: told or dropped, while others are served.
mod bad_input;
/// The bench by itself: phones, network, loss and capture against a server of thirty lines. When this fails, nothing below can be
/// believed.
mod bench;
/// Real phones' SUBSCRIBEs, byte for byte: who is answered, with what, how often, and what stands behind the URL.
mod captures;
/// What DHCP servers are told, before the real ones.
mod dhcp;
/// What `provost doctor` says of a network that is broken, and of one that is not.
mod doctor;
/// Phones that nobody knows are enrolled by a rule of the profile files.
mod enrol;
/// What breaks around the server: the network, disks, clocks, its own process, and crowds at its doors. The table is TARGET/faults.md.
mod faults;
/// Phones of every kind that the vendors know, from the SUBSCRIBE to the file: alone, over each door, and in numbers on a bad network.
mod fleet;
/// Names of files that several vendors have.
mod names;
/// Interfaces and addresses that come, go and move while it serves.
mod network;
/// Beside a PBX that owns port 5060.
mod pbx;
/// Behind the reverse proxy of the README.
mod proxy;
/// Beyond a router, through a relay.
mod relay;
/// Phones that run are told to fetch again, and some want to know by whom.
mod resync;
/// What the process may do on its machine, and what it cannot any more.
mod rights;
mod rollouts;
/// Phones played by SIPp: our messages before a SIP stack that is not ours.
mod sipp;
/// Datagrams in somebody else's name.
mod spoof;
/// Hundreds of phones at once, on a good and on a bad network, by the command line alone.
mod storm;
/// RFC 4475 at the running program.
mod torture;
/// Who gets a phone's file that is not the phone.
mod trust;
/// The walk-through for authors of plugins, from an empty folder to a configured phone.
mod walkthrough;
/// A phone played by hand, for what the simulated one would be too clever to do.
mod wire;
