//! The Choria connector and what it has to do with: real DNS servers, Puppet's real authority, brokers of both kinds.

use libtest_mimic::Trial;

mod authority;
mod connection;
mod finding;
mod fleet;
mod puppet;

pub(crate) fn trials() -> Vec<Trial> {
    let suites = [
        connection::trials(),
        finding::trials(),
        fleet::trials(),
        puppet::trials(),
    ];
    suites.into_iter().flatten().collect()
}
