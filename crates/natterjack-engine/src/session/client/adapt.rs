//! How a session that runs changes over to a new configuration.

use std::sync::Arc;
use std::time::Instant;

use natterjack_wire::client::{self, ConnectOptions};

use super::ClientSession;
use crate::account::Account;
use crate::monitor::record::Noted;
use crate::monitor::{ClientFacts, TlsFacts};
use crate::system::Report;

impl ClientSession {
    /// Tells the session the time, and changes it over to the configuration in force if it goes by an older one. To
    /// be called before anything else whenever the connection's task runs; [`handle_read`](Self::handle_read)
    /// does so by itself. May close the connection.
    #[inline]
    pub fn adapt(&mut self, now: Instant) {
        self.now = now;
        if self.config.generation != self.engine.generation() {
            self.change_over(now);
        }
    }

    #[cold]
    fn change_over(&mut self, now: Instant) {
        let config = self.engine.config();
        let former = std::mem::replace(&mut self.config, config);
        if !self.partial.is_none() {
            self.began_under.get_or_insert_with(|| Arc::clone(&former));
        }
        self.heartbeat.adapt(&self.config.limits, now);
        let former_payload_bytes_max = self.payload_bytes_max(former.limits.payload_bytes_max);
        self.change_access(&former, now);
        self.adapt_account();
        let payload_bytes_max = self.payload_bytes_max(self.config.limits.payload_bytes_max);
        let is_of_concern = payload_bytes_max != former_payload_bytes_max
            || former.info.max_payload != self.config.info.max_payload
            || former.info.connect_urls != self.config.info.connect_urls;
        // The rest of INFO is about how to connect.
        if is_of_concern && self.outbox.accepts_info() {
            let mut text = Vec::new();
            client::info(&mut text, &self.info());
            self.outbox.append(&text);
            self.outbox.flush(now);
        }
        // Last, because somebody may wait for it.
        self.outbox
            .adapt(self.config.generation, self.config.outbox_limits());
        self.note();
    }

    /// The connection is encrypted; for monitoring.
    pub fn set_tls(&self, facts: TlsFacts) {
        self.record.change_client(|client| ClientFacts {
            tls: Some(Arc::new(facts)),
            ..client.clone()
        });
    }

    /// Notes who the client says it is. `user` is shown in monitoring: no secret may be in it.
    pub(super) fn introduce(&self, options: &ConnectOptions, user: Option<&str>) {
        self.record.change_client(|client| ClientFacts {
            name: options.name.as_str().into(),
            language: options.lang.as_str().into(),
            version: options.version.as_str().into(),
            user: user.map(Into::into),
            account: Arc::clone(self.account.shared_name()),
            tls: client.tls.clone(),
        });
    }

    /// Puts the client into another account, which has counted it already. Its subscriptions stay behind.
    pub(super) fn enter(&mut self, account: Arc<Account>) {
        // A second CONNECT has ended them already; before the first only an embedder's own client can have any.
        if !self.subscriptions.is_empty() {
            self.drop_subscriptions();
        }
        self.account.counters.left();
        if !self.retired.is_empty() {
            self.retired_from = Some(Arc::clone(&self.account));
        }
        self.record.change_client(|client| ClientFacts {
            account: Arc::clone(account.shared_name()),
            ..client.clone()
        });
        self.account = account;
        self.adapt_account();
        self.report_account();
    }

    /// Goes by what the configuration says about the account.
    fn adapt_account(&mut self) {
        let mappings = self.config.mappings(self.account.name());
        self.mappings = mappings.map(Arc::clone);
        let trace = self.config.message_trace(self.account.name());
        self.message_trace = trace.map(Arc::clone);
        let services = self.config.service_imports(self.account.name());
        self.service_imports = services.map(Arc::clone);
        let imports = self.config.stream_imports(self.account.name());
        let former = std::mem::replace(&mut self.stream_imports, imports.map(Arc::clone));
        let is_same = former.as_ref().map(Arc::as_ptr) == imports.map(Arc::as_ptr);
        if !is_same {
            for held in self.subscriptions.values() {
                let interests = imports.map_or_else(Vec::new, |imports| {
                    imports.interests(held.subject()).collect()
                });
                held.cast_shadows(&self.account, interests);
            }
        }
    }

    /// Reports that the number of connections of the client's account has changed. Nobody keeps count of those in the
    /// global one, as on nats-server.
    pub(super) fn report_account(&self) {
        if !Arc::ptr_eq(&self.account, self.engine.global_account()) {
            let account = &self.account;
            self.engine
                .report(|| Report::AccountConnections(Arc::clone(account)));
        }
    }

    /// Shows monitoring how things stand.
    pub(super) fn note(&self) {
        self.record.note(Noted {
            active: self.heartbeat.last_active(),
            round_trip: self.heartbeat.round_trip(),
            messages_in: self.messages_in,
            bytes_in: self.bytes_in,
            subscriptions: self.subscriptions.len(),
        });
    }
}
