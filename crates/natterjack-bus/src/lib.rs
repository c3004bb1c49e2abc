//! A typed event bus: every node publishes events to all nodes and sees every event, its own included, exactly once.
//!
//! An [`EventBus<T>`] carries values of one type over one subject. The transport is chosen by the settings: `local`
//! stays inside the process, `nats` talks to a NATS server, which this process may run itself. On the wire an event is
//! a CloudEvent 1.0 in binary mode: attributes as `ce-…` headers, the value as JSON payload, so that any NATS client
//! can take part.
//!
//! This crate owns the event semantics and the operator's settings. It knows no protocol details: those belong to the
//! client library and to the server crate.
//!
//! # What is promised
//! - Events of one publisher arrive in the order they were published; between publishers there is no order.
//! - Delivery is at most once, as in core NATS. What is lost (a broken connection, a full queue) is counted in
//!   [`Stats`] and reported on [`EventBus::faults`].
//! - A node sees its own events exactly once, marked [`Event::own`].
//! - Every queue has a bound, named in [`Limits`].
//!
//! # Example
//! ```
//! use futures_util::StreamExt;
//! use natterjack_bus::{EventBus, Settings};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let bus: EventBus<String> = EventBus::start(Settings::default()).await?; // `local` unless told otherwise
//! let mut events = bus.subscribe();
//! bus.publish(&"hello".to_string()).await?;
//! bus.drain().await?;
//! assert_eq!(events.next().await.unwrap().data, "hello");
//! assert!(events.next().await.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
#![forbid(unsafe_code)]

pub mod certificates;
pub mod settings;

mod bus;
mod event;
mod publish;
mod subscription;

mod core;
mod feeds;
mod feed;
mod queue;
mod merge;
mod metrics;
mod ask;

mod transport;
mod envelope;
mod headers;
mod health;
mod ledger;
mod rfc3339;
mod roster;
mod embedded;

mod error;
mod fault;
mod stats;
mod status;
mod tls;

pub use ask::{AlreadyAnswering, Answer, Answering, Answers};
pub use bus::{EventBus, FaultStream};
pub use error::{AskError, DrainError, PublishError, StartError};
pub use event::Event;
pub use fault::{DecodeError, Fault};
pub use health::{Health, Host, ServerHealth};
pub use merge::{Merging, MergingPublisher};
pub use metrics::{Latency, Metrics};
pub use publish::Publish;
pub use queue::Overflow;
pub use settings::{Limits, Settings};
pub use stats::Stats;
pub use status::{StatusError, statuses};
pub use subscription::{EventStream, Subscription};
pub use transport::Link;
pub use tls::ClientTlsError;
