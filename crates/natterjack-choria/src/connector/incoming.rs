//! What is received: a stream of messages of this protocol, which nothing that a peer sends can end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_util::Stream;

use super::event::{Event, count};
use super::shared::{Core, Delivery};
use crate::complaints::{Complaints, plain};
use crate::server::ServerAddress;
use crate::wire::Transport;

/// So many that are none of this protocol, and others get their turn.
const MALFORMED_AT_ONCE_MAX: usize = 64;

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incoming {
    /// The message. Nothing of it is proven yet.
    pub transport: Transport,
    /// Where it was sent to.
    pub subject: String,
    /// Who brought it.
    pub server: ServerAddress,
}

/// Messages for all subscriptions of a connector. It ends when the connector is closed from this side, after what came
/// before, and by nothing else: what is no message of this protocol is counted, told as an event and left out.
///
/// If there are several of a connector, each message comes out of one of them.
pub struct IncomingStream {
    core: Arc<Core>,
    complaints: Complaints,
}

impl IncomingStream {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            complaints: Complaints::default(),
        }
    }

    /// The next message; `None`: the connector is closed. Nothing is lost if this is dropped before it is ready.
    pub async fn next(&mut self) -> Option<Incoming> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// How many have come and were not taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.core.inbox.count()
    }

    fn read(&mut self, delivery: Delivery) -> Option<Incoming> {
        let Delivery {
            subject,
            content,
            server,
        } = delivery;
        match Transport::from_bytes(&content) {
            Ok(mut transport) => {
                if let Some(hops) = &mut transport.headers.seen_by {
                    let identity = self.core.options.identity.to_string();
                    hops.push(vec![server.url(), identity]);
                }
                Some(Incoming {
                    transport,
                    subject,
                    server,
                })
            }
            Err(error) => {
                let reason = plain(&error.to_string());
                if let Some(unsaid) = self.complaints.ask(now()) {
                    tracing::warn!(%subject, unsaid, "something came that is no message, and is left out: {reason}");
                }
                count(&self.core.counters.malformed, 1);
                self.core.tell(Event::Malformed { subject, reason });
                None
            }
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

impl std::fmt::Debug for IncomingStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("IncomingStream")
    }
}

impl Stream for IncomingStream {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Incoming>> {
        for _ in 0..MALFORMED_AT_ONCE_MAX {
            match self.core.inbox.poll(context) {
                Poll::Ready(Some(delivery)) => {
                    if let Some(incoming) = self.read(delivery) {
                        return Poll::Ready(Some(incoming));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
