//! The shell around a node: receives, lets agents work, publishes what they answer.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::task::JoinSet;

use super::{Node, Taken, Work};
use crate::connector::{Connector, OutgoingReply, PublishError};
use crate::rpc::{ActionReply, Status};
use crate::subject::{TargetError, TargetKind};

/// Serves requests that come over a connector, until that is closed or `end` is over. Then no more requests are taken, what
/// agents work on is waited for, and answers are sent. `end` is asked for the first time when all has been subscribed to.
///
/// The connector must be the node's alone: it takes everything that comes.
///
/// # Errors
/// If the connector is in other collectives than the node.
pub async fn serve(
    node: Arc<Node>,
    connector: &Connector,
    end: impl Future<Output = ()>,
) -> Result<(), TargetError> {
    subscribe(&node, connector)?;
    let mut incoming = connector.receive();
    let mut work = JoinSet::new();
    let mut end = std::pin::pin!(end);
    loop {
        // Without this it would keep what every piece of work has left behind.
        while work.try_join_next().is_some() {}
        let message = tokio::select! {
            biased;
            () = &mut end => break,
            message = incoming.next() => message,
        };
        let Some(message) = message else {
            break;
        };
        // Checking signatures takes a while, and others want the thread, too.
        tokio::task::consume_budget().await;
        match node.take(&message.transport, now()) {
            Taken::Nothing => {}
            Taken::Answer(answer) => publish(&node, connector, answer).await,
            Taken::Work(task) => {
                let (node, connector) = (Arc::clone(&node), connector.clone());
                work.spawn(async move {
                    finish(&node, *task, |answer| connector.publish(answer)).await;
                });
            }
        }
    }
    unsubscribe(&node, connector)?;
    while work.join_next().await.is_some() {}
    Ok(())
}

/// Everything that a node listens to: in each collective its own subject, and one for each agent.
fn targets(node: &Node) -> impl Iterator<Item = (&str, TargetKind, &str)> {
    node.collectives().names().iter().flat_map(|collective| {
        let agents = node.agents().iter();
        let agents =
            agents.map(|agent| (agent.as_str(), TargetKind::Broadcast, collective.as_str()));
        agents.chain([("", TargetKind::Directed, collective.as_str())])
    })
}

fn subscribe(node: &Node, connector: &Connector) -> Result<(), TargetError> {
    targets(node)
        .try_for_each(|(agent, kind, collective)| connector.subscribe(agent, kind, collective))
}

fn unsubscribe(node: &Node, connector: &Connector) -> Result<(), TargetError> {
    targets(node)
        .try_for_each(|(agent, kind, collective)| connector.unsubscribe(agent, kind, collective))
}

async fn publish(node: &Node, connector: &Connector, answer: OutgoingReply) {
    if let Err(error) = connector.publish(answer).await {
        complain(node, &error);
    }
}

/// Has an agent do its work, and publishes what it answers. The request keeps its place until that is out: where a server
/// takes answers slowly, no more of them than there are places wait.
pub(super) async fn finish<P>(node: &Node, work: Work, publish: impl Fn(OutgoingReply) -> P)
where
    P: Future<Output = Result<usize, PublishError>>,
{
    let (asked, time) = (work.asked.clone(), work.call.time);
    let _place = Arc::clone(&work.permit);
    let Some(answer) = work.perform().await else {
        return;
    };
    let Err(error) = publish(answer).await else {
        return;
    };
    complain(node, &error);
    // An answer that no server takes would look like none.
    if matches!(error, PublishError::TooLarge { .. }) {
        let message = format!("the answer was lost: {error}");
        let reply = ActionReply::failed(Status::UnknownError, message);
        let explanation = node.shared.render(&asked, &reply.to_text(), time);
        if let Err(error) = publish(explanation).await {
            complain(node, &error);
        }
    }
}

fn complain(node: &Node, error: &PublishError) {
    let message = format!("an answer was lost: {error}");
    node.shared.complain_of_work(&message, now());
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether a request is out of date is a matter of the calendar"
)]
pub(super) fn now() -> SystemTime {
    SystemTime::now()
}
