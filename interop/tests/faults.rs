//! Clusters over bad networks: each server on a machine of its own, real sockets between them, and a network that loses, delays,
//! reorders and doubles packets, or lets none through, in one direction or both, by a seed. Clients are on their server's machine
//! and notice nothing of it. Every scenario is a function of the kinds of its servers, and ends with the same demands.
//!
//! [`MIXES`] says which clusters there are and [`SCENARIOS`] what befalls them. `NATTERJACK_FULL` makes runs longer and their
//! seeds new ones; `NATTERJACK_SEED` repeats one, which a failure names, and `NATTERJACK_MIX=ours,real,old` adds a cluster of
//! three. What is done to servers and connections where packets are of no interest is in `cluster`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

use libtest_mimic::Trial;
use testkit::Kind;
use testkit::netns::with_privileges;

use crate::cluster::kinds_asked_for;
use crate::trial;

mod crowd;
mod network;
mod scenarios;
mod stage;

const REAL: Kind = Kind::NatsServer;
const OLD: Kind = Kind::OldNatsServer;

/// In every cluster.
const SERVERS: usize = 3;

/// Clusters by name, and which scenarios they play: those whose names begin so.
const MIXES: &[Mix] = &[
    ("real", &[REAL, REAL, REAL], ""),
    ("real_real_old", &[REAL, REAL, OLD], "storm"),
];

type Mix = (&'static str, &'static [Kind], &'static str);

/// Something to befall a cluster. The first seed of the quick run is always the same.
type Scenario = (&'static str, fn(&[Kind], u64));

const SCENARIOS: &[Scenario] = &[
    ("rain", scenarios::rain),
    ("storm", scenarios::storm),
    ("short_silence", scenarios::short_silence),
    ("partition", scenarios::partition),
    ("half_open", scenarios::half_open),
    ("restart_behind_a_cut", scenarios::restart_behind_a_cut),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = network::trials();
    let asked_for = kinds_asked_for().filter(|kinds| kinds.len() == SERVERS);
    let asked_for = asked_for.map(|kinds| ("asked_for", kinds, ""));
    for (mix, kinds, plays) in MIXES.iter().copied().chain(asked_for) {
        for (number, (scenario, play)) in SCENARIOS.iter().enumerate() {
            if !scenario.starts_with(plays) {
                continue;
            }
            let name = format!("faults::{scenario}::{mix}");
            let needs = kinds.iter().map(|kind| kind.program().map(drop));
            let test = name.clone();
            trials.push(trial(name, needs, move || {
                with_privileges(&test, || {
                    for seed in seeds(number as u64) {
                        play(kinds, seed);
                    }
                });
            }));
        }
    }
    trials
}

/// Whether this run takes its time.
fn is_full() -> bool {
    std::env::var_os("NATTERJACK_FULL").is_some()
}

fn seeds(quick: u64) -> Vec<u64> {
    if let Ok(seed) = std::env::var("NATTERJACK_SEED") {
        return vec![seed.parse().expect("NATTERJACK_SEED is a number")];
    }
    if is_full() {
        // The one source of randomness in the standard library.
        (0..10)
            .map(|_| RandomState::new().build_hasher().finish())
            .collect()
    } else {
        vec![quick]
    }
}
