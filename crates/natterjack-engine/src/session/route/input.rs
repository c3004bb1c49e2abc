//! What comes in: operations cut out of the bytes, and how the connection ends if one is at fault.

use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::client::error_text;
use natterjack_wire::error::{ErrorReply, ProtocolError};
use natterjack_wire::route::{
    self, Decoded, RemoteSubscribe, RemoteUnsubscribe, RouteLimits, RouteOp, decode_route,
};

use super::RouteSession;
use super::handshake::Stage;
use super::interest::Taken;
use crate::close_reason::CloseReason;
use crate::delivery::rendering::Source;
use crate::delivery::worker::Worker;
use crate::limits::Limits;
use crate::session::Session;
use crate::session::complaints::{Shown, Start};
use crate::session::foreign::speaks_tls;
use crate::session::intake::{Carried, Partial, Reader};

/// Control lines of peers may be so many times longer than clients' (route protocol, section 4).
const CONTROL_LINE_FACTOR: usize = 16;

/// What servers add to the header of a message on its way: who asks, and where it has been.
const ADDED_BYTES_MAX: usize = 64 * 1024;

/// Why a session stops in the middle of its input.
pub(in crate::session) enum Halt {
    /// With a last word to the peer.
    Tell(Vec<u8>, CloseReason),
    /// Without.
    Silent(CloseReason),
}

impl Halt {
    pub(super) fn tell(reply: &ErrorReply<'_>, reason: CloseReason) -> Self {
        let mut text = Vec::new();
        route::error(&mut text, reply);
        Self::Tell(text, reason)
    }
}

impl Reader for RouteSession {
    type Halt = Halt;

    #[inline]
    fn partial(&mut self) -> &mut Partial {
        &mut self.partial
    }

    fn carry_out(
        &mut self,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<Carried, Halt> {
        let carried = self.carry_out_operations(source, worker, now);
        // What came before a fault is delivered all the same.
        self.finish_run(worker, source, true, now);
        worker.run.forget_route();
        carried
    }
}

impl RouteSession {
    /// A batch has been carried out.
    pub(super) fn end_read(
        &mut self,
        outcome: Result<(), Halt>,
        worker: &mut Worker,
        now: Instant,
    ) {
        if let Err(halt) = outcome {
            let reason = match halt {
                Halt::Tell(text, reason) => {
                    self.say(&text, now);
                    reason
                }
                Halt::Silent(reason) => reason,
            };
            self.outbox.close(reason);
        }
        self.end_batch(worker, now);
    }

    fn carry_out_operations(
        &mut self,
        source: Source<'_>,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<Carried, Halt> {
        let mut limits = self.input_limits();
        let input = source.input;
        let mut end = 0;
        while end < input.len() {
            if self.stage == Stage::Connect
                && !input[end].eq_ignore_ascii_case(&b'C')
                && !speaks_tls(&input[end..])
            {
                return Err(self.no_connect(&input[end..]));
            }
            if (self.stage == Stage::Info || self.stage == Stage::Connect)
                && speaks_tls(&input[end..])
            {
                return Err(self.wrong_language());
            }
            if let Some((consumed, body_len)) = worker.run.repeat(input, end) {
                self.repeated(body_len);
                end += consumed;
                continue;
            }
            let decoded = decode_route(&input[end..], &limits)
                .map_err(|error| self.fault(error, &input[end..]))?;
            match decoded {
                Decoded::Op {
                    op: RouteOp::Message(message),
                    consumed,
                } => {
                    if self.link.is_none() {
                        return Err(self.too_early());
                    }
                    self.handle_message(&message, end, source, worker, now);
                    end += consumed;
                    if self.is_verbose {
                        self.finish_run(worker, source, false, now);
                        worker.run.forget_route();
                        self.confirm(now);
                    }
                }
                Decoded::Op { op, consumed } => {
                    self.finish_run(worker, source, false, now);
                    // The operation may change who receives what comes next.
                    worker.run.forget_route();
                    self.handle_operation(&op, now)?;
                    limits = self.input_limits();
                    end += consumed;
                    if self.is_checking() {
                        return Ok(Carried { end, needed: 0 });
                    }
                    if self.stage == Stage::InfoAgain && self.new_compression.is_some() {
                        self.unread = input[end..].to_vec();
                        let end = input.len();
                        return Ok(Carried { end, needed: 0 });
                    }
                }
                // Of a line it is not known how long it will be.
                Decoded::Incomplete { needed }
                    if self.link.is_none() && needed > input.len() - end + 1 =>
                {
                    return Err(self.too_early());
                }
                Decoded::Incomplete { needed } => return Ok(Carried { end, needed }),
            }
        }
        Ok(Carried { end, needed: 0 })
    }

    fn input_limits(&self) -> RouteLimits {
        let Limits {
            control_line_bytes_max: line_bytes_max,
            payload_bytes_max: own_bytes_max,
            ..
        } = self.config.limits;
        let theirs = self.peer.as_ref().map_or(0, |peer| peer.payload_bytes_max);
        let usual = RouteLimits::default();
        let published = usual.payload_bytes_max.max(own_bytes_max).max(theirs);
        RouteLimits {
            control_line_bytes_max: line_bytes_max.saturating_mul(CONTROL_LINE_FACTOR),
            payload_bytes_max: published.saturating_add(ADDED_BYTES_MAX),
            dedicated: self.account.is_some() && self.link.is_some(),
            unsubscribe_origin: self.names_origins(),
        }
    }

    fn names_origins(&self) -> bool {
        self.peer.as_ref().is_none_or(|peer| peer.names_origins)
    }

    fn handle_operation(&mut self, op: &RouteOp<'_>, now: Instant) -> Result<(), Halt> {
        match op {
            RouteOp::Connect(json) => self.handle_connect(json),
            RouteOp::Info(json) => self.handle_info(json, now),
            RouteOp::Subscribe(subscribe) => self.handle_subscribe(subscribe, now),
            RouteOp::Unsubscribe(end) => self.handle_unsubscribe(end, now),
            RouteOp::Ping => {
                let mut text = Vec::new();
                route::pong(&mut text);
                // Who asks waits for what it has sent to be done, and maybe with something for which this side waits.
                self.outbox.append_unheld(&text);
                self.outbox.flush(now);
                Ok(())
            }
            RouteOp::Pong => {
                self.handle_pong(now);
                Ok(())
            }
            RouteOp::Err(text) => {
                self.was_refused(error_text(text));
                self.own_connection_refused(error_text(text), now);
                Err(Halt::Silent(CloseReason::ParseError))
            }
            RouteOp::AccountSubscribe(_) | RouteOp::AccountUnsubscribe(_) | RouteOp::Ok => Ok(()),
            RouteOp::Message(_) => Err(self.too_early()),
        }
    }

    fn handle_pong(&mut self, now: Instant) {
        self.heartbeat.answered(now);
        if let (Some(_), Some(peer)) = (&self.link, &self.peer) {
            let is_own = self.account.is_some();
            (self.mesh).confirm(&peer.id, &self.connection, is_own, now);
            self.came_about();
            self.note_pong(now);
            self.compress_by_round_trip();
        }
    }

    fn handle_subscribe(
        &mut self,
        subscribe: &RemoteSubscribe<'_>,
        now: Instant,
    ) -> Result<(), Halt> {
        self.heartbeat.active(now);
        let bytes_max = self.cluster.limits.interest_bytes_max;
        let Some(link) = &self.link else {
            return Err(self.too_early());
        };
        if let Some(permissions) = &self.permissions
            && !permissions.may_subscribe(subscribe.subject, None)
        {
            tracing::debug!(
                "{} - Can not export \"{}\", ignoring remote subscription request",
                self.label(),
                subscribe.subject.escape_ascii()
            );
            return Ok(());
        }
        let name = (subscribe.account).or_else(|| self.account.as_deref().map(str::as_bytes));
        let name = name.unwrap_or_default();
        let account = core::str::from_utf8(name).ok();
        let account = account.and_then(|name| self.config.account(name));
        let account = account.map(|(account, _)| Arc::clone(account));
        let taken = (self.interest).subscribe(subscribe, name, account.as_ref(), link, bytes_max);
        match taken {
            Taken::Yes => {
                self.confirm(now);
                Ok(())
            }
            Taken::Invalid => {
                let subject = Start(subscribe.subject);
                self.complain(
                    "subject",
                    &format_args!("Could not insert subscription: {subject} is no subject"),
                );
                let mut text = Vec::new();
                route::error(&mut text, &ErrorReply::InvalidSubscription);
                self.say(&text, now);
                Ok(())
            }
            Taken::UnknownAccount => {
                let (account, subject) = (Start(name), Start(subscribe.subject));
                self.complain(
                    &format!("account {account}"),
                    &format_args!("Unknown account {account} for remote subject {subject}"),
                );
                Ok(())
            }
            Taken::TooMuch => {
                let (subjects, bytes) = (self.interest.len(), self.interest.bytes());
                self.complain(
                    "interest",
                    &format_args!(
                        "The other server announced more interest than is kept of one connection: {subjects} \
                         subjects, {bytes} bytes; if its clients need them, raise `max_interest` of the cluster"
                    ),
                );
                Err(Halt::tell(
                    &ErrorReply::SubscriptionsExceeded,
                    CloseReason::SubscriptionsExceeded,
                ))
            }
        }
    }

    fn handle_unsubscribe(
        &mut self,
        end: &RemoteUnsubscribe<'_>,
        now: Instant,
    ) -> Result<(), Halt> {
        self.heartbeat.active(now);
        if self.link.is_none() {
            return Err(self.too_early());
        }
        let own = self.account.as_deref().map(str::as_bytes);
        let account = end.account.or(own).unwrap_or_default();
        self.interest.unsubscribe(end, account);
        self.confirm(now);
        Ok(())
    }

    /// Asks the peer for a sign of life.
    pub(super) fn ping(&mut self, now: Instant) {
        let mut text = Vec::new();
        route::ping(&mut text);
        self.say(&text, now);
        self.heartbeat.pinged(now);
        self.handover.pinged();
    }

    /// Says that all is well to a peer that wants to hear it.
    fn confirm(&self, now: Instant) {
        if self.is_verbose {
            self.say(b"+OK\r\n", now);
        }
    }

    /// Somebody encrypts who is not to.
    fn wrong_language(&self) -> Halt {
        self.complain(
            "TLS",
            &"The other side uses TLS, and routes of this server are in clear text: the block `cluster` has no `tls`",
        );
        Halt::tell(
            &ErrorReply::AuthorizationViolation,
            CloseReason::AuthenticationViolation,
        )
    }

    /// Messages or interest from somebody who has not been let in.
    fn too_early(&self) -> Halt {
        self.complain("no INFO", &"The other side did not say INFO first");
        Halt::Silent(CloseReason::ProtocolViolation)
    }

    /// The peer has closed the connection, and says why.
    fn was_refused(&self, text: &[u8]) {
        if text.starts_with(b"Not possible to have a dedicated route") {
            return self.has_no_pool();
        }
        let text = String::from_utf8_lossy(text);
        let remedies: &[(&str, &str)] = &[
            (
                "Authorization Violation",
                ": the login of this server's `routes` is not the one that the other server asks for",
            ),
            (
                "Unknown Protocol Operation",
                ": this may be no port for routes",
            ),
            (
                "Rejecting connection, cluster name",
                ": all servers of a cluster have the same `name`",
            ),
            (
                "No route for account",
                ": let `accounts` of the cluster be the same on all servers",
            ),
            (
                "Stale Connection",
                ": this server did not answer it in time, since it was paused or overloaded, or the line was cut",
            ),
            (
                "Unable to lookup account",
                ": the account is in `accounts` of this server's cluster, and the other server does not have it",
            ),
        ];
        let found = remedies.iter().find(|(start, _)| text.starts_with(start));
        let (thing, remedy) = found.copied().unwrap_or(("error", ""));
        let text = Shown(&text);
        self.complain(thing, &format_args!("Route Error '{text}'{remedy}"));
    }

    /// What a fault of the peer's comes to, in what it said.
    fn fault(&self, error: ProtocolError, input: &[u8]) -> Halt {
        if input[0].eq_ignore_ascii_case(&b'C') {
            // A password may be in it.
            self.complain("fault", &error);
        } else {
            let start = Start(input);
            let remedy = match self.stage {
                Stage::Info if self.dialled.is_some() => ": this is no port for routes",
                _ => "",
            };
            self.complain(
                &format!("fault {start}"),
                &format_args!("{error}: {start}{remedy}"),
            );
        }
        match error.reply() {
            Some(reply) => Halt::tell(&reply, error.into()),
            None => Halt::Silent(error.into()),
        }
    }
}
