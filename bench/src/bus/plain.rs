//! A node without the event bus: what one writes with async-nats to have the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use async_nats::{Client, HeaderMap, Message};
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::node::{NodeArguments, Pace, Reading, Tally, done, ready};

const SUBJECT: &str = "bench.events";

/// Own events on their way at one time, as many as the bus allows.
const WINDOW: usize = 4096;

/// Number of an event that says that a node is there.
const HELLO: u64 = u64::MAX;

/// An event as the program wants it.
struct Event {
    source: String,
    _id: String,
    _kind: String,
    _time: String,
    data: Reading,
}

pub(super) async fn run(arguments: &NodeArguments) -> Result<()> {
    let server = arguments.server.as_deref().context("no server")?;
    let name = arguments.name();
    let client = async_nats::ConnectOptions::new()
        .name(&name)
        .subscription_capacity(1 << 20)
        .connect(server)
        .await?;
    let mut messages = client.subscribe(SUBJECT).await?;
    client.flush().await?;
    // Until everybody hears everybody.
    let mut hellos = tokio::time::interval(std::time::Duration::from_millis(20));
    let mut heard = BTreeSet::new();
    while (heard.len() as u64) < arguments.nodes {
        tokio::select! {
            _ = hellos.tick() => publish(&client, &name, &Reading::new(&name, HELLO)).await?,
            message = messages.next() => {
                let event = decode(message.context("disconnected")?)?;
                heard.insert(event.source);
            }
        }
    }
    publish(&client, &name, &Reading::new(&name, HELLO)).await?;
    client.flush().await?;
    tokio::task::block_in_place(ready)?;
    let window = Arc::new(Semaphore::new(WINDOW));
    let publishing = {
        let (client, name, window) = (client.clone(), name.clone(), Arc::clone(&window));
        let (mut pace, count) = (Pace::new(arguments.rate), arguments.events);
        tokio::spawn(async move {
            for number in 0..count {
                pace.next().await;
                window.acquire().await?.forget();
                publish(&client, &name, &Reading::new(&name, number)).await?;
            }
            anyhow::Ok(())
        })
    };
    let all = arguments.events * arguments.nodes;
    let is_paced = arguments.rate.is_some();
    let mut tally = Tally::default();
    while tally.received() < all {
        let event = decode(messages.next().await.context("disconnected")?)?;
        if event.data.number == HELLO {
            continue;
        }
        let own = event.source == name;
        if own {
            window.add_permits(1);
        }
        tally.take(&event.data, own, is_paced);
    }
    publishing.await??;
    tokio::task::block_in_place(|| done(&tally.outcome()))
}

async fn publish(client: &Client, name: &str, reading: &Reading) -> Result<()> {
    let mut headers = HeaderMap::new();
    headers.insert("ce-specversion", "1.0");
    headers.insert("ce-id", Uuid::now_v7().to_string());
    headers.insert("ce-source", name);
    headers.insert("ce-type", "bench.reading");
    headers.insert("ce-time", jiff::Timestamp::now().to_string());
    headers.insert("content-type", "application/json");
    let payload = serde_json::to_vec(reading)?;
    client
        .publish_with_headers(SUBJECT, headers, payload.into())
        .await?;
    Ok(())
}

fn decode(message: Message) -> Result<Event> {
    let headers = message.headers.context("no headers")?;
    let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    Ok(Event {
        source: text("ce-source").context("no source")?,
        _id: text("ce-id").context("no id")?,
        _kind: text("ce-type").context("no type")?,
        _time: text("ce-time").context("no time")?,
        data: serde_json::from_slice(&message.payload)?,
    })
}
