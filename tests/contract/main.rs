//! What every plugin must keep to. The plugins are the real ones, opened as the server opens them; what holds for one holds for the
//! next that is dropped in, so hardly a test here names a vendor.

/// The plugins in service, and phones for them.
mod bench;
/// The old binary file: the same values as in the XML, and the bytes that public encoders write.
mod binary;
/// Whose phone is it: captures, simulated phones, file names.
mod claims;
/// Every field of the common model is honoured, or declared as one that is not.
mod coverage;
/// Files that phones decrypt.
mod encryption;
/// Values that break files: they come back out as they went in, or the file is refused and the field is named.
mod hostile;
/// Every model renders every file, the same each time.
mod models;
/// Every parameter that is written has a source.
mod parameters;
/// Files read as a phone reads them.
mod readers;
/// Passwords are in the devices' own files and nowhere else.
mod secrets;
