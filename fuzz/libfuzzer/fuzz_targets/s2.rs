//! Feeds libFuzzer's inputs to `natterjack_wire::fuzzing::fuzz_s2`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| natterjack_wire::fuzzing::fuzz_s2(data));
