//! Asking all servers at once, through the system account: one question, an answer from each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::{StatusCode, Subscriber};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::page::{Accstatz, Connz, Routez, Sample, Varz};
use super::source::{Closed, FIRST_ANSWERS, Heard, Wanted};
use crate::connection::Connection;

/// How long a server that answered before may take.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Servers that are kept in mind.
const SERVERS_MAX: usize = 1024;

/// A connection in the system account.
pub(super) struct SystemAccount {
    connection: Connection,
    /// Everything that is answered comes here, under the round and the page.
    answers: Subscriber,
    inbox: String,
    round: u64,
    /// Servers that have answered, by id: how they were called, and which of them did not answer last time.
    known: BTreeMap<String, Known>,
}

#[derive(Default)]
struct Known {
    closed: Closed,
    rounds_silent: u32,
}

/// Rounds after which a server that says nothing is no longer waited for.
const SILENT_MAX: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Page {
    Varz,
    Connz,
    Routez,
    Accstatz,
    Closed,
}

/// What was answered so far, by server.
#[derive(Default)]
struct Answers {
    varz: BTreeMap<String, Varz>,
    connz: BTreeMap<String, Connz>,
    routez: BTreeMap<String, Routez>,
    accstatz: BTreeMap<String, Accstatz>,
    closed: BTreeMap<String, Connz>,
    problem: Option<String>,
}

/// What stands around every answer.
#[derive(Deserialize)]
struct Envelope {
    server: Sender,
    data: Option<Value>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Sender {
    id: String,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    description: String,
}

const NOT_THE_SYSTEM_ACCOUNT: &str =
    "this login is not in the system account, which alone may ask servers";

impl Page {
    const EVERY_ROUND: [Self; 4] = [Self::Varz, Self::Connz, Self::Routez, Self::Accstatz];

    fn subject(self) -> &'static str {
        match self {
            Self::Varz => "$SYS.REQ.SERVER.PING.VARZ",
            Self::Connz | Self::Closed => "$SYS.REQ.SERVER.PING.CONNZ",
            Self::Routez => "$SYS.REQ.SERVER.PING.ROUTEZ",
            Self::Accstatz => "$SYS.REQ.ACCOUNT.PING.STATZ",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Varz => "varz",
            Self::Connz => "connz",
            Self::Routez => "routez",
            Self::Accstatz => "accstatz",
            Self::Closed => "closed",
        }
    }

    fn options(self, wanted: &Wanted) -> Value {
        let limit = wanted.connections_max;
        match self {
            Self::Varz | Self::Routez => json!({}),
            Self::Connz => json!({"auth": true, "limit": limit, "sort": wanted.sort}),
            Self::Accstatz => json!({"include_unused": true}),
            Self::Closed => json!({"auth": true, "limit": limit, "sort": "stop", "state": 1}),
        }
    }
}

impl SystemAccount {
    pub(super) async fn new(connection: Connection) -> anyhow::Result<Self> {
        let inbox = connection.client.new_inbox();
        let answers = connection.client.subscribe(format!("{inbox}.*.*")).await?;
        Ok(Self {
            connection,
            answers,
            inbox,
            round: 0,
            known: BTreeMap::new(),
        })
    }

    /// Asks, and waits for those that answered before; others are waited for a moment.
    pub(super) async fn ask(&mut self, wanted: &Wanted) -> Vec<Heard> {
        if !self.connection.is_connected() {
            let reason = "the connection is lost; it is tried again".to_owned();
            return self.all_silent(&reason);
        }
        self.round += 1;
        let mut answers = Answers::default();
        for page in Page::EVERY_ROUND {
            self.send(page, wanted).await;
        }
        let awaited: BTreeSet<String> = self.awaited();
        self.collect(&mut answers, &awaited, Page::EVERY_ROUND.len())
            .await;
        let outdated: BTreeSet<String> = answers
            .varz
            .iter()
            .filter(|(id, varz)| {
                let known = self.known.get(*id);
                known.map_or(varz.slow_consumers > 0, |known| {
                    known.closed.is_outdated(varz)
                })
            })
            .map(|(id, _)| id.clone())
            .collect();
        if !outdated.is_empty() {
            self.send(Page::Closed, wanted).await;
            self.collect(&mut answers, &outdated, Page::EVERY_ROUND.len() + 1)
                .await;
        }
        self.conclude(answers)
    }

    fn awaited(&self) -> BTreeSet<String> {
        let known = self.known.iter();
        let lively = known.filter(|(_, known)| known.rounds_silent < SILENT_MAX);
        lively.map(|(id, _)| id.clone()).collect()
    }

    async fn send(&self, page: Page, wanted: &Wanted) {
        let reply = format!("{}.{}.{}", self.inbox, self.round, page.word());
        let payload = page.options(wanted).to_string();
        // Only a connection that is gone for good refuses it, which shows in nobody answering.
        let _ = self
            .connection
            .client
            .publish_with_reply(page.subject(), reply, payload.into())
            .await;
    }

    async fn collect(&mut self, answers: &mut Answers, awaited: &BTreeSet<String>, pages: usize) {
        let begin = now();
        let patience = if awaited.is_empty() {
            FIRST_ANSWERS
        } else {
            ANSWER_MAX
        };
        let prefix = format!("{}.{}.", self.inbox, self.round);
        let is_complete = |answers: &Answers| {
            !awaited.is_empty() && awaited.iter().all(|id| answers.pages_of(id) >= pages)
        };
        while !is_complete(answers) && answers.problem.is_none() {
            let next = timeout_at(begin + patience, self.answers.next()).await;
            let Ok(Some(message)) = next else {
                return;
            };
            // What is late is of a round that is over.
            let Some(word) = message.subject.strip_prefix(&prefix) else {
                continue;
            };
            if message.status == Some(StatusCode::NO_RESPONDERS) {
                answers.problem = Some(NOT_THE_SYSTEM_ACCOUNT.into());
                return;
            }
            answers.take(word, &message.payload);
        }
    }

    fn conclude(&mut self, mut answers: Answers) -> Vec<Heard> {
        if answers.varz.is_empty() {
            let reason = answers.problem.take().unwrap_or_else(|| {
                // Who may not ask gets no answer, if others of its account listen to everything.
                format!("no server answers; perhaps {NOT_THE_SYSTEM_ACCOUNT}")
            });
            return self.all_silent(&reason);
        }
        let mut heard = Vec::new();
        for (id, varz) in std::mem::take(&mut answers.varz) {
            if self.known.len() >= SERVERS_MAX && !self.known.contains_key(&id) {
                continue;
            }
            let known = self.known.entry(id.clone()).or_default();
            known.rounds_silent = 0;
            if let Some(closed) = answers.closed.remove(&id) {
                known.closed.update(&varz, closed);
            }
            let sample = Sample {
                varz,
                connz: answers.connz.remove(&id).unwrap_or_default(),
                routez: answers.routez.remove(&id).unwrap_or_default(),
                accstatz: answers.accstatz.remove(&id).unwrap_or_default(),
                closed: known.closed.listed(),
                bus: None,
            };
            heard.push((id, Ok(Box::new(sample))));
        }
        let spoke: BTreeSet<String> = heard.iter().map(|(id, _)| id.clone()).collect();
        for (id, known) in &mut self.known {
            if !spoke.contains(id) {
                known.rounds_silent = known.rounds_silent.saturating_add(1);
                let reason = answers
                    .problem
                    .clone()
                    .unwrap_or_else(|| "no answer in the system account, others do".to_owned());
                heard.push((id.clone(), Err(reason)));
            }
        }
        heard
            .into_iter()
            .map(|(address, said)| Heard::Server { address, said })
            .collect()
    }

    fn all_silent(&self, reason: &str) -> Vec<Heard> {
        if self.known.is_empty() {
            return vec![Heard::Nothing(reason.to_owned())];
        }
        let known = self.known.keys();
        known
            .map(|id| Heard::Server {
                address: id.clone(),
                said: Err(reason.to_owned()),
            })
            .collect()
    }
}

impl Answers {
    fn pages_of(&self, id: &str) -> usize {
        let has = [
            self.varz.contains_key(id),
            self.connz.contains_key(id),
            self.routez.contains_key(id),
            self.accstatz.contains_key(id),
            self.closed.contains_key(id),
        ];
        has.into_iter().filter(|it| *it).count()
    }

    /// Takes an answer; one that cannot be read is none.
    fn take(&mut self, word: &str, payload: &[u8]) {
        let Ok(envelope) = serde_json::from_slice::<Envelope>(payload) else {
            return;
        };
        let id = envelope.server.id;
        if let Some(refusal) = envelope.error {
            self.problem = Some(refusal.description);
            return;
        }
        let data = envelope.data.unwrap_or_default();
        match word {
            "varz" => insert(&mut self.varz, id, data),
            "connz" => insert(&mut self.connz, id, data),
            "routez" => insert(&mut self.routez, id, data),
            "accstatz" => insert(&mut self.accstatz, id, data),
            "closed" => insert(&mut self.closed, id, data),
            _ => {}
        }
    }
}

fn insert<T: DeserializeOwned>(pages: &mut BTreeMap<String, T>, id: String, data: Value) {
    if let Ok(page) = serde_json::from_value(data) {
        pages.insert(id, page);
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_server_and_page() {
        let mut answers = Answers::default();
        for id in ["A", "B"] {
            let varz = json!({"server": {"id": id}, "data": {"server_id": id, "connections": 3}});
            answers.take("varz", varz.to_string().as_bytes());
        }
        let connz = json!({"server": {"id": "A"}, "data": {"connections": null}});
        answers.take("connz", connz.to_string().as_bytes());
        answers.take("connz", b"nonsense");
        assert_eq!((answers.pages_of("A"), answers.pages_of("B")), (2, 1));
        assert_eq!(answers.varz["B"].connections, 3);
        let error = json!({"server": {"id": "A"}, "error": {"code": 400, "description": "no"}});
        answers.take("connz", error.to_string().as_bytes());
        assert_eq!(answers.problem.as_deref(), Some("no"));
    }
}
