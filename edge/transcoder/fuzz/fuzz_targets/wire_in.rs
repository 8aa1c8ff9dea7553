#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transcoder_fuzz::wire_in::check(data));
