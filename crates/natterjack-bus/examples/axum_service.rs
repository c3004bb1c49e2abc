//! An event bus inside an axum service: `POST /events` publishes JSON to all nodes, `GET /events` streams what all nodes
//! publish as server-sent events.
//!
//! Run it, with the settings of a bus if it shall reach other nodes, and talk to it:
//!
//!     cargo run -p natterjack-bus --example axum_service -- 127.0.0.1:3000 examples/single-node.yaml
//!     curl -N http://127.0.0.1:3000/events
//!     curl http://127.0.0.1:3000/events -H 'content-type: application/json' -d '{"hello": "world"}'

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program tells where it listens")]

use std::convert::Infallible;
use std::error::Error;
use std::path::Path;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::{self, KeepAlive};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::{Stream, StreamExt};
use natterjack_bus::{EventBus, Health, Overflow, PublishError, Settings};
use serde_json::Value;

/// Events that wait for one slow reader; then it misses the oldest. It must not hold up the others.
const READER_EVENTS_MAX: usize = 256;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".into());
    let settings = match arguments.next() {
        Some(file) => Settings::from_file(Path::new(&file))?.settings,
        None => Settings::default(),
    };
    let bus: EventBus<Value> = EventBus::start(settings).await?;
    let service = Router::new()
        .route("/events", get(stream).post(publish))
        .route("/healthz", get(health))
        .with_state(bus.clone());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}/events", listener.local_addr()?);
    tokio::select! {
        served = axum::serve(listener, service) => served?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    bus.drain().await?;
    Ok(())
}

async fn publish(
    State(bus): State<EventBus<Value>>,
    Json(event): Json<Value>,
) -> (StatusCode, String) {
    match bus.publish(&event).await {
        Ok(()) => (StatusCode::ACCEPTED, String::new()),
        Err(error @ PublishError::TooLarge { .. }) => {
            (StatusCode::PAYLOAD_TOO_LARGE, error.to_string())
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

async fn stream(
    State(bus): State<EventBus<Value>>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let events = bus
        .subscription()
        .name("a reader of /events")
        .queue(READER_EVENTS_MAX, Overflow::DropOldest)
        .start();
    let events = events.map(|event| {
        let written = sse::Event::default()
            .id(event.id)
            .event(event.kind)
            .data(event.data.to_string());
        Ok(written)
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn health(State(bus): State<EventBus<Value>>) -> (StatusCode, Json<Health>) {
    let health = bus.health();
    let status = if health.is_healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(health))
}
