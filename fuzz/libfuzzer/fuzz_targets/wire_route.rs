//! Feeds libFuzzer's inputs to `natterjack_wire::fuzzing::fuzz_route`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| natterjack_wire::fuzzing::fuzz_route(data));
