//! A federation's broker: takes requests from the federation into one cluster's collective, and the answers back.
//!
//! It has a connection to the servers of each side. Several brokers of a cluster share the work, as queue groups; none
//! remembers anything, for all that is needed travels in the messages' headers. It reads no further than those: what is
//! inside is the matter of the nodes, which find out themselves who asks.
//!
//! One task for each direction passes messages on in the order in which they come, of which Choria's ten workers take no
//! care; what waits is bounded by its size (the connector's inbox), and not by number as their queues.
//!
//! What it publishes, others have named. So it goes to what are requests' subjects by their look, and answers' subjects
//! on the way back, and nowhere else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::complaints::{Complaints, plain};
use crate::connector::{Connector, FEDERATED_NODES_MAX, Incoming, PublishError};
use crate::identity::NameError;
use crate::subject;
use crate::wire::{Federation, Transport};

/// Nodes that one message may be for: as many as clients write. One message becomes so many, whoever wrote it.
pub const TARGETS_MAX: usize = FEDERATED_NODES_MAX;

/// A broker of one cluster.
#[derive(Debug)]
pub struct Broker {
    federation: Connector,
    collective: Connector,
    /// Where those on one side write to.
    requests: String,
    /// Where those on the other side answer to.
    replies: String,
    counters: Counters,
    complaints: Mutex<Complaints>,
}

/// What a broker has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStatistics {
    /// Messages with requests that came from the federation.
    pub requests: u64,
    /// Messages that went to the collective for them.
    pub requests_out: u64,
    /// Replies that came from the collective and went to the federation.
    pub replies: u64,
    /// Messages that could not be passed on, on either way.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    requests_out: AtomicU64,
    replies: AtomicU64,
    dropped: AtomicU64,
}

/// Why a message is not passed on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DropReason {
    /// It does not come from a federation.
    #[error("it has no federation header with a request's identifier")]
    NotFederated,
    /// It is for nobody.
    #[error("it names no targets")]
    NoTargets,
    /// It is for too many.
    #[error("it names {0} targets, and {TARGETS_MAX} are allowed")]
    TooManyTargets(usize),
    /// There is nowhere to answer to.
    #[error("it says not where to reply to")]
    NoReplySubject,
    /// A request would go to where none go, or a reply to where no replies go.
    #[error("{0:?} is not where such messages go")]
    Subject(String),
    /// It could not be sent.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// A message as it goes on, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Passed {
    transport: Transport,
    subjects: Vec<String>,
}

impl Broker {
    /// A broker of a cluster, with a connection to the federation's servers and one to the collective's. They must be its
    /// alone: it takes everything that comes.
    ///
    /// # Errors
    /// If the cluster's name is none.
    pub fn new(
        cluster: &str,
        federation: Connector,
        collective: Connector,
    ) -> Result<Self, NameError> {
        let requests = subject::federation(cluster)?;
        let replies = subject::federation_replies(cluster)?;
        federation.subscribe_in_group(&requests, &format!("{cluster}_federation"));
        collective.subscribe_in_group(&replies, &format!("{cluster}_collective"));
        Ok(Self {
            federation,
            collective,
            requests,
            replies,
            counters: Counters::default(),
            complaints: Mutex::default(),
        })
    }

    /// Passes messages on until both connections are closed from this side.
    pub async fn run(&self) {
        tracing::info!(requests = %self.requests, replies = %self.replies, "passing messages on");
        tokio::join!(self.pass_requests(), self.pass_replies());
    }

    /// What it has done so far.
    #[must_use]
    pub fn statistics(&self) -> BrokerStatistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BrokerStatistics {
            requests: read(&self.counters.requests),
            requests_out: read(&self.counters.requests_out),
            replies: read(&self.counters.replies),
            dropped: read(&self.counters.dropped),
        }
    }

    async fn pass_requests(&self) {
        let mut incoming = self.federation.receive();
        while let Some(incoming) = incoming.next().await {
            let sender = sender(&incoming);
            let passed = into_collective(incoming.transport, &self.replies);
            let sent = self.send(passed, &self.collective).await;
            self.count(&self.counters.requests, &sender, &sent);
            self.counters
                .requests_out
                .fetch_add(sent.0, Ordering::Relaxed);
        }
    }

    async fn pass_replies(&self) {
        let mut incoming = self.collective.receive();
        while let Some(incoming) = incoming.next().await {
            let sender = sender(&incoming);
            let passed = into_federation(incoming.transport);
            let sent = self.send(passed, &self.federation).await;
            self.count(&self.counters.replies, &sender, &sent);
        }
    }

    /// How many went out, and what prevented the others.
    async fn send(
        &self,
        passed: Result<Passed, DropReason>,
        to: &Connector,
    ) -> (u64, Option<DropReason>) {
        let Passed {
            mut transport,
            subjects,
        } = match passed {
            Ok(passed) => passed,
            Err(reason) => return (0, Some(reason)),
        };
        // The receiving side has begun a hop with where it came from and who this is.
        if let Some(hop) = transport
            .headers
            .seen_by
            .as_mut()
            .and_then(|hops| hops.last_mut())
        {
            let server = to.connected_server();
            hop.push(server.map(|server| server.url()).unwrap_or_default());
        }
        let (count, error) = to.publish_as_is(subjects, &transport).await;
        (count, error.map(DropReason::from))
    }

    fn count(&self, counter: &AtomicU64, sender: &str, (sent, reason): &(u64, Option<DropReason>)) {
        match reason {
            None => {
                tracing::debug!(%sender, messages = sent, "passed on");
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Some(reason) => {
                self.complain(sender, *sent, reason);
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Strangers can send as much as they like; the log does not grow with it.
    fn complain(&self, sender: &str, sent: u64, reason: &DropReason) {
        let mut complaints = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(unsaid) = complaints.ask(now()) {
            let (sender, reason) = (plain(sender), plain(&reason.to_string()));
            tracing::warn!(%sender, messages = sent, unsaid, "a message is not passed on: {reason}");
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the shell reads the clock; it decides what the log hears of"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

fn sender(incoming: &Incoming) -> String {
    let sender = incoming.transport.headers.sender.as_deref();
    sender.unwrap_or("(nobody)").to_owned()
}

/// A request as nodes get it: answers come to the broker, and what they need to find their way from there goes with it.
fn into_collective(mut transport: Transport, replies: &str) -> Result<Passed, DropReason> {
    let headers = &mut transport.headers;
    let federation = headers.federation.take().ok_or(DropReason::NotFederated)?;
    let request = federation.request.ok_or(DropReason::NotFederated)?;
    let subjects = federation.targets;
    if subjects.is_empty() {
        return Err(DropReason::NoTargets);
    }
    if subjects.len() > TARGETS_MAX {
        return Err(DropReason::TooManyTargets(subjects.len()));
    }
    if let Some(other) = subjects
        .iter()
        .find(|target| !subject::is_of_request(target))
    {
        return Err(DropReason::Subject(other.clone()));
    }
    let reply_to = headers.reply_to.take().ok_or(DropReason::NoReplySubject)?;
    if !subject::is_of_reply(&reply_to) {
        return Err(DropReason::Subject(reply_to));
    }
    headers.federation = Some(Federation {
        request: Some(request),
        targets: Vec::new(),
        reply_to: Some(reply_to),
    });
    headers.reply_to = Some(replies.to_owned());
    Ok(Passed {
        transport,
        subjects,
    })
}

/// A reply as its caller gets it.
fn into_federation(mut transport: Transport) -> Result<Passed, DropReason> {
    let federation = transport.headers.federation.take();
    let federation = federation.ok_or(DropReason::NotFederated)?;
    if federation.request.is_none() {
        return Err(DropReason::NotFederated);
    }
    let reply_to = federation.reply_to.ok_or(DropReason::NoReplySubject)?;
    if !subject::is_of_reply(&reply_to) {
        return Err(DropReason::Subject(reply_to));
    }
    transport.headers.reply_to = None;
    Ok(Passed {
        transport,
        subjects: vec![reply_to],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Headers;

    const REPLIES: &str = "choria.federation.london.collective";
    const CALLER: &str = "mcollective.reply.37bdf08389145a56c13096c178802d3b.1.1";

    fn request() -> Transport {
        Transport {
            content: b"{}".to_vec(),
            headers: Headers {
                sender: Some("client".into()),
                reply_to: Some(CALLER.into()),
                federation: Some(Federation {
                    request: Some("77".into()),
                    targets: vec!["mcollective.node.n1".into(), "mcollective.node.n2".into()],
                    reply_to: None,
                }),
                seen_by: None,
            },
        }
    }

    fn changed(change: impl FnOnce(&mut Headers)) -> Transport {
        let mut transport = request();
        change(&mut transport.headers);
        transport
    }

    fn federation(headers: &mut Headers) -> &mut Federation {
        headers.federation.as_mut().unwrap()
    }

    #[test]
    fn there_and_back() {
        let passed = into_collective(request(), REPLIES).unwrap();
        assert_eq!(
            passed.subjects,
            ["mcollective.node.n1", "mcollective.node.n2"]
        );
        let headers = &passed.transport.headers;
        assert_eq!(headers.reply_to.as_deref(), Some(REPLIES));
        assert_eq!(headers.sender.as_deref(), Some("client"));
        let expected = Federation {
            request: Some("77".into()),
            targets: Vec::new(),
            reply_to: Some(CALLER.into()),
        };
        assert_eq!(headers.federation, Some(expected));
        // A node copies the header.
        let reply = Transport {
            content: b"answer".to_vec(),
            headers: Headers {
                federation: headers.federation.clone(),
                ..Headers::default()
            },
        };
        let passed = into_federation(reply).unwrap();
        assert_eq!(passed.subjects, [CALLER]);
        assert_eq!(passed.transport.headers, Headers::default());
        assert_eq!(passed.transport.content, b"answer");
    }

    #[test]
    fn what_is_not_passed_on() {
        let refused = |change: fn(&mut Headers)| {
            into_collective(changed(change), REPLIES)
                .unwrap_err()
                .to_string()
        };
        let not_federated = "it has no federation header with a request's identifier";
        assert_eq!(refused(|headers| headers.federation = None), not_federated);
        assert_eq!(
            refused(|headers| federation(headers).request = None),
            not_federated
        );
        assert_eq!(
            refused(|headers| federation(headers).targets.clear()),
            "it names no targets"
        );
        assert_eq!(
            refused(|headers| headers.reply_to = None),
            "it says not where to reply to"
        );
        assert!(
            refused(
                |headers| federation(headers).targets = vec!["a.node.b".into(); TARGETS_MAX + 1]
            )
            .contains("201 targets")
        );
        for target in [
            "$SYS.REQ.SERVER.PING",
            "mcollective.reply.x.1",
            "a.node.>",
            "a.node.b c",
            "",
        ] {
            let transport = changed(|headers| federation(headers).targets.push(target.into()));
            assert!(
                matches!(
                    into_collective(transport, REPLIES),
                    Err(DropReason::Subject(_))
                ),
                "{target:?}"
            );
        }
        for subject in [
            "$SYS.REQ",
            "mcollective.node.n1",
            "a.reply.>",
            "a.reply",
            "x y",
        ] {
            let transport = changed(|headers| headers.reply_to = Some(subject.into()));
            assert!(
                matches!(
                    into_collective(transport, REPLIES),
                    Err(DropReason::Subject(_))
                ),
                "{subject:?}"
            );
            let transport = changed(|headers| federation(headers).reply_to = Some(subject.into()));
            assert!(
                matches!(into_federation(transport), Err(DropReason::Subject(_))),
                "{subject:?}"
            );
        }
        let plain = changed(|headers| headers.federation = None);
        assert!(matches!(
            into_federation(plain),
            Err(DropReason::NotFederated)
        ));
        assert!(matches!(
            into_federation(request()),
            Err(DropReason::NoReplySubject)
        ));
    }
}
