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

const OURS: Kind = Kind::Natterjack;
const REAL: Kind = Kind::NatsServer;
const OLD: Kind = Kind::OldNatsServer;

/// A cluster, and the scenarios it plays.
#[derive(Clone, Copy)]
struct Mix {
    name: &'static str,
    kinds: [Kind; 3],
    plays: &'static [&'static str],
}

const USUAL: &[&str] = &[
    "rain",
    "storm",
    "short_silence",
    "partition",
    "half_open",
    "restart_behind_a_cut",
    "partition_of_acquaintances",
];

/// What the real servers are put through is to show that the expectations are right.
const MIXES: &[Mix] = &[
    Mix {
        name: "real",
        kinds: [REAL, REAL, REAL],
        plays: &[
            "rain",
            "partition",
            "half_open",
            "partition_of_acquaintances",
        ],
    },
    Mix {
        name: "ours",
        kinds: [OURS, OURS, OURS],
        plays: &[
            "rain_on_a_mingled_crowd",
            "storm",
            "short_silence",
            "partition",
            "half_open",
            "restart_behind_a_cut",
            "partition_of_acquaintances",
            "acquaintances_without_their_seed",
        ],
    },
    Mix {
        name: "ours_real_old",
        kinds: [OURS, REAL, OLD],
        plays: USUAL,
    },
    Mix {
        name: "real_ours_ours",
        kinds: [REAL, OURS, OURS],
        plays: &[
            "storm",
            "restart_behind_a_cut",
            "partition_of_acquaintances",
            "acquaintances_without_their_seed",
        ],
    },
];

/// Something to befall a cluster.
type Scenario = (&'static str, fn(&[Kind], u64));

const SCENARIOS: &[Scenario] = &[
    ("rain", scenarios::rain),
    ("storm", scenarios::storm),
    ("short_silence", scenarios::short_silence),
    ("partition", scenarios::partition),
    ("half_open", scenarios::half_open),
    ("restart_behind_a_cut", scenarios::restart_behind_a_cut),
    (
        "rain_on_a_mingled_crowd",
        scenarios::rain_on_a_mingled_crowd,
    ),
    (
        "partition_of_acquaintances",
        scenarios::partition_of_acquaintances,
    ),
    (
        "acquaintances_without_their_seed",
        scenarios::acquaintances_without_their_seed,
    ),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = network::trials();
    for mix in MIXES.iter().copied().chain(asked_for()) {
        let is_known = |name: &&str| SCENARIOS.iter().any(|(known, _)| known == name);
        assert!(
            mix.plays.iter().all(is_known),
            "{} plays what nobody knows",
            mix.name
        );
        for (number, (scenario, play)) in SCENARIOS.iter().enumerate() {
            if !mix.plays.contains(scenario) {
                continue;
            }
            let name = format!("faults::{scenario}::{}", mix.name);
            let needs = mix.kinds.iter().map(|kind| kind.program().map(drop));
            let test = name.clone();
            trials.push(trial(name, needs, move || {
                with_privileges(&test, || {
                    for seed in seeds(number as u64) {
                        play(&mix.kinds, seed);
                    }
                });
            }));
        }
    }
    trials
}

/// The mix that the environment names, if it is one of three.
fn asked_for() -> Option<Mix> {
    let kinds: [Kind; 3] = kinds_asked_for()?.try_into().ok()?;
    Some(Mix {
        name: "asked_for",
        kinds,
        plays: USUAL,
    })
}

/// Whether this run takes its time.
fn is_full() -> bool {
    std::env::var_os("NATTERJACK_FULL").is_some()
}

/// What to play a scenario with, one after the other. In a quick run it is always the same.
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
