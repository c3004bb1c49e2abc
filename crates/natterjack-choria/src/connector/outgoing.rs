//! What is to be published, and the messages that become of it: to everybody, to nodes, through federations, back to who asked.

use bytes::Bytes;

use super::shared::Message;
use super::{ConnectorOptions, PublishError, check_subject};
use crate::identity::Identity;
use crate::server::ServerAddress;
use crate::subject;
use crate::wire::{Federation, Headers, Transport};

/// Nodes that one message through a federation is for, at most.
pub const FEDERATED_NODES_MAX: usize = 200;

/// Something to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outgoing {
    /// A request.
    Request(OutgoingRequest),
    /// A reply.
    Reply(OutgoingReply),
}

/// A request, to one or many nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingRequest {
    /// The secure request, as [`crate::wire::SecureRequest::to_bytes`] writes it.
    pub content: Vec<u8>,
    /// The request's identifier, for the federation.
    pub request_id: String,
    /// In which collective.
    pub collective: String,
    /// For which agent.
    pub agent: String,
    /// For whom.
    pub recipients: Recipients,
    /// Where answers go; see [`super::Connector::reply_subject`].
    pub reply_to: String,
    /// Whether those on the way write down that they have seen it, MCollective's `seen-by`.
    pub is_traced: bool,
}

/// Who gets a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recipients {
    /// Every node with the agent.
    Everyone,
    /// One node of those that have the agent as a service; which one, the server decides.
    Service,
    /// These nodes, each by a message of its own.
    Nodes(Vec<Identity>),
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingReply {
    /// The secure reply, as [`crate::wire::SecureReply::to_bytes`] writes it.
    pub content: Vec<u8>,
    /// The headers of the request, as they came.
    pub request: Headers,
}

impl From<OutgoingRequest> for Outgoing {
    fn from(request: OutgoingRequest) -> Self {
        Self::Request(request)
    }
}

impl From<OutgoingReply> for Outgoing {
    fn from(reply: OutgoingReply) -> Self {
        Self::Reply(reply)
    }
}

impl Outgoing {
    /// The messages, in the order in which they are sent. `server` is the one that they go to, if it is known.
    pub(super) fn messages(
        self,
        options: &ConnectorOptions,
        server: Option<&ServerAddress>,
    ) -> Result<Vec<Message>, PublishError> {
        let server = server.map(ServerAddress::url).unwrap_or_default();
        match self {
            Self::Request(request) => request.messages(options, server),
            Self::Reply(reply) => Ok(vec![reply.message(options, server)?]),
        }
    }
}

impl OutgoingRequest {
    fn messages(
        self,
        options: &ConnectorOptions,
        server: String,
    ) -> Result<Vec<Message>, PublishError> {
        check_subject(&self.reply_to)?;
        let subjects = self.subjects(options)?;
        let mut transport = Transport::new(self.content, &options.identity);
        transport.headers.reply_to = Some(self.reply_to);
        if self.is_traced {
            transport.headers.seen_by = Some(vec![vec![options.identity.to_string(), server]]);
        }
        if options.federations.is_empty() {
            let content = Bytes::from(transport.to_bytes(options.wrapping));
            let message = |subject| Message {
                subject,
                content: content.clone(),
            };
            return Ok(subjects.into_iter().map(message).collect());
        }
        let contents: Vec<_> = subjects
            .chunks(FEDERATED_NODES_MAX)
            .map(|targets| {
                transport.headers.federation = Some(Federation {
                    request: Some(self.request_id.clone()),
                    targets: targets.to_vec(),
                    reply_to: None,
                });
                Bytes::from(transport.to_bytes(options.wrapping))
            })
            .collect();
        let mut messages = Vec::with_capacity(contents.len() * options.federations.len());
        for federation in &options.federations {
            let subject = subject::federation(federation).map_err(subject::TargetError::from)?;
            messages.extend(contents.iter().map(|content| Message {
                subject: subject.clone(),
                content: content.clone(),
            }));
        }
        Ok(messages)
    }

    fn subjects(&self, options: &ConnectorOptions) -> Result<Vec<String>, PublishError> {
        let (collectives, collective) = (&options.collectives, &self.collective);
        let subjects = match &self.recipients {
            Recipients::Everyone => vec![collectives.broadcast(collective, &self.agent)?],
            Recipients::Service => vec![collectives.service(collective, &self.agent)?],
            Recipients::Nodes(nodes) => nodes
                .iter()
                .map(|node| collectives.directed(collective, node))
                .collect::<Result<_, _>>()?,
        };
        Ok(subjects)
    }
}

impl OutgoingReply {
    fn message(self, options: &ConnectorOptions, server: String) -> Result<Message, PublishError> {
        let subject = self.request.reply_to.ok_or(PublishError::NoReplySubject)?;
        check_subject(&subject)?;
        let mut transport = Transport::new(self.content, &options.identity);
        transport.headers.federation = self.request.federation;
        transport.headers.seen_by = self.request.seen_by.map(|mut hops| {
            // The last one is what this side added when the request came.
            match hops.last_mut() {
                Some(own) => own.push(server),
                None => hops.push(vec![options.identity.to_string(), server]),
            }
            hops
        });
        Ok(Message {
            subject,
            content: transport.to_bytes(options.wrapping).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::CallerId;
    use crate::subject::Collectives;
    use crate::wire::Wrapping;

    fn options() -> ConnectorOptions {
        let identity = Identity::new("client.example.net").unwrap();
        let caller = CallerId::of_certificate("rip.mcollective").unwrap();
        ConnectorOptions::new(identity, caller, Collectives::default())
    }

    fn request(recipients: Recipients) -> OutgoingRequest {
        OutgoingRequest {
            content: b"{}".to_vec(),
            request_id: "77".into(),
            collective: "mcollective".into(),
            agent: "rpcutil".into(),
            recipients,
            reply_to: "mcollective.reply.x.1.1".into(),
            is_traced: false,
        }
    }

    fn messages(outgoing: impl Into<Outgoing>, options: &ConnectorOptions) -> Vec<Message> {
        let server = ServerAddress::new("nats1", 4222);
        outgoing.into().messages(options, Some(&server)).unwrap()
    }

    fn headers(message: &Message) -> Headers {
        Transport::from_bytes(&message.content).unwrap().headers
    }

    fn nodes(count: usize) -> Recipients {
        let node = |number| Identity::new(format!("n{number}")).unwrap();
        Recipients::Nodes((0..count).map(node).collect())
    }

    #[test]
    fn to_everyone_and_to_services() {
        let sent = messages(request(Recipients::Everyone), &options());
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].subject, "mcollective.broadcast.agent.rpcutil");
        let expected = Headers {
            sender: Some("client.example.net".into()),
            reply_to: Some("mcollective.reply.x.1.1".into()),
            ..Headers::default()
        };
        assert_eq!(headers(&sent[0]), expected);
        let sent = messages(request(Recipients::Service), &options());
        assert_eq!(sent[0].subject, "mcollective.broadcast.service.rpcutil");
    }

    #[test]
    fn to_nodes_each_by_its_own() {
        let sent = messages(request(nodes(3)), &options());
        let subjects: Vec<_> = sent.iter().map(|message| &*message.subject).collect();
        let expected = ["n0", "n1", "n2"].map(|node| format!("mcollective.node.{node}"));
        assert_eq!(subjects, expected);
        assert!(
            sent.iter()
                .all(|message| message.content == sent[0].content)
        );
    }

    #[test]
    fn through_federations_in_groups() {
        let options = ConnectorOptions {
            federations: vec!["london".into(), "paris".into()],
            ..options()
        };
        let sent = messages(request(nodes(401)), &options);
        let shown: Vec<_> = sent
            .iter()
            .map(|message| {
                let federation = headers(message).federation.unwrap();
                assert_eq!(federation.request.as_deref(), Some("77"));
                let subject = message.subject.clone();
                (
                    subject,
                    federation.targets.len(),
                    federation.targets[0].clone(),
                )
            })
            .collect();
        let group = |cluster, count, first| {
            let subject = format!("choria.federation.{cluster}.federation");
            (subject, count, format!("mcollective.node.{first}"))
        };
        assert_eq!(
            shown,
            [
                group("london", 200, "n0"),
                group("london", 200, "n200"),
                group("london", 1, "n400"),
                group("paris", 200, "n0"),
                group("paris", 200, "n200"),
                group("paris", 1, "n400"),
            ]
        );
        let sent = messages(request(Recipients::Everyone), &options);
        assert_eq!(sent.len(), 2);
        let federation = headers(&sent[1]).federation.unwrap();
        assert_eq!(federation.targets, ["mcollective.broadcast.agent.rpcutil"]);
    }

    #[test]
    fn replies_go_the_way_that_the_request_came() {
        let federation = Federation {
            request: Some("77".into()),
            reply_to: Some("mcollective.reply.x.1.1".into()),
            ..Federation::default()
        };
        let asked = Headers {
            sender: Some("client".into()),
            reply_to: Some("choria.federation.london.collective".into()),
            federation: Some(federation.clone()),
            seen_by: Some(vec![
                vec!["client".into(), "a".into()],
                vec!["b".into(), "node".into()],
            ]),
        };
        let reply = |request: &Headers| OutgoingReply {
            content: b"{}".to_vec(),
            request: request.clone(),
        };
        // Replies do not go through federations of one's own.
        let options = ConnectorOptions {
            federations: vec!["paris".into()],
            wrapping: Wrapping::Lines,
            ..options()
        };
        let sent = messages(reply(&asked), &options);
        assert_eq!(sent[0].subject, "choria.federation.london.collective");
        let found = headers(&sent[0]);
        assert_eq!(found.federation, Some(federation));
        assert_eq!(found.reply_to, None);
        assert_eq!(found.sender.as_deref(), Some("client.example.net"));
        let hops = [vec!["client", "a"], vec!["b", "node", "nats://nats1:4222"]];
        assert_eq!(found.seen_by.unwrap(), hops);

        let fails = |request: &Headers| {
            let outgoing = Outgoing::from(reply(request));
            outgoing.messages(&options, None).unwrap_err()
        };
        assert!(matches!(
            fails(&Headers::default()),
            PublishError::NoReplySubject
        ));
        for subject in ["", "a.>", "a b", "a\r\nPUB x 0\r\n", "*"] {
            let request = Headers {
                reply_to: Some(subject.into()),
                ..Headers::default()
            };
            assert!(matches!(fails(&request), PublishError::Subject(_)));
        }
        let request = Headers {
            reply_to: Some("x".repeat(5000)),
            ..Headers::default()
        };
        assert_eq!(fails(&request), PublishError::SubjectTooLong(5000));
    }

    #[test]
    fn who_wants_to_know_the_way_is_told() {
        let traced = OutgoingRequest {
            is_traced: true,
            ..request(Recipients::Everyone)
        };
        let sent = messages(traced, &options());
        let hops = headers(&sent[0]).seen_by.unwrap();
        assert_eq!(hops, [["client.example.net", "nats://nats1:4222"]]);
    }

    #[test]
    fn unknown_collectives_are_refused() {
        let unknown = OutgoingRequest {
            collective: "eu".into(),
            ..request(Recipients::Everyone)
        };
        let outgoing = Outgoing::from(unknown);
        assert!(matches!(
            outgoing.messages(&options(), None),
            Err(PublishError::Target(_))
        ));
    }
}
