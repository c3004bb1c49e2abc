//! Questions of one node to one or all others, and their answers.
//!
//! A question travels to all nodes beside the events, and so overtakes those that wait for a slow subscriber. Its answers
//! go to who asked, alone. Both are CloudEvents in structured mode: the extension attribute `askto` names the node that
//! is asked, if it is not all, and `answer` tells what an answer is. Whoever answers with plain JSON is understood, too.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::envelope::{Attributes, Draft, Envelope, KIND_UNKNOWN};
use crate::error::{AskError, PublishError};
use crate::event::Event;
use crate::fault::{Fault, Faults};
use crate::feed::panic_message;
use crate::headers;
use crate::queue::{Overflow, Queue};
#[cfg(feature = "opentelemetry")]
use crate::spans::{Asking, Spans};
use crate::stats::{Counters, count};
use crate::transport::{Channel, Inbound, Link, Notice, Transport};

/// Questions this node works on at the same time; who asks beyond that is told so.
const QUESTIONS_MAX: u32 = 256;

/// Answers that are being made or sent at the same time; further questions wait. More than [`QUESTIONS_MAX`], so that
/// handlers that ask others themselves cannot hold up what they wait for.
const RESPONSES_MAX: usize = 4 * QUESTIONS_MAX as usize;

/// Answers to one question that wait to be read; more are dropped.
const ANSWERS_MAX: usize = 4096;

/// Bytes of those.
const ANSWERS_BYTES_MAX: usize = 64 << 20;

/// Names the node that is asked.
const ASK_TO: &str = "askto";

/// Tells what an answer is: one of the following.
const ANSWER: &str = "answer";
const ANSWER_OK: &str = "ok";
/// The data says why there is no answer.
const ANSWER_FAILED: &str = "failed";
/// This node answers no such questions.
const ANSWER_NONE: &str = "none";

/// One node's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<A> {
    /// The node's client name.
    pub source: String,
    /// The value.
    pub data: A,
}

/// Answers to one question as they come, or why a node has none. Ends when all nodes that were known when it was asked
/// have said something, be it that they answer no such questions; when time is up; or when the bus has ended. Dropping it is
/// not caring for the rest.
pub struct Answers<A> {
    replies: Replies,
    /// `None`: time is up.
    deadline: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Names of nodes that have said nothing yet; `None` where it is not known who is there.
    silent: Option<BTreeSet<String>>,
    read: fn(Envelope) -> Option<Result<Answer<A>, AskError>>,
}

/// What answers one type of question. It stops when this is dropped.
#[must_use = "dropping it stops the answering"]
pub struct Answering {
    asks: Weak<Asks>,
    kind: Arc<str>,
}

/// Somebody in this process answers this type of question already.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("questions of type `{kind}` are answered already")]
pub struct AlreadyAnswering {
    /// CloudEvents `type`.
    pub kind: String,
}

/// A node's questions and answers.
pub(crate) struct Asks {
    node: String,
    main_kind: String,
    handlers: Mutex<HashMap<Arc<str>, Handler>>,
    /// Where answers go, by the question's token.
    open: Mutex<HashMap<String, Arc<Queue<Envelope>>>>,
    /// Questions being worked on.
    places: Semaphore,
    counters: Arc<Counters>,
    faults: Arc<Faults>,
    #[cfg(feature = "opentelemetry")]
    spans: Arc<Spans>,
}

/// Makes an answer, or the reason why there is none.
type Handler =
    Arc<dyn Fn(Envelope) -> BoxFuture<'static, Result<Box<RawValue>, String>> + Send + Sync>;

impl Asks {
    pub(crate) fn new(
        node: String,
        main_kind: String,
        inbound: &Inbound,
        #[cfg(feature = "opentelemetry")] spans: &Arc<Spans>,
    ) -> Self {
        Self {
            node,
            main_kind,
            handlers: Mutex::default(),
            open: Mutex::default(),
            places: Semaphore::new(QUESTIONS_MAX as usize),
            counters: Arc::clone(&inbound.counters),
            faults: Arc::clone(&inbound.faults),
            #[cfg(feature = "opentelemetry")]
            spans: Arc::clone(spans),
        }
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Sends a question. The answers' queue has `ANSWERS_MAX` places.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        transport: &dyn Transport,
        kind: &str,
        to: Option<&str>,
        question: Box<RawValue>,
    ) -> Result<Replies, AskError> {
        #[cfg(not(feature = "opentelemetry"))]
        return (self.send(transport, kind, to, Draft::default(), &question)).await;
        #[cfg(feature = "opentelemetry")]
        {
            let (draft, span) = self.spans.asking(question.get().len());
            let mut asked = self.send(transport, kind, to, draft, &question).await;
            match &mut asked {
                Ok(replies) => {
                    span.asked(&replies.token);
                    replies.span = Some(span);
                }
                Err(error) => span.failed(error),
            }
            asked
        }
    }

    async fn send(
        self: &Arc<Self>,
        transport: &dyn Transport,
        kind: &str,
        to: Option<&str>,
        mut draft: Draft,
        question: &RawValue,
    ) -> Result<Replies, AskError> {
        match transport.link() {
            Link::Connected => {}
            Link::Closed => return Err(PublishError::Closed.into()),
            Link::Connecting | Link::Disconnected => return Err(AskError::Disconnected),
        }
        if let Some(node) = to {
            draft.others.insert(ASK_TO.into(), node.into());
        }
        let (_, attributes, _) = draft.stamp(&self.node, kind);
        let payload =
            headers::encode_structured(&attributes, question).map_err(PublishError::Encode)?;
        check_size(&payload, transport)?;
        let queue = Arc::new(Queue::new(ANSWERS_MAX, ANSWERS_BYTES_MAX));
        // A UUID has no blanks and dots, so it is one word of a subject.
        let token = attributes.id;
        self.open.lock().insert(token.clone(), Arc::clone(&queue));
        let replies = Replies {
            asks: Arc::downgrade(self),
            token,
            queue,
            #[cfg(feature = "opentelemetry")]
            span: None,
        };
        transport
            .tell(Channel::Ask, &replies.token, payload.into())
            .await?;
        Ok(replies)
    }

    /// Has one type of questions answered.
    pub(crate) fn answer(
        self: &Arc<Self>,
        kind: Arc<str>,
        handler: Handler,
    ) -> Result<Answering, AlreadyAnswering> {
        let mut handlers = self.handlers.lock();
        if handlers.contains_key(&kind) {
            let kind = kind.to_string();
            return Err(AlreadyAnswering { kind });
        }
        handlers.insert(Arc::clone(&kind), handler);
        let asks = Arc::downgrade(self);
        Ok(Answering { asks, kind })
    }

    /// Takes what arrives, until there is no more. Whoever stops this stops all answers being made.
    pub(crate) async fn run(self: Arc<Self>, inbound: Inbound, transport: Weak<dyn Transport>) {
        let mut working = JoinSet::new();
        loop {
            let notice = tokio::select! {
                notice = inbound.asks.pop(), if working.len() < RESPONSES_MAX => notice,
                Some(_) = working.join_next() => continue,
            };
            let Some(notice) = notice else { break };
            self.take(notice, &transport, &mut working);
        }
        while working.join_next().await.is_some() {}
        // Whoever still waits for answers waits in vain.
        for (_, queue) in self.open.lock().drain() {
            queue.close();
        }
    }

    /// Takes no more questions, and waits until none is being worked on, but no longer than that.
    pub(crate) async fn finish(&self, patience: Duration) {
        let finished = self.places.acquire_many(QUESTIONS_MAX);
        // Whoever asked what is still being worked on sees that nothing came.
        let _ = tokio::time::timeout(patience, finished).await;
        self.places.close();
    }

    fn take(
        self: &Arc<Self>,
        notice: Notice,
        transport: &Weak<dyn Transport>,
        working: &mut JoinSet<()>,
    ) {
        let Notice {
            reply,
            token,
            payload,
        } = notice;
        let bytes = payload.len();
        let envelope =
            match headers::decode(std::iter::empty(), payload.clone(), Channel::Ask.name()) {
                Ok(envelope) => envelope,
                Err(unreadable) => {
                    let headers::Unreadable {
                        id, origin, reason, ..
                    } = *unreadable;
                    count(&self.counters.undecodable_messages);
                    return self.faults.report(&Fault::Undecodable {
                        id,
                        origin,
                        kind: String::new(),
                        reason: Arc::new(reason),
                        payload,
                    });
                }
            };
        if let Some(token) = token {
            let queue = self.open.lock().get(&token).cloned();
            if let Some(queue) = queue {
                queue.push_now(envelope, bytes, Overflow::DropNewest);
            }
            return;
        }
        let to = envelope.attributes.others.get(ASK_TO);
        let is_for_us = to.is_none_or(|node| *node == self.node);
        if let (Some(reply), Some(transport), true) = (reply, transport.upgrade(), is_for_us) {
            working.spawn(Arc::clone(self).respond(envelope, reply, transport));
        }
    }

    async fn respond(
        self: Arc<Self>,
        mut question: Envelope,
        reply: String,
        transport: Arc<dyn Transport>,
    ) {
        question.own = self.open.lock().contains_key(&question.attributes.id);
        let kind = match question.attributes.kind.as_str() {
            KIND_UNKNOWN => self.main_kind.clone(),
            kind => kind.into(),
        };
        let handler = self.handlers.lock().get(kind.as_str()).cloned();
        // Held until the answer is on its way: a drain waits for it.
        let place = self.places.try_acquire();
        let answer = match (handler, &place) {
            (None, _) => Ok(None),
            (Some(handler), Ok(_)) => self.answered(&handler, question).await.map(Some),
            (Some(_), Err(_)) => {
                Err("too many questions are being worked on, or it is ending".into())
            }
        };
        let (status, data) = match answer {
            Ok(None) => (ANSWER_NONE, None),
            Ok(Some(answer)) => (ANSWER_OK, Some(answer)),
            Err(reason) => (ANSWER_FAILED, serde_json::value::to_raw_value(&reason).ok()),
        };
        let payload = self.encode(&kind, status, data.as_deref());
        let payload = match check_size(&payload, &*transport) {
            Ok(()) => payload,
            Err(error) => {
                let reason = serde_json::value::to_raw_value(&error.to_string()).ok();
                self.encode(&kind, ANSWER_FAILED, reason.as_deref())
            }
        };
        // Whoever asked sees that nothing came.
        let _ = transport.answer(reply, payload.into()).await;
    }

    #[cfg(not(feature = "opentelemetry"))]
    async fn answered(
        &self,
        handler: &Handler,
        question: Envelope,
    ) -> Result<Box<RawValue>, String> {
        self.handle(handler, question).await
    }

    /// In a span below that of who asks.
    #[cfg(feature = "opentelemetry")]
    async fn answered(
        &self,
        handler: &Handler,
        question: Envelope,
    ) -> Result<Box<RawValue>, String> {
        use opentelemetry::trace::{FutureExt as _, Status, TraceContextExt as _};
        let context = self.spans.answering(&question);
        let handled = self.handle(handler, question);
        let answer = handled.with_context(context.clone()).await;
        if let Err(reason) = &answer {
            context.span().set_status(Status::error(reason.clone()));
        }
        answer
    }

    async fn handle(&self, handler: &Handler, question: Envelope) -> Result<Box<RawValue>, String> {
        let handled = std::panic::AssertUnwindSafe(async { handler(question).await });
        match handled.catch_unwind().await {
            Ok(answer) => answer,
            Err(panic) => {
                count(&self.counters.panics);
                let message = panic_message(&*panic);
                let place = "the handler of a question".into();
                self.faults.report(&Fault::Panicked { place, message });
                Err("its handler panicked".into())
            }
        }
    }

    fn encode(&self, kind: &str, status: &str, data: Option<&RawValue>) -> Vec<u8> {
        let mut draft = Draft::default();
        draft.others.insert(ANSWER.into(), status.into());
        let (_, attributes, _) = draft.stamp(&self.node, kind);
        let encoded = headers::encode_structured(&attributes, data.unwrap_or(RawValue::NULL));
        // Attributes are text, and the data is JSON already.
        encoded.unwrap_or_default()
    }
}

fn check_size(payload: &[u8], transport: &dyn Transport) -> Result<(), PublishError> {
    let (event_bytes, event_bytes_max) = (payload.len(), transport.event_bytes_max());
    if event_bytes > event_bytes_max {
        return Err(PublishError::TooLarge {
            event_bytes,
            event_bytes_max,
        });
    }
    Ok(())
}

impl fmt::Debug for Answering {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Answering")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<A> fmt::Debug for Answers<A> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Answers").finish_non_exhaustive()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(asks) = self.asks.upgrade() {
            let handler = asks.handlers.lock().remove(&self.kind);
            // Outside the lock: it is the user's.
            drop(handler);
        }
    }
}

/// The answers to one question.
pub(crate) struct Replies {
    asks: Weak<Asks>,
    token: String,
    queue: Arc<Queue<Envelope>>,
    #[cfg(feature = "opentelemetry")]
    span: Option<Asking>,
}

impl Replies {
    /// Says in the question's span why there is no answer.
    fn tell<A>(&self, answer: Result<A, AskError>) -> Result<A, AskError> {
        #[cfg(feature = "opentelemetry")]
        if let (Some(span), Err(error)) = (&self.span, &answer) {
            span.failed(error);
        }
        answer
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        if let Some(asks) = self.asks.upgrade() {
            asks.open.lock().remove(&self.token);
        }
    }
}

/// A typed handler as one for all types.
pub(crate) fn handler<T, A, E, F>(handle: impl Fn(Event<T>) -> F + Send + Sync + 'static) -> Handler
where
    T: DeserializeOwned + Send + 'static,
    A: Serialize,
    E: fmt::Display,
    F: Future<Output = Result<A, E>> + Send + 'static,
{
    let handle = Arc::new(handle);
    Arc::new(move |question: Envelope| {
        let handle = Arc::clone(&handle);
        Box::pin(async move {
            let data = serde_json::from_slice(json(&question.payload));
            let data = data.map_err(|error| format!("the question cannot be read: {error}"))?;
            let event = Event::from_envelope(question, data);
            let answer = handle(event).await.map_err(|error| error.to_string())?;
            serde_json::value::to_raw_value(&answer)
                .map_err(|error| format!("the answer cannot be written as JSON: {error}"))
        })
    })
}

/// A CloudEvent need not have data.
fn json(payload: &Bytes) -> &[u8] {
    if payload.is_empty() { b"null" } else { payload }
}

/// What a node has to say. `None`: that it answers no such questions.
fn read<A: DeserializeOwned>(envelope: Envelope) -> Option<Result<Answer<A>, AskError>> {
    let Attributes {
        source, mut others, ..
    } = envelope.attributes;
    match others.remove(ANSWER).as_deref() {
        Some(ANSWER_NONE) => return None,
        Some(ANSWER_FAILED) => {
            let message = serde_json::from_slice(json(&envelope.payload)).unwrap_or_default();
            return Some(Err(AskError::Failed {
                node: source,
                message,
            }));
        }
        // Another program may say nothing about its answer.
        _ => {}
    }
    Some(match serde_json::from_slice(json(&envelope.payload)) {
        Ok(data) => Ok(Answer { source, data }),
        Err(error) => Err(AskError::Undecodable {
            node: source,
            error,
        }),
    })
}

/// Waits for the one answer of a node.
pub(crate) async fn one<A: DeserializeOwned>(
    replies: Replies,
    node: &str,
    timeout: Duration,
) -> Result<A, AskError> {
    let answer = first(&replies, node, timeout).await;
    replies.tell(answer)
}

async fn first<A: DeserializeOwned>(
    replies: &Replies,
    node: &str,
    timeout: Duration,
) -> Result<A, AskError> {
    let answer = async {
        loop {
            let reply = replies.queue.pop().await;
            if reply.as_ref().is_none_or(|reply| may_be_of(node, reply)) {
                break reply;
            }
            // Somebody may never stop to give some.
            tokio::task::coop::consume_budget().await;
        }
    };
    let Ok(reply) = tokio::time::timeout(timeout, answer).await else {
        let node = node.into();
        return Err(AskError::NoAnswer { node, timeout });
    };
    let reply = reply.ok_or(PublishError::Closed)?;
    match read(reply) {
        Some(answer) => answer.map(|answer| answer.data),
        None => Err(AskError::NotAnswering { node: node.into() }),
    }
}

/// Whether this can be the answer of that node: everybody hears what it is asked, and somebody who does not look at who is
/// asked may answer, too. Plain JSON does not say whose it is.
fn may_be_of(node: &str, reply: &Envelope) -> bool {
    reply.attributes.source == node || !reply.is_identified
}

impl<A: DeserializeOwned> Answers<A> {
    pub(crate) fn new(
        replies: Replies,
        timeout: Duration,
        nodes: Option<BTreeSet<String>>,
    ) -> Self {
        let deadline = tokio::time::timeout(timeout, std::future::pending::<()>());
        Self {
            replies,
            deadline: Some(Box::pin(deadline.map(|_| ()))),
            silent: nodes,
            read: read::<A>,
        }
    }

    /// The same, but going on until time is up, whoever has answered: for answers of programs without this library, which
    /// nobody knows of before they come.
    #[must_use]
    pub fn until_timeout(self) -> Self {
        Self {
            silent: None,
            ..self
        }
    }
}

impl<A> Answers<A> {
    /// The next answer, once there is one; `None` when all have answered, or time is up. Nothing is lost if this is given
    /// up before.
    pub async fn next(&mut self) -> Option<Result<Answer<A>, AskError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl<A> Stream for Answers<A> {
    type Item = Result<Answer<A>, AskError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Only when others of this thread have their turn is it seen that time is up.
        if (std::pin::pin!(tokio::task::coop::consume_budget()).poll(context)).is_pending() {
            return Poll::Pending;
        }
        // Before the answers: somebody may never stop to give some.
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            self.deadline = None;
            // Those that came in time can still be read.
            self.replies.queue.close();
        }
        loop {
            if self.silent.as_ref().is_some_and(BTreeSet::is_empty) {
                return Poll::Ready(None);
            }
            match self.replies.queue.poll_pop(context) {
                Poll::Ready(Some(reply)) => {
                    if let Some(silent) = &mut self.silent {
                        silent.remove(&reply.attributes.source);
                    }
                    if let Some(answer) = (self.read)(reply) {
                        return Poll::Ready(Some(answer));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies() -> Replies {
        Replies {
            asks: Weak::new(),
            token: String::new(),
            queue: Arc::new(Queue::new(ANSWERS_MAX, ANSWERS_BYTES_MAX)),
            #[cfg(feature = "opentelemetry")]
            span: None,
        }
    }

    fn reply(payload: &str) -> Envelope {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        headers::decode(std::iter::empty(), payload, Channel::Ask.name())
            .ok()
            .expect("an answer")
    }

    #[tokio::test]
    async fn answers_without_an_end_end_when_time_is_up() {
        let replies = replies();
        let queue = Arc::clone(&replies.queue);
        let push = || queue.push_now(reply("1"), 1, Overflow::DropNewest);
        push();
        let mut answers = Answers::<u32>::new(replies, Duration::ZERO, None);
        let mut count = 0;
        while answers.next().await.is_some() {
            push();
            count += 1;
            assert!(count < 1_000_000, "time is up");
        }
    }

    #[tokio::test]
    async fn another_ones_answer_is_not_that_of_the_node_that_is_asked() {
        let replies = replies();
        for (source, data) in [("other", 1), ("a", 2)] {
            let payload = format!(
                r#"{{"specversion":"1.0","id":"1","source":"{source}","type":"t","data":{data}}}"#
            );
            (replies.queue).push_now(reply(&payload), payload.len(), Overflow::DropNewest);
        }
        let deadline = Duration::from_secs(60);
        assert_eq!(one::<u32>(replies, "a", deadline).await.unwrap(), 2);
    }
}
