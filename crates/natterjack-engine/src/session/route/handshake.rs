//! From the first byte to the place among a peer's connections, or to the reason why there is none (route protocol,
//! sections 1 to 3, 6, 8, 10 and 11).

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
use crate::mesh::{Claim, Fate, NameVerdict, Place, Refusal};
use crate::session::Session;
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
            tracing::error!("{} - CONNECT refused: {error}", self.label());
            Halt::Silent(CloseReason::ProtocolViolation)
        })?;
        let login = self.cluster.login.as_ref();
        let Some(login) = login.filter(|_| !self.cluster.is_known_by_certificate) else {
            return self.accept_connect(&connect);
        };
        if login.user != connect.user {
            return Err(self.wrong_login());
        }
        match compare(&login.password, &connect.pass) {
            Compared::Same => self.accept_connect(&connect),
            Compared::Different => Err(self.wrong_login()),
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
            return Err(self.wrong_login());
        }
        self.accept_connect(&checking.connect)?;
        carry_out_kept(self, worker, now)
    }

    pub(super) fn wrong_login(&self) -> Halt {
        if self.engine.may_log_refusal(self.now).is_some() {
            tracing::error!("{} - authentication error", self.label());
        }
        Halt::tell(
            &ErrorReply::AuthorizationViolation,
            CloseReason::AuthenticationViolation,
        )
    }

    /// Whoever says CONNECT may come in; looks whether it is at the right door.
    fn accept_connect(&mut self, connect: &RouteConnect) -> Result<(), Halt> {
        self.auth_deadline = None;
        self.is_verbose = connect.verbose;
        if !connect.lang.is_empty() {
            return Err(self.refuse(&ErrorReply::ClientOnRoutePort, CloseReason::WrongPort));
        }
        if !connect.gateway.is_empty() {
            let gateway = connect.gateway.as_bytes();
            let reply = ErrorReply::GatewayOnRoutePort { gateway };
            return Err(self.refuse(&reply, CloseReason::WrongGateway));
        }
        let verdict =
            (self.mesh).negotiate_name(&connect.cluster, connect.cluster_dynamic, &connect.name);
        match verdict {
            NameVerdict::Same => {}
            NameVerdict::Adopted => self.engine.announce_mesh(self.now),
            NameVerdict::Conflict(ours) => {
                let reply = ErrorReply::ClusterNameMismatch {
                    theirs: connect.cluster.as_bytes(),
                    ours: ours.as_bytes(),
                };
                return Err(self.refuse(&reply, CloseReason::ClusterNameConflict));
            }
        }
        self.stage = Stage::Info;
        Ok(())
    }

    pub(super) fn handle_info(&mut self, json: &[u8], now: Instant) -> Result<(), Halt> {
        let info = RouteInfo::parse(json).map_err(|error| {
            tracing::error!("{} - INFO refused: {error}", self.label());
            Halt::Silent(CloseReason::ProtocolViolation)
        })?;
        match self.stage {
            Stage::Connect => Err(self.wrong_login()),
            Stage::Info if is_for_clients(json) => Err(self.client_port(&info)),
            Stage::Info => self.handle_first_info(info, now),
            Stage::InfoAgain => self.register(info, now),
            Stage::Registered => self.handle_later_info(info, now),
        }
    }

    /// What was dialled is where clients come in. A server is not known by it, even if it is one of this cluster.
    fn client_port(&self, info: &RouteInfo) -> Halt {
        if self.engine.may_log_refusal(self.now).is_some() {
            tracing::error!(
                "{} - Attempted to connect to the client port of {:?}: a route has to name its cluster port",
                self.label(),
                info.server_name
            );
        }
        Halt::Silent(CloseReason::WrongPort)
    }

    fn handle_first_info(&mut self, info: RouteInfo, now: Instant) -> Result<(), Halt> {
        if info.server_id.is_empty() {
            tracing::error!("{} - INFO refused: it names no server", self.label());
            return Err(Halt::Silent(CloseReason::ProtocolViolation));
        }
        if *info.server_id == *self.mesh.own_id() {
            if let Some((dial, _)) = &self.dialled {
                self.mesh.met_self(*dial);
            }
            return Err(Halt::Silent(CloseReason::DuplicateRoute));
        }
        self.negotiate_name(&info)?;
        if self.dialled.is_none() && info.server_name == self.config.info.server_name {
            let name = &info.server_name;
            tracing::error!(
                "{} - Remote server has a duplicate name: {name:?}",
                self.label()
            );
            return Err(Halt::Silent(CloseReason::DuplicateServerName));
        }
        let own = self.cluster.compression;
        if own.is_compressed() || own == Compression::Accept {
            let theirs = Compression::from_name(&info.compression).map_err(|_| {
                let mode = info.compression.as_bytes();
                let reply = ErrorReply::UnsupportedCompression { mode };
                self.refuse(&reply, CloseReason::ProtocolViolation)
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
        };
        if let Some(account) = &self.account
            && self.config.account(account).is_none()
        {
            // Who has the account comes again and again.
            if self.engine.may_log_refusal(now).is_some() {
                tracing::error!(
                    "{} - Unable to lookup account {account:?}: account missing",
                    self.label()
                );
            }
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
        self.announcer.place = Some(place);
        let jitter = fastrand::Rng::with_seed(self.engine.seed()).f64();
        self.heartbeat.start(&self.cluster.limits, jitter, now);
        if self.dialled.is_some() {
            self.heartbeat.pinged(now);
        }
        let outbox = Arc::clone(&self.outbox);
        outbox.set_headers(self.config.info.headers && info.headers);
        let link = RouteLink::new(outbox, self.account.clone(), info.strays, self.filter());
        self.link = Some(Arc::new(link));
        self.describe();
        self.engine.announce_mesh(now);
        self.take_account_over(self.dialled.is_none());
        self.adapt_announcing();
        self.outbox.flush(now);
        Ok(())
    }

    fn not_let_in(&mut self, refusal: Refusal, id: &str) -> Halt {
        let account = self.account.clone().unwrap_or_else(|| "".into());
        let account = account.as_bytes();
        let number = |number: i64| number.to_string().into_bytes();
        let reply_to = |reply: &ErrorReply<'_>| self.refuse(reply, CloseReason::ProtocolViolation);
        match refusal {
            Refusal::Duplicate => {
                tracing::debug!("{} - Detected duplicate remote route {id:?}", self.label());
                Halt::Silent(CloseReason::DuplicateRoute)
            }
            Refusal::DedicatedImpossible => {
                let halt = reply_to(&ErrorReply::DedicatedRouteImpossible { account });
                self.fate = Fate::Impossible;
                halt
            }
            Refusal::UnexpectedPoolIndex { index } => reply_to(&ErrorReply::UnexpectedPoolIndex {
                index: &number(index),
            }),
            Refusal::InvalidPoolIndex { index, pool_size } => {
                reply_to(&ErrorReply::InvalidPoolIndex {
                    index: &number(index),
                    pool_size: &number(pool_size),
                })
            }
            Refusal::NoRouteForAccount => reply_to(&ErrorReply::NoRouteForAccount { account }),
        }
    }
}

/// Whether an INFO is what servers say to clients: they are told their number. No text in JSON has an unescaped quote.
fn is_for_clients(json: &[u8]) -> bool {
    let key = b"\"client_id\"";
    json.windows(key.len()).any(|window| window == key)
}
