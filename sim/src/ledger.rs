//! What everybody sent, subscribed to and received, and what must hold of it.
//!
//! Only what clients can know is used: a subscription surely exists from the PONG to a PING sent behind its SUB,
//! a message has surely been handled from the PONG to a PING sent behind its PUB. In between, both outcomes are
//! right, but a publisher's messages arrive at one subscription without a gap in any case.

use std::collections::{HashMap, HashSet};

use natterjack_wire::client::Message;

use crate::message::{PATTERNS, Publication, QUEUES, SUBJECTS, identity, matches};

/// A property that did not hold.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) property: &'static str,
    pub(crate) details: String,
}

/// One connection's part.
struct Member {
    echo: bool,
    headers: bool,
    publications: Vec<Publication>,
    /// Everything sent to it by the end has been received.
    is_settled: bool,
}

/// Index of a subscription.
pub(crate) type SubscriptionId = usize;

struct Subscription {
    connection: usize,
    sid: u64,
    pattern: usize,
    queue: Option<usize>,
    sent: u64,
    acknowledged: Option<u64>,
    unsubscribed: Option<u64>,
    /// Its UNSUB was acknowledged.
    is_closed: bool,
    max: Option<u64>,
    /// The most it may receive in all, once the server is known to have handled its maximum.
    count_max: Option<u64>,
    count: u64,
    /// First and last message from each publisher.
    received: HashMap<usize, (usize, usize)>,
}

pub(crate) struct Ledger {
    members: Vec<Member>,
    subscriptions: Vec<Subscription>,
    by_sid: HashMap<(usize, u64), SubscriptionId>,
    /// Messages a queue group received: queue, publisher, sequence.
    grouped: HashSet<(usize, usize, usize)>,
    /// By pattern and subject.
    matching: Vec<Vec<bool>>,
    pub(crate) deliveries: u64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let row = |pattern| {
            SUBJECTS
                .iter()
                .map(|subject| matches(pattern, subject))
                .collect()
        };
        Self {
            members: Vec::new(),
            subscriptions: Vec::new(),
            by_sid: HashMap::new(),
            grouped: HashSet::new(),
            matching: PATTERNS.iter().map(|pattern| row(pattern)).collect(),
            deliveries: 0,
        }
    }

    pub(crate) fn opened(&mut self, connection: usize, echo: bool, headers: bool) {
        assert_eq!(connection, self.members.len(), "connections are numbered");
        self.members.push(Member {
            echo,
            headers,
            publications: Vec::new(),
            is_settled: false,
        });
    }

    /// Returns the message's number.
    pub(crate) fn published(&mut self, connection: usize, publication: Publication) -> usize {
        let publications = &mut self.members[connection].publications;
        publications.push(publication);
        publications.len() - 1
    }

    pub(crate) fn publications(&self) -> usize {
        self.members
            .iter()
            .map(|member| member.publications.len())
            .sum()
    }

    pub(crate) fn subscribed(
        &mut self,
        connection: usize,
        sid: u64,
        pattern: usize,
        queue: Option<usize>,
        step: u64,
    ) -> SubscriptionId {
        self.subscriptions.push(Subscription {
            connection,
            sid,
            pattern,
            queue,
            sent: step,
            acknowledged: None,
            unsubscribed: None,
            is_closed: false,
            max: None,
            count_max: None,
            count: 0,
            received: HashMap::new(),
        });
        let id = self.subscriptions.len() - 1;
        self.by_sid.insert((connection, sid), id);
        id
    }

    pub(crate) fn unsubscribed(&mut self, id: SubscriptionId, step: u64) {
        self.subscriptions[id].unsubscribed = Some(step);
    }

    pub(crate) fn limited(&mut self, id: SubscriptionId, max: u64) {
        self.subscriptions[id].max = Some(max);
    }

    pub(crate) fn publication_acknowledged(
        &mut self,
        connection: usize,
        sequence: usize,
        step: u64,
    ) {
        self.members[connection].publications[sequence].acknowledged = Some(step);
    }

    pub(crate) fn subscription_acknowledged(&mut self, id: SubscriptionId, step: u64) {
        self.subscriptions[id].acknowledged = Some(step);
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
            || subscription
                .count_max
                .is_some_and(|max| subscription.count >= max)
    }

    pub(crate) fn is_limited(&self, id: SubscriptionId) -> bool {
        self.subscriptions[id].max.is_some()
    }

    pub(crate) fn is_unsubscribed(&self, id: SubscriptionId) -> bool {
        self.subscriptions[id].unsubscribed.is_some()
    }

    pub(crate) fn sid(&self, id: SubscriptionId) -> u64 {
        self.subscriptions[id].sid
    }

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
            return Err(violation(
                "only what was subscribed to is delivered",
                format!(
                    "connection {connection} got sid {:?}",
                    message.sid.escape_ascii().to_string()
                ),
            ));
        };
        let Some((publisher, sequence)) = identity(message) else {
            return Err(violation(
                "messages arrive as they were sent",
                format!("connection {connection} got one that nobody sent"),
            ));
        };
        let headers = self.members[connection].headers;
        let sender = self.members.get(publisher);
        let Some(publication) = sender.and_then(|member| member.publications.get(sequence)) else {
            return Err(violation(
                "messages arrive as they were sent",
                format!("connection {connection} got message {sequence} of {publisher}"),
            ));
        };
        let here = |what: &str| {
            format!("connection {connection}, message {sequence} of connection {publisher}: {what}")
        };
        if let Some(difference) = publication.difference(message, publisher, sequence, headers) {
            return Err(violation(
                "messages arrive as they were sent",
                here(difference),
            ));
        }
        self.check_delivery(id, publisher, sequence)
            .map_err(|(property, what)| {
                let Subscription {
                    sid, queue, max, ..
                } = &self.subscriptions[id];
                let queue = queue.map(|queue| QUEUES[queue]);
                violation(
                    property,
                    here(&format!("sid {sid}, queue {queue:?}, max {max:?}: {what}")),
                )
            })?;
        let subscription = &mut self.subscriptions[id];
        subscription.count += 1;
        subscription
            .received
            .entry(publisher)
            .and_modify(|range| range.1 = sequence)
            .or_insert((sequence, sequence));
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
    ) -> Result<(), (&'static str, String)> {
        let subscription = &self.subscriptions[id];
        let member = &self.members[publisher];
        let publication = &member.publications[sequence];
        if subscription.is_closed {
            return Err(("nothing follows an acknowledged UNSUB", String::new()));
        }
        if !self.concerns(subscription, publisher, publication) {
            let what = format!(
                "pattern {}, echo {}",
                PATTERNS[subscription.pattern], member.echo
            );
            return Err(("only what was subscribed to is delivered", what));
        }
        if publication
            .acknowledged
            .is_some_and(|step| step < subscription.sent)
        {
            return Err((
                "nothing from before the subscription is delivered",
                String::new(),
            ));
        }
        if subscription
            .count_max
            .is_some_and(|max| subscription.count >= max)
        {
            return Err((
                "no more messages than asked for",
                format!("{:?}", subscription.max),
            ));
        }
        if let Some(&(_, last)) = subscription.received.get(&publisher) {
            if sequence == last {
                return Err(("no message arrives twice", String::new()));
            }
            if sequence < last {
                return Err((
                    "a publisher's messages keep their order",
                    format!("after {last}"),
                ));
            }
            let mut skipped = last + 1..sequence;
            let missing = skipped
                .find(|&index| self.concerns(subscription, publisher, &member.publications[index]));
            if let (None, Some(missing)) = (subscription.queue, missing) {
                return Err((
                    "a publisher's messages arrive without a gap",
                    format!("{missing} is missing"),
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

    /// Whether the subscription would get the message if both were there at one time.
    fn concerns(
        &self,
        subscription: &Subscription,
        publisher: usize,
        publication: &Publication,
    ) -> bool {
        self.matching[subscription.pattern][publication.subject]
            && (self.members[publisher].echo || publisher != subscription.connection)
    }

    /// The connection has received everything that was sent to it by the end.
    pub(crate) fn settled(&mut self, connection: usize) {
        self.members[connection].is_settled = true;
    }

    /// Whatever had to arrive has arrived.
    pub(crate) fn check_complete(&self) -> Result<(), Violation> {
        for subscription in &self.subscriptions {
            for (publisher, member) in self.members.iter().enumerate() {
                for (sequence, publication) in member.publications.iter().enumerate() {
                    self.check_arrived(subscription, publisher, sequence, publication)?;
                }
            }
        }
        Ok(())
    }

    fn check_arrived(
        &self,
        subscription: &Subscription,
        publisher: usize,
        sequence: usize,
        publication: &Publication,
    ) -> Result<(), Violation> {
        let is_satisfied = subscription
            .max
            .is_some_and(|max| subscription.count >= max);
        if is_satisfied
            || !self.must_reach(subscription, publication)
            || !self.concerns(subscription, publisher, publication)
        {
            return Ok(());
        }
        let arrived = match subscription.queue {
            None => subscription
                .received
                .get(&publisher)
                .is_some_and(|&(first, last)| first <= sequence && sequence <= last),
            Some(queue) => {
                // A member whose maximum is reached as messages come is no guarantee.
                subscription.max.is_some()
                    || self.grouped.contains(&(queue, publisher, sequence))
                    || self.may_be_lost(queue, publisher, publication)
            }
        };
        if arrived {
            return Ok(());
        }
        Err(violation(
            "every message arrives",
            format!(
                "message {sequence} of connection {publisher} to {} is missing at connection {}, sid {}, \
                 pattern {}, queue {:?}",
                SUBJECTS[publication.subject],
                subscription.connection,
                subscription.sid,
                PATTERNS[subscription.pattern],
                subscription.queue.map(|queue| QUEUES[queue]),
            ),
        ))
    }

    /// The subscription was surely there from before the message was sent until after it had been handled, and
    /// its client has received everything since.
    fn must_reach(&self, subscription: &Subscription, publication: &Publication) -> bool {
        let (Some(since), Some(handled)) = (subscription.acknowledged, publication.acknowledged)
        else {
            return false;
        };
        since < publication.sent
            && subscription.unsubscribed.is_none_or(|step| handled < step)
            && self.is_known(subscription)
    }

    /// Whether its client has received all that was ever delivered to it.
    fn is_known(&self, subscription: &Subscription) -> bool {
        subscription.is_closed || self.members[subscription.connection].is_settled
    }

    /// Whether the group's choice may have been a member that was dropped with its backlog.
    fn may_be_lost(&self, queue: usize, publisher: usize, publication: &Publication) -> bool {
        self.subscriptions.iter().any(|other| {
            other.queue == Some(queue)
                && !self.is_known(other)
                && self.concerns(other, publisher, publication)
        })
    }
}

fn violation(property: &'static str, details: String) -> Violation {
    Violation { property, details }
}

#[cfg(test)]
mod tests {
    use natterjack_wire::client::{Decoded, Limits, ServerOp, decode_server};

    use super::*;

    /// Two connections: 0 publishes some messages to "a", 1 subscribed to it as sid 1 beforehand.
    struct Example {
        ledger: Ledger,
        id: SubscriptionId,
    }

    impl Example {
        fn new(queue: Option<usize>) -> Self {
            let mut ledger = Ledger::new();
            ledger.opened(0, true, true);
            ledger.opened(1, true, true);
            let id = ledger.subscribed(1, 1, 0, queue, 1);
            ledger.subscription_acknowledged(id, 2);
            for sequence in 0..4 {
                ledger.published(0, publication());
                ledger.publication_acknowledged(0, sequence, 4);
            }
            Self { ledger, id }
        }

        /// Lets messages of connection 0 arrive at connection 1; tells which property did not hold.
        fn receive(&mut self, sequences: &[usize]) -> Option<&'static str> {
            let receive = |&sequence: &usize| self.receive_as(1, sequence).err();
            sequences.iter().find_map(receive)
        }

        fn receive_as(&mut self, connection: usize, sequence: usize) -> Result<(), &'static str> {
            let mut text = Vec::new();
            publication().write(&mut text, 0, sequence);
            let text = String::from_utf8_lossy(&text).replace("PUB a ", "MSG a 1 ");
            let decoded = decode_server(text.as_bytes(), &Limits::FROM_SERVER);
            let Ok(Decoded::Op {
                op: ServerOp::Message(message),
                ..
            }) = decoded
            else {
                panic!("not a message: {text}");
            };
            let received = self.ledger.received(connection, &message);
            received.map(drop).map_err(|violation| violation.property)
        }

        fn missing(mut self) -> Option<&'static str> {
            self.ledger.settled(1);
            Some(self.ledger.check_complete().err()?.property)
        }
    }

    fn publication() -> Publication {
        Publication {
            subject: 0,
            payload_bytes: 0,
            has_header: false,
            sent: 3,
            acknowledged: None,
        }
    }

    #[test]
    fn what_is_right_passes() {
        let mut example = Example::new(None);
        assert_eq!(example.receive(&[0, 1, 2, 3]), None);
        assert_eq!(example.missing(), None);
    }

    #[test]
    fn each_fault_of_a_delivery_is_seen() {
        let faults: [(&[usize], &str); 4] = [
            (&[0, 1, 1], "no message arrives twice"),
            (&[1, 0], "a publisher's messages keep their order"),
            (&[0, 2], "a publisher's messages arrive without a gap"),
            (&[9], "messages arrive as they were sent"),
        ];
        for (sequences, property) in faults {
            assert_eq!(Example::new(None).receive(sequences), Some(property));
        }
    }

    #[test]
    fn what_is_missing_is_seen() {
        for received in [&[][..], &[0, 1], &[1, 2, 3]] {
            let mut example = Example::new(None);
            assert_eq!(example.receive(received), None);
            assert_eq!(example.missing(), Some("every message arrives"));
        }
        let mut group = Example::new(Some(0));
        assert_eq!(group.receive(&[0, 2, 3]), None);
        assert_eq!(group.missing(), Some("every message arrives"));
    }

    #[test]
    fn nothing_may_come_behind_an_end() {
        let mut example = Example::new(None);
        example.ledger.unsubscribed(example.id, 5);
        assert_eq!(example.receive(&[0]), None);
        example.ledger.unsubscription_acknowledged(example.id);
        assert_eq!(
            example.receive(&[1]),
            Some("nothing follows an acknowledged UNSUB")
        );
        let mut example = Example::new(None);
        example.ledger.limited(example.id, 2);
        example.ledger.limit_acknowledged(example.id);
        assert_eq!(example.receive(&[0, 1]), None);
        assert_eq!(
            example.receive(&[2]),
            Some("no more messages than asked for")
        );
        assert_eq!(example.missing(), None, "it has what it asked for");
    }

    #[test]
    fn a_group_gets_a_message_once() {
        let mut example = Example::new(Some(0));
        example.ledger.opened(2, true, true);
        example.ledger.subscribed(2, 1, 0, Some(0), 1);
        assert_eq!(example.receive(&[0]), None);
        assert_eq!(
            example.receive_as(2, 0),
            Err("a queue group gets a message once")
        );
        assert_eq!(example.receive_as(2, 1), Ok(()));
    }

    #[test]
    fn what_a_dropped_member_got_may_be_lost_for_its_group() {
        let mut example = Example::new(Some(0));
        example.ledger.opened(2, true, true);
        example.ledger.subscribed(2, 1, 0, Some(0), 1);
        assert_eq!(example.missing(), None);
    }
}
