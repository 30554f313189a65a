//! The snom plugin.
