//! The real `provost` on loopback: what it does with the disk, the command line, signals, and plugins that behave badly.
//!
//! No test here needs a network of its own or root. A made-up vendor of data alone (`site`) stands for all of them.

#![allow(clippy::print_stdout, reason = "measured times are worth seeing when a test is run by hand")]

/// A made-up vendor, a server that serves it, and a phone's side of HTTP and TFTP.
mod site;

/// What was decided lately, what the network is like, and their pages.
mod activity;
/// The commands: what they print, what they end with, and that nobody reads a password where none belongs.
mod commands;
/// What a vendor's data can say: like another, words, fields that no file says.
mod data;
/// What an edit would come to before it is written, templates of the site, and taking a change back.
mod editing;
/// A device is changed where people wrote it: by the API, in the form, by its keys.
mod form;
/// Phones are told somebody else's URL.
mod forward;
/// Files go out encrypted; certificates come, change and are broken; phones show theirs; proxies speak for others, or may not.
mod https;
/// What people have elsewhere comes in as a whole or not at all, and goes out so that it comes in again.
mod imports;
/// What an author of plugins has: made, checked, tested, packed and added.
mod kit;
/// Profiles and lists of people: looked at, tried, and changed.
mod lists;
/// The pages of the device manager: the way in, and what may be seen and done by whom.
mod pages;
/// The door for people: who may, what is written, and that nothing acknowledged is lost.
mod people;
/// Plugins come, change and go in a running server: folders, libraries, a library in C; broken ones are refused with the reason.
mod plugins;
/// Edits take service within a second, in whatever way they reach the disk; what is no good does not.
mod reload;
/// Plugins that panic, stall and talk nonsense cost the request that met them, and nobody else's.
mod rude;
/// Passwords that are kept beside the profiles: each form of a reference, the commands, and that nothing tells them.
mod secrets;
/// What many phones share: lists of people in each vendor's form, and firmware with its policy.
mod shared;
/// SIGTERM, SIGINT and systemd.
mod signals;
