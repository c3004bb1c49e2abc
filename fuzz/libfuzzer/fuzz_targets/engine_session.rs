//! Feeds libFuzzer's inputs to `natterjack_engine::fuzzing::engine_session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| natterjack_engine::fuzzing::engine_session(
    data,
    std::time::Instant::now()
));
