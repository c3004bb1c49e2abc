//! Whom to dial, for which connection, and when.
//!
//! A **duty** is a server that this one has to see to being connected with: a seed, or what a seed's name stands for,
//! which is tried for ever; or a server that another one told of, which is tried a few times. A duty has **lanes**: one
//! for the connections of the pool, which are opened one after another, and one for each account with a connection of
//! its own. At most one connection of a lane is under way, from the decision to dial until the peer has shown that it
//! takes part. A lane rests while nothing is missing, also if what there is was dialled by the peer; so if both ends
//! have the duty, whoever comes first does it, and both of them notice when something is missing again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use natterjack_wire::route::GossipMode;

use super::settings::{ClusterLogin, Seed};

/// The first wait between two tries, and what is waited for after a loss (route protocol, section 9).
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// The longest wait with `connect_backoff`.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// So that two servers that lost each other do not meet halfway for ever.
const JITTER: Duration = Duration::from_millis(100);

/// Servers learnt of from others that are seen to at one time.
const IMPLICIT_MAX: usize = 1024;

/// How often a server learnt of from another may let itself be dialled and then not let this one in.
const REFUSALS_MAX: u32 = 5;

/// Of tries to reach a server that never was, every so many one is logged (nats-server: an hour's worth).
const LOGGED_FIRST: u32 = 3600;

/// Says which decision to dial a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialId(u64);

/// A server to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Address or name.
    pub host: String,
    /// The port for peers.
    pub port: u16,
    /// The name its certificate has to be for, if `host` is not the one.
    pub tls_name: Option<String>,
}

/// A connection to be opened now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// To be given to [`Engine::open_route`](crate::Engine::open_route) or [`Mesh::dial_failed`](super::Mesh::dial_failed).
    pub id: DialId,
    /// Whom to dial: address or name, which is resolved anew each time.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// The name the certificate there has to be for; `None` if only an address is known.
    pub tls_name: Option<String>,
    /// Whether the connection is encrypted, from the first byte on.
    pub is_tls: bool,
}

/// What a dialled connection is for.
#[derive(Clone, Debug)]
pub(crate) struct Purpose {
    pub(crate) login: Option<ClusterLogin>,
    pub(crate) account: Option<Arc<str>>,
    pub(crate) is_explicit: bool,
    pub(crate) gossip: GossipMode,
}

/// All duties.
pub(super) struct DialPlan {
    duties: Vec<Duty>,
    next_id: u64,
    rng: fastrand::Rng,
    pub(super) retries_max: u32,
    pub(super) backs_off: bool,
}

struct Duty {
    origin: Origin,
    target: Target,
    login: Option<ClusterLogin>,
    /// Id of the server behind it, as far as known.
    peer: Option<Arc<str>>,
    /// It is this server itself.
    is_self: bool,
    lanes: Vec<Lane>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Seed(Seed),
    Gossip,
}

struct Lane {
    account: Option<Arc<str>>,
    state: LaneState,
    /// Tries since it last came about.
    attempts: u32,
    /// Times a connection was made and not let in since then.
    refusals: u32,
    delay: Duration,
    has_connected: bool,
    gossip: GossipMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LaneState {
    /// Nothing is missing.
    Rests,
    /// From the start on.
    AtOnce,
    Due(Instant),
    /// Dialled, or in the handshake, or waiting for the first answer.
    Underway(DialId),
    /// Nothing more is tried until the peer is lost.
    Over,
}

/// Why a connection that was under way is so no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is there, and the peer has answered on it.
    Confirmed,
    /// The peer, or this server, had no use for it.
    Superfluous,
    /// It is not possible between these servers.
    Impossible,
    /// It broke, or was refused.
    Lost,
}

impl DialPlan {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            duties: Vec::new(),
            next_id: 1,
            rng: fastrand::Rng::with_seed(seed),
            retries_max: 0,
            backs_off: false,
        }
    }

    /// From now on these are the targets of a seed. Those it had before keep what is under way.
    /// Returns the peers behind targets that are not among them any more.
    pub(super) fn set_targets(
        &mut self,
        seed: &Seed,
        targets: &[Target],
        accounts: &[Arc<str>],
        now: Option<Instant>,
    ) -> Vec<Arc<str>> {
        let mut dropped = Vec::new();
        self.duties.retain(|duty| {
            let is_kept =
                duty.origin != Origin::Seed(seed.clone()) || targets.contains(&duty.target);
            if !is_kept {
                dropped.extend(duty.peer.clone());
            }
            is_kept
        });
        for target in targets {
            let is_known = self
                .duties
                .iter()
                .any(|duty| duty.origin == Origin::Seed(seed.clone()) && duty.target == *target);
            if !is_known {
                let lanes = core::iter::once(None).chain(accounts.iter().cloned().map(Some));
                self.duties.push(Duty {
                    origin: Origin::Seed(seed.clone()),
                    target: target.clone(),
                    login: seed.login.clone(),
                    peer: None,
                    is_self: false,
                    lanes: lanes
                        .map(|account| Lane::new(account, GossipMode::Default, now))
                        .collect(),
                });
            }
        }
        dropped.retain(|peer| !self.is_explicit(peer));
        dropped
    }

    /// Another server told of this one. `is_missing` says what of it is not there.
    pub(super) fn learn(
        &mut self,
        peer: &Arc<str>,
        target: Target,
        login: Option<ClusterLogin>,
        accounts: impl IntoIterator<Item = Option<Arc<str>>>,
        gossip: GossipMode,
        now: Instant,
    ) {
        let known = self
            .duties
            .iter()
            .position(|duty| duty.peer.as_ref() == Some(peer));
        let position = known.unwrap_or_else(|| {
            self.duties.push(Duty {
                origin: Origin::Gossip,
                target,
                login,
                peer: Some(Arc::clone(peer)),
                is_self: false,
                lanes: Vec::new(),
            });
            self.duties.len() - 1
        });
        let implicit = |duty: &&Duty| duty.origin == Origin::Gossip;
        if known.is_none() && self.duties.iter().filter(implicit).count() > IMPLICIT_MAX {
            self.duties.pop();
            return;
        }
        let duty = &mut self.duties[position];
        for account in accounts {
            match duty.lanes.iter_mut().find(|lane| lane.account == account) {
                None => duty.lanes.push(Lane::new(account, gossip, Some(now))),
                Some(lane) if matches!(lane.state, LaneState::Rests | LaneState::Over) => {
                    *lane = Lane::new(account, gossip, Some(now));
                }
                Some(_) => {}
            }
        }
    }

    /// Accounts with connections of their own are these now.
    pub(super) fn set_accounts(&mut self, accounts: &[Arc<str>], now: Option<Instant>) {
        for duty in &mut self.duties {
            duty.lanes.retain(|lane| {
                let account = lane.account.as_ref();
                account.is_none_or(|account| accounts.contains(account))
            });
            if duty.is_self || duty.origin == Origin::Gossip && duty.peer.is_none() {
                continue;
            }
            for account in accounts {
                let account = Some(Arc::clone(account));
                if !duty.lanes.iter().any(|lane| lane.account == account) {
                    duty.lanes
                        .push(Lane::new(account, GossipMode::Default, now));
                }
            }
        }
    }

    /// Seeds that are none any more are forgotten. Returns the peers behind them.
    pub(super) fn keep_seeds(&mut self, seeds: &[Seed]) -> Vec<Arc<str>> {
        let mut dropped = Vec::new();
        self.duties.retain(|duty| {
            let is_kept = match &duty.origin {
                Origin::Seed(seed) => seeds.contains(seed),
                Origin::Gossip => true,
            };
            if !is_kept {
                dropped.extend(duty.peer.clone());
            }
            is_kept
        });
        dropped.retain(|peer| !self.is_explicit(peer));
        dropped
    }

    /// Whether a seed has targets already.
    pub(super) fn has_seed(&self, seed: &Seed) -> bool {
        let mut duties = self.duties.iter();
        duties.any(|duty| matches!(&duty.origin, Origin::Seed(known) if known == seed))
    }

    /// Whether a peer is behind a seed.
    pub(super) fn is_explicit(&self, peer: &str) -> bool {
        self.duties.iter().any(|duty| {
            matches!(duty.origin, Origin::Seed(_)) && duty.peer.as_deref() == Some(peer)
        })
    }

    /// Whether one of these addresses is that of a seed's.
    pub(super) fn is_target(&self, host: &str, port: u16) -> bool {
        self.duties.iter().any(|duty| {
            let is_here = |known: &str, known_port: u16| {
                known_port == port && known.eq_ignore_ascii_case(host)
            };
            match &duty.origin {
                Origin::Seed(seed) => {
                    is_here(&seed.host, seed.port) || is_here(&duty.target.host, duty.target.port)
                }
                Origin::Gossip => false,
            }
        })
    }

    /// The name that certificates of servers are taken to be for, of which only an address is known: the first one
    /// among the seeds, as on nats-server.
    fn tls_name(&self) -> Option<String> {
        let mut hosts = self.duties.iter().filter_map(|duty| match &duty.origin {
            Origin::Seed(seed) => Some(&seed.host),
            Origin::Gossip => None,
        });
        hosts.find(|host| !is_address(host)).cloned()
    }

    /// Takes out what is due.
    pub(super) fn poll(&mut self, now: Instant, is_tls: bool, dials: &mut Vec<Dial>) {
        let shared_name = self.tls_name();
        for duty in &mut self.duties {
            let target = &duty.target;
            let own_name = (target.tls_name.clone())
                .or_else(|| (!is_address(&target.host)).then(|| target.host.clone()));
            for lane in &mut duty.lanes {
                let is_due = match lane.state {
                    LaneState::AtOnce => true,
                    LaneState::Due(at) => at <= now,
                    _ => false,
                };
                if is_due {
                    let id = DialId(self.next_id);
                    self.next_id += 1;
                    lane.state = LaneState::Underway(id);
                    dials.push(Dial {
                        id,
                        host: target.host.clone(),
                        port: target.port,
                        tls_name: own_name.clone().or_else(|| shared_name.clone()),
                        is_tls,
                    });
                }
            }
        }
    }

    /// When something is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let lanes = self.duties.iter().flat_map(|duty| &duty.lanes);
        lanes
            .filter_map(|lane| match lane.state {
                LaneState::Due(at) => Some(at),
                _ => None,
            })
            .min()
    }

    /// What a connection is for that is under way.
    pub(super) fn purpose(&self, id: DialId) -> Option<Purpose> {
        let (duty, lane) = self.find(id)?;
        let (duty, lane) = (&self.duties[duty], &self.duties[duty].lanes[lane]);
        Some(Purpose {
            login: duty.login.clone(),
            account: lane.account.clone(),
            is_explicit: duty.origin != Origin::Gossip,
            gossip: lane.gossip,
        })
    }

    /// Nobody was reached. Returns which try it was and whether it is worth a line in the log.
    pub(super) fn failed(&mut self, id: DialId, now: Instant) -> Option<(u32, bool)> {
        let (position, lane) = self.find(id)?;
        let (retries_max, backs_off) = (self.retries_max, self.backs_off);
        let duty = &mut self.duties[position];
        let is_explicit = duty.origin != Origin::Gossip;
        let lane = &mut duty.lanes[lane];
        lane.attempts = lane.attempts.saturating_add(1);
        let attempts = lane.attempts;
        let is_logged =
            attempts == 1 || lane.has_connected || attempts.is_multiple_of(LOGGED_FIRST);
        if is_explicit || attempts <= retries_max {
            lane.state = LaneState::Due(now + lane.delay);
            if backs_off {
                lane.delay = (lane.delay * 2).min(RETRY_MAX);
            }
        } else {
            lane.state = LaneState::Over;
        }
        self.forget_hopeless();
        Some((attempts, is_logged))
    }

    /// The server behind a connection that is under way has said who it is.
    pub(super) fn identified(&mut self, id: DialId, peer: &Arc<str>) {
        if let Some((duty, _)) = self.find(id) {
            self.duties[duty].peer = Some(Arc::clone(peer));
        }
    }

    /// A connection that is under way goes to this very server.
    pub(super) fn is_self(&mut self, id: DialId) {
        if let Some((duty, _)) = self.find(id) {
            let duty = &mut self.duties[duty];
            duty.is_self = true;
            for lane in &mut duty.lanes {
                lane.state = LaneState::Over;
            }
        }
        self.forget_hopeless();
    }

    /// A connection is under way no more. `is_missing` tells whether its lane has any left to open.
    pub(super) fn ended(&mut self, id: DialId, ended: Ended, is_missing: bool, now: Instant) {
        let Some((position, lane)) = self.find(id) else {
            return;
        };
        let jitter = self.jitter();
        let backs_off = self.backs_off;
        let duty = &mut self.duties[position];
        let is_explicit = duty.origin != Origin::Gossip;
        let lane = &mut duty.lanes[lane];
        lane.state = match ended {
            Ended::Confirmed => {
                *lane = Lane {
                    attempts: 0,
                    refusals: 0,
                    delay: RETRY,
                    has_connected: true,
                    account: lane.account.take(),
                    ..*lane
                };
                if is_missing {
                    LaneState::Due(now)
                } else {
                    LaneState::Rests
                }
            }
            Ended::Impossible => LaneState::Over,
            _ if !is_missing => LaneState::Rests,
            Ended::Superfluous | Ended::Lost => {
                lane.refusals = lane.refusals.saturating_add(1);
                if is_explicit {
                    let delay = lane.delay;
                    if backs_off {
                        lane.delay = (delay * 2).min(RETRY_MAX);
                    }
                    LaneState::Due(now + delay + jitter)
                } else if lane.refusals <= REFUSALS_MAX {
                    LaneState::Due(now + jitter)
                } else {
                    LaneState::Over
                }
            }
        };
        self.forget_hopeless();
    }

    /// A connection with a peer is gone that was there; the `last` of all, or one of several.
    pub(super) fn lost(&mut self, peer: &str, account: Option<&str>, is_last: bool, now: Instant) {
        for position in 0..self.duties.len() {
            if self.duties[position].peer.as_deref() != Some(peer) {
                continue;
            }
            let is_explicit = self.duties[position].origin != Origin::Gossip;
            for lane in 0..self.duties[position].lanes.len() {
                let at = now + self.jitter() + if is_explicit { RETRY } else { Duration::ZERO };
                let lane = &mut self.duties[position].lanes[lane];
                let concerns = is_last || lane.account.as_deref() == account;
                let is_idle = match lane.state {
                    LaneState::Rests => true,
                    // What was not possible with that peer may be with the next one.
                    LaneState::Over => is_last && is_explicit,
                    LaneState::AtOnce | LaneState::Due(_) | LaneState::Underway(_) => false,
                };
                if concerns && is_idle {
                    lane.state = LaneState::Due(at);
                }
            }
            if is_last && is_explicit {
                self.duties[position].peer = None;
            }
        }
        self.forget_hopeless();
    }

    /// Another connection with a peer has come about, and there are some missing yet: whoever opens them is left time
    /// to do so.
    pub(super) fn postpone(
        &mut self,
        peer: &str,
        account: Option<&str>,
        is_missing: bool,
        now: Instant,
    ) {
        let jitter = self.jitter();
        for duty in &mut self.duties {
            if duty.peer.as_deref() != Some(peer) {
                continue;
            }
            for lane in &mut duty.lanes {
                if lane.account.as_deref() == account
                    && matches!(
                        lane.state,
                        LaneState::AtOnce | LaneState::Due(_) | LaneState::Rests
                    )
                {
                    lane.state = if is_missing {
                        LaneState::Due(now + RETRY + jitter)
                    } else {
                        LaneState::Rests
                    };
                }
            }
        }
    }

    /// A peer is seen to no more, if only others told of it.
    pub(super) fn forget(&mut self, peer: &str) {
        self.duties
            .retain(|duty| duty.origin != Origin::Gossip || duty.peer.as_deref() != Some(peer));
    }

    fn find(&self, id: DialId) -> Option<(usize, usize)> {
        self.duties.iter().enumerate().find_map(|(position, duty)| {
            let mut lanes = duty.lanes.iter();
            let lane = lanes.position(|lane| lane.state == LaneState::Underway(id))?;
            Some((position, lane))
        })
    }

    fn jitter(&mut self) -> Duration {
        JITTER.mul_f64(self.rng.f64())
    }

    /// Servers that only others told of and that could not be reached.
    fn forget_hopeless(&mut self) {
        self.duties.retain(|duty| {
            duty.origin != Origin::Gossip
                || (duty.lanes.iter()).any(|lane| lane.state != LaneState::Over)
        });
    }
}

impl Lane {
    fn new(account: Option<Arc<str>>, gossip: GossipMode, now: Option<Instant>) -> Self {
        Self {
            account,
            state: now.map_or(LaneState::AtOnce, LaneState::Due),
            attempts: 0,
            refusals: 0,
            delay: RETRY,
            has_connected: false,
            gossip,
        }
    }
}

/// Whether a host is an address and not a name.
fn is_address(host: &str) -> bool {
    host.parse::<core::net::IpAddr>().is_ok()
}
