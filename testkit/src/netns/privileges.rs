//! Who may have networks of their own: root, or whoever may be root in a user namespace.

use std::process::Command;

/// What to say when the system refuses.
pub(super) const NEEDS: &str = "\
a network namespace cannot be had. It takes root (CAP_SYS_ADMIN and CAP_NET_ADMIN; in a container also --device /dev/net/tun), \
or a system on which users may create user namespaces and open /dev/net/tun, and the packages util-linux and iproute2";

/// Set in the environment of a test that runs a second time, as root of a user namespace.
const INSIDE: &str = "NATTERJACK_IN_USER_NAMESPACE";

/// Runs a test that needs a [`Network`](super::Network). Whoever is not root runs this program once more, with nothing but the
/// test of this name, as root of a user namespace.
///
/// # Panics
/// When the test does, or when the system does not allow it.
#[track_caller]
pub fn with_privileges(test: &str, run: impl FnOnce()) {
    if rustix::process::geteuid().is_root() {
        return run();
    }
    // Otherwise a system that maps nobody to root would have us start ourselves for ever.
    assert!(std::env::var_os(INSIDE).is_none(), "{NEEDS}");
    let program = std::env::current_exe().expect("a running test has a path");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(program)
        .args(["--exact", test])
        .env(INSIDE, "1")
        .output()
        .unwrap_or_else(|error| panic!("{NEEDS}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "as root of a user namespace it failed. If that was refused: {NEEDS}.\n{said}\n{complained}"
    );
    // A name that does not exist would pass.
    assert!(
        said.contains("1 passed"),
        "not one test ran:\n{said}\n{complained}"
    );
}
