//! Who the client is: CONNECT, the checks that take their time, and what a new configuration makes of a client that
//! is here already.

use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::client::{self, ConnectOptions};
use natterjack_wire::error::ErrorReply;

use super::input::Halt;
use super::{ClientSession, Rules};
use crate::access::{
    AccountLimits, Admission, CompiledPermissions, ConnectionType, Facts, PasswordCheck, Refusal,
    UserName, Verdict,
};
use crate::close_reason::CloseReason;
use crate::config::Config;
use crate::delivery::subscription::Subscription;
use crate::delivery::worker::{Worker, remove_from_index};
use crate::engine::{Nonce, Trust};
use crate::monitor::Stop;
use crate::system::Report;

/// What is known of who the client is.
pub(super) struct Identity {
    /// What a user with a key has to sign.
    pub(super) nonce: Nonce,
    trust: Trust,
    /// Absent for those who are nobody in particular.
    pub(super) user: Option<UserName>,
    pub(super) permissions: Option<Arc<CompiledPermissions>>,
    /// Of the account.
    limits: AccountLimits,
    /// Whether a CONNECT was accepted, or something else in its place.
    pub(super) is_admitted: bool,
    checking: Option<Box<Checking>>,
}

/// A verdict that is waited for.
struct Checking {
    /// Until it is handed out.
    check: Option<PasswordCheck>,
    admission: Admission,
    occasion: Occasion,
    /// Users have changed since: whatever the outcome is, the question is another.
    is_outdated: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Occasion {
    Connect,
    Reconfiguration,
}

impl Identity {
    pub(super) fn new(nonce: Nonce, trust: Trust) -> Self {
        Self {
            nonce,
            trust,
            user: None,
            permissions: None,
            limits: AccountLimits::default(),
            is_admitted: false,
            checking: None,
        }
    }
}

impl ClientSession {
    /// A password to be checked, once for each. Until [`finish_check`](Self::finish_check) is told the outcome, the
    /// session carries out nothing and nothing is to be read; its timeouts go on.
    ///
    /// [`PasswordCheck::run`] takes up to seconds of a processor: run it on a thread where that does not matter, and
    /// not many at a time.
    pub fn pending_check(&mut self) -> Option<PasswordCheck> {
        self.identity.checking.as_mut()?.check.take()
    }

    /// Whether the outcome of a [`pending_check`](Self::pending_check) is waited for.
    #[must_use]
    pub fn is_checking(&self) -> bool {
        self.identity.checking.is_some()
    }

    /// The outcome of a [`pending_check`](Self::pending_check). Goes on with what was read before; like
    /// [`handle_read`](Self::handle_read) it may deliver, or leave another check pending.
    pub fn finish_check(&mut self, is_right: bool, worker: &mut Worker, now: Instant) {
        let Some(checking) = self.identity.checking.take() else {
            return;
        };
        if self.outbox.is_closed() {
            return;
        }
        let Checking {
            admission,
            occasion,
            is_outdated,
            ..
        } = *checking;
        let verdict = if is_outdated {
            let options = self.connect.take().unwrap_or_default();
            let verdict = self.authorize(&options, None);
            self.connect = Some(options);
            verdict
        } else if is_right {
            Verdict::Admitted(admission)
        } else {
            Verdict::Refused(Refusal::WrongPassword)
        };
        let outcome = match (verdict, occasion) {
            (Verdict::Admitted(admission), Occasion::Connect) => {
                self.finish_connect(admission, worker, now)
            }
            (Verdict::Admitted(admission), Occasion::Reconfiguration) => {
                self.follow(admission, now)
            }
            (Verdict::Pending(check, admission), occasion) => {
                self.check(check, admission, occasion, now);
                Ok(())
            }
            (Verdict::Refused(refusal), _) => Err(self.refused(refusal, now)),
        };
        self.resume(outcome, worker, now);
    }

    pub(super) fn handle_connect(
        &mut self,
        json: &[u8],
        worker: &mut Worker,
        now: Instant,
    ) -> Result<(), Halt> {
        self.heartbeat.introduced(now);
        // Also for what is told of who is refused.
        self.note();
        let is_first = self.connect.is_none();
        let mut options = self.connect.take().unwrap_or_default();
        if let Err(error) = options.merge_json(json) {
            self.tell_of_bad_connect(json, &error, now);
            return Err(Halt::Silent(CloseReason::ProtocolViolation));
        }
        if is_first && let Some(halt) = self.route_by_connect(&options, json, now) {
            return Err(halt);
        }
        if !is_first {
            self.drop_subscriptions();
        }
        self.rules = Rules::of(&options);
        // A server may know none, whatever the client knows.
        self.rules.headers &= self.config.info.headers;
        let verdict = self.authorize(&options, None);
        self.connect = Some(options);
        match verdict {
            Verdict::Admitted(admission) => self.finish_connect(admission, worker, now),
            Verdict::Pending(check, admission) => {
                self.check(check, admission, Occasion::Connect, now);
                Ok(())
            }
            Verdict::Refused(refusal) => Err(self.refused(refusal, now)),
        }
    }

    /// Something else than CONNECT came first: lets the client in if it need not say who it is.
    pub(super) fn skip_connect(&mut self, now: Instant) -> Result<(), Halt> {
        let options = ConnectOptions::default();
        let verdict = if self.config.directory.may_skip_connect() {
            self.authorize(&options, None)
        } else {
            Verdict::Refused(Refusal::NoCredentials)
        };
        match verdict {
            Verdict::Admitted(admission) => {
                self.connect = Some(Box::new(options));
                self.auth_deadline = None;
                self.admit(admission)
            }
            // Whoever has no credentials has no password to check.
            Verdict::Pending(..) => Err(self.refused(Refusal::NoCredentials, now)),
            Verdict::Refused(refusal) => Err(self.refused(refusal, now)),
        }
    }

    fn finish_connect(
        &mut self,
        admission: Admission,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<(), Halt> {
        let Some(options) = &self.connect else {
            return Err(Halt::Silent(CloseReason::ProtocolViolation));
        };
        let (protocol, names_account) = (
            options.protocol,
            options.new_account || !options.account.is_empty(),
        );
        if names_account {
            return Err(self.refused(Refusal::NamesAccount, now));
        }
        self.auth_deadline = None;
        self.admit(admission)?;
        let jitter = fastrand::Rng::with_seed(self.engine.seed()).f64();
        self.heartbeat.connected(&self.config.limits, jitter, now);
        if !(0..=1).contains(&protocol) {
            return Err(Halt::Tell(
                ErrorReply::InvalidClientProtocol,
                CloseReason::ClientProtocolVersion,
            ));
        }
        if self.rules.no_responders && !self.rules.headers {
            return Err(Halt::Tell(
                ErrorReply::NoRespondersRequiresHeaders,
                CloseReason::NoRespondersRequiresHeaders,
            ));
        }
        self.outbox.set_headers(self.rules.headers);
        self.acknowledge(worker);
        Ok(())
    }

    /// The one question every way in asks. `proven` is a secret that the client has shown to know before.
    fn authorize(
        &self,
        options: &ConnectOptions,
        proven: Option<&crate::access::Secret>,
    ) -> Verdict {
        if let Trust::Embedder(user) = &self.identity.trust {
            return match self.config.directory.admit_trusted(user.as_deref()) {
                Some(admission) => Verdict::Admitted(admission),
                None => Verdict::Refused(Refusal::UnknownUser),
            };
        }
        let connection_type = match self.record.address() {
            Some(_) => ConnectionType::Standard,
            None => ConnectionType::InProcess,
        };
        let facts = Facts {
            connection_type,
            certificate: self.certificate_names.as_deref(),
            nonce: self.identity.nonce.text(),
            proven,
        };
        self.config.directory.authorize(options, facts)
    }

    fn check(
        &mut self,
        check: PasswordCheck,
        admission: Admission,
        occasion: Occasion,
        now: Instant,
    ) {
        self.identity.checking = Some(Box::new(Checking {
            check: Some(check),
            admission,
            occasion,
            is_outdated: false,
        }));
        // It is waited for no longer than for the client itself.
        self.auth_deadline
            .get_or_insert(now + self.config.limits.auth_timeout);
        self.outbox.wake();
    }

    /// Puts the client where it belongs, under the rules that hold for it.
    fn admit(&mut self, admission: Admission) -> Result<(), Halt> {
        let Admission {
            account,
            user,
            permissions,
        } = admission;
        let name = account.as_deref().unwrap_or(crate::account::GLOBAL_ACCOUNT);
        let Some((account, limits)) = self.config.account(name) else {
            return Err(Halt::Tell(
                ErrorReply::AccountRegistrationFailed,
                CloseReason::MissingAccount,
            ));
        };
        let is_same_account = Arc::ptr_eq(account, &self.account);
        if !is_same_account {
            let account = Arc::clone(account);
            if !account
                .counters
                .entered_within(bound(limits.connections_max))
            {
                self.tell_of_surplus("maximum account active connections exceeded", self.now);
                return Err(Halt::Tell(
                    ErrorReply::AccountConnectionsExceeded,
                    CloseReason::AccountConnectionsExceeded,
                ));
            }
            self.enter(account);
        }
        self.identity.limits = limits;
        let user = user.or_else(|| self.connect.as_deref().and_then(claimed_user));
        let former = std::mem::replace(&mut self.identity.user, user);
        let is_same_user = is_same_account && former == self.identity.user;
        (self.outbox.restrictions()).set(permissions.as_ref(), is_same_user);
        self.identity.permissions = permissions;
        let was_admitted = std::mem::replace(&mut self.identity.is_admitted, true);
        if let Some(options) = &self.connect {
            let user = self.identity.user.as_ref().map(ToString::to_string);
            self.introduce(options, user.as_deref());
        }
        if !was_admitted {
            self.engine
                .report(|| Report::Connected(self.record.snapshot(None)));
        }
        Ok(())
    }

    /// Tells the operator that it is one client too many.
    pub(super) fn tell_of_surplus(&self, what: &str, now: Instant) {
        if let Some(unlogged) = self.engine.may_log_surplus(now) {
            if unlogged > 0 {
                tracing::error!("{unlogged} more connections too many within a second");
            }
            tracing::error!("{} - {what}", self.label());
        }
    }

    /// Refuses the client, and tells the operator why.
    fn refused(&self, refusal: Refusal, now: Instant) -> Halt {
        let label = self.label();
        let user = self.connect.as_deref().and_then(claimed_user);
        if let Some(suppressed) = self.engine.may_log_refusal(now) {
            if suppressed > 0 {
                tracing::error!("{suppressed} more authentication errors within a second");
            }
            match user {
                Some(UserName::Nkey(nkey)) => {
                    tracing::error!("{label} - authentication error - Nkey {nkey:?}");
                }
                Some(UserName::Name(name)) => {
                    tracing::error!("{label} - authentication error - User {name:?}");
                }
                Some(UserName::Token) => {
                    tracing::error!("{label} - authentication error - Token \"[REDACTED]\"");
                }
                // Whoever shows a certificate may have meant to come in by that.
                None if refusal != Refusal::NamesAccount && self.certificate_names.is_none() => {
                    tracing::error!("{label} - authentication error: no user was given");
                }
                None => tracing::error!("{label} - authentication error"),
            }
        }
        tracing::debug!("{label} - {refusal}");
        if let Some(options) = &self.connect {
            // Monitoring shows who it was that did not get in.
            let user = claimed_user(options).map(|user| user.to_string());
            self.introduce(options, user.as_deref());
        }
        let stop = Stop {
            at: now,
            reason: CloseReason::AuthenticationViolation,
        };
        self.engine
            .report(|| Report::AuthenticationFailed(self.record.snapshot(Some(stop))));
        Halt::Tell(
            ErrorReply::AuthorizationViolation,
            CloseReason::AuthenticationViolation,
        )
    }

    /// What a new configuration means for who this client is and what it may do (options reference, section 9).
    pub(super) fn change_access(&mut self, former: &Config, now: Instant) {
        let is_same = self.config.access_generation == former.access_generation;
        if is_same || self.outbox.is_closed() || self.is_turned_away {
            return;
        }
        if let Some(checking) = &mut self.identity.checking {
            checking.is_outdated = true;
            return;
        }
        if self.connect.is_none() {
            self.change_expectation(now);
            return;
        }
        let options = self.connect.take().unwrap_or_default();
        // Only of the user it was taken for: whom it claims to be beside that was never looked at.
        let claimed = claimed_user(&options);
        let is_proven = self.identity.user.is_some() && self.identity.user == claimed;
        let proven = former.directory.secret_for(&options).filter(|_| is_proven);
        let verdict = self.authorize(&options, proven);
        let directory = &self.config.directory;
        let is_known = (self.identity.user.as_ref()).is_none_or(|user| directory.knows(user));
        self.connect = Some(options);
        let was_known =
            (self.identity.user.as_ref()).is_some_and(|user| former.directory.knows(user));
        let outcome = match verdict {
            // A user who is gone is let go without a word, as on nats-server; also where it may come back at once as
            // somebody else.
            _ if was_known && !is_known => Err(Halt::Silent(CloseReason::ClientClosed)),
            Verdict::Admitted(admission) => self.follow(admission, now),
            _ if !is_known => Err(Halt::Silent(CloseReason::ClientClosed)),
            Verdict::Pending(check, admission) if check.counts() => {
                self.check(check, admission, Occasion::Reconfiguration, now);
                Ok(())
            }
            Verdict::Pending(..) => Err(self.refused(Refusal::WrongPassword, now)),
            Verdict::Refused(refusal) => Err(self.refused(refusal, now)),
        };
        match outcome {
            Ok(()) => {}
            Err(Halt::Tell(reply, reason)) => self.send_last(reply, reason, now),
            Err(Halt::Silent(reason)) => self.outbox.close(reason),
        }
    }

    /// The client has not said who it is. It may have to from now on, or not any more.
    fn change_expectation(&mut self, now: Instant) {
        if !self.config.directory.is_closed() || self.identity.trust.is_trusted() {
            self.auth_deadline = None;
        } else if self.auth_deadline.is_none() {
            // It came in when nothing was asked for.
            if let Err(halt) = self.skip_connect(now) {
                match halt {
                    Halt::Tell(reply, reason) => self.send_last(reply, reason, now),
                    Halt::Silent(reason) => self.outbox.close(reason),
                }
            }
        }
    }

    /// The client is still welcome: it goes by its new permissions, or has to come back if it belongs to another
    /// account now.
    fn follow(&mut self, admission: Admission, now: Instant) -> Result<(), Halt> {
        let name = admission.account.as_deref();
        let name = name.unwrap_or(crate::account::GLOBAL_ACCOUNT);
        // The very same: one of this name may have been removed and have come back since this session last looked.
        let stays = self
            .config
            .account(name)
            .is_some_and(|(account, _)| Arc::ptr_eq(account, &self.account));
        if !stays {
            return Err(Halt::Silent(CloseReason::ClientClosed));
        }
        self.auth_deadline = None;
        self.admit(admission)?;
        self.recheck_subscriptions(now);
        Ok(())
    }

    /// Ends subscriptions that are not permitted any more, and tells the client which.
    fn recheck_subscriptions(&mut self, now: Instant) {
        let permissions = self.identity.permissions.as_deref();
        let is_permitted = |held: &Subscription| {
            permissions.is_none_or(|rules| rules.may_subscribe(held.subject(), held.queue()))
        };
        let mut removed: Vec<Arc<Subscription>> = self
            .subscriptions
            .extract_if(|_, held| !is_permitted(held))
            .map(|(_, held)| held)
            .collect();
        for held in self.subscriptions.values() {
            held.restrict(permissions);
        }
        // In the order the client would expect.
        removed.sort_by(|a, b| (a.sid().len(), a.sid()).cmp(&(b.sid().len(), b.sid())));
        let user = self.identity.user.as_ref().map(UserName::described);
        let user = user.unwrap_or_else(|| "User \"N/A\"".to_owned());
        for held in removed {
            self.outbox.locked(|| held.close());
            remove_from_index(&self.account, &held);
            let (subject, sid) = (held.subject(), held.sid());
            let mut text = Vec::new();
            let (shown_subject, shown_sid) = (shown(subject), shown(sid));
            let reply = match held.queue() {
                Some(queue) => {
                    tracing::info!(
                        "Removed sub {shown_subject:?} using queue {:?} (sid {shown_sid:?}) for {user} - not authorized",
                        shown(queue),
                    );
                    ErrorReply::QueueSubscriptionRevoked {
                        subject,
                        queue,
                        sid,
                    }
                }
                None => {
                    tracing::info!(
                        "Removed sub {shown_subject:?} (sid {shown_sid:?}) for {user} - not authorized"
                    );
                    ErrorReply::SubscriptionRevoked { subject, sid }
                }
            };
            client::error(&mut text, &reply);
            self.outbox.append(&text);
        }
        self.outbox.flush(now);
    }

    /// Bytes of the largest message this client may publish.
    pub(super) fn payload_bytes_max(&self, server: usize) -> usize {
        server.min(bound(self.identity.limits.payload_bytes_max))
    }

    /// Subscriptions this client may hold.
    pub(super) fn subscriptions_max(&self) -> usize {
        let server = self.config.limits.subscriptions_max.unwrap_or(usize::MAX);
        server.min(bound(self.identity.limits.subscriptions_max))
    }
}

/// A bound of an account's; absent and negative ones bound nothing.
fn bound(limit: Option<i64>) -> usize {
    limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX)
}

/// What a client sent, for the log.
pub(super) fn shown(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Who the client says it is.
fn claimed_user(options: &ConnectOptions) -> Option<UserName> {
    if !options.nkey.is_empty() {
        Some(UserName::Nkey(options.nkey.as_str().into()))
    } else if !options.user.is_empty() {
        Some(UserName::Name(options.user.as_str().into()))
    } else {
        (!options.auth_token.is_empty()).then_some(UserName::Token)
    }
}
