//! What the two servers tell each other about themselves and about others, first and later.

use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::error::ErrorReply;
use natterjack_wire::route::{
    self, ACCOUNT_MOVES, AccountMove, Compression, RouteConnect, RouteInfo, SubjectPermission,
};

use super::RouteSession;
use super::handshake::{SAME_NAME, Stage};
use super::input::Halt;
use crate::access::{CompiledPermissions, Permissions, SubjectRules};
use crate::close_reason::CloseReason;
use crate::config::Config;
use crate::mesh::NameVerdict;
use crate::mesh::dial::Purpose;
use crate::mesh::link::InterestFilter;
use crate::mesh::settings::ClusterSettings;
use crate::session::Session;
use crate::session::complaints::{Cut, Shown};

/// The protocol level: INFO at any time, accounts, and messages that are traced (nats-server `MsgTraceProto`).
const PROTOCOL: i64 = 3;

impl RouteSession {
    /// What this server says of itself on this connection.
    pub(super) fn own_info(&self, compression: Compression, pool_index: u32) -> RouteInfo {
        // Whoever is set to choose by the round trip says so, whatever it has chosen.
        let compression = match self.cluster.compression {
            Compression::S2Auto => Compression::S2Auto,
            _ => compression,
        };
        let is_dialled = self.dialled.is_some();
        RouteInfo {
            nonce: self.nonce.text().to_owned(),
            compression: match self.cluster.compression {
                Compression::NotSupported => String::new(),
                _ => compression.name().to_owned(),
            },
            route_pool_idx: i64::from(pool_index),
            route_account: (self.account.as_deref().filter(|_| is_dialled))
                .unwrap_or_default()
                .to_owned(),
            gossip_mode: (self.dialled.as_ref())
                .map(|(_, purpose)| purpose.gossip)
                .unwrap_or_default(),
            ldm: self.engine.is_lame_duck(),
            ..public_info(&self.config, &self.cluster, &self.mesh.name())
        }
    }

    /// What this server says first where it has dialled.
    pub(super) fn own_connect(&self, purpose: &Purpose) -> RouteConnect {
        let (cluster, cluster_dynamic) = self.mesh.name();
        let login = purpose.login.as_ref();
        RouteConnect {
            echo: true,
            user: login.map_or_else(String::new, |login| login.user.clone()),
            pass: login.map_or_else(String::new, |login| login.password.expose().to_owned()),
            tls_required: self.cluster.is_tls,
            headers: self.config.info.headers,
            name: self.config.info.server_id.clone(),
            cluster: cluster.to_string(),
            cluster_dynamic,
            lnoc: true,
            ln: true,
            ..RouteConnect::default()
        }
    }

    /// Says INFO for the second time, now that compression has been settled; without effect on who dialled.
    pub(super) fn say_info_again(&self, now: Instant) {
        let mut text = Vec::new();
        route::info(&mut text, &self.own_info(self.compression, 0));
        self.say(&text, now);
    }

    /// Tells of another peer once more: what was said before may have been lost.
    pub(super) fn remind(&self, now: Instant) {
        let Some(peer) = &self.peer else {
            return;
        };
        if let Some(info) = self.mesh.reminder(&peer.id, &self.connection) {
            let mut text = Vec::new();
            route::info(&mut text, &info);
            self.say(&text, now);
        }
    }

    /// An INFO on a connection that takes part.
    pub(super) fn handle_later_info(&mut self, info: RouteInfo, now: Instant) -> Result<(), Halt> {
        if *info.server_id == *self.mesh.own_id() {
            return Err(Halt::Silent(CloseReason::DuplicateRoute));
        }
        if !info.route_acc_add_reqid.is_empty() {
            self.give_account_away(info, now);
            return Ok(());
        }
        if info.account_move != AccountMove::None {
            self.handle_move(&info, now);
            return Ok(());
        }
        self.negotiate_name(&info)?;
        let Some(peer) = &mut self.peer else {
            return Ok(());
        };
        if *info.server_id != *peer.id {
            let has_pool = self.announcer.place.is_some_and(|place| place.has_pool);
            if !self.mesh.hear_of(&info, has_pool, now) {
                let address = Shown(&info.ip);
                self.complain(
                    "gossip",
                    &format_args!("Error parsing URL from INFO: \"{address}\""),
                );
            }
            return Ok(());
        }
        if info.ldm {
            let id = Arc::clone(&peer.id);
            self.mesh.hear_of_lame_duck(&id);
            self.engine.announce_mesh(now);
        } else if peer.export != info.export || peer.import != info.import {
            let is_accepting_others = peer.export != info.export;
            peer.export = info.export;
            peer.import = info.import;
            if is_accepting_others {
                self.refilter();
            }
            self.describe();
        }
        Ok(())
    }

    /// The peer is being reloaded and will have a connection for one account (route protocol, section 6): what it
    /// wants in it it says again there. Until then it takes messages here. Without an account this is its answer.
    fn give_account_away(&mut self, info: RouteInfo, now: Instant) {
        let Some(peer) = &self.peer else {
            return;
        };
        if info.route_account.is_empty() {
            let question = &info.route_acc_add_reqid;
            self.mesh.account_may_leave(question, &peer.id, now);
            return;
        }
        if self.config.account(&info.route_account).is_none() {
            let account = Shown(&info.route_account);
            self.complain(
                "account missing",
                &format_args!("Error looking up account \"{account}\": account missing"),
            );
            return;
        }
        self.mesh.dedicate(&info.route_account, &peer.id, now);
        self.engine.announce_mesh(now);
        self.adapt_announcing();
        let mut text = Vec::new();
        let answer = RouteInfo {
            route_account: String::new(),
            ..info
        };
        route::info(&mut text, &answer);
        self.say(&text, now);
    }

    /// The peer's INFO names a cluster.
    pub(super) fn negotiate_name(&self, info: &RouteInfo) -> Result<(), Halt> {
        if info.cluster.is_empty() {
            return Ok(());
        }
        let verdict =
            (self.mesh).negotiate_name(&info.cluster, info.cluster_dynamic, &info.server_id);
        match verdict {
            NameVerdict::Same => Ok(()),
            NameVerdict::Adopted => {
                self.adopt_name(&info.cluster);
                Ok(())
            }
            NameVerdict::Conflict(ours) => {
                let theirs = Shown(&info.cluster);
                self.complain(
                    "cluster name",
                    &format_args!(
                        "Cluster name \"{theirs}\" of the other server does not match \"{ours}\": {SAME_NAME}"
                    ),
                );
                Err(Halt::Silent(CloseReason::ClusterNameConflict))
            }
        }
    }

    /// The cluster is called as the peer says.
    pub(super) fn adopt_name(&self, name: &str) {
        let name = Shown(name);
        match self.may_say("adopted") {
            Some(unsaid) => tracing::info!("Cluster name updated to {name}{unsaid}"),
            None => tracing::debug!("Cluster name updated to {name}"),
        }
        self.engine.announce_mesh(self.now);
    }

    /// What the peer is told of this server's interest: what this one asks of others, and the peer lets go.
    pub(super) fn filter(&self) -> Option<Arc<InterestFilter>> {
        let own = self.permissions.clone();
        let theirs = self.peer.as_ref().and_then(|peer| peer.export.as_ref());
        let theirs = theirs.map(|export| {
            CompiledPermissions::new(&Permissions {
                subscribe: rules_of(export),
                ..Permissions::default()
            })
        });
        if own.is_none() && theirs.is_none() {
            return None;
        }
        Some(Arc::new(move |subject: &[u8]| {
            own.as_ref().is_none_or(|own| own.may_publish(subject))
                && theirs
                    .as_ref()
                    .is_none_or(|theirs| theirs.may_subscribe(subject, None))
        }))
    }

    /// Changes over to the configuration in force.
    #[cold]
    pub(super) fn change_over(&mut self, now: Instant) {
        let former = std::mem::replace(&mut self.config, self.engine.config());
        if let Some(cluster) = &self.config.cluster {
            self.cluster = Arc::clone(cluster);
        }
        self.heartbeat.adapt(&self.cluster.limits, now);
        self.forget_account();
        let old = former.cluster.as_ref();
        if old.is_some_and(|old| old.compression != self.cluster.compression) {
            self.change_compression();
        }
        let needs_login = self.cluster.login.is_some() && !self.cluster.is_known_by_certificate;
        if self.dialled.is_none()
            && needs_login
            && old.is_some_and(|old| old.login != self.cluster.login)
        {
            // What the peer has shown is not right any more; it comes again with what is, as with nats-server.
            let reply = ErrorReply::AuthorizationViolation;
            self.send_last(&reply, CloseReason::AuthenticationViolation, now);
        }
        self.permissions = self.config.route_permissions.clone();
        let is_other = |old: &Arc<ClusterSettings>| {
            old.import != self.cluster.import || old.export != self.cluster.export
        };
        let is_info_other = old.is_some_and(is_other);
        self.is_info_stale |= is_info_other && self.link.is_none();
        if is_info_other && self.link.is_some() {
            let mut text = Vec::new();
            let info = public_info(&self.config, &self.cluster, &self.mesh.name());
            route::info(&mut text, &info);
            self.say(&text, now);
            self.refilter();
        }
        // What comes of it for the peer's interest is found out in pieces.
        let is_export_other = old.is_some_and(|old| old.export != self.cluster.export);
        let is_access_other = former.access_generation != self.config.access_generation;
        if is_export_other || is_access_other {
            self.interest.look_again();
        }
        if !self.interest.is_complete() && is_access_other {
            // The peer comes back and says everything again.
            tracing::warn!(
                "{} - interest in accounts that were not here was lost, connecting anew",
                self.label()
            );
            self.outbox.close(CloseReason::ClientClosed);
        }
        self.adapt_announcing();
        self.adapt_handover(now);
        if is_access_other {
            self.look_at_arrivals_again();
        }
        if self.interest.has_work() {
            self.outbox.wake();
        } else {
            self.note_adapted();
        }
    }

    /// The session goes by the configuration in every respect. Last, because somebody may wait for it.
    pub(super) fn note_adapted(&self) {
        let limits = self.cluster.outbox_limits();
        self.outbox.adapt(self.config.generation, limits);
    }

    /// The setting is another one. What has to be agreed on anew needs a new connection.
    fn change_compression(&mut self) {
        let new = self.cluster.compression;
        if self.stage != Stage::Registered
            || self.compression == Compression::NotSupported
            || self.compression == new
        {
            return;
        }
        if !self.compression.is_compressed() || !new.is_compressed() {
            self.outbox.close(CloseReason::ClientClosed);
        } else if new == Compression::S2Auto {
            self.compress_by_round_trip();
        } else if new != self.compression {
            self.compression = new;
            self.new_compression = Some(new);
            // A quiet connection would show it with its next PING only.
            self.describe();
        }
    }

    /// Chooses the effort by the round trip, if that is how it is chosen.
    pub(super) fn compress_by_round_trip(&mut self) {
        if self.cluster.compression != Compression::S2Auto || !self.compression.is_compressed() {
            return;
        }
        if let Some(round_trip) = self.heartbeat.round_trip() {
            let chosen = Compression::for_round_trip(round_trip, &self.cluster.round_trips);
            if chosen != self.compression {
                self.compression = chosen;
                self.new_compression = Some(chosen);
            }
        }
    }

    /// Refuses the connection in words that the operator reads too, with what is to be done.
    pub(super) fn refuse(
        &self,
        reply: &ErrorReply<'_>,
        reason: CloseReason,
        remedy: &'static str,
    ) -> Halt {
        let mut text = Vec::new();
        reply.write_text(&mut text);
        let text = String::from_utf8_lossy(&text);
        self.complain(remedy, &format_args!("{}: {remedy}", Cut(&text)));
        Halt::tell(reply, reason)
    }
}

/// What a server says of itself to every peer alike (route protocol, section 3).
pub(crate) fn public_info(
    config: &Config,
    cluster: &ClusterSettings,
    (name, is_dynamic): &(Arc<str>, bool),
) -> RouteInfo {
    let info = &config.info;
    let (host, port) = match &cluster.advertise {
        Some((host, port)) => (host.clone(), *port),
        None => (cluster.host.clone(), cluster.port),
    };
    let ip = match &cluster.advertise {
        Some(_) if host.contains(':') => format!("nats-route://[{host}]:{port}/"),
        Some(_) => format!("nats-route://{host}:{port}/"),
        None => String::new(),
    };
    RouteInfo {
        server_id: info.server_id.clone(),
        server_name: info.server_name.clone(),
        version: info.version.clone(),
        proto: PROTOCOL,
        go: info.go.clone(),
        host,
        port,
        headers: info.headers,
        auth_required: cluster.login.is_some(),
        tls_required: cluster.is_tls,
        tls_verify: cluster.is_tls,
        max_payload: info.max_payload,
        ip,
        cluster: name.to_string(),
        cluster_dynamic: *is_dynamic,
        connect_urls: if cluster.no_advertise {
            Vec::new()
        } else {
            config.own_urls.clone()
        },
        import: cluster.import.as_ref().map(permission_of),
        export: cluster.export.as_ref().map(permission_of),
        lnoc: true,
        lnocu: true,
        strays: true,
        account_moves: ACCOUNT_MOVES,
        ln: true,
        route_pool_size: i64::from(cluster.pool_size),
        ..RouteInfo::default()
    }
}

fn permission_of(rules: &SubjectRules) -> SubjectPermission {
    SubjectPermission {
        allow: rules.allow.clone().unwrap_or_default(),
        deny: rules.deny.clone(),
    }
}

fn rules_of(permission: &SubjectPermission) -> SubjectRules {
    let SubjectPermission { allow, deny } = permission;
    SubjectRules {
        allow: (!allow.is_empty()).then(|| allow.clone()),
        deny: deny.clone(),
    }
}
