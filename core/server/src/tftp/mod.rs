//! The TFTP door.
