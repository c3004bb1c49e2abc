//! Who comes in, who does not, and what gets through, beyond what the conversations `access_*` say: keys, certificates,
//! advisories, secrets.

use libtest_mimic::Trial;

mod advisories;
pub(crate) mod authority;
mod client;
mod listener;
mod logins;
mod pins;
mod secrets;
mod services;
mod tools;
mod tracing;
mod waits;

/// A test of one server, and its name.
type Test = (&'static str, fn(testkit::Kind));

pub(crate) fn trials() -> Vec<Trial> {
    let suites = [
        logins::trials(),
        advisories::trials(),
        listener::trials(),
        pins::trials(),
        secrets::trials(),
        services::trials(),
        tracing::trials(),
        tools::trials(),
        waits::trials(),
    ];
    suites.into_iter().flatten().collect()
}
