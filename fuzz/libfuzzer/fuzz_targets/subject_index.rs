//! Feeds libFuzzer's inputs to `natterjack_subject::fuzzing::subject_index`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| natterjack_subject::fuzzing::subject_index(data));
