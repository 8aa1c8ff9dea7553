#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transcoder_fuzz::json_in::check(data));
