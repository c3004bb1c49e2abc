//! What the server is doing, for the log: the answer to SIGQUIT.

use std::time::Instant;

use natterjack_server::Server;

/// What is known besides the server.
pub(crate) struct State {
    started: Instant,
}

impl State {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long the process has run is for people, nothing is decided by it"
    )]
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Logs it, a line per fact.
    pub(crate) fn log(&self, server: &Server) {
        let totals = server.totals();
        let lines = [
            ("Server ID", server.server_id().to_owned()),
            ("Uptime", format!("{} s", self.started.elapsed().as_secs())),
            ("Listening", format!("{:?}", server.client_addrs())),
            ("Connections", server.connections().to_string()),
            ("Subscriptions", server.subscriptions().to_string()),
            ("Totals", format!("{totals:?}")),
        ];
        tracing::info!("State of the server before it is ended by SIGQUIT:");
        for (name, value) in lines {
            tracing::info!("  {name}: {value}");
        }
    }
}
