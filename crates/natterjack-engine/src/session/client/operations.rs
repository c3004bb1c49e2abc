//! Every operation but messages: CONNECT, SUB, UNSUB, PING and their answers.

use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::client::{self, ClientOp, Subscribe, Unsubscribe};
use natterjack_wire::error::ErrorReply;

use super::ClientSession;
use super::input::Halt;
use super::login::shown;
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
                let info = client::ServerInfo::parse(json)
                    .map_err(|_| Halt::Silent(CloseReason::ProtocolViolation))?;
                if let Some(halt) = self.route_by_info(&info, now) {
                    return Err(halt);
                }
            }
            ClientOp::Err(_) => return Err(Halt::Silent(CloseReason::ParseError)),
        }
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
                // Here nats-server says so even if there is a user for those without credentials.
                auth_required: self.config.directory.is_closed(),
                remote_account: self.account.name().to_owned(),
                acc_is_sys: self.account.name() == &**self.config.directory.system_account(),
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
        let is_reserved = queue.is_some_and(|queue| queue == b"_sys_");
        let permissions = self.identity.permissions.as_deref();
        if is_reserved || permissions.is_some_and(|rules| !rules.may_subscribe(subject, queue)) {
            return Err(self.subscription_violation(subscribe));
        }
        let tokens_max = self.config.limits.subscription_tokens_max;
        if tokens_max.is_some_and(|max| subject.split(|&byte| byte == b'.').count() > max) {
            return Err(ErrorReply::TooManyTokens { subject });
        }
        self.forget_finished();
        if self.subscriptions.len() >= self.subscriptions_max() {
            if self.may_log_violation() {
                tracing::error!("{} - maximum subscriptions exceeded", self.label());
            }
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
        subscription.restrict(self.identity.permissions.as_deref());
        self.account
            .insert(&Subscriber(Arc::clone(&subscription)))
            .map_err(|_| ErrorReply::InvalidSubject)?;
        if let Some(imports) = &self.stream_imports {
            let interests = imports.interests(subject);
            interests.for_each(|interest| subscription.cast_shadow(&self.account, interest));
        }
        vacant.insert(subscription);
        Ok(())
    }

    fn subscription_violation<'a>(&self, subscribe: &Subscribe<'a>) -> ErrorReply<'a> {
        let Subscribe {
            subject,
            queue,
            sid,
        } = *subscribe;
        if self.may_log_violation() {
            let (label, shown_subject, sid) = (self.label(), shown(subject), shown(sid));
            let sid = sid.escape_debug();
            match queue {
                Some(queue) => tracing::error!(
                    "{label} - Subscription Violation - Subject {shown_subject:?}, Queue: {:?}, SID {sid}",
                    shown(queue),
                ),
                None => tracing::error!(
                    "{label} - Subscription Violation - Subject {shown_subject:?}, SID {sid}"
                ),
            }
        }
        match queue {
            Some(queue) => ErrorReply::QueueSubscribeDenied { subject, queue },
            None => ErrorReply::SubscribeDenied { subject },
        }
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
