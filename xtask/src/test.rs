//! `cargo xtask test`: the README's test command. Prepares the peers, builds the server under test, runs every test of
//! the workspace.

use anyhow::{Result, bail};

use crate::peers::Peers;
use crate::run::run;
use crate::workspace::Workspace;

/// What is off by default.
pub(crate) const FEATURES: &str = "natterjack-bus/opentelemetry";

/// The example in the documentation of what is off by default: the name of the function that it shows.
const FEATURE_EXAMPLE: &str = "consumer_span";

/// Runs every test. `--without-peers` prepares nothing and has the tests of a missing peer reported as ignored, each with
/// its reason; what stands after `--` goes to `cargo test`.
pub(crate) fn test(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let (ours, forwarded) = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[][..]),
    };
    let without_peers = match ours {
        [] => false,
        [only] if only == "--without-peers" => true,
        [first, ..] => {
            bail!("unexpected argument `{first}`; arguments of `cargo test` go after `--`")
        }
    };

    if without_peers {
        eprintln!(
            "Running without preparing the peers: every test that needs a missing one is \
             reported as ignored, with its reason."
        );
    } else {
        Peers::prepare(workspace)?;
    }

    // The interop tests start both binaries as children, which `cargo test` alone would not build for them.
    run(workspace.cargo().args(["build", "--workspace", "--bins"]))?;

    let mut tests = workspace.cargo();
    tests
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(forwarded)
        .env("NATTERJACK_PEERS", Peers::folder(workspace))
        .env(
            "NATTERJACK_NATTERJACKD",
            workspace.target.join("debug/natterjackd"),
        );
    if without_peers {
        tests.env("NATTERJACK_WITHOUT_PEERS", "1");
    }
    run(&mut tests)?;
    // Who names tests means those.
    if forwarded.is_empty() {
        features(workspace)?;
    }
    Ok(())
}

/// What is only there with features. With the whole workspace, so that nothing below the bus is built differently.
fn features(workspace: &Workspace) -> Result<()> {
    let mut tests = workspace.cargo();
    tests.args(["test", "--workspace", "--no-fail-fast"]);
    tests.args(["--features", FEATURES, "--test", "opentelemetry"]);
    run(&mut tests)?;
    let mut examples = workspace.cargo();
    examples.args(["test", "--workspace", "--no-fail-fast"]);
    examples.args(["--features", FEATURES, "--doc", "--", FEATURE_EXAMPLE]);
    run(&mut examples)
}
