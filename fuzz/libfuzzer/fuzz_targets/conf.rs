//! Feeds libFuzzer's inputs to `natterjack_conf::fuzzing::conf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| natterjack_conf::fuzzing::conf(data));
