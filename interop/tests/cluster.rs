//! Clusters of real processes: ours, nats-server's, an old nats-server's, and mixed. Every scenario is a function of the
//! kinds of its servers, and expects the same of all.
//!
//! [`MIXES`] says which clusters there are, and [`SCENARIOS`] what is played in them. The protocol between two servers, line by
//! line, is in `conversations.rs`. `NATTERJACK_MIX=ours,real,old` adds a mix of these kinds to a run.

use libtest_mimic::Trial;
use testkit::Kind;

use crate::trial;

mod accounts;
mod conversations;
mod delivery;
mod discovery;
mod disturbances;
mod examples;
mod failover;
mod flood;
mod formation;
mod interest;
mod learning;
mod queues;
mod refusals;
mod reload;
mod reload_settings;
mod requests;
mod restarts;
mod tracing;
mod transport;
mod upgrade;

const OURS: Kind = Kind::Natterjack;
const REAL: Kind = Kind::NatsServer;
const OLD: Kind = Kind::OldNatsServer;

/// Clusters by name. A scenario plays with the kinds in this order, and starts them in it unless it is about that.
const MIXES: &[Mix] = &[
    Mix {
        name: "real",
        kinds: &[REAL, REAL, REAL],
        plays: Plays::All,
    },
    Mix {
        name: "real_old",
        kinds: &[REAL, OLD],
        plays: Plays::WithOld,
    },
    Mix {
        name: "old_real_real",
        kinds: &[OLD, REAL, REAL],
        plays: Plays::Only(FURTHER),
    },
    Mix {
        name: "ours",
        kinds: &[OURS, OURS, OURS],
        plays: Plays::All,
    },
    Mix {
        name: "ours_real_ours",
        kinds: &[OURS, REAL, OURS],
        plays: Plays::All,
    },
    Mix {
        name: "real_real_ours",
        kinds: &[REAL, REAL, OURS],
        plays: Plays::All,
    },
    Mix {
        name: "old_ours_real",
        kinds: &[OLD, OURS, REAL],
        plays: Plays::WithOld,
    },
    Mix {
        name: "real_ours",
        kinds: &[REAL, OURS],
        plays: Plays::Only(FURTHER),
    },
    Mix {
        name: "old_ours",
        kinds: &[OLD, OURS],
        plays: Plays::Only(FURTHER),
    },
    Mix {
        name: "ours_real_real",
        kinds: &[OURS, REAL, REAL],
        plays: Plays::Only(FURTHER),
    },
];

/// What is played by further mixes of kinds that other mixes have.
const FURTHER: &[&str] = &[
    "formation::",
    "delivery::",
    "queues::",
    "requests::",
    "accounts::",
    "flood::",
];

#[derive(Clone, Copy)]
struct Mix {
    name: &'static str,
    kinds: &'static [Kind],
    plays: Plays,
}

/// Which scenarios a mix plays.
#[derive(Clone, Copy)]
enum Plays {
    All,
    /// Those that an old server can take part in.
    WithOld,
    /// Those whose names begin so, of the ones that an old server can take part in if one is there.
    Only(&'static [&'static str]),
}

/// Something to happen in a cluster.
struct Scenario {
    name: &'static str,
    /// Whether it needs what nats-server 2.9 does not have.
    is_modern: bool,
    play: fn(&[Kind]),
}

const fn scenario(name: &'static str, play: fn(&[Kind])) -> Scenario {
    Scenario {
        name,
        is_modern: false,
        play,
    }
}

const fn modern(name: &'static str, play: fn(&[Kind])) -> Scenario {
    Scenario {
        name,
        is_modern: true,
        play,
    }
}

const SCENARIOS: &[&[Scenario]] = &[
    formation::SCENARIOS,
    delivery::SCENARIOS,
    queues::SCENARIOS,
    requests::SCENARIOS,
    accounts::SCENARIOS,
    flood::SCENARIOS,
    learning::SCENARIOS,
    tracing::SCENARIOS,
    transport::SCENARIOS,
    disturbances::SCENARIOS,
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = conversations::trials();
    trials.extend(examples::trials());
    trials.extend(interest::trials());
    trials.extend(refusals::trials());
    trials.extend(reload::trials());
    trials.extend(reload_settings::trials());
    trials.extend(restarts::trials());
    trials.extend(upgrade::trials());
    trials.extend(discovery::trials());
    trials.extend(failover::trials());
    for mix in MIXES.iter().copied().chain(asked_for()) {
        for scenario in SCENARIOS.iter().copied().flatten() {
            if !mix.plays(scenario) {
                continue;
            }
            let name = format!("cluster::{}::{}", scenario.name, mix.name);
            let needs = mix.kinds.iter().map(|kind| kind.program().map(drop));
            let (play, kinds) = (scenario.play, mix.kinds);
            trials.push(trial(name, needs, move || play(kinds)));
        }
    }
    trials
}

/// The mix that the environment names.
fn asked_for() -> Option<Mix> {
    let kinds = kinds_asked_for()?;
    Some(Mix {
        name: "asked_for",
        kinds,
        plays: Plays::WithOld,
    })
}

/// The kinds that `NATTERJACK_MIX` names.
pub(crate) fn kinds_asked_for() -> Option<&'static [Kind]> {
    let names = std::env::var("NATTERJACK_MIX").ok()?;
    let kinds = names.split(',').map(|name| match name {
        "ours" => OURS,
        "real" => REAL,
        "old" => OLD,
        other => panic!("NATTERJACK_MIX names `{other}`, which is not ours, real or old"),
    });
    let kinds: Vec<Kind> = kinds.collect();
    assert!(kinds.len() > 1, "NATTERJACK_MIX names at least two servers");
    // A few times per run.
    Some(kinds.leak())
}

impl Mix {
    fn plays(&self, scenario: &Scenario) -> bool {
        let is_possible = !scenario.is_modern || !self.kinds.contains(&OLD);
        match self.plays {
            Plays::All => true,
            Plays::WithOld => is_possible,
            Plays::Only(names) => {
                is_possible && names.iter().any(|name| scenario.name.starts_with(name))
            }
        }
    }
}

/// Whether this run takes its time: `NATTERJACK_FULL` is set.
fn is_full() -> bool {
    std::env::var_os("NATTERJACK_FULL").is_some()
}

/// `count` kinds: these, over and over.
fn cycled(kinds: &[Kind], count: usize) -> Vec<Kind> {
    kinds.iter().copied().cycle().take(count).collect()
}
