//! Which servers of a cluster have no node of the bus at all.
//!
//! A node waits for an answer from every server that its own is connected with, since only that proves that its words
//! arrive there. Where there is no node nobody answers, so the servers themselves are asked who listens: every account may
//! ask all servers for its connections (`$SYS.REQ.ACCOUNT.PING.CONNZ`; nats-server 2.9 and later, and ours). A server that
//! does not say is waited for like any other. So is one that a node embeds, which a tag tells: that node is on its way.

use std::time::Duration;

use natterjack_server::{InProcessClient, Server};
use serde::Deserialize;

/// Where an account asks every server for its connections.
const QUESTION: &str = "$SYS.REQ.ACCOUNT.PING.CONNZ";

/// What a server answers, as far as it is of interest here.
#[derive(Deserialize)]
struct Answer {
    server: From,
    data: Connections,
}

#[derive(Deserialize)]
struct From {
    id: String,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Connections {
    /// Those that the question is about.
    num_connections: u64,
}

/// What a server has said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Surveyed {
    pub(crate) id: String,
    /// Whether no node is connected with it, and none embeds it.
    pub(crate) is_without_nodes: bool,
    /// Whether nodes are connected with it.
    pub(crate) has_clients: bool,
}

/// Tag of the servers that nodes of a bus embed, by what all nodes subscribe to. Tags are lower-case.
pub(crate) fn tag(subject: &str) -> String {
    format!("event-bus:{}", subject.to_lowercase())
}

/// Asks all servers that are connected with this one, and this one, who subscribes to `subject`, and listens for
/// `patience`. Answers with what has come.
pub(crate) async fn survey(server: &Server, subject: &str, patience: Duration) -> Vec<Surveyed> {
    match server.in_process_client() {
        Ok(client) => survey_by(&client, subject, patience).await,
        Err(_) => Vec::new(),
    }
}

/// The same by a client that is there already: a server that is about to stop takes no other one.
pub(crate) async fn survey_by(
    client: &InProcessClient,
    subject: &str,
    patience: Duration,
) -> Vec<Surveyed> {
    let tag = tag(subject);
    let mut all = Vec::new();
    let ask = async {
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(&inbox).await.ok()?;
        let question = serde_json::json!({"filter_subject": subject, "limit": 1}).to_string();
        let asked = client.publish_message(QUESTION, Some(&inbox), &[], question.as_bytes());
        asked.await.ok()?;
        while let Some(answer) = answers.next().await {
            // Whatever else comes is no answer to that.
            if let Ok(Answer { server, data }) = serde_json::from_slice(&answer.payload) {
                all.push(Surveyed {
                    has_clients: data.num_connections > 0,
                    is_without_nodes: data.num_connections == 0 && !server.tags.contains(&tag),
                    id: server.id,
                });
            }
        }
        Some(())
    };
    // Nobody says which answer is the last.
    let _ = tokio::time::timeout(patience, ask).await;
    all
}
