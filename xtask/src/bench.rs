//! `cargo xtask bench`: the measuring program of `bench/`, with release builds of what it measures.

use anyhow::Result;

use crate::peers::Peers;
use crate::run::run;
use crate::workspace::Workspace;

/// Builds the daemon and the measuring program for release and runs the latter with `arguments`.
pub(crate) fn bench(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let peers = Peers::prepare(workspace)?;
    run(workspace.cargo().args([
        "build",
        "--release",
        "--package",
        "natterjack-cli",
        "--bin",
        "natterjackd",
    ]))?;
    run(workspace
        .cargo()
        .args(["run", "--release", "--package", "natterjack-bench", "--"])
        .arg("--nats-server")
        .arg(peers.nats_server())
        .arg("--natterjackd")
        .arg(workspace.target.join("release/natterjackd"))
        .args(arguments))
}
