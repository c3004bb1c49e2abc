//! The nats.conf configuration language: text to a value tree with source spans.
//!
//! Nothing is here yet; `natterjackd` takes flags only. The room exists so that the walls around it do: it will
//! know the language, not the options, and it will depend on none of the other crates.
#![forbid(unsafe_code)]
