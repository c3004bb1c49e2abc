//! What everybody sent, subscribed to and received, and what must hold of it.
//!
//! Whatever happens, a subscription gets a message at most once, a queue group one member at most, an account only its own,
//! and a publisher's messages come in order. What must arrive is asked of a **phase**, a time between two moments at which
//! the whole cluster was at rest: a subscription that was there at both gets every message that was published between
//! them, if the phase was one in which nothing bad happened.

use std::collections::{HashMap, HashSet};

use natterjack_wire::client::Message;

use super::reach::Reach;
use super::scenario::{SERVED, SERVICE, SERVING};
use crate::ledger::Violation;
use crate::message::{PATTERNS, Publication, QUEUES, SUBJECTS, identity, matches};

/// One connection's part.
struct Member {
    /// The server it is connected with.
    node: usize,
    account: &'static str,
    echo: bool,
    /// In which phase it ended.
    ended: Option<u32>,
    publications: Vec<Sent>,
}

struct Sent {
    publication: Publication,
    phase: u32,
}

/// Index of a subscription.
pub(crate) type SubscriptionId = usize;

struct Subscription {
    connection: usize,
    sid: u64,
    pattern: usize,
    queue: Option<usize>,
    /// In which phase it came, and in which it was told to end.
    since: u32,
    until: Option<u32>,
    /// Its UNSUB was acknowledged.
    is_closed: bool,
    max: Option<u64>,
    /// The most it may receive in all, once the server is known to have handled its maximum.
    count_max: Option<u64>,
    count: u64,
    /// Last message from each publisher.
    last: HashMap<usize, usize>,
    /// Publishers' messages of this phase.
    received: HashSet<(usize, usize)>,
}

/// A question that one of the answerers in its account is to answer.
struct Request {
    phase: u32,
    /// It goes to whoever serves, who may be in another account.
    is_of_service: bool,
    answers: u32,
    refusals: u32,
}

#[derive(Default)]
pub(crate) struct Ledger {
    members: HashMap<usize, Member>,
    subscriptions: Vec<Subscription>,
    by_sid: HashMap<(usize, u64), SubscriptionId>,
    /// Messages a queue group received: queue, publisher, sequence.
    grouped: HashSet<(usize, usize, usize)>,
    requests: HashMap<(usize, u64), Request>,
    /// Connections that answer, and since when.
    answerers: HashMap<usize, u32>,
    phase: u32,
    pub(crate) publications: u64,
    pub(crate) deliveries: u64,
    pub(crate) answers: u64,
    /// Of these, those that crossed from account to account.
    pub(crate) crossed: u64,
    /// Deliveries that had to be, and were.
    pub(crate) confirmed: u64,
}

/// A property that does not hold, and in which way.
type Fault = (&'static str, String);

impl Ledger {
    pub(crate) fn opened(
        &mut self,
        connection: usize,
        node: usize,
        account: &'static str,
        echo: bool,
    ) {
        self.members.insert(
            connection,
            Member {
                node,
                account,
                echo,
                ended: None,
                publications: Vec::new(),
            },
        );
    }

    /// The connection is no more.
    pub(crate) fn ended(&mut self, connection: usize) {
        let phase = self.phase;
        self.member_mut(connection).ended.get_or_insert(phase);
        self.answerers.remove(&connection);
    }

    /// Returns the message's number.
    pub(crate) fn published(&mut self, connection: usize, publication: Publication) -> usize {
        self.publications += 1;
        let phase = self.phase;
        let publications = &mut self.member_mut(connection).publications;
        publications.push(Sent { publication, phase });
        publications.len() - 1
    }

    pub(crate) fn subscribed(
        &mut self,
        connection: usize,
        sid: u64,
        pattern: usize,
        queue: Option<usize>,
    ) -> SubscriptionId {
        self.subscriptions.push(Subscription {
            connection,
            sid,
            pattern,
            queue,
            since: self.phase,
            until: None,
            is_closed: false,
            max: None,
            count_max: None,
            count: 0,
            last: HashMap::new(),
            received: HashSet::new(),
        });
        let id = self.subscriptions.len() - 1;
        self.by_sid.insert((connection, sid), id);
        id
    }

    pub(crate) fn answers(&mut self, connection: usize) {
        self.answerers.insert(connection, self.phase);
    }

    pub(crate) fn unsubscribed(&mut self, id: SubscriptionId) {
        let phase = self.phase;
        self.subscriptions[id].until.get_or_insert(phase);
    }

    pub(crate) fn limited(&mut self, id: SubscriptionId, max: u64) {
        self.unsubscribed(id);
        self.subscriptions[id].max = Some(max);
    }

    pub(crate) fn unsubscription_acknowledged(&mut self, id: SubscriptionId) {
        self.subscriptions[id].is_closed = true;
    }

    pub(crate) fn limit_acknowledged(&mut self, id: SubscriptionId) {
        let subscription = &mut self.subscriptions[id];
        // What came before the server knew the maximum may be more.
        subscription.count_max = subscription.max.map(|max| max.max(subscription.count));
    }

    /// Whether the subscription's number may be used again.
    pub(crate) fn is_over(&self, id: SubscriptionId) -> bool {
        let subscription = &self.subscriptions[id];
        subscription.is_closed
            || (subscription.count_max).is_some_and(|max| subscription.count >= max)
    }

    /// Whether it was told to end, at once or some time.
    pub(crate) fn is_ending(&self, id: SubscriptionId) -> bool {
        self.subscriptions[id].until.is_some()
    }

    pub(crate) fn sid(&self, id: SubscriptionId) -> u64 {
        self.subscriptions[id].sid
    }

    fn member(&self, connection: usize) -> &Member {
        &self.members[&connection]
    }

    fn member_mut(&mut self, connection: usize) -> &mut Member {
        self.members
            .get_mut(&connection)
            .expect("members are entered when they come")
    }

    // Requests.

    pub(crate) fn asked(&mut self, connection: usize, number: u64, is_of_service: bool) {
        let request = Request {
            phase: self.phase,
            is_of_service,
            answers: 0,
            refusals: 0,
        };
        self.requests.insert((connection, number), request);
    }

    /// An answer came to a connection, or word that there is nobody to answer.
    pub(crate) fn answered(
        &mut self,
        connection: usize,
        number: u64,
        by: Option<usize>,
    ) -> Result<(), Violation> {
        self.answers += 1;
        let what = format!("connection {connection}, request {number}, answered by {by:?}");
        let account = self.member(connection).account;
        let by_account = by.map(|by| self.member(by).account);
        let Some(request) = self.requests.get_mut(&(connection, number)) else {
            return Err(violation("answers come to who asked", what));
        };
        let is_served = request.is_of_service && account == SERVED;
        self.crossed += u64::from(is_served && by.is_some());
        let expected = if is_served { SERVING } else { account };
        if by_account.is_some_and(|by| by != expected) {
            return Err(violation("nothing crosses into another account", what));
        }
        if by.is_some() {
            request.answers += 1;
        } else {
            request.refusals += 1;
        }
        if request.answers + request.refusals > 1 {
            return Err(violation("a request is answered once", what));
        }
        Ok(())
    }

    /// A question, or an answer, came to a connection that listens to it; its text is who sent it.
    pub(crate) fn heard(
        &self,
        connection: usize,
        from: &str,
        is_of_service: bool,
    ) -> Result<(), Violation> {
        let Some(from) = from
            .parse()
            .ok()
            .and_then(|from: usize| self.members.get(&from))
        else {
            // Word of the server's that nobody answers.
            return Ok(());
        };
        let account = self.member(connection).account;
        let may_cross = is_of_service && (from.account, account) == (SERVED, SERVING);
        if from.account == account || may_cross {
            Ok(())
        } else {
            Err(violation(
                "nothing crosses into another account",
                format!("from {} to connection {connection}", from.account),
            ))
        }
    }

    /// An answer came to a connection that did not ask; its text is who sent it, who may serve.
    pub(crate) fn overheard(&self, connection: usize, from: &str) -> Result<(), Violation> {
        let by = from
            .parse()
            .ok()
            .and_then(|from: usize| self.members.get(&from));
        let account = self.member(connection).account;
        if account == SERVED && by.is_some_and(|by| by.account == SERVING) {
            return Ok(());
        }
        self.heard(connection, from, false)
    }

    // Deliveries.

    /// Books a delivery; returns subscription number, publisher and message number.
    pub(crate) fn received(
        &mut self,
        connection: usize,
        message: &Message<'_>,
    ) -> Result<(u64, usize, usize), Violation> {
        self.deliveries += 1;
        let sid = std::str::from_utf8(message.sid)
            .ok()
            .and_then(|sid| sid.parse().ok());
        let id = sid.and_then(|sid| self.by_sid.get(&(connection, sid)).copied());
        let Some(id) = id else {
            let sid = message.sid.escape_ascii();
            return Err(violation(
                "only what was subscribed to is delivered",
                format!("connection {connection} got sid {sid}"),
            ));
        };
        let sent = identity(message).and_then(|(publisher, sequence)| {
            let member = self.members.get(&publisher)?;
            Some((publisher, sequence, member.publications.get(sequence)?))
        });
        let Some((publisher, sequence, sent)) = sent else {
            return Err(violation(
                "messages arrive as they were sent",
                format!(
                    "connection {connection} got one to {} that nobody sent: {}",
                    message.subject.escape_ascii(),
                    message.body.escape_ascii()
                ),
            ));
        };
        let difference = (sent.publication).difference(message, publisher, sequence, true);
        let checked = match difference {
            Some(difference) => Err(("messages arrive as they were sent", difference.to_owned())),
            None => self.check_delivery(id, publisher, sequence),
        };
        if let Err((property, what)) = checked {
            let Subscription {
                sid, queue, max, ..
            } = &self.subscriptions[id];
            let queue = queue.map(|queue| QUEUES[queue]);
            return Err(violation(
                property,
                format!(
                    "connection {connection}, message {sequence} of connection {publisher}: sid {sid}, queue \
                     {queue:?}, max {max:?}: {what}"
                ),
            ));
        }
        let subscription = &mut self.subscriptions[id];
        subscription.count += 1;
        let last = subscription.last.entry(publisher).or_insert(sequence);
        *last = sequence.max(*last);
        subscription.received.insert((publisher, sequence));
        if let Some(queue) = subscription.queue {
            self.grouped.insert((queue, publisher, sequence));
        }
        Ok((subscription.sid, publisher, sequence))
    }

    fn check_delivery(
        &self,
        id: SubscriptionId,
        publisher: usize,
        sequence: usize,
    ) -> Result<(), Fault> {
        let subscription = &self.subscriptions[id];
        let [from, to] = [publisher, subscription.connection].map(|id| self.member(id).account);
        if from != to {
            let what = format!("from {from} to {to}");
            return Err(("nothing crosses into another account", what));
        }
        if subscription.is_closed {
            return Err(("nothing follows an acknowledged UNSUB", String::new()));
        }
        let sent = &self.member(publisher).publications[sequence];
        // A message for the last member of a queue group on a server, which has left while it was on its way, is passed
        // on to a member elsewhere, later than what came directly, and maybe back to where it was published.
        let may_come_round = subscription.queue.is_some_and(|queue| {
            let is_of_group = |other: &&Subscription| {
                other.queue == Some(queue) && self.member(other.connection).account == to
            };
            let mut group = self.subscriptions.iter().filter(is_of_group);
            group.any(|other| self.has_changed(other, self.phase))
        });
        let is_own = publisher == subscription.connection && may_come_round;
        let is_wanted = self.concerns(subscription, publisher, &sent.publication)
            || is_own && Self::matches_subject(subscription, &sent.publication);
        if !is_wanted {
            let what = PATTERNS[subscription.pattern].to_owned();
            return Err(("only what was subscribed to is delivered", what));
        }
        if sent.phase < subscription.since {
            return Err((
                "nothing from before the subscription is delivered",
                String::new(),
            ));
        }
        if (subscription.count_max).is_some_and(|max| subscription.count >= max) {
            return Err(("no more messages than asked for", String::new()));
        }
        if let Some(&last) = subscription.last.get(&publisher) {
            if sequence == last || subscription.received.contains(&(publisher, sequence)) {
                return Err(("no message arrives twice", format!("after {last}")));
            }
            if sequence < last && !may_come_round {
                return Err((
                    "a publisher's messages keep their order",
                    format!("after {last}"),
                ));
            }
        }
        if let Some(queue) = subscription.queue
            && self.grouped.contains(&(queue, publisher, sequence))
        {
            return Err((
                "a queue group gets a message once",
                QUEUES[queue].to_owned(),
            ));
        }
        Ok(())
    }

    fn matches_subject(subscription: &Subscription, publication: &Publication) -> bool {
        matches(
            PATTERNS[subscription.pattern],
            SUBJECTS[publication.subject],
        )
    }

    /// Whether the subscription would get the message if both were there at one time, and in one account.
    fn concerns(
        &self,
        subscription: &Subscription,
        publisher: usize,
        publication: &Publication,
    ) -> bool {
        Self::matches_subject(subscription, publication)
            && (self.member(publisher).echo || publisher != subscription.connection)
    }

    // Phases.

    /// Everything is at rest: what was published since the last time must have arrived if it `is_lossless`, and another
    /// phase begins. If `answers_surely`, so must answers to requests. What `reach` keeps a server from hearing of need
    /// not arrive there.
    pub(crate) fn end_phase(
        &mut self,
        is_lossless: bool,
        answers_surely: bool,
        reach: &Reach,
    ) -> Result<(), Violation> {
        let phase = self.phase;
        self.phase += 1;
        if is_lossless {
            self.check_arrived(phase, reach)?;
        }
        if is_lossless && answers_surely {
            self.check_answered(phase, reach)?;
        }
        for subscription in &mut self.subscriptions {
            subscription.received.clear();
        }
        self.grouped.clear();
        self.requests.clear();
        Ok(())
    }

    /// Whether it was there when the phase began, and still is.
    fn is_settled(&self, subscription: &Subscription, phase: u32) -> bool {
        subscription.since < phase
            && subscription.until.is_none()
            && self.member(subscription.connection).ended.is_none()
    }

    /// Whether it came or went in the phase, or may have.
    fn has_changed(&self, subscription: &Subscription, phase: u32) -> bool {
        match self.member(subscription.connection).ended {
            Some(ended) => ended == phase,
            None => {
                subscription.since == phase
                    || subscription.until.is_some_and(|until| {
                        until == phase
                            || !subscription.is_closed
                                && (!is_satisfied(subscription)
                                    || !subscription.received.is_empty())
                    })
            }
        }
    }

    fn check_arrived(&mut self, phase: u32, reach: &Reach) -> Result<(), Violation> {
        let mut confirmed = 0;
        // Groups of which a member came or went may have missed what went to that one.
        let unsettled: HashSet<_> = self
            .subscriptions
            .iter()
            .filter(|subscription| self.has_changed(subscription, phase))
            .filter_map(|subscription| {
                let account = self.member(subscription.connection).account;
                Some((account, subscription.queue?))
            })
            .collect();
        let mut publishers: Vec<_> = self.members.iter().collect();
        publishers.sort_by_key(|(id, _)| **id);
        for (&publisher, member) in publishers {
            if member.ended.is_some() {
                // What it sent last may not have arrived at its own server.
                continue;
            }
            let of_phase = member.publications.iter().enumerate().rev();
            for (sequence, sent) in of_phase.take_while(|(_, sent)| sent.phase == phase) {
                for subscription in &self.subscriptions {
                    let to = self.member(subscription.connection);
                    let pattern = PATTERNS[subscription.pattern];
                    let is_reached = reach.reaches(member.node, to.node, pattern);
                    let to = to.account;
                    if to != member.account
                        || !is_reached
                        || !self.is_settled(subscription, phase)
                        || !self.concerns(subscription, publisher, &sent.publication)
                    {
                        continue;
                    }
                    let arrived = match subscription.queue {
                        None => subscription.received.contains(&(publisher, sequence)),
                        Some(queue) => {
                            self.grouped.contains(&(queue, publisher, sequence))
                                || unsettled.contains(&(to, queue))
                        }
                    };
                    if !arrived {
                        return Err(violation(
                            "every message arrives",
                            format!(
                                "message {sequence} of connection {publisher} to {} is missing at connection {}, \
                                 sid {}, pattern {}, queue {:?}",
                                SUBJECTS[sent.publication.subject],
                                subscription.connection,
                                subscription.sid,
                                PATTERNS[subscription.pattern],
                                subscription.queue.map(|queue| QUEUES[queue]),
                            ),
                        ));
                    }
                    confirmed += 1;
                }
            }
        }
        self.confirmed += confirmed;
        Ok(())
    }

    fn check_answered(&self, phase: u32, reach: &Reach) -> Result<(), Violation> {
        let mut requests: Vec<_> = self.requests.iter().collect();
        requests.sort_by_key(|(key, _)| **key);
        for (&(connection, number), request) in requests {
            let member = self.member(connection);
            if member.ended.is_some() || request.phase != phase {
                continue;
            }
            if request.is_of_service && member.account == SERVED {
                let is_served = (self.answerers.iter()).any(|(other, &since)| {
                    let other = self.member(*other);
                    since < phase
                        && other.account == SERVING
                        && reach.reaches(member.node, other.node, SERVICE)
                        && reach.reaches(other.node, member.node, "_R_.>")
                });
                if is_served && request.answers != 1 {
                    return Err(violation(
                        "every request is answered",
                        format!("request {number} of connection {connection} for the service"),
                    ));
                }
                continue;
            }
            if request.is_of_service && member.account == SERVING {
                continue;
            }
            let must_answer = (self.answerers.iter()).any(|(other, &since)| {
                let other_member = self.member(*other);
                since < phase
                    && other_member.account == member.account
                    && reach.reaches(member.node, other_member.node, "ask.*")
                    && !request.is_of_service
                    && (member.echo || *other != connection)
            });
            let is_heard = self.subscriptions.iter().any(|subscription| {
                let other = self.member(subscription.connection);
                other.account == member.account
                    && other.ended.is_none()
                    && reach.reaches(member.node, other.node, PATTERNS[subscription.pattern])
                    && (member.echo || subscription.connection != connection)
                    && !subscription.is_closed
                    && matches(
                        PATTERNS[subscription.pattern],
                        if request.is_of_service {
                            "serve.0"
                        } else {
                            "ask.0"
                        },
                    )
            });
            let is_right = match (must_answer, is_heard) {
                (true, _) => request.answers == 1,
                (false, true) => request.answers == 0,
                (false, false) => request.answers == 0 && request.refusals == 1,
            };
            if !is_right {
                return Err(violation(
                    "every request is answered",
                    format!(
                        "request {number} of connection {connection}: {} answers, {} refusals",
                        request.answers, request.refusals
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Whether it has all that it asked for.
fn is_satisfied(subscription: &Subscription) -> bool {
    (subscription.max).is_some_and(|max| subscription.count >= max)
}

pub(crate) fn violation(property: &'static str, details: String) -> Violation {
    Violation { property, details }
}
