//! Whom to dial, for which connection, and when.
//!
//! A **duty** is a server that this one has to see to being connected with: a seed, or what a seed's name stands for,
//! which is tried for ever; or a server that another one told of, or that came by itself, which is tried a few times as
//! on nats-server, and then slowly for a day, so that a network that was parted grows together again. A duty has **lanes**: one
//! for the connections of the pool, which are opened one after another, and one for each account with a connection of
//! its own. At most one connection of a lane is under way, from the decision to dial until the peer has shown that it
//! takes part. A lane rests while nothing is missing, also if what there is was dialled by the peer; so if both ends
//! have the duty, whoever comes first does it, and both of them notice when something is missing again.
//!
//! What events do to lanes is a matter of *when*. *That* what is missing gets dialled does not hang on any of them: after
//! every change [`DialPlan::settle`] compares all duties with who is connected, and by what. Of a server that is
//! connected nothing is given up, on whichever side it was lost and whatever was tried before, only tried more slowly;
//! of one that is not, the connections of the pool are tried, or it is searched for, or it is no duty any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use natterjack_wire::route::GossipMode;

use super::settings::{ClusterLogin, Seed};
use crate::log_limit::Allowance;

/// The first wait between two tries, and what is waited for after a loss (route protocol, section 9).
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// The longest wait with `connect_backoff`.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// So that two servers that lost each other do not meet halfway for ever.
const JITTER: Duration = Duration::from_millis(100);

/// Servers that are no seeds and are seen to at one time.
const IMPLICIT_MAX: usize = 1024;

/// How long a peer that dials is left to open what is missing, before this server does.
const MENDED_BY_OTHERS: Duration = Duration::from_secs(5);

/// The first wait before a server that is no seed is tried again, once nats-server would try no more. So long also
/// whoever had dialled before is left to do so again. It doubles up to [`RETRY_MAX`].
const SEARCH_FIRST: Duration = Duration::from_secs(2);

/// The longest such wait if somebody answers there and does not let this server in.
const SEARCH_REFUSED_MAX: Duration = Duration::from_secs(60 * 60);

/// After so long it is taken to have gone for good.
const SEARCH_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Connections with servers that are no seeds that are opened at one time. Whoever tells of servers by the thousand that
/// are none must not have this one knock at a thousand doors at once.
const IMPLICIT_UNDERWAY_MAX: usize = 128;

/// Servers searched for at one time; of more, those that have been lost the longest are given up.
const SEARCHED_MAX: usize = 64;

/// Times a seed may refuse a connection for one account before the waits double, whatever `connect_backoff` says: the
/// account is missing there, and everything else works.
const ACCOUNT_REFUSALS_MAX: u32 = 3;

/// How often a server learnt of from another may let itself be dialled and then not let this one in, before it is
/// searched for.
const REFUSALS_MAX: u32 = 5;

/// Failures to reach servers that others told of: so many lines at once, and then one each few seconds.
const FAILURES_AT_ONCE: u32 = 20;
const FAILURE_EACH: Duration = Duration::from_secs(5);

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

/// What is known of the servers that an address or name in the configuration stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SeedState {
    /// It is this very server.
    Itself,
    /// There is a connection.
    Connected,
    /// Nobody was reached when it was dialled last. It is dialled again and again.
    Unreached,
    /// Its name is being looked up, or it is being dialled or greeted, and has not been reached in vain yet.
    Underway,
}

/// All duties.
pub(super) struct DialPlan {
    duties: Vec<Duty>,
    next_id: u64,
    rng: fastrand::Rng,
    pub(super) retries_max: u32,
    pub(super) backs_off: bool,
    /// Of failed tries one in so many is logged: to reach a server for the first time, and again.
    pub(super) logged_each: [u32; 2],
    /// Of failures that are logged, with servers that others told of.
    log: Allowance,
}

struct Duty {
    origin: Origin,
    target: Target,
    login: Option<ClusterLogin>,
    /// Id of the server behind it, as far as known.
    peer: Option<Arc<str>>,
    /// It is this server itself.
    is_self: bool,
    /// The server dialled this one, and will do so again: it is left time for that.
    is_visitor: bool,
    /// Nobody has been reached for so long that it is tried slowly, until then.
    searched_until: Option<Instant>,
    /// It is connected by something, as [`DialPlan::settle`] has found.
    is_connected: bool,
    lanes: Vec<Lane>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Seed(Seed),
    /// Another server told of it, or it came by itself.
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
    /// Nothing is missing, or others are tried first.
    Rests,
    /// From the start on.
    AtOnce,
    Due(Instant),
    /// Dialled, or in the handshake, or waiting for the first answer.
    Underway(DialId),
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
            logged_each: [1, 1],
            log: Allowance::new(FAILURES_AT_ONCE, FAILURE_EACH),
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
                    is_visitor: false,
                    searched_until: None,
                    is_connected: false,
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
        let known = self.known(peer, &target);
        if known.is_none() && !self.has_room() {
            return;
        }
        let position = known.unwrap_or_else(|| {
            self.duties
                .push(Duty::implicit(peer, target.clone(), login.clone()));
            self.duties.len() - 1
        });
        let duty = &mut self.duties[position];
        if duty.searched_until.is_some() && duty.peer.as_ref() == Some(peer) {
            // Others say so again and again, also of one that lets itself be reached by them alone: what it is tried
            // for does not begin anew.
            let unrefused = (duty.lanes.iter_mut())
                .filter(|lane| lane.refusals == 0 && matches!(lane.state, LaneState::Due(_)));
            unrefused.for_each(|lane| lane.state = LaneState::Due(now));
            duty.target = target;
            return;
        }
        let is_searched = duty.searched_until.take().is_some();
        if duty.origin == Origin::Gossip {
            (duty.target, duty.login) = (target, login);
            (duty.peer, duty.is_visitor) = (Some(Arc::clone(peer)), false);
        }
        for account in accounts {
            match duty.lanes.iter_mut().find(|lane| lane.account == account) {
                None => duty.lanes.push(Lane::new(account, gossip, Some(now))),
                Some(lane)
                    if lane.state == LaneState::Rests
                        || is_searched && matches!(lane.state, LaneState::Due(_)) =>
                {
                    *lane = Lane::new(account, gossip, Some(now));
                }
                Some(_) => {}
            }
        }
    }

    /// A peer is connected that dialled this server: should it be lost, this is where to look for it.
    pub(super) fn remember(
        &mut self,
        peer: &Arc<str>,
        target: Target,
        login: Option<ClusterLogin>,
        accounts: &[Arc<str>],
    ) {
        if let Some(known) = self.known(peer, &target) {
            let duty = &mut self.duties[known];
            if duty.searched_until.take().is_some() {
                duty.peer = Some(Arc::clone(peer));
                duty.is_visitor = true;
                duty.rest();
            }
            return;
        }
        if self.is_target(&target.host, target.port) || !self.has_room() {
            return;
        }
        let mut duty = Duty::implicit(peer, target, login);
        duty.is_visitor = true;
        let lanes = core::iter::once(None).chain(accounts.iter().cloned().map(Some));
        // Nobody will have told of it: whoever dials it tells of it.
        duty.lanes = lanes
            .map(|account| Lane::new(account, GossipMode::Override, None))
            .collect();
        duty.rest();
        self.duties.push(duty);
    }

    /// The duty that a server is behind: known by its id, or, as it has another one when it is started anew, by where it is
    /// searched for.
    fn known(&self, peer: &Arc<str>, target: &Target) -> Option<usize> {
        let position = |is_it: &dyn Fn(&Duty) -> bool| self.duties.iter().position(is_it);
        position(&|duty| duty.peer.as_ref() == Some(peer))
            .or_else(|| position(&|duty| duty.searched_until.is_some() && duty.target == *target))
    }

    /// Whether one more server that is no seed may be seen to.
    fn has_room(&self) -> bool {
        let mut implicit = (self.duties.iter()).filter(|duty| duty.origin == Origin::Gossip);
        implicit.nth(IMPLICIT_MAX - 1).is_none()
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
                    let mut lane = Lane::new(account, GossipMode::Default, now);
                    if duty.is_visitor || duty.searched_until.is_some() {
                        lane.state = LaneState::Rests;
                    }
                    duty.lanes.push(lane);
                }
            }
        }
    }

    /// A peer is to be dialled for an account at this time, whoever else may do so, unless that is under way.
    pub(super) fn dial_for(&mut self, peer: &str, account: &str, at: Instant) {
        let of_peer = |duty: &&mut Duty| duty.peer.as_deref() == Some(peer);
        for duty in self.duties.iter_mut().filter(of_peer) {
            let of_account = |lane: &&mut Lane| lane.account.as_deref() == Some(account);
            if let Some(lane) = duty.lanes.iter_mut().find(of_account)
                && !matches!(lane.state, LaneState::Underway(_))
            {
                lane.state = LaneState::Due(at);
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

    /// What is known of the servers that a seed stands for, all of them together.
    pub(super) fn seed_state(&self, seed: &Seed) -> SeedState {
        let is_of_seed =
            |duty: &&Duty| matches!(&duty.origin, Origin::Seed(known) if known == seed);
        let states = self.duties.iter().filter(is_of_seed).map(Duty::seed_state);
        states.max().unwrap_or(SeedState::Underway)
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
    /// among the seeds, as on nats-server. The name of a service is nobody's.
    fn tls_name(&self) -> Option<String> {
        let mut hosts = self.duties.iter().filter_map(|duty| match &duty.origin {
            Origin::Seed(seed) if seed.port == 0 => Some(&duty.target.host),
            Origin::Seed(seed) => Some(&seed.host),
            Origin::Gossip => None,
        });
        hosts.find(|host| !is_address(host)).cloned()
    }

    /// Takes out what is due.
    pub(super) fn poll(&mut self, now: Instant, is_tls: bool, dials: &mut Vec<Dial>) {
        let shared_name = self.tls_name();
        let mut room = IMPLICIT_UNDERWAY_MAX.saturating_sub(self.implicit_underway());
        for duty in &mut self.duties {
            let is_implicit = duty.origin == Origin::Gossip;
            let target = &duty.target;
            let own_name = (target.tls_name.clone())
                .or_else(|| (!is_address(&target.host)).then(|| target.host.clone()));
            for lane in &mut duty.lanes {
                let is_due = match lane.state {
                    LaneState::AtOnce => true,
                    LaneState::Due(at) => at <= now,
                    _ => false,
                };
                if is_due && is_implicit && room == 0 {
                    break;
                }
                if is_due {
                    room -= usize::from(is_implicit);
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
        // Whoever ends makes room, and wakes the shell.
        let is_full = self.implicit_underway() >= IMPLICIT_UNDERWAY_MAX;
        let duties = self.duties.iter();
        let waiting = duties.filter(|duty| !is_full || duty.origin != Origin::Gossip);
        waiting
            .flat_map(|duty| &duty.lanes)
            .filter_map(|lane| match lane.state {
                LaneState::Due(at) => Some(at),
                _ => None,
            })
            .min()
    }

    fn implicit_underway(&self) -> usize {
        let implicit = self
            .duties
            .iter()
            .filter(|duty| duty.origin == Origin::Gossip);
        let lanes = implicit.flat_map(|duty| &duty.lanes);
        lanes
            .filter(|lane| matches!(lane.state, LaneState::Underway(_)))
            .count()
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
        let [first_each, again_each] = self.logged_each;
        let jitter = self.jitter();
        let duty = &mut self.duties[position];
        let is_explicit = duty.origin != Origin::Gossip;
        let searched_until = duty.searched_until;
        // Of a server that is not reached at all it is said once, and not for each account as well.
        let is_said_of_all = !duty.is_connected
            && duty.lanes[lane].account.is_some()
            && (duty.lanes.iter())
                .any(|lane| lane.account.is_none() && lane.state != LaneState::Rests);
        let lane = &mut duty.lanes[lane];
        if duty.is_self {
            lane.state = LaneState::Rests;
            return None;
        }
        lane.attempts = lane.attempts.saturating_add(1);
        let attempts = lane.attempts;
        let each = if lane.has_connected {
            again_each
        } else {
            first_each
        };
        let is_logged = !duty.is_visitor
            && !is_said_of_all
            && searched_until.is_none()
            && (attempts == 1 || attempts.is_multiple_of(each));
        // Whoever invents servers must not fill the log either.
        let is_logged = is_logged && (is_explicit || self.log.note(now).is_some());
        if let Some(until) = searched_until {
            lane.search_on(until, RETRY_MAX, jitter, now);
        } else if is_explicit || attempts <= retries_max {
            lane.try_again(now, backs_off);
        } else if duty.is_connected {
            lane.try_again(now + jitter, true);
        } else {
            lane.state = LaneState::Rests;
        }
        Some((attempts, is_logged))
    }

    /// The server behind a connection that is under way has said who it is.
    pub(super) fn identified(&mut self, id: DialId, peer: &Arc<str>) {
        let Some((duty, _)) = self.find(id) else {
            return;
        };
        self.duties[duty].peer = Some(Arc::clone(peer));
        // One may turn out to be a seed, or to be known by another address or from before it was started anew.
        let mut position = 0;
        self.duties.retain(|other| {
            let is_this = position == duty;
            position += 1;
            let is_other = other.origin != Origin::Gossip || other.peer.as_ref() != Some(peer);
            is_this || is_other || other.is_underway()
        });
    }

    /// A connection that is under way goes to this very server. Returns where to, for the first of those that do. Others
    /// that are under way go on until they have said who they are: the other end, which is here, would not know otherwise.
    pub(super) fn is_self(&mut self, id: DialId) -> Option<Target> {
        let (duty, _) = self.find(id)?;
        let duty = &mut self.duties[duty];
        let was_known = std::mem::replace(&mut duty.is_self, true);
        for lane in &mut duty.lanes {
            if !matches!(lane.state, LaneState::Underway(other) if other != id) {
                lane.state = LaneState::Rests;
            }
        }
        let target = duty.target.clone();
        self.duties
            .retain(|duty| !duty.is_self || duty.origin != Origin::Gossip);
        (!was_known).then_some(target)
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
        let searched_until = duty.searched_until;
        let lane = &mut duty.lanes[lane];
        if duty.is_self {
            lane.state = LaneState::Rests;
            return;
        }
        match ended {
            Ended::Confirmed => {
                lane.came_about();
                if is_missing {
                    lane.state = LaneState::Due(now);
                }
                if duty.searched_until.take().is_some() {
                    // It was dialled from here, and so are the others.
                    duty.is_visitor = false;
                    duty.lanes
                        .iter_mut()
                        .filter(|lane| lane.state == LaneState::Rests)
                        .for_each(|lane| lane.state = LaneState::Due(now));
                }
            }
            Ended::Impossible => lane.state = LaneState::Rests,
            // Its place is taken by another connection with the same peer: it was reached.
            _ if !is_missing => lane.came_about(),
            Ended::Superfluous | Ended::Lost => {
                lane.refusals = lane.refusals.saturating_add(1);
                let is_refused_account =
                    lane.account.is_some() && lane.refusals > ACCOUNT_REFUSALS_MAX;
                if let Some(until) = searched_until {
                    lane.search_on(until, SEARCH_REFUSED_MAX, jitter, now);
                } else if is_explicit {
                    lane.try_again(now + jitter, backs_off || is_refused_account);
                } else if lane.refusals > 1 && duty.is_connected {
                    // Over there a connection that is long gone may count as the one that is missing here, until nobody
                    // answers on it.
                    lane.try_again(now + jitter, true);
                } else if lane.refusals <= REFUSALS_MAX {
                    lane.state = LaneState::Due(now + jitter);
                } else {
                    lane.state = LaneState::Rests;
                }
            }
        }
    }

    /// A connection with a peer is gone that was there; the `last` of all, or one of several.
    pub(super) fn lost(&mut self, peer: &str, account: Option<&str>, is_last: bool, now: Instant) {
        for position in 0..self.duties.len() {
            if self.duties[position].peer.as_deref() != Some(peer) {
                continue;
            }
            let is_explicit = self.duties[position].origin != Origin::Gossip;
            let delay = match (is_explicit, self.duties[position].is_visitor) {
                (true, _) => RETRY,
                (false, true) => SEARCH_FIRST,
                (false, false) => Duration::ZERO,
            };
            for lane in 0..self.duties[position].lanes.len() {
                let at = now + self.jitter() + delay;
                let lane = &mut self.duties[position].lanes[lane];
                let concerns = is_last || lane.account.as_deref() == account;
                if concerns && lane.state == LaneState::Rests {
                    lane.state = LaneState::Due(at);
                }
            }
            if is_last && is_explicit {
                self.duties[position].peer = None;
            }
        }
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
            let delay = duty.mending_delay(RETRY);
            for lane in &mut duty.lanes {
                let is_idle = !matches!(lane.state, LaneState::Underway(_));
                if is_missing && is_idle && lane.account.as_deref() == account {
                    lane.state = LaneState::Due(now + delay + jitter);
                }
            }
        }
    }

    /// Compares what is dialled with what is there, and sets right what does not fit. `is_connected` tells whether a peer
    /// is so by anything, `is_missing` whether one that is has not the connection for one of `accounts`, or all of those
    /// that share the others.
    ///
    /// What is dialled because of it is so a while later: the peer may do it before.
    pub(super) fn settle(
        &mut self,
        accounts: &[Arc<str>],
        is_connected: &dyn Fn(&str) -> bool,
        is_missing: &dyn Fn(&str, Option<&str>) -> bool,
        now: Instant,
    ) {
        for duty in self.duties.iter_mut().filter(|duty| !duty.is_self) {
            let jitter = JITTER.mul_f64(self.rng.f64());
            let peer = duty.peer.clone().filter(|peer| is_connected(peer));
            duty.is_connected = peer.is_some();
            match peer {
                Some(peer) => {
                    duty.searched_until = None;
                    let due = now + duty.mending_delay(2 * RETRY) + jitter;
                    let is_missing = |account: Option<&str>| is_missing(&peer, account);
                    duty.complete(accounts, &is_missing, due);
                }
                None if duty.origin != Origin::Gossip => {
                    let shared = duty.shared();
                    if shared.state == LaneState::Rests {
                        shared.state = LaneState::Due(now + RETRY + jitter);
                    }
                }
                None => {}
            }
        }
        self.search_or_forget(now);
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

    /// Servers that are no seeds and could not be reached: they are searched for from now on, but not for ever.
    fn search_or_forget(&mut self, now: Instant) {
        self.duties.retain_mut(|duty| {
            let mut lanes = duty.lanes.iter();
            let is_tried = lanes.any(|lane| lane.state != LaneState::Rests);
            if duty.origin != Origin::Gossip || duty.is_connected || is_tried {
                return true;
            }
            if duty.searched_until.is_some() {
                return false;
            }
            duty.searched_until = Some(now + SEARCH_MAX);
            let shared = duty.shared();
            shared.state = LaneState::Due(now + SEARCH_FIRST);
            shared.delay = SEARCH_FIRST * 2;
            true
        });
        let searched = || {
            let ends = self.duties.iter().enumerate();
            ends.filter_map(|(position, duty)| Some((duty.searched_until?, position)))
        };
        if searched().count() > SEARCHED_MAX
            && let Some((_, oldest)) = searched().min()
        {
            self.duties.remove(oldest);
        }
    }
}

impl Duty {
    /// To be connected with a server that is no seed.
    fn implicit(peer: &Arc<str>, target: Target, login: Option<ClusterLogin>) -> Self {
        Self {
            origin: Origin::Gossip,
            target,
            login,
            peer: Some(Arc::clone(peer)),
            is_self: false,
            is_visitor: false,
            searched_until: None,
            is_connected: false,
            lanes: Vec::new(),
        }
    }

    fn seed_state(&self) -> SeedState {
        let shared = self.lanes.iter().find(|lane| lane.account.is_none());
        if self.is_self {
            SeedState::Itself
        } else if self.is_connected {
            SeedState::Connected
        } else if shared.is_some_and(|lane| lane.attempts > 0) {
            SeedState::Unreached
        } else {
            SeedState::Underway
        }
    }

    /// The lane for the connections of the pool.
    fn shared(&mut self) -> &mut Lane {
        let shared = (self.lanes.iter()).position(|lane| lane.account.is_none());
        let shared = shared.unwrap_or_else(|| {
            let lane = Lane {
                state: LaneState::Rests,
                ..Lane::new(None, GossipMode::Default, None)
            };
            self.lanes.push(lane);
            self.lanes.len() - 1
        });
        &mut self.lanes[shared]
    }

    /// How long the peer is left to open what is missing, if it is for this server to do so after `own`.
    fn mending_delay(&self, own: Duration) -> Duration {
        if self.is_visitor {
            MENDED_BY_OTHERS
        } else {
            own
        }
    }

    /// The server is connected: what of it is missing is dialled, from `due` on if nobody is about to, and nothing else.
    fn complete(
        &mut self,
        accounts: &[Arc<str>],
        is_missing: &dyn Fn(Option<&str>) -> bool,
        due: Instant,
    ) {
        for lane in &mut self.lanes {
            match (is_missing(lane.account.as_deref()), lane.state) {
                (_, LaneState::Underway(_)) | (false, LaneState::Rests) => {}
                (true, LaneState::Rests) => lane.state = LaneState::Due(due),
                (true, LaneState::AtOnce | LaneState::Due(_)) => {}
                (false, LaneState::AtOnce | LaneState::Due(_)) => lane.came_about(),
            }
        }
        let wanted = core::iter::once(None).chain(accounts.iter().cloned().map(Some));
        for account in wanted.filter(|account| is_missing(account.as_deref())) {
            if !self.lanes.iter().any(|lane| lane.account == account) {
                let lane = Lane::new(account, GossipMode::Default, Some(due));
                self.lanes.push(lane);
            }
        }
    }

    fn is_underway(&self) -> bool {
        let mut lanes = self.lanes.iter();
        lanes.any(|lane| matches!(lane.state, LaneState::Underway(_)))
    }

    /// Nothing is to be dialled that is not under way.
    fn rest(&mut self) {
        let lanes = self.lanes.iter_mut();
        lanes
            .filter(|lane| !matches!(lane.state, LaneState::Underway(_)))
            .for_each(|lane| lane.state = LaneState::Rests);
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

    /// What was tried is there, by whoever opened it.
    fn came_about(&mut self) {
        self.state = LaneState::Rests;
        (self.attempts, self.refusals) = (0, 0);
        self.delay = RETRY;
        self.has_connected = true;
    }

    /// Another try, and if it `slows` down, the one after that later still.
    fn try_again(&mut self, now: Instant, slows: bool) {
        self.state = LaneState::Due(now + self.delay);
        if slows {
            self.delay = (self.delay * 2).min(RETRY_MAX);
        }
    }

    /// A server that is searched for was not found, or did not let this one in.
    fn search_on(&mut self, until: Instant, delay_max: Duration, jitter: Duration, now: Instant) {
        self.state = if self.account.is_none() && now < until {
            LaneState::Due(now + self.delay.min(delay_max) + jitter)
        } else {
            LaneState::Rests
        };
        self.delay = (self.delay * 2).min(delay_max);
    }
}

/// Whether a host is an address and not a name.
fn is_address(host: &str) -> bool {
    host.parse::<core::net::IpAddr>().is_ok()
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test needs some instant to start from"
)]
mod tests {
    use super::*;

    #[test]
    fn of_a_server_that_is_not_reached_it_is_said_once() {
        let mut now = Instant::now();
        let mut plan = DialPlan::new(1);
        let seed = Seed {
            host: "127.0.0.1".to_owned(),
            port: 6222,
            login: None,
            is_resolved: false,
        };
        let target = Target {
            host: seed.host.clone(),
            port: seed.port,
            tls_name: None,
        };
        let accounts = ["$SYS".into(), "A".into()];
        plan.set_targets(&seed, &[target], &accounts, Some(now));
        for attempt in 1..=3 {
            let mut dials = Vec::new();
            plan.poll(now, false, &mut dials);
            assert_eq!(dials.len(), 3);
            let failures: Vec<_> = (dials.iter())
                .filter_map(|dial| plan.failed(dial.id, now))
                .collect();
            assert!(failures.iter().all(|(number, _)| *number == attempt));
            assert_eq!(failures.iter().filter(|(_, is_said)| *is_said).count(), 1);
            now += RETRY_MAX;
        }
        // Where the others are there, it is of interest that one is not.
        plan.settle(&accounts, &|_| true, &|_, account| account.is_some(), now);
        for duty in &mut plan.duties {
            duty.is_connected = true;
        }
        let mut dials = Vec::new();
        plan.poll(now, false, &mut dials);
        let said = (dials.iter()).filter(|dial| {
            let account = plan.purpose(dial.id).and_then(|purpose| purpose.account);
            account.is_some_and(|account| *account == *"A")
                && plan
                    .failed(dial.id, now)
                    .is_some_and(|(_, is_said)| is_said)
        });
        assert_eq!(said.count(), 1);
    }
}
