//! Feeds libFuzzer's inputs to `natterjack_choria::fuzzing::secure_reply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| natterjack_choria::fuzzing::secure_reply(data));
