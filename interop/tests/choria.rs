//! The Choria connector and what it has to do with: real DNS servers, Puppet's real authority, brokers of both kinds.

use libtest_mimic::Trial;

mod authority;
mod connection;
mod federation;
mod finding;
mod fleet;
mod mcollective;
mod processes;
mod puppet;
mod root;

pub(crate) fn trials() -> Vec<Trial> {
    let suites = [
        connection::trials(),
        federation::trials(),
        finding::trials(),
        fleet::trials(),
        mcollective::trials(),
        puppet::trials(),
    ];
    suites.into_iter().flatten().collect()
}
