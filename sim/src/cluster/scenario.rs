//! What differs from game to game besides chance.

use std::time::Duration;

use fastrand::Rng;
use natterjack_engine::{ClusterLimits, ClusterLogin, ClusterSettings, Compression, Seed};

use super::reach::some_rules;
use crate::scenario::Payloads;

/// Port of the first server; the others follow.
pub(crate) const FIRST_PORT: u16 = 6000;

/// Accounts that clients belong to.
pub(crate) const ACCOUNTS: [&str; 3] = ["A", "B", "C"];

/// The account that offers a service, if there is one, and the one that may ask for it.
pub(crate) const SERVING: &str = ACCOUNTS[0];
pub(crate) const SERVED: &str = ACCOUNTS[1];

/// The service.
pub(crate) const SERVICE: &str = "serve.*";

/// How what servers tell each other may be compressed.
const COMPRESSIONS: [Compression; 3] = [Compression::Off, Compression::Accept, Compression::S2Fast];

/// What happens to the network and the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Nothing: every message must arrive.
    None,
    /// Connections break, freeze, go silent.
    Links,
    /// And whole sets of servers cannot reach each other.
    Partitions,
    /// And servers die and come back.
    Deaths,
}

/// What servers are told that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloads {
    /// Nothing.
    None,
    /// Which accounts have connections to themselves, by which nothing may be lost.
    Moves,
    /// The same, and which accounts there are.
    Accounts,
    /// Whatever a reload may change.
    Any,
}

/// The frame of a game.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What happens.
    pub faults: Faults,
    /// What each server is configured with.
    pub nodes: Vec<ClusterSettings>,
    /// Clients at one time, of all servers.
    pub clients: usize,
    /// Accounts that clients belong to.
    pub accounts: usize,
    /// Workers of each server.
    pub workers: usize,
    /// Rounds: something of everything, then calm, then what must hold is asked for.
    pub rounds: u32,
    /// Things that happen in a round.
    pub steps: u64,
    /// Sizes of payloads.
    pub payloads: Payloads,
    /// Time between two events of one client or link, about.
    pub pace: Duration,
    /// How often, of 100 writes, other tasks run meanwhile.
    pub interleaved_percent: u8,
    /// Whether clients die and come back.
    pub mortal: bool,
    /// With what servers are reloaded.
    pub reloads: Reloads,
    /// Whether servers announce that they will go, and do so a round later.
    pub ducks: bool,
    /// Whether the second account may ask a service of the first one.
    pub services: bool,
}

/// Links are slow for as long as chance has it; where nothing else is wrong with them, nobody is dropped for that.
const NEVER: Duration = Duration::from_secs(3600);

impl Scenario {
    /// The same, but without any faults.
    #[must_use]
    pub fn without_faults(mut self) -> Self {
        self.faults = Faults::None;
        for node in &mut self.nodes {
            node.limits.write_deadline = NEVER;
        }
        self
    }

    /// The scenario that a seed stands for.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        // Not the generator of the game itself: its first numbers would be the same.
        let mut rng = Rng::with_seed(seed ^ 0xc1a5_7e12);
        let faults = [
            Faults::None,
            Faults::Links,
            Faults::Partitions,
            Faults::Deaths,
        ][rng.usize(..4)];
        let count = rng.usize(2..=5);
        let mut scenario = Self {
            nodes: nodes(&mut rng, faults, count),
            faults,
            clients: rng.usize(count..=count * 2 + 2),
            accounts: rng.usize(1..=ACCOUNTS.len()),
            workers: rng.usize(1..=3),
            rounds: rng.u32(1..=3),
            steps: 3000,
            payloads: [Payloads::Tiny, Payloads::Tiny, Payloads::Mixed][rng.usize(..3)],
            pace: Duration::from_millis([1, 5, 50][rng.usize(..3)]),
            interleaved_percent: [0, 10, 30][rng.usize(..3)],
            mortal: rng.bool(),
            reloads: [Reloads::Any, Reloads::Moves, Reloads::None][rng.usize(..3)],
            ducks: rng.u8(..4) == 0,
            services: false,
        };
        // Behind all others, so that seeds go on standing for what they did.
        scenario.services = rng.bool();
        if scenario.reloads == Reloads::None && rng.bool() {
            scenario.reloads = Reloads::Accounts;
        }
        scenario
    }

    /// Time in which a cluster that was left alone must be whole again: whoever is gone is noticed, by both, and
    /// dialled, at worst with the longest wait between two tries.
    pub(crate) fn healing_time(&self) -> Duration {
        let noticed = |node: &ClusterSettings| {
            node.limits.ping_interval * (node.limits.pings_outstanding_max + 2)
                + node.limits.write_deadline.min(Duration::from_secs(10))
        };
        let noticed = self.nodes.iter().map(noticed).max().unwrap_or_default();
        noticed * 2 + Duration::from_secs(150)
    }
}

/// What a reload changes.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) enum Change {
    Import,
    Export,
    /// Which accounts have connections to themselves.
    Apart,
    /// The same, since it is so on another server.
    ApartAsOthers,
    Compression,
    PoolSize,
    /// Whether an account is there at all.
    Accounts,
    /// It is, as on other servers.
    AccountsBack,
}

impl Change {
    /// Whether messages may be lost by it: connections end, or what is let through is something else.
    pub(crate) fn may_lose(self) -> bool {
        !matches!(self, Self::Apart | Self::ApartAsOthers)
    }
}

/// Changes something of a server's settings, there being so many accounts. Returns what.
pub(super) fn change(
    settings: &mut ClusterSettings,
    reloads: Reloads,
    accounts: usize,
    rng: &mut Rng,
) -> Change {
    let kind = match reloads {
        Reloads::Moves | Reloads::Accounts => 3,
        Reloads::None | Reloads::Any => rng.u8(..6),
    };
    match kind {
        0 | 1 => {
            settings.import = some_rules(rng);
            Change::Import
        }
        2 => {
            settings.export = some_rules(rng);
            Change::Export
        }
        3 | 4 => {
            let account = ACCOUNTS[rng.usize(..accounts)];
            let before = settings.accounts.len();
            settings.accounts.retain(|name| name != account);
            if settings.accounts.len() == before {
                settings.accounts.push(account.to_owned());
            }
            Change::Apart
        }
        _ if rng.bool() => {
            settings.compression = COMPRESSIONS[rng.usize(..3)];
            Change::Compression
        }
        _ => {
            settings.pool_size = [3, 1, 0, 2][rng.usize(..4)];
            Change::PoolSize
        }
    }
}

fn nodes(rng: &mut Rng, faults: Faults, count: usize) -> Vec<ClusterSettings> {
    let is_nameless = rng.u8(..8) == 0;
    let size = [3, 3, 1, 0, 2][rng.usize(..5)];
    let has_mixed_sizes = rng.u8(..3) == 0;
    let accounts: Vec<String> = if rng.u8(..3) == 0 {
        vec!["A".to_owned()]
    } else {
        Vec::new()
    };
    let login = (rng.u8(..4) == 0).then(|| ClusterLogin {
        user: "route".to_owned(),
        password: "secret".into(),
    });
    let has_permissions = rng.u8(..4) == 0;
    let shape = rng.u8(..5);
    // Where nothing is to be lost, a connection may be slow and must not count as dead for it.
    let ping_interval = match (faults, rng.usize(..3)) {
        (Faults::None, _) | (_, 0) => Duration::from_secs(30),
        (_, 1) => Duration::from_secs(2),
        _ => Duration::from_millis(500),
    };
    let pending_bytes_max = [64 * 1024 * 1024, 64 * 1024][usize::from(rng.u8(..5) == 0)];
    (0..count)
        .map(|node| ClusterSettings {
            name: if is_nameless { "" } else { "c" }.to_owned(),
            host: "0.0.0.0".to_owned(),
            port: FIRST_PORT + node as u16,
            seeds: (0..count)
                .filter(|&other| is_seed(shape, node, other, count))
                .map(|other| Seed {
                    host: "127.0.0.1".to_owned(),
                    port: FIRST_PORT + other as u16,
                    login: login.clone(),
                    is_resolved: false,
                })
                .collect(),
            login: login.clone(),
            pool_size: if has_mixed_sizes {
                [3, 1, 0, 2][rng.usize(..4)]
            } else {
                size
            },
            accounts: accounts.clone(),
            compression: COMPRESSIONS[rng.usize(..3)],
            import: has_permissions.then(|| some_rules(rng)).flatten(),
            export: has_permissions.then(|| some_rules(rng)).flatten(),
            connect_retries: [0, 0, 3][rng.usize(..3)],
            connect_backoff: rng.u8(..3) == 0,
            limits: ClusterLimits {
                ping_interval,
                pending_bytes_max,
                write_deadline: match (faults, rng.usize(..2)) {
                    (Faults::None, _) => NEVER,
                    (_, 0) => Duration::from_secs(2),
                    _ => Duration::from_secs(10),
                },
                ..ClusterLimits::default()
            },
            ..ClusterSettings::default()
        })
        .collect()
}

/// Whether one of `count` servers has another one among its seeds.
fn is_seed(shape: u8, node: usize, other: usize, count: usize) -> bool {
    match shape {
        // All but the first know the first.
        0 => node > 0 && other == 0,
        // Each knows the one before it.
        1 => other + 1 == node,
        // Each knows the next, around.
        2 => other == (node + 1) % count,
        // All have one list, themselves in it.
        3 => true,
        // All know the first, and it the last.
        _ => other == 0 && node > 0 || node == 0 && other + 1 == count,
    }
}
