//! From the first byte to the place among a peer's connections, or to the reason why there is none (route protocol,
//! sections 1 to 3, 6, 8, 10 and 11).

use core::fmt::{self, Display};
use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::error::ErrorReply;
use natterjack_wire::route::{self, Compression, RouteConnect, RouteInfo, SubjectPermission};

use super::RouteSession;
use super::input::Halt;
use crate::access::{Compared, PasswordCheck, compare};
use crate::close_reason::CloseReason;
use crate::delivery::worker::Worker;
use crate::mesh::link::RouteLink;
use crate::mesh::{Claim, Fate, NameVerdict, PEERS_MAX, Place, Refusal, effective_size};
use crate::session::Session;
use crate::session::complaints::{Shown, Start};
use crate::session::foreign::speaks_http;
use crate::session::intake::carry_out_kept;

/// Bytes read at once from somebody who is not known yet.
pub(super) const READ_BYTES: usize = 16 * 1024;

/// How far the handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The peer dialled, and has to say CONNECT.
    Connect,
    /// It has to say INFO.
    Info,
    /// It has to say it again, compressed.
    InfoAgain,
    /// It has been let in.
    Registered,
}

/// Who is there.
pub(super) struct Peer {
    pub(super) id: Arc<str>,
    pub(super) name: String,
    /// What it asks others for; `None`: all.
    pub(super) import: Option<SubjectPermission>,
    /// What of interest it accepts; `None`: all.
    pub(super) export: Option<SubjectPermission>,
    /// Its `LS-` names the origin.
    pub(super) names_origins: bool,
    /// Bytes of a message that it takes from clients.
    pub(super) payload_bytes_max: usize,
}

/// A CONNECT whose password is being checked.
pub(super) struct Checking {
    pub(super) check: Option<PasswordCheck>,
    connect: RouteConnect,
}

impl RouteSession {
    pub(super) fn handle_connect(&mut self, json: &[u8]) -> Result<(), Halt> {
        if self.stage != Stage::Connect {
            return Ok(());
        }
        let connect = RouteConnect::parse(json).map_err(|error| {
            self.complain("CONNECT", &format_args!("CONNECT refused: {error}"));
            Halt::Silent(CloseReason::ProtocolViolation)
        })?;
        // The id, until INFO says the name.
        connect.name.clone_into(&mut self.remote);
        let login = self.cluster.login.as_ref();
        let Some(login) = login.filter(|_| !self.cluster.is_known_by_certificate) else {
            return self.accept_connect(&connect);
        };
        if login.user != connect.user {
            return Err(self.wrong_login(&connect));
        }
        match compare(&login.password, &connect.pass) {
            Compared::Same => self.accept_connect(&connect),
            Compared::Different => Err(self.wrong_login(&connect)),
            Compared::Later(check) => {
                self.checking = Some(Box::new(Checking {
                    check: Some(check),
                    connect,
                }));
                self.outbox.wake();
                Ok(())
            }
        }
    }

    pub(super) fn finish_login(
        &mut self,
        is_right: bool,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<(), Halt> {
        let Some(checking) = self.checking.take() else {
            return Ok(());
        };
        if self.outbox.is_closed() {
            return Ok(());
        }
        if !is_right {
            return Err(self.wrong_login(&checking.connect));
        }
        self.accept_connect(&checking.connect)?;
        carry_out_kept(self, worker, now)
    }

    fn wrong_login(&self, connect: &RouteConnect) -> Halt {
        let user = Shown(&connect.user);
        if !connect.lang.is_empty() {
            let what = format_args!("authentication error - User \"{user}\": {CLIENT_HERE}");
            self.complain(&format!("client {user}"), &what);
        } else if connect.user.is_empty() {
            let what = format_args!("authentication error: no user was given; {LOGIN_OF_ROUTES}");
            self.complain("no user", &what);
        } else {
            let what = format_args!("authentication error - User \"{user}\": {LOGIN_OF_ROUTES}");
            self.complain(&format!("login {user}"), &what);
        }
        not_authorized()
    }

    /// Whoever came says something else than CONNECT.
    pub(super) fn no_connect(&self, input: &[u8]) -> Halt {
        let what = if speaks_http(input) {
            "it speaks HTTP, and "
        } else {
            ""
        };
        let start = Start(input);
        self.complain(
            &format!("no CONNECT {start}"),
            &format_args!(
                "authentication error: in place of CONNECT it said {start}: {what}this is the port for routes"
            ),
        );
        not_authorized()
    }

    /// Whoever says CONNECT may come in; looks whether it is at the right door.
    fn accept_connect(&mut self, connect: &RouteConnect) -> Result<(), Halt> {
        self.auth_deadline = None;
        self.is_verbose = connect.verbose;
        if !connect.lang.is_empty() {
            let reply = ErrorReply::ClientOnRoutePort;
            return Err(self.refuse(&reply, CloseReason::WrongPort, CLIENT_HERE));
        }
        if !connect.gateway.is_empty() {
            let gateway = connect.gateway.as_bytes();
            let reply = ErrorReply::GatewayOnRoutePort { gateway };
            let remedy = "there are no gateways here";
            return Err(self.refuse(&reply, CloseReason::WrongGateway, remedy));
        }
        let verdict =
            (self.mesh).negotiate_name(&connect.cluster, connect.cluster_dynamic, &connect.name);
        match verdict {
            NameVerdict::Same => {}
            NameVerdict::Adopted => self.adopt_name(&connect.cluster),
            NameVerdict::Conflict(ours) => {
                let reply = ErrorReply::ClusterNameMismatch {
                    theirs: connect.cluster.as_bytes(),
                    ours: ours.as_bytes(),
                };
                return Err(self.refuse(&reply, CloseReason::ClusterNameConflict, SAME_NAME));
            }
        }
        self.stage = Stage::Info;
        Ok(())
    }

    pub(super) fn handle_info(&mut self, json: &[u8], now: Instant) -> Result<(), Halt> {
        let info = RouteInfo::parse(json).map_err(|error| {
            self.complain("INFO", &format_args!("INFO refused: {error}"));
            Halt::Silent(CloseReason::ProtocolViolation)
        })?;
        match self.stage {
            Stage::Connect => Err(self.no_connect(b"INFO")),
            Stage::Info if is_for_clients(json) => Err(self.client_port(&info)),
            Stage::Info => {
                self.meet(&info)?;
                self.handle_first_info(info, now)
            }
            Stage::InfoAgain => {
                self.meet(&info)?;
                self.register(info, now)
            }
            Stage::Registered => self.handle_later_info(info, now),
        }
    }

    /// What was dialled is where clients come in. A server is not known by it, even if it is one of this cluster.
    fn client_port(&self, info: &RouteInfo) -> Halt {
        let name = Shown(&info.server_name);
        self.complain(
            "client port",
            &format_args!(
                "Attempted to connect to the client port of \"{name}\": a route has to name its cluster port"
            ),
        );
        Halt::Silent(CloseReason::WrongPort)
    }

    /// Who is there, and whether it may be. An INFO that comes compressed has to say so again.
    fn meet(&mut self, info: &RouteInfo) -> Result<(), Halt> {
        let missing = match (&*info.server_id, &*info.server_name) {
            ("", _) => Some("server_id"),
            (_, "") => Some("server_name"),
            _ => None,
        };
        if let Some(missing) = missing {
            self.complain(
                "INFO",
                &format_args!(
                    "INFO refused: it has no `{missing}`, as every server of a cluster has"
                ),
            );
            return Err(Halt::Silent(CloseReason::ProtocolViolation));
        }
        if *info.server_id == *self.mesh.own_id() {
            let met = (self.dialled.as_ref()).and_then(|(dial, _)| self.mesh.met_self(*dial));
            if let Some(target) = met {
                tracing::info!(
                    "{} - The route to {}:{} leads to this server itself, and will not be dialled again",
                    self.label(),
                    target.host,
                    target.port
                );
            }
            return Err(Halt::Silent(CloseReason::DuplicateRoute));
        }
        info.server_name.clone_into(&mut self.remote);
        info.server_id.clone_into(&mut self.met);
        self.negotiate_name(info)?;
        if info.server_name == self.config.info.server_name {
            let name = Shown(&info.server_name);
            self.complain(
                "own name",
                &format_args!(
                    "Remote server has a duplicate name: \"{name}\", id {}: give each server of a cluster a \
                     `server_name` of its own",
                    Shown(&info.server_id)
                ),
            );
            if self.dialled.is_none() {
                return Err(Halt::Silent(CloseReason::DuplicateServerName));
            }
            // Whoever was dialled refuses, unless it is too old for that.
        }
        Ok(())
    }

    fn handle_first_info(&mut self, info: RouteInfo, now: Instant) -> Result<(), Halt> {
        let own = self.cluster.compression;
        if own.is_compressed() || own == Compression::Accept {
            let theirs = Compression::from_name(&info.compression).map_err(|_| {
                let mode = info.compression.as_bytes();
                let reply = ErrorReply::UnsupportedCompression { mode };
                let remedy = "set the same `compression` on all servers of the cluster";
                self.refuse(&reply, CloseReason::ProtocolViolation, remedy)
            })?;
            self.compression = match own.agreed(theirs) {
                Compression::S2Auto => {
                    Compression::for_round_trip(self.heartbeat.age(now), &self.cluster.round_trips)
                }
                agreed => agreed,
            };
            if self.compression.is_compressed() {
                self.start_compression(now);
                return Ok(());
            }
        } else if info.compression.is_empty() || own == Compression::NotSupported {
            self.compression = Compression::NotSupported;
        }
        self.register(info, now)
    }

    /// From here on both sides compress, and say INFO once more.
    fn start_compression(&mut self, now: Instant) {
        if self.dialled.is_some() {
            // The other side reads this as it is, and compresses once it has.
            self.say_info_again(now);
        }
        self.stage = Stage::InfoAgain;
        self.new_compression = Some(self.compression);
    }

    /// Asks the mesh to let the connection in.
    fn register(&mut self, mut info: RouteInfo, now: Instant) -> Result<(), Halt> {
        if self.dialled.is_none() && !info.route_account.is_empty() {
            self.account = Some(info.route_account.as_str().into());
        }
        let peer = Peer {
            id: info.server_id.as_str().into(),
            name: info.server_name.clone(),
            import: info.import.clone(),
            export: info.export.clone(),
            names_origins: info.lnocu,
            payload_bytes_max: usize::try_from(info.max_payload).unwrap_or_default(),
        };
        if let Some(account) = &self.account
            && self.config.account(account).is_none()
        {
            let name = Shown(account);
            self.complain(
                "account missing",
                &format_args!(
                    "Unable to lookup account \"{name}\": account missing: the other server has it in its \
                     cluster's `accounts`, so it has to be among the accounts here, too"
                ),
            );
            let account = account.as_bytes();
            let reply = ErrorReply::RouteAccountMissing { account };
            return Err(Halt::tell(&reply, CloseReason::MissingAccount));
        }
        if info.ip.is_empty() {
            info.ip = match self.connection.address() {
                Some(address) => {
                    let address = core::net::SocketAddr::new(address.ip(), info.port);
                    format!("nats-route://{address}/")
                }
                None => format!("nats-route://{}:{}/", info.host, info.port),
            };
        }
        self.peer = Some(peer);
        // Made before the mesh is locked; only the place is still to come.
        let mut greeting = (self.dialled.is_some()).then(|| self.own_info(self.compression, 0));
        let mut greet = |place: Place| {
            if let Some(info) = &mut greeting {
                info.route_pool_idx = i64::from(place.index);
                let mut text = Vec::new();
                route::info(&mut text, info);
                route::ping(&mut text);
                self.outbox.append(&text);
            }
        };
        let claim = Claim {
            connection: &self.connection,
            info: &info,
            dialled: (self.dialled.as_ref()).map(|(dial, purpose)| (*dial, purpose)),
            account: self.account.as_ref(),
            pool_size: if self.dialled.is_some() {
                self.cluster.pool_size
            } else {
                self.pool_size_told
            },
        };
        let id = &info.server_id;
        let place = match self.mesh.register(&claim, now, &mut greet) {
            Ok(place) => place,
            Err(refusal) => return Err(self.not_let_in(refusal, id)),
        };
        match &self.account {
            None => tracing::debug!("{} - Registering remote route {id:?}", self.label()),
            Some(account) => tracing::debug!(
                "{} - Registering remote route {id:?} for account {account:?}",
                self.label()
            ),
        }
        self.stage = Stage::Registered;
        if self.dialled.is_none() {
            self.came_about();
        }
        self.announcer.place = Some(place);
        self.tell_of_pools(place, info.route_pool_size);
        let jitter = fastrand::Rng::with_seed(self.engine.seed()).f64();
        self.heartbeat.start(&self.cluster.limits, jitter, now);
        if self.dialled.is_some() {
            self.heartbeat.pinged(now);
            self.handover.pinged();
        }
        let outbox = Arc::clone(&self.outbox);
        outbox.set_headers(self.config.info.headers && info.headers);
        let own_account = self.account.clone();
        let link = RouteLink::new(outbox, own_account, &info, self.filter());
        let link = link.counting(self.mesh.moves());
        self.link = Some(Arc::new(link));
        self.interest.set_names_origins(info.lnocu);
        self.describe();
        self.engine.announce_mesh(now);
        if self.dialled.is_none() && (self.engine.is_lame_duck() || self.is_info_stale) {
            // Maybe it was not when this server said INFO first; and all who were connected have been told by now.
            self.say_info_again(now);
        }
        self.begin_handover(now);
        self.adapt_announcing();
        self.outbox.flush(now);
        Ok(())
    }

    /// Says what is in force where the two sides have been told different sizes of a pool.
    fn tell_of_pools(&self, place: Place, theirs: i64) {
        let own_size = self.cluster.pool_size;
        let own = i64::from(own_size);
        if theirs.max(0) == own || place.index > 0 || self.account.is_some() {
            return;
        }
        let in_force = if place.has_pool {
            let larger = effective_size(own_size, theirs);
            format!(
                "the two have {larger} connections, over which each spreads accounts by its own size"
            )
        } else {
            "all accounts share one connection".to_owned()
        };
        let (theirs, own) = (PoolSize(theirs), PoolSize(own));
        self.inform(
            "pool",
            &format_args!("The other server has {theirs}, and this one {own}: {in_force}"),
        );
    }

    /// It is not two that dial each other, and will be over by itself.
    fn not_now(&self, thing: &str, what: &dyn Display) -> Halt {
        self.warn(thing, what);
        Halt::Silent(CloseReason::DuplicateRoute)
    }

    /// A connection for one account has been tried, which happens with every server that has no pool, such as an old one.
    pub(super) fn has_no_pool(&self) {
        self.inform(
            "dedicated",
            &"There are no connections for single accounts between the two, since one of them has no pool \
              (`pool_size: -1`): such accounts share the one connection that there is",
        );
        // Nor is it of interest that this one ends.
        self.complained.set(Some(false));
    }

    fn not_let_in(&mut self, refusal: Refusal, id: &str) -> Halt {
        let account = self.account.clone().unwrap_or_else(|| "".into());
        let account = account.as_bytes();
        let number = |number: i64| number.to_string().into_bytes();
        let reply_to = |reply: &ErrorReply<'_>, remedy: &'static str| {
            self.refuse(reply, CloseReason::ProtocolViolation, remedy)
        };
        match refusal {
            Refusal::Duplicate => {
                tracing::debug!("{} - Detected duplicate remote route {id:?}", self.label());
                Halt::Silent(CloseReason::DuplicateRoute)
            }
            Refusal::TooManyPeers => {
                self.complain(
                    "peers",
                    &format_args!(
                        "This server is connected with {PEERS_MAX} others already, and takes no more than that: whoever \
                         can reach this port can pass for a server, unless the cluster has `authorization` or `tls`"
                    ),
                );
                let reply = ErrorReply::ConnectionsExceeded;
                Halt::tell(&reply, CloseReason::ConnectionsExceeded)
            }
            Refusal::DedicatedImpossible => {
                self.has_no_pool();
                self.fate = Fate::Impossible;
                let reply = ErrorReply::DedicatedRouteImpossible { account };
                Halt::tell(&reply, CloseReason::ProtocolViolation)
            }
            Refusal::ReloadedMeanwhile { told, own } => self.not_now(
                "reloaded",
                &format_args!(
                    "The other server was told {} here, and a reload has just made that {}: this connection is closed, \
                     and made anew",
                    PoolSize(told.into()),
                    PoolSize(own.into())
                ),
            ),
            Refusal::OtherKindOfPool {
                own,
                theirs,
                has_pool,
            } => self.not_now(
                "other kind of pool",
                &format_args!(
                    "The other server now has {}, and this one {}, but connections between the two that are there {}: \
                     this one is refused until those have ended, which takes some seconds after a reload. If it goes \
                     on, {SAME_POOL}, and restart the one that was reloaded last",
                    PoolSize(theirs),
                    PoolSize(own.into()),
                    if has_pool {
                        "are a pool"
                    } else {
                        "are none of a pool"
                    },
                ),
            ),
            Refusal::Taken { by } => self.not_now(
                "taken",
                &format_args!(
                    "The other side opens a connection anew that is there as rid:{by}, so it must have lost that: \
                     this one is refused until that has ended, which it does without a sign of life. If it goes on, \
                     something between the two drops connections without telling both"
                ),
            ),
            Refusal::UnexpectedPoolIndex { index } => {
                let index = &number(index);
                reply_to(&ErrorReply::UnexpectedPoolIndex { index }, SAME_POOL)
            }
            Refusal::InvalidPoolIndex { index, pool_size } => {
                let own_size = i64::from(self.cluster.pool_size);
                self.complain(
                    "pool index",
                    &format_args!(
                        "Invalid route pool index: {index} - with {} there and {} here it is {} at most: {SAME_POOL}",
                        PoolSize(pool_size),
                        PoolSize(own_size),
                        pool_size.max(own_size) - 1
                    ),
                );
                let (index, pool_size) = (&number(index), &number(pool_size));
                let reply = ErrorReply::InvalidPoolIndex { index, pool_size };
                Halt::tell(&reply, CloseReason::ProtocolViolation)
            }
            Refusal::NoRouteForAccount => {
                let remedy = "let `accounts` of the cluster be the same on all servers";
                reply_to(&ErrorReply::NoRouteForAccount { account }, remedy)
            }
        }
    }
}

/// A size of a pool as a configuration has it.
struct PoolSize(i64);

impl Display for PoolSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            size @ 1.. => write!(formatter, "`pool_size: {size}`"),
            _ => formatter.write_str("no pool (`pool_size: -1`)"),
        }
    }
}

/// Remedies.
const CLIENT_HERE: &str =
    "it is a client, and this is the port for routes: give it the address of `listen`";
const LOGIN_OF_ROUTES: &str =
    "the login in `routes` of a server must be that of `authorization` in the cluster of the other";
pub(super) const SAME_NAME: &str =
    "all servers of a cluster have the same `name` in their block `cluster`";
const SAME_POOL: &str = "let `pool_size` be the same on all servers of the cluster";

fn not_authorized() -> Halt {
    Halt::tell(
        &ErrorReply::AuthorizationViolation,
        CloseReason::AuthenticationViolation,
    )
}

/// Whether an INFO is what servers say to clients: they are told their number. No text in JSON has an unescaped quote.
fn is_for_clients(json: &[u8]) -> bool {
    let key = b"\"client_id\"";
    json.windows(key.len()).any(|window| window == key)
}
