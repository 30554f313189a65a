//! Names that the doctor goes by.

/// Of our own processes, as the kernel shows them.
pub(crate) const PROGRAM: &str = "provost";
/// The event package of a SUBSCRIBE that means nothing to anybody. Not `ua-profile`: no server is to take it for a phone's.
pub(crate) const EVENT: &str = "provost-doctor";
