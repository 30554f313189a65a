//! The flyingvoice plugin.
