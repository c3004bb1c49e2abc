//! Natterjack against real peers. Every test runs against our daemon and against the real nats-server with the same
//! expectations, so that a wrong expectation shows as well as a wrong server.
//!
//! This file owns the list of suites and the rule for a missing program: its tests fail, telling how to get it, or are
//! reported as ignored with that reason when the run said that it does without peers.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use testkit::programs::Missing;

mod access;

mod bus_moves;

mod bus_topology;

mod bus;

mod bus_tls;

mod choria;

mod clients;

mod cluster;

mod conversations;

mod agreement;

mod configuration;

mod consumers;

mod faults;

mod info;

mod libraries;

mod monitoring;

mod options;

mod page;

mod reload;

mod route_compression;

mod route_lines;

mod servers;

mod system;

mod top;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let suites = [
        access::trials(),
        bus_moves::trials(),
        bus_topology::trials(),
        bus::trials(),
        bus_tls::trials(),
        choria::trials(),
        clients::trials(),
        cluster::trials(),
        conversations::trials(),
        agreement::trials(),
        configuration::trials(),
        consumers::trials(),
        faults::trials(),
        info::trials(),
        monitoring::trials(),
        options::trials(),
        page::trials(),
        reload::trials(),
        route_compression::trials(),
        route_lines::trials(),
        servers::trials(),
        system::trials(),
        top::trials(),
    ];
    libtest_mimic::run(&arguments, suites.into_iter().flatten().collect()).exit_code()
}

/// A test that needs these programs. It panics to fail.
fn trial(
    name: String,
    needs: impl IntoIterator<Item = Result<(), Missing>>,
    run: impl FnOnce() + Send + 'static,
) -> Trial {
    match needs.into_iter().find_map(Result::err) {
        None => Trial::test(name, || {
            run();
            Ok(())
        }),
        Some(missing) if missing.skips() => {
            let reason = missing.to_string();
            Trial::test(name, || Err(missing.into()))
                .with_kind(format!("left out: {reason}"))
                .with_ignored_flag(true)
        }
        Some(missing) => Trial::test(name, || Err(missing.into())),
    }
}
