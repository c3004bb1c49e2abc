//! Owns the loop: make an input, check it, and report the first that fails.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fastrand::Rng;

use crate::{Target, mutate, shrink};

/// Inputs between two looks at the clock.
const BATCH: u64 = 256;

/// Checks inputs for `duration`, at least one batch.
pub(crate) fn run(target: &Target, seed: u64, duration: Duration) -> Result<()> {
    println!("{}: seed {seed}", target.name);
    let start = now();
    let mut rng = Rng::with_seed(seed);
    let mut inputs = 0;
    let spoken = panic::take_hook();
    // A failure is told once, at the end; shrinking meets it hundreds of times.
    panic::set_hook(Box::new(|_| {}));
    let failed = loop {
        let mut input = (target.generate)(&mut rng);
        // One in four stays as it is made: the valid ones must hold as well.
        for _ in 0..rng.u8(0..4) {
            mutate::mutate(&mut input, &mut rng);
        }
        inputs += 1;
        if fails(target, &input) {
            break Some(shrink::shrink(input, |smaller| fails(target, smaller)));
        }
        if inputs % BATCH == 0 && start.elapsed() >= duration {
            break None;
        }
    };
    panic::set_hook(spoken);

    let seconds = start.elapsed().as_secs_f64();
    let Some(input) = failed else {
        println!(
            "{}: {inputs} inputs in {seconds:.1} s, no failure",
            target.name
        );
        return Ok(());
    };
    let path = keep(target, seed, &input)?;
    eprintln!(
        "{name}: input {inputs} of seed {seed} fails, {length} bytes after shrinking: {shown}\n\
         run it again with: cargo run -p natterjack-fuzz --release -- {name} --input {path}",
        name = target.name,
        length = input.len(),
        shown = input.escape_ascii(),
        path = path.display(),
    );
    // Once more, for its message.
    let _ = panic::catch_unwind(AssertUnwindSafe(|| (target.check)(&input)));
    bail!("{} does not hold (seed {seed})", target.name);
}

fn fails(target: &Target, input: &[u8]) -> bool {
    panic::catch_unwind(AssertUnwindSafe(|| (target.check)(input))).is_err()
}

/// Writes the input where the next build does not sweep it away.
fn keep(target: &Target, seed: u64, input: &[u8]) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz");
    let folder = fs::create_dir_all(&folder).and_then(|()| fs::canonicalize(&folder));
    let folder = folder.context("cannot create target/fuzz")?;
    let path = folder.join(format!("{}-{seed}", target.name));
    fs::write(&path, input).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program that runs for some seconds reads a clock"
)]
fn now() -> Instant {
    Instant::now()
}
