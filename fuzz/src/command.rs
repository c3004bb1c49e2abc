//! Owns the arguments.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{Target, run};

const USAGE: &str =
    "usage: natterjack-fuzz --list | <target> [--seconds N] [--seed S] | <target> --input FILE";
const SECONDS_DEFAULT: u64 = 20;

/// What the arguments ask for.
pub(crate) fn main(targets: &[Target]) -> Result<()> {
    let mut target = None;
    let mut seconds = SECONDS_DEFAULT;
    let mut seed = None;
    let mut input = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--list" => {
                for target in targets {
                    println!("{}", target.name);
                }
                return Ok(());
            }
            "--seconds" => seconds = value()?.parse().context("--seconds takes a number")?,
            "--seed" => seed = Some(value()?.parse().context("--seed takes a number")?),
            "--input" => input = Some(PathBuf::from(value()?)),
            name => {
                let named = targets.iter().find(|target| target.name == name);
                target = Some(named.with_context(|| format!("no target `{name}`; {USAGE}"))?);
            }
        }
    }
    let Some(target) = target else { bail!(USAGE) };
    if let Some(path) = input {
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // Panics for everybody to see if the property does not hold.
        (target.check)(&bytes);
        println!("{}: {} holds", target.name, path.display());
        return Ok(());
    }
    // A hasher with random keys that has hashed nothing is as good a seed as any.
    let seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    run::run(target, seed, Duration::from_secs(seconds))
}
