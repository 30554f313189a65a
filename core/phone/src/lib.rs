//! A simulated phone, on the wire only: it announces itself, fetches its files and reports what it got.
