//! Every operation but messages: CONNECT, SUB, UNSUB, PING and their answers.

use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::client::{self, ClientOp, ConnectOptions, Subscribe, Unsubscribe};
use natterjack_wire::error::ErrorReply;

use super::input::{Halt, authorization_violation};
use super::{ClientSession, Rules};
use crate::close_reason::CloseReason;
use crate::delivery::Subscriber;
use crate::delivery::subscription::{Sid, Subscription};
use crate::delivery::worker::{Worker, remove_from_index};

impl ClientSession {
    pub(super) fn handle_operation(
        &mut self,
        op: &ClientOp<'_>,
        worker: &mut Worker,
        now: Instant,
    ) -> Result<(), Halt> {
        match op {
            ClientOp::Publish(_) => unreachable!("handled with the run"),
            ClientOp::Connect(json) => self.handle_connect(json, worker, now)?,
            ClientOp::Subscribe(subscribe) => {
                self.heartbeat.active(now);
                self.handle_subscribe(subscribe, worker);
            }
            ClientOp::Unsubscribe(unsubscribe) => {
                self.heartbeat.active(now);
                self.handle_unsubscribe(unsubscribe, worker);
            }
            ClientOp::Ping => {
                self.heartbeat.active(now);
                self.handle_ping(worker);
            }
            ClientOp::Pong => self.heartbeat.answered(now),
            ClientOp::Ok => {}
            ClientOp::Info(json) => {
                if client::ServerInfo::parse(json).is_err() {
                    return Err(Halt::Silent(CloseReason::ProtocolViolation));
                }
            }
            ClientOp::Err(_) => return Err(Halt::Silent(CloseReason::ParseError)),
        }
        Ok(())
    }

    fn handle_connect(
        &mut self,
        json: &[u8],
        worker: &mut Worker,
        now: Instant,
    ) -> Result<(), Halt> {
        let is_first = self.connect.is_none();
        let mut options = self.connect.take().unwrap_or_default();
        if let Err(error) = options.merge_json(json) {
            tracing::debug!("{} - CONNECT refused: {error}", self.label());
            return Err(Halt::Silent(CloseReason::ProtocolViolation));
        }
        if !is_first {
            self.drop_subscriptions();
        }
        self.auth_deadline = None;
        self.introduce(&options, shown_user(&options));
        let is_authorized = self.config.authorization.accepts(&options);
        let names_account = options.new_account || !options.account.is_empty();
        self.rules = Rules::of(&options);
        // A server may know none, whatever the client knows.
        self.rules.headers &= self.config.info.headers;
        let protocol = options.protocol;
        self.connect = Some(options);
        if !is_authorized || names_account {
            tracing::error!("{} - authentication error", self.label());
            return Err(authorization_violation());
        }
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

    fn handle_ping(&mut self, worker: &mut Worker) {
        let mut text = Vec::new();
        client::pong(&mut text);
        let Some(connect) = self.connect.as_ref().filter(|_| !self.first_pong_sent) else {
            self.reply(&text, worker);
            return;
        };
        // The first PING after CONNECT proves that a client that knows asynchronous INFO is ready for one.
        self.first_pong_sent = true;
        if connect.protocol >= 1 {
            self.outbox.set_accepts_info();
            let info = client::ServerInfo {
                connect_info: true,
                remote_account: self.account.name().to_owned(),
                ..self.info()
            };
            client::info(&mut text, &info);
        }
        self.reply(&text, worker);
    }

    fn handle_subscribe(&mut self, subscribe: &Subscribe<'_>, worker: &mut Worker) {
        if let Err(reply) = self.subscribe(subscribe) {
            self.reply_error(&reply, worker);
        } else {
            self.acknowledge(worker);
        }
    }

    fn subscribe<'a>(&mut self, subscribe: &Subscribe<'a>) -> Result<(), ErrorReply<'a>> {
        let Subscribe {
            subject,
            queue,
            sid,
        } = *subscribe;
        // nats-server keeps this queue group's name for its own use.
        if let Some(queue @ b"_sys_") = queue {
            return Err(ErrorReply::QueueSubscribeDenied { subject, queue });
        }
        let tokens_max = self.config.limits.subscription_tokens_max;
        if tokens_max.is_some_and(|max| subject.split(|&byte| byte == b'.').count() > max) {
            return Err(ErrorReply::TooManyTokens { subject });
        }
        self.forget_finished();
        let subscriptions_max = self.config.limits.subscriptions_max;
        if subscriptions_max.is_some_and(|max| self.subscriptions.len() >= max) {
            return Err(ErrorReply::SubscriptionsExceeded);
        }
        let hashbrown::hash_map::Entry::Vacant(vacant) =
            self.subscriptions.entry(Sid::from_slice(sid))
        else {
            return Ok(());
        };
        let subscription = Arc::new(Subscription::new(
            Arc::clone(&self.outbox),
            sid,
            subject,
            queue,
        ));
        self.account
            .index()
            .insert(subject, queue, Subscriber(Arc::clone(&subscription)))
            .map_err(|_| ErrorReply::InvalidSubject)?;
        vacant.insert(subscription);
        Ok(())
    }

    fn handle_unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>, worker: &mut Worker) {
        if let Some(subscription) = self.subscriptions.get(unsubscribe.sid) {
            // Under the outbox's lock, so that no message of this subscription follows the acknowledgement.
            let goes_on = self.outbox.locked(|| {
                let goes_on = unsubscribe.max.is_some_and(|max| subscription.limit(max));
                if !goes_on {
                    subscription.close();
                }
                goes_on
            });
            if !goes_on {
                remove_from_index(&self.account, subscription);
                self.subscriptions.remove(unsubscribe.sid);
            }
        }
        self.acknowledge(worker);
    }

    pub(super) fn acknowledge(&self, worker: &mut Worker) {
        if self.rules.verbose {
            let mut text = Vec::new();
            client::ok(&mut text);
            self.reply(&text, worker);
        }
    }

    pub(super) fn reply_error(&self, reply: &ErrorReply<'_>, worker: &mut Worker) {
        let mut text = Vec::new();
        client::error(&mut text, reply);
        self.reply(&text, worker);
    }

    pub(super) fn reply(&self, text: &[u8], worker: &mut Worker) {
        if tracing::enabled!(tracing::Level::TRACE) {
            self.trace_out(text);
        }
        if self.outbox.append(text) {
            worker.deliverer.touch(&self.outbox);
        }
    }
}

/// What is shown of the credentials in a CONNECT, as nats-server does.
fn shown_user(options: &ConnectOptions) -> Option<&str> {
    let shown = [
        (!options.nkey.is_empty()).then_some(options.nkey.as_str()),
        (!options.user.is_empty()).then_some(options.user.as_str()),
        (!options.auth_token.is_empty()).then_some("[REDACTED]"),
    ];
    shown.into_iter().flatten().next()
}
