//! Runs fuzz targets as plain seeded programs, on stable Rust and without instrumentation: `natterjack-fuzz <target>
//! [--seconds N] [--seed S]`. Owns the table of targets and the loop; the properties live beside the code they are
//! about, the inputs are made in the modules below.
//!
//! The same seed makes the same inputs. A failing input is made smaller, written under `target/fuzz/`, and run again
//! with `--input`.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people and scripts, talking on its standard streams"
)]

mod canary;
mod choria;
mod command;
mod conf;
mod engine;
mod mutate;
mod run;
mod s2;
mod shrink;
mod wire;

use std::process::ExitCode;

use fastrand::Rng;

/// A property and a source of inputs that have a chance to break it.
struct Target {
    name: &'static str,
    /// Makes an input, valid or nearly; some are damaged further before they are run.
    generate: fn(&mut Rng) -> Vec<u8>,
    /// Panics when the property does not hold.
    check: fn(&[u8]),
}

/// All there is to run. A crate's line names a function of its own `fuzzing` module.
const TARGETS: &[Target] = &[
    Target {
        name: "wire_client",
        generate: wire::client_stream,
        check: natterjack_wire::fuzzing::fuzz_client,
    },
    Target {
        name: "wire_server",
        generate: wire::server_stream,
        check: natterjack_wire::fuzzing::fuzz_server,
    },
    Target {
        name: "wire_headers",
        generate: wire::header_block,
        check: natterjack_wire::fuzzing::fuzz_headers,
    },
    Target {
        name: "wire_json",
        generate: wire::json,
        check: natterjack_wire::fuzzing::fuzz_json,
    },
    Target {
        name: "wire_route",
        generate: wire::route_stream,
        check: natterjack_wire::fuzzing::fuzz_route,
    },
    Target {
        name: "s2",
        generate: s2::stream,
        check: natterjack_wire::fuzzing::fuzz_s2,
    },
    Target {
        name: "subject_index",
        generate: mutate::noise,
        check: natterjack_subject::fuzzing::subject_index,
    },
    Target {
        name: "conf",
        generate: conf::configuration,
        check: natterjack_conf::fuzzing::conf,
    },
    Target {
        name: "engine_session",
        generate: engine::client_session,
        check: engine::check,
    },
    Target {
        name: "choria_transport",
        generate: choria::transport,
        check: natterjack_choria::fuzzing::transport,
    },
    Target {
        name: "choria_secure_request",
        generate: choria::secure_request,
        check: natterjack_choria::fuzzing::secure_request,
    },
    Target {
        name: "choria_secure_reply",
        generate: choria::reply,
        check: natterjack_choria::fuzzing::secure_reply,
    },
    Target {
        name: "choria_request",
        generate: choria::request_input,
        check: natterjack_choria::fuzzing::request,
    },
    Target {
        name: "choria_admission",
        generate: choria::admission_input,
        check: choria::admission,
    },
    Target {
        name: "choria_configuration",
        generate: choria::configuration_input,
        check: choria::configuration,
    },
    // Must fail, to show that the fuzzing finds what is there.
    Target {
        name: "canary",
        generate: wire::client_stream,
        check: canary::check,
    },
];

fn main() -> ExitCode {
    match command::main(TARGETS) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
