#![no_main]

// What all inputs share is made before the first is timed.
libfuzzer_sys::fuzz_target!(init: provost_fuzz::phone(&[0]), |input: &[u8]| provost_fuzz::phone(input));
