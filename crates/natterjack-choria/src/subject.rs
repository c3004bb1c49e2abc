//! Where messages go: the subjects of collectives, agents, nodes, replies and federations.
//!
//! A target that is not in the configuration is a mistake of the caller's, so subjects are made by [`Collectives`], which
//! knows the collectives that this machine is in.

use std::fmt;

use crate::identity::{CallerId, Identity, NameError, check};

/// Longest subject that anything is sent to, in bytes. Ours have two names and a few words; a server ends the connection of
/// who writes a line of more than 4,096 bytes (nats-server, `MAX_CONTROL_LINE_SIZE`).
pub const SUBJECT_BYTES_MAX: usize = 1024;

/// What kind of message goes, or comes, there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// To all nodes with an agent. MCollective says `broadcast` or `request`.
    Broadcast,
    /// To one node. MCollective says `directed` or `direct_request`.
    Directed,
    /// Back to who asked.
    Reply,
}

impl std::str::FromStr for TargetKind {
    type Err = TargetError;

    /// Takes MCollective's words.
    fn from_str(word: &str) -> Result<Self, TargetError> {
        match word {
            "broadcast" | "request" => Ok(Self::Broadcast),
            "directed" | "direct_request" => Ok(Self::Directed),
            "reply" => Ok(Self::Reply),
            _ => Err(TargetError::Kind(word.to_owned())),
        }
    }
}

/// Why there is no such subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// This machine is not in the collective.
    #[error("unknown collective {name:?}; known are {}", known.join(", "))]
    Collective {
        /// What was asked for.
        name: String,
        /// What the setting `collectives` has.
        known: Vec<String>,
    },
    /// Not a kind of message.
    #[error(
        "unknown kind of target {0:?}; there are broadcast, request, directed, direct_request and reply"
    )]
    Kind(String),
    /// An agent's or a cluster's name that cannot be part of a subject.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// The collectives that a machine is in: never none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collectives {
    names: Vec<String>,
    main: usize,
}

impl Default for Collectives {
    /// The one that machines are in unless they say otherwise: `mcollective`.
    fn default() -> Self {
        Self {
            names: vec!["mcollective".into()],
            main: 0,
        }
    }
}

impl Collectives {
    /// Takes the settings `collectives` and `main_collective`; without the latter the first one is the main one.
    ///
    /// # Errors
    /// If there is none, if one is no name, or if the main one is not among them.
    pub fn new(names: Vec<String>, main: Option<&str>) -> Result<Self, TargetError> {
        if names.is_empty() {
            return Err(NameError::Empty.into());
        }
        for name in &names {
            check_part(name)?;
        }
        let main = match main {
            None => 0,
            Some(main) => names
                .iter()
                .position(|name| name == main)
                .ok_or_else(|| unknown(main, &names))?,
        };
        Ok(Self { names, main })
    }

    /// Their names, in the order of the setting.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The one that requests go to unless they say otherwise.
    #[must_use]
    pub fn main(&self) -> &str {
        &self.names[self.main]
    }

    /// Subject of requests to all nodes that have an agent: `<collective>.broadcast.agent.<agent>`.
    ///
    /// # Errors
    /// If the collective is unknown or the agent's name is none.
    pub fn broadcast(&self, collective: &str, agent: &str) -> Result<String, TargetError> {
        check(agent)?;
        let collective = self.known(collective)?;
        Ok(format!("{collective}.broadcast.agent.{agent}"))
    }

    /// Subject of requests to one of the nodes that have an agent as a service:
    /// `<collective>.broadcast.service.<agent>` (go-choria). Those nodes are a queue group of the agent's name.
    ///
    /// # Errors
    /// If the collective is unknown or the agent's name is none.
    pub fn service(&self, collective: &str, agent: &str) -> Result<String, TargetError> {
        check(agent)?;
        let collective = self.known(collective)?;
        Ok(format!("{collective}.broadcast.service.{agent}"))
    }

    /// Subject of requests to one node: `<collective>.node.<identity>`.
    ///
    /// # Errors
    /// If the collective is unknown.
    pub fn directed(&self, collective: &str, node: &Identity) -> Result<String, TargetError> {
        let collective = self.known(collective)?;
        Ok(format!("{collective}.node.{node}"))
    }

    /// Subject of the replies to a caller's requests: `<collective>.reply.<token of the caller>.<session>.<sequence>`. The
    /// session tells programs of one caller apart; in Ruby's it is the process id.
    ///
    /// # Errors
    /// If the collective is unknown.
    pub fn reply(
        &self,
        collective: &str,
        caller: &CallerId,
        session: impl fmt::Display,
        sequence: u64,
    ) -> Result<String, TargetError> {
        let collective = self.known(collective)?;
        let token = caller.subject_token();
        Ok(format!("{collective}.reply.{token}.{session}.{sequence}"))
    }

    /// What a node subscribes to: its own subject and one for each agent, in each collective.
    ///
    /// # Errors
    /// If an agent's name is none.
    pub fn of_node<'a>(
        &self,
        node: &Identity,
        agents: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<Vec<String>, TargetError> {
        let mut subjects = Vec::new();
        for collective in &self.names {
            subjects.push(self.directed(collective, node)?);
            for agent in agents.clone() {
                subjects.push(self.broadcast(collective, agent)?);
            }
        }
        Ok(subjects)
    }

    /// Whether replies to a caller may be sent there: below `<collective>.reply.<token of the caller>`. The subject is not
    /// signed; whoever got hold of a request could otherwise have the answers sent to himself, or have a node send
    /// what looks like a request.
    #[must_use]
    pub fn is_reply_to(&self, subject: &str, caller: &CallerId) -> bool {
        let token = caller.subject_token();
        let is_below = |collective: &String| {
            let rest = subject.strip_prefix(collective.as_str());
            let rest = rest.and_then(|rest| rest.strip_prefix(".reply."));
            let rest = rest.and_then(|rest| rest.strip_prefix(token.as_str()));
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        is_literal(subject) && self.names.iter().any(is_below)
    }

    fn known(&self, collective: &str) -> Result<&str, TargetError> {
        let known = self.names.iter().find(|name| *name == collective);
        known
            .map(String::as_str)
            .ok_or_else(|| unknown(collective, &self.names))
    }
}

/// Whether a name can be part of a subject that servers let somebody subscribe to. Those of others are not looked at so
/// closely: what they are called is theirs to know.
///
/// # Errors
/// If it is no name, or begins or ends with a dot or has two in a row.
pub(crate) fn check_part(name: &str) -> Result<(), NameError> {
    check(name)?;
    if name.split('.').any(str::is_empty) {
        return Err(NameError::Dots(name.to_owned()));
    }
    Ok(())
}

fn unknown(name: &str, known: &[String]) -> TargetError {
    TargetError::Collective {
        name: name.to_owned(),
        known: known.to_vec(),
    }
}

/// Whether a subject can be published to: no wildcards, no empty parts, no blanks or control characters, and not longer than
/// [`SUBJECT_BYTES_MAX`].
#[must_use]
pub fn is_literal(subject: &str) -> bool {
    let is_plain = |token: &str| {
        !token.is_empty()
            && token != "*"
            && token != ">"
            && !token
                .chars()
                .any(|letter| letter.is_whitespace() || letter.is_control())
    };
    subject.len() <= SUBJECT_BYTES_MAX && subject.split('.').all(is_plain)
}

/// Subject of what goes from a federation into a cluster's collective.
///
/// # Errors
/// If the cluster's name is none.
pub fn federation(cluster: &str) -> Result<String, NameError> {
    check_part(cluster)?;
    Ok(format!("choria.federation.{cluster}.federation"))
}

/// Subject of what goes from a cluster's collective back to the federation.
///
/// # Errors
/// If the cluster's name is none.
pub fn federation_replies(cluster: &str) -> Result<String, NameError> {
    check_part(cluster)?;
    Ok(format!("choria.federation.{cluster}.collective"))
}

/// Whether a request may be for those who listen there, by the look of it: to an agent, a service or a node of some
/// collective.
#[must_use]
pub fn is_of_request(subject: &str) -> bool {
    let kinds = [".broadcast.agent.", ".broadcast.service.", ".node."];
    is_literal(subject) && kinds.iter().any(|kind| is_between_names(subject, kind))
}

/// Whether a caller may wait for replies there, by the look of it.
#[must_use]
pub fn is_of_reply(subject: &str) -> bool {
    is_literal(subject) && is_between_names(subject, ".reply.")
}

/// Whether a collective's name is before it, and some name behind.
fn is_between_names(subject: &str, middle: &str) -> bool {
    let parts = subject.split_once(middle);
    parts.is_some_and(|(before, after)| check(before).is_ok() && check(after).is_ok())
}

/// Whether a federation's broker listens there for answers.
#[must_use]
pub fn is_federation_reply(subject: &str) -> bool {
    let cluster = subject.strip_prefix("choria.federation.");
    let cluster = cluster.and_then(|rest| rest.strip_suffix(".collective"));
    cluster.is_some_and(|cluster| check(cluster).is_ok() && is_literal(cluster))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collectives() -> Collectives {
        Collectives::new(vec!["mcollective".into(), "eu.west".into()], None).unwrap()
    }

    fn caller() -> CallerId {
        CallerId::of_certificate("rip.mcollective").unwrap()
    }

    #[test]
    fn subjects_are_those_of_choria() {
        let collectives = collectives();
        let node = Identity::new("node1.example.net").unwrap();
        assert_eq!(
            collectives.of_node(&node, ["discovery", "rpcutil"].into_iter()),
            Ok([
                "mcollective.node.node1.example.net",
                "mcollective.broadcast.agent.discovery",
                "mcollective.broadcast.agent.rpcutil",
                "eu.west.node.node1.example.net",
                "eu.west.broadcast.agent.discovery",
                "eu.west.broadcast.agent.rpcutil",
            ]
            .map(String::from)
            .to_vec())
        );
        assert_eq!(
            collectives.service("mcollective", "rpcutil"),
            Ok("mcollective.broadcast.service.rpcutil".into())
        );
        assert_eq!(
            collectives.reply("mcollective", &caller(), 4711, 1),
            Ok("mcollective.reply.37bdf08389145a56c13096c178802d3b.4711.1".into())
        );
        assert_eq!(
            federation("london"),
            Ok("choria.federation.london.federation".into())
        );
        assert_eq!(
            federation_replies("london"),
            Ok("choria.federation.london.collective".into())
        );
    }

    #[test]
    fn what_is_not_configured_is_refused() {
        let collectives = collectives();
        let error = collectives.broadcast("us", "rpcutil").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown collective \"us\"; known are mcollective, eu.west"
        );
        assert!(collectives.broadcast("mcollective", "a.>").is_err());
        assert!(Collectives::new(vec![], None).is_err());
        assert!(Collectives::new(vec!["a b".into()], None).is_err());
        for name in ["eu.", ".eu", "eu..west"] {
            let error = Collectives::new(vec![name.into()], None).unwrap_err();
            assert!(error.to_string().contains("a dot may only be between"));
            assert!(federation(name).is_err() && federation_replies(name).is_err());
        }
        assert!(Collectives::new(vec!["a".into()], Some("b")).is_err());
        let main = Collectives::new(vec!["a".into(), "b".into()], Some("b")).unwrap();
        assert_eq!(main.main(), "b");
    }

    #[test]
    fn words_of_mcollective() {
        for (word, kind) in [
            ("broadcast", TargetKind::Broadcast),
            ("request", TargetKind::Broadcast),
            ("directed", TargetKind::Directed),
            ("direct_request", TargetKind::Directed),
            ("reply", TargetKind::Reply),
        ] {
            assert_eq!(word.parse(), Ok(kind));
        }
        assert!("service".parse::<TargetKind>().is_err());
    }

    #[test]
    fn replies_belong_to_their_caller() {
        let collectives = collectives();
        let own = collectives.reply("eu.west", &caller(), "x", 7).unwrap();
        assert!(collectives.is_reply_to(&own, &caller()));
        let other = CallerId::of_certificate("bob.mcollective").unwrap();
        assert!(!collectives.is_reply_to(&own, &other));
        let token = caller().subject_token();
        for subject in [
            format!("mcollective.reply.{token}"),
            format!("mcollective.reply.{token}x.1"),
            format!("mcollective.reply.{token}.>"),
            format!("mcollective.reply.{token}.*.1"),
            format!("mcollective.reply.{token}.1 2"),
            format!("mcollective.reply.{token}..1"),
            format!("us.reply.{token}.1.1"),
            format!("x.mcollective.reply.{token}.1.1"),
            "mcollective.node.node1".into(),
            String::new(),
        ] {
            assert!(!collectives.is_reply_to(&subject, &caller()), "{subject:?}");
        }
    }

    /// A server would end the connection of who sends anything there.
    #[test]
    fn subjects_have_an_end() {
        let (collectives, long) = (collectives(), "x".repeat(5000));
        let many_parts = vec!["x"; 2500].join(".");
        let token = caller().subject_token();
        for end in [&long, &many_parts] {
            let reply = format!("mcollective.reply.{token}.{end}");
            assert!(!is_literal(end));
            assert!(!collectives.is_reply_to(&reply, &caller()));
            assert!(!is_of_reply(&reply));
            for subject in [
                format!("mcollective.node.{end}"),
                format!("{end}.node.a"),
                format!("mcollective.broadcast.agent.{end}"),
                format!("mcollective.broadcast.service.{end}"),
            ] {
                assert!(!is_of_request(&subject));
            }
            assert!(!is_federation_reply(&format!(
                "choria.federation.{end}.collective"
            )));
        }
        let name = "n".repeat(crate::identity::NAME_BYTES_MAX);
        let longest = Collectives::new(vec![name.clone()], None).unwrap();
        let service = longest.service(&name, &name).unwrap();
        assert!(is_of_request(&service) && service.len() <= SUBJECT_BYTES_MAX);
    }
}
