//! `cargo xtask fuzz`: every fuzz target for a while, in an optimised build. The target called `canary` has a planted
//! bug and must fail, which tests the fuzzing itself.

use anyhow::{Context, Result, bail};

use crate::run;
use crate::workspace::Workspace;

const CANARY: &str = "canary";
const SECONDS_DEFAULT: u32 = 20;

/// Where CI's smoke starts: always at the same place, so that it says the same of the same code. New ground is
/// for runs by hand, which start where chance puts them.
pub(crate) const SMOKE_SEED: &str = "1";

/// Runs the named targets, or all, each for `--seconds`, from `--seed` or from a new one each.
pub(crate) fn fuzz(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let mut seconds = SECONDS_DEFAULT;
    let mut seed = None;
    let mut named = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seconds" => {
                let value = rest.next().context("--seconds needs a number")?;
                seconds = value
                    .parse()
                    .with_context(|| format!("`{value}` is not a number"))?;
            }
            "--seed" => seed = Some(rest.next().context("--seed needs a number")?.as_str()),
            option if option.starts_with('-') => bail!("unknown option `{option}`"),
            target => named.push(target.to_owned()),
        }
    }
    smoke(workspace, seconds, seed, &named)
}

fn smoke(workspace: &Workspace, seconds: u32, seed: Option<&str>, named: &[String]) -> Result<()> {
    let program = [
        "run",
        "--quiet",
        "--release",
        "--package",
        "natterjack-fuzz",
        "--",
    ];
    let listing = run::output(workspace.cargo().args(program).arg("--list"))?;
    let known: Vec<&str> = listing
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if !known.contains(&CANARY) {
        bail!(
            "the fuzz program lists no target `{CANARY}`, so nothing shows that it can find a bug"
        );
    }
    if let Some(unknown) = named.iter().find(|name| !known.contains(&name.as_str())) {
        bail!(
            "no fuzz target is called `{unknown}`; there are: {}",
            known.join(", ")
        );
    }

    for target in known {
        if !named.is_empty() && !named.iter().any(|name| name == target) {
            continue;
        }
        let outcome = run::run(
            workspace
                .cargo()
                .args(program)
                .arg(target)
                .args(["--seconds", &seconds.to_string()])
                .args(seed.map(|seed| ["--seed", seed]).into_iter().flatten()),
        );
        match (target == CANARY, outcome) {
            (true, Ok(())) => bail!("the canary's planted bug was not found within {seconds} s"),
            (true, Err(_)) => println!("{CANARY}: the planted bug was found, as it must be"),
            (false, outcome) => outcome.with_context(|| format!("fuzz target `{target}`"))?,
        }
    }
    Ok(())
}
