//! Who comes in, who does not, and what gets through, beyond what the conversations `access_*` say: keys, certificates,
//! advisories, secrets.

use libtest_mimic::Trial;

pub(crate) mod authority;
mod client;
mod logins;

pub(crate) fn trials() -> Vec<Trial> {
    logins::trials()
}
