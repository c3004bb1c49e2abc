//! A node with the event bus.

use anyhow::{Context as _, Result};
use natterjack_bus::settings::{Endpoint, Server, TransportKind};
use natterjack_bus::{EventBus, Settings};

use super::node::{NodeArguments, Pace, Reading, Tally, Transport, done, ready};

pub(super) async fn run(arguments: &NodeArguments) -> Result<()> {
    let bus: EventBus<Reading> = EventBus::start(settings(arguments)).await?;
    let mut events = bus.subscribe();
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(5));
    while bus.health().hosts_answering < arguments.nodes {
        looks.tick().await;
    }
    bus.ready().await;
    tokio::task::block_in_place(ready)?;
    let publishing = {
        let (bus, name) = (bus.clone(), arguments.name());
        let (mut pace, count) = (Pace::new(arguments.rate), arguments.events);
        tokio::spawn(async move {
            for number in 0..count {
                pace.next().await;
                bus.publish(&Reading::new(&name, number)).await?;
            }
            anyhow::Ok(())
        })
    };
    let all = arguments.events * arguments.nodes;
    let is_paced = arguments.rate.is_some();
    let mut tally = Tally::default();
    while tally.received() < all {
        let event = events.next().await.context("the bus has ended")?;
        tally.take(&event.data, event.is_own(), is_paced);
    }
    publishing.await??;
    tokio::task::block_in_place(|| done(&tally.outcome()))
}

fn settings(arguments: &NodeArguments) -> Settings {
    let name = arguments.name();
    let mut settings = Settings::default();
    settings.nats.client.name.clone_from(&name);
    // Nothing is to be lost to a reader that waits for a processor.
    settings.limits.inbound_events_max = 1 << 20;
    if arguments.transport == Transport::Local {
        return settings;
    }
    settings.transport = TransportKind::Nats;
    settings.nats.server = Server::on_free_ports();
    settings.nats.server.name = name;
    let cluster = &mut settings.nats.server.cluster;
    cluster.listen.port = arguments.route_ports[arguments.number as usize];
    if arguments.nodes > 1 {
        cluster.routes = arguments
            .route_ports
            .iter()
            .map(|port| Endpoint {
                scheme: "nats".into(),
                host: "127.0.0.1".into(),
                port: *port,
            })
            .collect();
    }
    if arguments.transport == Transport::InProcess {
        settings.nats.client.endpoint = Some(Endpoint::in_process());
    }
    settings
}
