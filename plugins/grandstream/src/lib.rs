//! The grandstream plugin.
