//! What the server is doing, for the log: the answer to SIGQUIT, where nats-server's runtime prints its stacks.
//!
//! Whoever sends that signal may do so because the server does not answer any more; so it is asked from a thread of its
//! own, with a deadline.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use natterjack_server::Server;
use natterjack_server::monitoring::{ConnzOptions, ConnzSort};

/// How long the server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// The connections with the most bytes waiting are logged one by one, up to this many.
const CONNECTIONS_MAX: usize = 100;

/// Logs it, a line per fact.
pub(crate) fn log(server: &Arc<Server>) {
    tracing::info!("State of the server before it is ended by SIGQUIT:");
    let (sender, answer) = channel();
    let server = Arc::clone(server);
    let asking = std::thread::Builder::new().spawn(move || {
        // The receiver is gone if this took too long.
        let _ = sender.send(lines(&server));
    });
    match asking.map(|_| answer.recv_timeout(ANSWER_MAX)) {
        Ok(Ok(lines)) => lines.iter().for_each(|line| tracing::info!("  {line}")),
        Ok(Err(_)) => {
            tracing::error!("  it has not answered for {ANSWER_MAX:?}: it has come to a standstill")
        }
        Err(error) => tracing::error!("  it cannot be asked: {error}"),
    }
}

fn lines(server: &Server) -> Vec<String> {
    let varz = server.varz();
    let totals = server.totals();
    let mut lines = vec![
        format!("Server ID: {}", server.server_id()),
        format!("Uptime: {}", varz.uptime),
        format!("Memory: {} bytes, processor: {} %", varz.mem, varz.cpu),
        format!("Listening: {:?}", server.client_addrs()),
        format!("Connections: {}", server.connections()),
        format!("Subscriptions: {}", server.subscriptions()),
        format!(
            "Messages in: {}, bytes: {}",
            totals.messages_in, totals.bytes_in
        ),
        format!(
            "Messages out: {}, bytes: {}",
            totals.messages_out, totals.bytes_out
        ),
        format!(
            "Slow consumers: {}, stale connections: {}, stalls: {}, messages dropped: {}",
            totals.slow_consumers, totals.stale_connections, totals.stalls, totals.messages_dropped
        ),
    ];
    let options = ConnzOptions {
        sort: ConnzSort::Pending,
        limit: CONNECTIONS_MAX,
        ..ConnzOptions::default()
    };
    if let Ok(connz) = server.connz(&options) {
        let connections = connz.connections.iter();
        // Plain data with text as keys: it can always be written.
        let texts = connections.filter_map(|connection| serde_json::to_string(connection).ok());
        lines.extend(texts.map(|text| format!("Connection: {text}")));
        let others = connz.total.saturating_sub(connz.connections.len());
        if others > 0 {
            lines.push(format!("and {others} more with fewer bytes waiting"));
        }
    }
    lines
}
