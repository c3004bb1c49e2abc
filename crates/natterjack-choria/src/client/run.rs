//! The course of what a client does: who is there, who is asked, who answers.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use futures_util::Stream;

use super::asker::identifier;
use super::exchange::{Arrival, Exchange, Outcome};
use super::{Call, Client, ClientError, Limit, Ping, Question, SignedRequest};
use crate::connector::{FEDERATED_NODES_MAX, OutgoingRequest, Recipients};
use crate::filter::Filter;
use crate::identity::Identity;
use crate::node::DISCOVERY;
use crate::rpc::{ActionReply, ActionRequest, PING};
use crate::subject::TargetKind;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A node is there.
    Discovered {
        /// Which one.
        node: Identity,
        /// How long after the ping was sent.
        after: Duration,
    },
    /// It is settled who is there.
    DiscoveryEnded {
        /// How many nodes.
        nodes: usize,
        /// How long that took.
        took: Duration,
        /// What came of the ping.
        outcome: Outcome,
    },
    /// The request is on its way.
    Sent {
        /// Its identifier, for logs.
        request_id: String,
        /// Who is to answer, sorted. `None`: whoever is meant, which nobody has found out.
        nodes: Option<Vec<Identity>>,
        /// Whether each got a request of its own.
        is_directed: bool,
    },
    /// A node answered.
    Answered {
        /// Which one.
        node: Identity,
        /// What. `Err`: it was no answer of an agent's, and this is why.
        reply: Result<ActionReply, String>,
        /// How long after the request was sent.
        after: Duration,
    },
    /// That was all.
    Ended {
        /// What came of it.
        outcome: Outcome,
        /// How long it took since the request was sent.
        took: Duration,
    },
}

/// The course of one thing that a client does. It goes on only while [`Self::next`] is waited for; who drops it hears no
/// more.
pub struct Run<'a> {
    client: &'a mut Client,
    plan: Plan,
    phase: Phase,
}

enum Plan {
    Ping(Ping),
    Call(Call),
}

enum Phase {
    Start,
    Discovering(Listening, Vec<Identity>),
    Asking(Option<Vec<Identity>>),
    Answering(Listening),
    Ended,
}

/// Answers that are waited for.
struct Listening {
    exchange: Exchange,
    sent: Instant,
    until: Instant,
    /// How much longer at most, if answers still come then, and without how long a silence.
    extension_max: Duration,
    silence_min: Duration,
    /// When an answer came last that counts.
    heard: Instant,
    /// Nobody wants any more.
    is_stopped: bool,
    /// When time is over, how many are still looked at: those that have come by then, if nobody had the time for them.
    left: Option<usize>,
}

impl Listening {
    fn new(exchange: Exchange, sent: Instant, time: Duration) -> Self {
        Self {
            exchange,
            sent,
            until: sent + time.min(TIMEOUT_MAX),
            extension_max: Duration::ZERO,
            silence_min: time,
            heard: sent,
            is_stopped: false,
            left: None,
        }
    }

    /// The same, but each answer that comes makes it wait as long for another one.
    const fn until_silence(mut self) -> Self {
        self.extension_max = EXTENSION_MAX;
        self
    }

    /// When it ends unless another answer comes.
    fn end(&self) -> Instant {
        let silence = self.heard + self.silence_min.min(EXTENSION_MAX);
        silence.min(self.until + self.extension_max).max(self.until)
    }

    /// Whether one more is looked at. Who floods does not make a run longer, whatever he calls himself: when time is over there
    /// are no more than those that wait then.
    fn looks_at_another(&mut self, now: Instant, waiting: impl FnOnce() -> usize) -> bool {
        if now < self.end() {
            self.left = None;
            return true;
        }
        let left = self.left.get_or_insert_with(waiting);
        let is_any = *left > 0;
        *left = left.saturating_sub(1);
        is_any
    }

    fn finish(self) -> (Outcome, Duration) {
        (self.exchange.finish(), now() - self.sent)
    }
}

/// So much longer than the discovery timeout a run waits at most, for nodes that are slow to answer because they are many.
const EXTENSION_MAX: Duration = Duration::from_secs(30);

/// Nodes that a request names. Those of a larger choice get several, each with the names of some: otherwise each node would
/// get the names of all, and what is sent would grow with the square of them. As many as go through a federation at once.
const NAMES_MAX: usize = FEDERATED_NODES_MAX;

/// No run waits longer; more would be as good as for ever, which nobody means.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl fmt::Debug for Run<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Run")
    }
}

impl<'a> Run<'a> {
    pub(super) const fn ping(client: &'a mut Client, ping: Ping) -> Self {
        Self {
            client,
            plan: Plan::Ping(ping),
            phase: Phase::Start,
        }
    }

    pub(super) const fn call(client: &'a mut Client, call: Call) -> Self {
        Self {
            client,
            plan: Plan::Call(call),
            phase: Phase::Start,
        }
    }

    /// What happens next; `None`: it has ended. Nothing is lost if the future is dropped, unless it is sending the request:
    /// then some nodes may have got it, and the run has ended.
    ///
    /// # Errors
    /// If it cannot go on. It has ended then.
    pub async fn next(&mut self) -> Option<Result<Event, ClientError>> {
        let advanced = self.advance().await;
        if advanced.is_err() {
            self.phase = Phase::Ended;
        }
        advanced.transpose()
    }

    /// Waits for no more answers: what is still told is what came of it so far. Nobody is asked who has not been.
    pub fn stop(&mut self) {
        match (&mut self.phase, &self.plan) {
            (Phase::Answering(listening), _)
            | (Phase::Discovering(listening, _), Plan::Ping(_)) => {
                listening.is_stopped = true;
            }
            _ => self.phase = Phase::Ended,
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, ClientError>> + use<'a> {
        futures_util::stream::unfold(self, async |mut run| Some((run.next().await?, run)))
    }

    async fn advance(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            match &mut self.phase {
                Phase::Ended => return Ok(None),
                Phase::Start => self.start().await?,
                Phase::Asking(nodes) => {
                    let nodes = nodes.take();
                    // Whoever drops this while it sends has ended the run: nobody is to be asked twice, or by mistake.
                    self.phase = Phase::Ended;
                    return self.ask(nodes).await.map(Some);
                }
                Phase::Discovering(listening, found) => {
                    let enough = match &self.plan {
                        Plan::Ping(ping) => ping.answers_max,
                        Plan::Call(call) => call.nodes_expected,
                    };
                    let is_enough = enough.is_some_and(|enough| found.len() >= enough);
                    let arrival = if is_enough {
                        None
                    } else {
                        arrival(self.client, listening).await?
                    };
                    let Some((arrival, after)) = arrival else {
                        return Ok(Some(self.end_discovery()));
                    };
                    let node = arrival.reply.sender;
                    found.push(node.clone());
                    return Ok(Some(Event::Discovered { node, after }));
                }
                Phase::Answering(listening) => {
                    let Some((arrival, after)) = arrival(self.client, listening).await? else {
                        return Ok(Some(self.end()));
                    };
                    let reply = ActionReply::from_text(&arrival.reply.body);
                    return Ok(Some(Event::Answered {
                        node: arrival.reply.sender,
                        reply: reply.map_err(|error| error.to_string()),
                        after,
                    }));
                }
            }
        }
    }

    /// Settles whom to ask, or pings to find out.
    async fn start(&mut self) -> Result<(), ClientError> {
        let (filter, time) = match &self.plan {
            Plan::Ping(ping) => (ping.filter.clone(), ping.timeout),
            Plan::Call(call) => {
                if call.limit.is_some() && self.client.options.direct_nodes_max == 0 {
                    return Err(ClientError::LimitNeedsDirect);
                }
                (
                    with_agent(&call.filter, &call.agent),
                    call.discovery_timeout,
                )
            }
        };
        filter.check()?;
        let named = named(&filter);
        if let Plan::Call(call) = &self.plan {
            if !call.wants_answers && call.limit.is_none() && named.is_none() {
                self.phase = Phase::Asking(None);
                return Ok(());
            }
            if let Some(named) = named {
                self.phase = Phase::Asking(Some(chosen(named, call.limit)));
                return Ok(());
            }
        }
        let signed = self.sign(DISCOVERY, PING, &filter);
        let exchange = Exchange::new(&signed.id, DISCOVERY, named.as_deref());
        let everyone = vec![(signed, Recipients::Everyone)];
        let sent = self.publish(DISCOVERY, everyone).await?;
        let listening = match time {
            Some(time) => Listening::new(exchange, sent, time),
            None => {
                let time = self.client.options.discovery_timeout;
                Listening::new(exchange, sent, time).until_silence()
            }
        };
        self.phase = Phase::Discovering(listening, Vec::new());
        Ok(())
    }

    fn end_discovery(&mut self) -> Event {
        let Phase::Discovering(listening, found) = std::mem::replace(&mut self.phase, Phase::Ended)
        else {
            unreachable!("it ends while nodes are being discovered");
        };
        let nodes = found.len();
        let (outcome, took) = listening.finish();
        if let Plan::Call(call) = &self.plan
            && nodes > 0
        {
            self.phase = Phase::Asking(Some(chosen(found, call.limit)));
        }
        Event::DiscoveryEnded {
            nodes,
            took,
            outcome,
        }
    }

    /// Sends the request: to each of few nodes, or to all that the filter means.
    async fn ask(&mut self, nodes: Option<Vec<Identity>>) -> Result<Event, ClientError> {
        let Plan::Call(call) = &self.plan else {
            unreachable!("who is pinged is not asked");
        };
        let (agent, wants_answers, time) = (call.agent.clone(), call.wants_answers, call.timeout);
        let mut request = ActionRequest::new(
            &agent,
            &call.action,
            self.client.asker.caller(),
            call.arguments.clone(),
        );
        if !wants_answers {
            request = request.without_answer();
        }
        // A choice cannot be told by a filter that others fit as well.
        let is_choice = call.limit.is_some();
        let nodes_max = self.client.options.direct_nodes_max;
        let direct = nodes
            .as_ref()
            .filter(|nodes| is_choice || nodes.len() <= nodes_max);
        let is_directed = direct.is_some();
        let body = request.to_text();
        let parts = match direct {
            // All other conditions have been settled. The names are signed, so that nobody on the way can have others do it.
            Some(nodes) => (nodes.chunks(NAMES_MAX))
                .map(|nodes| (naming(&agent, nodes), Recipients::Nodes(nodes.to_vec())))
                .collect::<Vec<_>>(),
            None => vec![(with_agent(&call.filter, &agent), Recipients::Everyone)],
        };
        let request_id = identifier();
        let sign = |(filter, recipients)| {
            let question = Question {
                collective: &self.collective(),
                agent: &agent,
                body: &body,
                filter: &filter,
            };
            let asker = &self.client.asker;
            let signed = asker.sign_as(request_id.clone(), &question, calendar_now());
            (signed, recipients)
        };
        let signed = parts.into_iter().map(sign).collect();
        let exchange = Exchange::new(&request_id, &agent, nodes.as_deref());
        let sent = self.publish(&agent, signed).await?;
        self.phase = if wants_answers {
            Phase::Answering(Listening::new(exchange, sent, time))
        } else {
            // Who ends now should not end what is on its way.
            if !self.client.connector.flush().await {
                return Err(ClientError::Closed);
            }
            Phase::Ended
        };
        Ok(Event::Sent {
            request_id,
            nodes,
            is_directed,
        })
    }

    fn end(&mut self) -> Event {
        let Phase::Answering(listening) = std::mem::replace(&mut self.phase, Phase::Ended) else {
            unreachable!("it ends while answers are waited for");
        };
        let (outcome, took) = listening.finish();
        Event::Ended { outcome, took }
    }

    fn collective(&self) -> String {
        let collective = match &self.plan {
            Plan::Ping(ping) => &ping.collective,
            Plan::Call(call) => &call.collective,
        };
        let main = || {
            self.client
                .connector
                .options()
                .collectives
                .main()
                .to_owned()
        };
        collective.clone().unwrap_or_else(main)
    }

    fn sign(&self, agent: &str, body: &str, filter: &Filter) -> SignedRequest {
        let question = Question {
            collective: &self.collective(),
            agent,
            body,
            filter,
        };
        self.client.asker.sign(&question, calendar_now())
    }

    /// Sends a request, or its parts, and listens to answers from before on. Answers when that was.
    async fn publish(
        &mut self,
        agent: &str,
        parts: Vec<(SignedRequest, Recipients)>,
    ) -> Result<Instant, ClientError> {
        let collective = self.collective();
        let connector = &self.client.connector;
        if !self.client.subscribed.contains(&collective) {
            connector.subscribe(agent, TargetKind::Reply, &collective)?;
            self.client.subscribed.insert(collective.clone());
        }
        let reply_to = connector.reply_subject(&collective)?;
        let sent = now();
        for (signed, recipients) in parts {
            let request = OutgoingRequest {
                content: signed.content,
                request_id: signed.id,
                reply_to: reply_to.clone(),
                collective: collective.clone(),
                agent: agent.to_owned(),
                recipients,
                is_traced: false,
            };
            connector.publish(request).await?;
        }
        Ok(sent)
    }
}

/// The next answer that counts, and how long it took; `None`: there are no more, or time is over.
async fn arrival(
    client: &mut Client,
    listening: &mut Listening,
) -> Result<Option<(Arrival, Duration)>, ClientError> {
    loop {
        let is_over = listening.exchange.is_complete() || listening.is_stopped;
        if is_over || !listening.looks_at_another(now(), || client.incoming.waiting()) {
            return Ok(None);
        }
        let until = tokio::time::Instant::from_std(listening.end());
        let Ok(message) = tokio::time::timeout_at(until, client.incoming.next()).await else {
            return Ok(None);
        };
        let message = message.ok_or(ClientError::Closed)?;
        match listening.exchange.take(&message.transport.content) {
            Ok(arrival) => {
                listening.heard = now();
                return Ok(Some((arrival, listening.heard - listening.sent)));
            }
            Err(ignored) => tracing::debug!("an answer does not count: {ignored}"),
        }
    }
}

/// These nodes and no others.
fn naming(agent: &str, nodes: &[Identity]) -> Filter {
    Filter {
        agent: vec![agent.to_owned()],
        identity: nodes.iter().map(ToString::to_string).collect(),
        ..Filter::default()
    }
}

/// Nodes without the agent are not meant.
fn with_agent(filter: &Filter, agent: &str) -> Filter {
    let mut filter = filter.clone();
    if !filter.agent.iter().any(|known| known == agent) {
        filter.agent.push(agent.to_owned());
    }
    filter
}

/// Nodes that the filter names, each once.
fn named(filter: &Filter) -> Option<Vec<Identity>> {
    let names = filter.named_identities()?;
    let mut nodes: Vec<_> = names
        .iter()
        .map(Identity::new)
        .collect::<Result<_, _>>()
        // No node has such a name; nobody will answer to it.
        .ok()?;
    nodes.sort_unstable();
    nodes.dedup();
    Some(nodes)
}

/// As many as wanted, by chance, sorted.
fn chosen(mut nodes: Vec<Identity>, limit: Option<Limit>) -> Vec<Identity> {
    if let Some(limit) = limit {
        fastrand::shuffle(&mut nodes);
        nodes.truncate(limit.of(nodes.len()));
    }
    nodes.sort_unstable();
    nodes
}

#[expect(
    clippy::disallowed_methods,
    reason = "the shell reads the clock; answers are judged by what it reads"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "for how long a request is good is a matter of the calendar"
)]
fn calendar_now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize) -> Vec<Identity> {
        let node = |number| Identity::new(format!("n{number:03}")).unwrap();
        (0..count).map(node).collect()
    }

    #[test]
    fn limits() {
        let count = |limit, of| chosen(nodes(of), Some(limit)).len();
        assert_eq!(count(Limit::Nodes(3), 10), 3);
        assert_eq!(count(Limit::Nodes(30), 10), 10);
        assert_eq!(count(Limit::Percent(50), 10), 5);
        assert_eq!(count(Limit::Percent(1), 10), 1);
        assert_eq!(count(Limit::Percent(200), 10), 10);
        assert_eq!(count(Limit::Percent(50), 0), 0);
        let some = chosen(nodes(100), Some(Limit::Nodes(50)));
        assert!(some.is_sorted() && some != nodes(100)[..50]);
        assert_eq!(chosen(nodes(10), None), nodes(10));
    }

    #[test]
    fn a_flood_does_not_make_a_run_longer() {
        let sent = now();
        let time = Duration::from_secs(2);
        let mut listening = Listening::new(Exchange::new("1", "a", None), sent, time);
        let never = || unreachable!("there is time");
        assert!(listening.looks_at_another(sent, never));
        let over = sent + time;
        // More come while those are looked at.
        let seen = (0..10).filter(|_| listening.looks_at_another(over, || 2));
        assert_eq!(seen.count(), 2);
        let mut patient = Listening::new(Exchange::new("1", "a", None), sent, time).until_silence();
        assert!(patient.looks_at_another(over, || 1));
        patient.heard = over;
        assert!(patient.looks_at_another(over, never), "it has another 2 s");
        let over = over + EXTENSION_MAX;
        patient.heard = over;
        let seen = (0..10).filter(|_| patient.looks_at_another(over, || 3));
        assert_eq!(seen.count(), 3);
    }

    #[test]
    fn while_answers_come_others_are_waited_for() {
        let sent = now();
        let listen = || Listening::new(Exchange::new("1", "a", None), sent, Duration::from_secs(2));
        let after = |milliseconds| sent + Duration::from_millis(milliseconds);
        let mut exact = listen();
        exact.heard = after(1_990);
        assert_eq!(exact.end(), after(2_000), "somebody said when it ends");
        let mut patient = listen().until_silence();
        assert_eq!(patient.end(), after(2_000));
        patient.heard = after(20);
        assert_eq!(patient.end(), after(2_020));
        patient.heard = after(1_900);
        assert_eq!(patient.end(), after(3_900));
        patient.heard = after(20_000);
        assert_eq!(patient.end(), after(22_000));
        patient.heard = after(31_000);
        assert_eq!(patient.end(), after(32_000), "not for ever");
    }

    #[test]
    fn names_are_nodes_once() {
        let filter = Filter {
            identity: ["b", "a", "b"].map(String::from).to_vec(),
            ..Filter::default()
        };
        let names = named(&filter).unwrap();
        assert_eq!(
            names.iter().map(Identity::as_str).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(named(&Filter::default()), None);
    }
}
