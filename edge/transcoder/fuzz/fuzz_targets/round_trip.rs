#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transcoder_fuzz::round_trip::check(data));
