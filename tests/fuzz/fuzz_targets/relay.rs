#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| provost_fuzz::relay(input));
