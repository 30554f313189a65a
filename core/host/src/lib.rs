//! Plugins in service: data folders and libraries, their templates, and the calls into them.
