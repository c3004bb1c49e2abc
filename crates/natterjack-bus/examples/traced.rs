//! One trace through two nodes: a span of the program, the publishing of an event, what another node does about it, and what
//! that one publishes in turn. Instead of a collector it writes the spans to the terminal; a program of yours would set the
//! exporter of `opentelemetry-otlp`. It ends by itself.
//!
//!     cargo run -p natterjack-bus --example traced --features opentelemetry

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it shows spans")]

use std::error::Error;

use natterjack_bus::settings::{Server, TransportKind};
use natterjack_bus::{EventBus, Publish, Settings};
use opentelemetry::trace::{FutureExt, SpanId, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, global};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // This is all that the bus needs to know.
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    global::set_tracer_provider(provider.clone());

    let mut settings = node("kitchen");
    settings.nats.server = Server::on_free_ports();
    let kitchen: EventBus<String> = EventBus::start(settings).await?;
    let mut settings = node("table");
    settings.nats.client.endpoint = kitchen.server_url().map(|url| url.parse()).transpose()?;
    let table: EventBus<String> = EventBus::start(settings).await?;
    let mut at_kitchen = kitchen.subscription().others_only().start();
    let mut at_table = table.subscription().others_only().start();
    kitchen.ready().await;
    table.ready().await;

    // A span of the program. What is published within it belongs to it.
    let cooking = Context::current_with_span(provider.tracer("traced").start("cook"));
    let dinner = "dinner".to_owned();
    kitchen.publish(&dinner).with_context(cooking).await?;

    // At the other node: a span for what is done about the event, and an event in its turn.
    let event = at_table.next().await.ok_or("the bus has ended")?;
    let eating = table.consumer_span(&event);
    let thanks = "thanks".to_owned();
    let publish = Publish::default().following(&event); // keeps where the trace began
    table
        .publish_with(&thanks, publish)
        .with_context(eating)
        .await?;

    let event = at_kitchen.next().await.ok_or("the bus has ended")?;
    drop(kitchen.consumer_span(&event));
    table.drain().await?;
    kitchen.drain().await?;

    let mut spans = exporter.get_finished_spans()?;
    spans.sort_by_key(|span| span.start_time);
    for span in spans {
        let context = &span.span_context;
        let parent = match span.parent_span_id {
            SpanId::INVALID => "nothing".to_owned(),
            parent => parent.to_string(),
        };
        println!(
            "{} {} below {parent}: {}",
            context.trace_id(),
            context.span_id(),
            span.name
        );
    }
    Ok(())
}

fn node(name: &str) -> Settings {
    let mut settings = Settings {
        transport: TransportKind::Nats,
        ..Settings::default()
    };
    settings.nats.client.name = name.into();
    settings
}
