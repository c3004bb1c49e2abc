//! `cargo xtask ci`: everything a change must pass, in the order that fails soonest.

use anyhow::Result;

use crate::run::{Steps, run};
use crate::workspace::Workspace;
use crate::{bench, dependencies, fuzz, test, tidy, walls};

/// Runs every step, stopping at the first that fails, and prints what each took.
pub(crate) fn ci(workspace: &Workspace) -> Result<()> {
    let mut steps = Steps::new();
    let outcome = perform(workspace, &mut steps);
    steps.print_summary();
    outcome
}

fn perform(workspace: &Workspace, steps: &mut Steps) -> Result<()> {
    steps.step("format", || {
        run(workspace.cargo().args(["fmt", "--all", "--check"]))
    })?;
    steps.step("tidy", || tidy::tidy(workspace))?;
    steps.step("walls", || walls::walls(workspace))?;
    steps.step("dependencies", || {
        dependencies::dependencies(workspace)?;
        deny(workspace)
    })?;
    steps.step("lints", || {
        lint(workspace, &[])?;
        lint(workspace, &["--features", test::FEATURES])
    })?;
    steps.step("documentation", || {
        run(workspace
            .cargo()
            .args(["doc", "--workspace", "--no-deps"])
            .args(["--features", test::FEATURES])
            .env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    steps.step("tests", || test::test(workspace, &[]))?;
    let smoke = ["--seed".to_owned(), fuzz::SMOKE_SEED.to_owned()];
    steps.step("fuzz smoke", || fuzz::fuzz(workspace, &smoke))?;
    steps.step("benchmark smoke", || {
        bench::bench(workspace, &["--smoke".to_owned()])
    })
}

fn lint(workspace: &Workspace, features: &[&str]) -> Result<()> {
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--workspace", "--all-targets"]);
    clippy.args(features).args(["--", "-D", "warnings"]);
    run(&mut clippy)
}

/// Advisories, and the rest of `deny.toml`. The tool is a program of its own; without it the step says so and lets the others
/// go on.
fn deny(workspace: &Workspace) -> Result<()> {
    let mut probe = workspace.cargo();
    probe.args(["deny", "--version"]);
    let installed = probe.output().is_ok_and(|output| output.status.success());
    if !installed {
        println!(
            "LEFT OUT: cargo-deny is not installed, so advisories were not checked. \
             `cargo install --locked cargo-deny` installs it."
        );
        return Ok(());
    }
    run(workspace.cargo().args(["deny", "check"]))
}
