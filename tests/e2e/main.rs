//! The real `provost` and simulated phones on a network that the test makes.
//!
//! A test makes a [`provost_tests::Lan`], starts a [`provost_tests::Server`] on it, lets phones boot, and judges by what the phones
//! got, by the capture, and by the log. It speaks to the server over the wire and through files only, never through its crates.

/// The bench by itself: phones, network, loss and capture against a server of thirty lines. When this fails, nothing below can be
/// believed.
mod bench;
/// Real phones' SUBSCRIBEs, byte for byte: who is answered, with what, how often, and what stands behind the URL.
mod captures;
/// Phones of every kind that the vendors know, from the SUBSCRIBE to the file: alone, over each door, and in numbers on a bad network.
mod fleet;
/// A phone played by hand, for what the simulated one would be too clever to do.
mod wire;
