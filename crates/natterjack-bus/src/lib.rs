//! A typed event bus: every node publishes events to all nodes and sees every event, its own included, exactly once.
//!
//! An [`EventBus<T>`] carries values of one type; further types share the bus. The transport is chosen by the settings:
//! `local` stays inside the process, `nats` talks to a NATS server, which this process may run itself. On the wire an
//! event is a CloudEvent 1.0 in binary mode: attributes as `ce-…` headers, the value as JSON payload, all on one subject,
//! so that any NATS client can take part. Events of programs without this library are read as well when they are
//! structured CloudEvents or plain JSON.
//!
//! This crate owns the event semantics and the operator's settings. It knows no protocol details: those belong to the
//! client library and to the server crate.
//!
//! # Ten lines
//! With `cargo add natterjack-bus` and `cargo add tokio --features macros,rt-multi-thread`, and nothing else:
//! ```
//! use natterjack_bus::{EventBus, Settings};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus: EventBus<String> = EventBus::start(Settings::default()).await?; // `local` unless told otherwise
//! let mut events = bus.subscribe();
//! bus.publish(&"hello".to_string()).await?;
//! bus.drain().await?;
//! assert_eq!(events.next().await.unwrap().data, "hello");
//! assert!(events.next().await.is_none());
//! # Ok(()) }
//! ```
//! That is also how a bus is used in unit tests: no server, no port, nothing to clean up.
//!
//! # What is promised
//! - Events of one publisher arrive in the order they were published, whatever their types; between publishers there is
//!   no order. Identifiers of one process ascend in that order.
//! - Delivery is at most once, as in core NATS. What is lost (a broken connection, a full queue, an event of another node
//!   that servers dropped on its way) is counted in [`Stats`] and reported on [`EventBus::faults`].
//! - A node sees its own events exactly once, and knows them by [`Event::is_own`].
//! - Every subscriber gets every event it asked for, in a queue of its own, with its own bound and its own choice of what
//!   happens when it is full ([`Overflow`]). What it loses is counted ([`EventStream::dropped_events`]) and told once for
//!   each episode. A subscriber that waits holds up the delivery to all, of all types, but not publishing, nor questions.
//! - What cannot be read is reported, and ends nothing; neither does a panic in a filter or in `Deserialize`.
//! - An event too large for the server is refused when it is published, with the limit. Without a connection events wait
//!   for one, up to a bound; then publishing fails.
//! - Every queue has a bound, named in [`Limits`].
//!
//! # Types, keys, filters
//! ```
//! use natterjack_bus::{EventBus, Overflow, Publish, Settings};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! struct Reading {
//!     celsius: f64,
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus: EventBus<String> = EventBus::start(Settings::default()).await?;
//! let readings = bus.with_type::<Reading>("com.example.reading.v1"); // the same bus
//!
//! // All of this is done before the queue.
//! let mut heat = readings
//!     .subscription()
//!     .key("kitchen") // others are not even decoded
//!     .filter(|event| event.data.celsius > 30.0)
//!     .filter_map(|event| Some(event.data.celsius * 1.8 + 32.0))
//!     .queue(16, Overflow::DropOldest)
//!     .start();
//! for (room, celsius) in [("cellar", 50.0), ("kitchen", 20.0), ("kitchen", 40.0)] {
//!     readings.publish_with(&Reading { celsius }, Publish::key(room)).await?;
//! }
//! let event = heat.next().await.unwrap();
//! assert_eq!((event.key(), event.data), (Some("kitchen"), 104.0));
//! # Ok(()) }
//! ```
//!
//! # Three nodes in one test
//! The first runs a server on a free port; the others are its clients. Servers can also be each other's peers, by
//! [`settings::Cluster::routes`].
//! ```
//! use natterjack_bus::settings::{Server, TransportKind};
//! use natterjack_bus::{EventBus, Settings};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = |name: &str| {
//!     let mut settings = Settings { transport: TransportKind::Nats, ..Settings::default() };
//!     settings.nats.client.name = name.into();
//!     settings
//! };
//! let mut first = settings("a");
//! first.nats.server = Server::on_free_ports();
//! let a: EventBus<u32> = EventBus::start(first).await?;
//! let mut buses = vec![a];
//! for name in ["b", "c"] {
//!     let mut settings = settings(name);
//!     let url = buses[0].server_url().unwrap();
//!     settings.nats.client.endpoint = Some(url.parse()?);
//!     buses.push(EventBus::start(settings).await?);
//! }
//! let mut streams = Vec::new();
//! for bus in &buses {
//!     bus.ready().await; // now it misses nothing
//!     streams.push(bus.subscribe());
//! }
//! for (number, bus) in buses.iter().enumerate() {
//!     bus.publish(&(number as u32)).await?;
//! }
//! for (bus, events) in buses.iter().zip(&mut streams) {
//!     let mut seen = Vec::new();
//!     for _ in 0..3 {
//!         seen.push(events.next().await.unwrap());
//!     }
//!     seen.sort_by_key(|event| event.data);
//!     assert!(seen.iter().map(|event| event.data).eq(0..3));
//!     assert!(seen.iter().all(|event| event.is_own() == (event.source == bus.name())));
//! }
//! // The server's node goes last.
//! for bus in buses.iter().rev() {
//!     bus.drain().await?;
//! }
//! # Ok(()) }
//! ```
//!
//! # Questions
//! Nodes can ask each other, too. Answers go to who asked, alone.
//! ```
//! use std::time::Duration;
//!
//! use natterjack_bus::{Event, EventBus, Settings};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut settings = Settings::default();
//! # settings.nats.client.name = "node-1".into();
//! let bus: EventBus<String> = EventBus::start(settings).await?;
//! let lengths = bus.with_type::<String>("com.example.length.v1");
//! let _answering = lengths.answer(|question: Event<String>| async move {
//!     if question.data.is_empty() { Err("it is empty") } else { Ok(question.data.len()) }
//! })?;
//! let question = "how long?".to_string();
//! let length: usize = lengths.ask("node-1", &question, Duration::from_secs(5)).await?;
//! assert_eq!(length, 9);
//! let mut answers = lengths.ask_all::<usize>(&question, Duration::from_secs(5)).await?;
//! while let Some(answer) = answers.next().await {
//!     println!("{}", answer?.data);
//! }
//! # Ok(()) }
//! ```
//!
//! # In a web service
//! A handle is cheap to clone and so is the state of an axum service. `examples/axum_service.rs` also streams events to
//! browsers.
//! ```
//! use axum::extract::State;
//! use axum::http::StatusCode;
//! use axum::routing::post;
//! use axum::{Json, Router};
//! use natterjack_bus::{EventBus, PublishError, Settings};
//! use serde_json::Value;
//!
//! async fn publish(State(bus): State<EventBus<Value>>, Json(event): Json<Value>) -> StatusCode {
//!     match bus.publish(&event).await {
//!         Ok(()) => StatusCode::ACCEPTED,
//!         Err(PublishError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
//!         Err(_) => StatusCode::SERVICE_UNAVAILABLE,
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus: EventBus<Value> = EventBus::start(Settings::default()).await?;
//! let mut events = bus.subscribe();
//! let service = Router::new().route("/events", post(publish)).with_state(bus.clone());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let address = listener.local_addr()?;
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let served = axum::serve(listener, service).with_graceful_shutdown(async { drop(stopped.await) });
//! let served = tokio::spawn(served.into_future());
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! # let mut client = tokio::net::TcpStream::connect(address).await?;
//! # client.write_all(b"POST /events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\
//! #     connection: close\r\n\r\n42").await?;
//! # let mut answer = String::new();
//! # client.read_to_string(&mut answer).await?;
//! # assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
//! // … somebody posts `42` to /events …
//! assert_eq!(events.next().await.unwrap().data, 42);
//! stop.send(()).unwrap();
//! served.await??; // nobody publishes any more
//! bus.drain().await?; // and all is delivered
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

pub mod certificates;
pub mod settings;

mod bus;
mod event;
mod publish;
mod subscription;

mod ask;
mod core;
mod feed;
mod feeds;
mod merge;
mod metrics;
mod queue;
mod reload;

mod client;
mod embedded;
mod envelope;
mod headers;
mod health;
mod ledger;
mod rfc3339;
mod roster;
#[cfg(feature = "opentelemetry")]
mod spans;
mod survey;
mod tally;
mod trace;
mod transport;

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
pub use reload::{ReloadError, Reloaded};
pub use settings::{Limits, Settings};
pub use stats::Stats;
pub use status::{StatusError, statuses};
pub use subscription::{EventStream, Subscription};
pub use tls::ClientTlsError;
pub use trace::Trace;
pub use transport::Link;
