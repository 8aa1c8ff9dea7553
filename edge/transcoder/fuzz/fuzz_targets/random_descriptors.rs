#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transcoder_fuzz::random_descriptors::check(data));
