//! Three nodes in one program, and what a bus can do: several types, keys, filters, merging, questions. It ends by itself.
//!
//!     cargo run -p natterjack-bus --example tour

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a tour talks")]

use std::error::Error;
use std::time::Duration;

use natterjack_bus::settings::{Server, TransportKind};
use natterjack_bus::{Event, EventBus, Merging, Overflow, Publish, Settings};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Agent {
    Connected { id: String },
    Gone { id: String },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Count {
    of: String,
    events: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Uptime;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Node `a` runs the server, the others are its clients.
    let a = node("a", None).await?;
    let b = node("b", a.server_url()).await?;
    let c = node("c", a.server_url()).await?;
    for bus in [&a, &b, &c] {
        bus.ready().await;
    }

    // Every node sees every event. This subscriber wants those about one agent, from others, and only when it is gone.
    let mut gone = b
        .subscription()
        .key("agent-7")
        .others_only()
        .filter_map(|event| match &event.data {
            Agent::Gone { id } => Some(id.clone()),
            Agent::Connected { .. } => None,
        })
        .queue(64, Overflow::DropOldest)
        .start();
    for id in ["agent-6", "agent-7"] {
        let id = id.to_string();
        a.publish_with(&Agent::Connected { id: id.clone() }, Publish::key(&id))
            .await?;
        c.publish_with(&Agent::Gone { id: id.clone() }, Publish::key(&id))
            .await?;
    }
    let event = gone.next().await.ok_or("the bus has ended")?;
    println!(
        "{} is gone, says {} at {}",
        event.data,
        event.source,
        event.time.unwrap_or_default()
    );

    // Another type on the same bus. What is published soon after each other becomes one event.
    let mut counts = c.with_type::<Count>("com.example.count.v1").subscribe();
    let merged =
        a.with_type::<Count>("com.example.count.v1")
            .merging(Merging::default(), |into, next| {
                let is_same = into.of == next.of;
                if is_same {
                    into.events += next.events;
                }
                is_same
            });
    for of in ["logs", "logs", "logs", "traces"] {
        let of = of.to_string();
        merged.publish(Count { of, events: 1 }).await?;
    }
    for _ in 0..2 {
        let event = counts.next().await.ok_or("the bus has ended")?;
        println!("{} of {}", event.data.events, event.data.of);
    }

    // Questions go to all nodes or to one; answers to who asked.
    let mut answering = Vec::new();
    for bus in [&a, &b, &c] {
        let name = bus.name().to_string();
        let uptimes = bus.with_type::<Uptime>("com.example.uptime.v1");
        answering.push(uptimes.answer(move |_: Event<Uptime>| {
            let answer = format!("{name} is up");
            async move { Ok::<_, std::convert::Infallible>(answer) }
        })?);
    }
    let uptimes = a.with_type::<Uptime>("com.example.uptime.v1");
    let mut answers = uptimes
        .ask_all::<String>(&Uptime, Duration::from_secs(5))
        .await?;
    while let Some(answer) = answers.next().await {
        println!("{}", answer?.data);
    }

    // Nothing accepted is lost. The node with the server goes last.
    for bus in [c, b, a] {
        bus.drain().await?;
    }
    Ok(())
}

async fn node(name: &str, server_url: Option<String>) -> Result<EventBus<Agent>, Box<dyn Error>> {
    let mut settings = Settings {
        transport: TransportKind::Nats,
        ..Settings::default()
    };
    settings.nats.client.name = name.into();
    settings.nats.client.event_type = "com.example.agent.v1".into();
    match server_url {
        Some(url) => settings.nats.client.endpoint = Some(url.parse()?),
        None => settings.nats.server = Server::on_free_ports(),
    }
    Ok(EventBus::start(settings).await?)
}
