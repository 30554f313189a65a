//! The real `provost` and simulated phones on a network that the test makes.
//!
//! A test makes a [`provost_tests::Lan`], starts a [`provost_tests::Server`] on it, lets phones boot, and judges by what the phones
//! got, by the capture, and by the log. It speaks to the server over the wire and through files only, never through its crates.

/// The bench by itself: phones, network, loss and capture against a server of thirty lines. When this fails, nothing below can be
/// believed.
mod bench;
/// Phones of every kind that the vendors know, from the SUBSCRIBE to the file: alone, over each door, and in numbers on a bad network.
mod fleet;
