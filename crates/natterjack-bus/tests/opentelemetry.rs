//! Traces through the bus, as a collector of OpenTelemetry would see them.

#[expect(dead_code, reason = "the other tests need more of it")]
#[path = "suite/world.rs"]
mod world;

use futures_util::StreamExt;
use natterjack_bus::settings::TransportKind;
use natterjack_bus::{Event, EventBus, Merging, Publish, PublishError, Trace};
use opentelemetry::trace::{
    FutureExt, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, Value};
use opentelemetry_sdk::trace::{
    InMemorySpanExporter, Sampler, SdkTracerProvider, SpanData, TracerProviderBuilder,
};

use crate::world::{Note, World, eventually, note, take, within};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A collector and who sends to it.
struct Collector {
    provider: SdkTracerProvider,
    spans: InMemorySpanExporter,
}

impl Collector {
    fn new(configure: impl FnOnce(TracerProviderBuilder) -> TracerProviderBuilder) -> Self {
        let spans = InMemorySpanExporter::default();
        let builder = SdkTracerProvider::builder().with_simple_exporter(spans.clone());
        Self {
            provider: configure(builder).build(),
            spans,
        }
    }

    async fn of(world: &World, name: &str) -> (Self, EventBus<Note>) {
        let collector = Self::new(|builder| builder);
        let bus = world.bus(name).await;
        assert!(bus.trace_with(&collector.provider));
        (collector, bus)
    }

    /// The spans that have ended, in that order.
    fn ended(&self) -> Vec<SpanData> {
        self.spans.get_finished_spans().expect("it is in memory")
    }

    /// A context with a span of the program's own.
    fn root(&self) -> Context {
        Context::new().with_span(self.provider.tracer("program").start("request"))
    }
}

fn attribute<'a>(span: &'a SpanData, name: &str) -> Option<&'a Value> {
    let mut attributes = span.attributes.iter();
    let found = attributes.find(|attribute| attribute.key.as_str() == name)?;
    Some(&found.value)
}

fn text(span: &SpanData, name: &str) -> String {
    attribute(span, name)
        .map(|value| value.as_str().into_owned())
        .unwrap_or_default()
}

fn traceparent(context: &SpanContext) -> String {
    let flags = context.trace_flags().to_u8();
    format!(
        "00-{}-{}-{flags:02x}",
        context.trace_id(),
        context.span_id()
    )
}

/// An event as if it had come with these.
fn told(trace: Option<Trace>, attributes: &[(&str, &str)]) -> Event<u32> {
    let mut event = Event::new(1);
    event.trace = trace;
    let attributes = attributes.iter();
    event.others =
        (attributes.map(|(name, value)| (name.to_string(), value.to_string()))).collect();
    event
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_node_to_node_and_back() {
    let world = World::new(TransportKind::Nats).await;
    let (at_a, a) = Collector::of(&world, "a").await;
    let (at_b, b) = Collector::of(&world, "b").await;
    let (mut events_a, mut events_b) = (a.subscribe(), b.subscribe());

    let root = at_a.root();
    let request = root.span().span_context().clone();
    let question = note("a", 1);
    let published = a.publish(&question).with_context(root.clone());
    within("publish", published).await.unwrap();
    let event = take(&mut events_b, 1).await.remove(0);
    let consumed = b.consumer_span(&event);
    let answer = note("b", 2);
    let answer = b.publish_with(&answer, Publish::default().following(&event));
    let answer = answer.with_context(consumed.clone());
    within("publish", answer).await.unwrap();
    drop(consumed);
    let answer = take(&mut events_a, 2).await.remove(1);

    let (spans_a, spans_b) = (at_a.ended(), at_b.ended());
    let ([sent], [sent_back, processed]) = (&spans_a[..], &spans_b[..]) else {
        panic!("{spans_a:?} {spans_b:?}")
    };
    let trace = request.trace_id();
    let parents = [
        (sent, request.span_id()),
        (processed, sent.span_context.span_id()),
        (sent_back, processed.span_context.span_id()),
    ];
    for (span, parent) in parents {
        assert_eq!(span.span_context.trace_id(), trace, "{}", span.name);
        assert_eq!(span.parent_span_id, parent, "{}", span.name);
    }
    assert_eq!(
        (sent.parent_span_is_remote, processed.parent_span_is_remote),
        (false, true)
    );
    let kinds = [&sent.span_kind, &processed.span_kind];
    assert_eq!(kinds, [&SpanKind::Producer, &SpanKind::Consumer]);

    // The last step is beside the event, the first among its attributes.
    let step = |event: &Event<Note>| event.trace.as_ref().unwrap().parent().to_string();
    assert_eq!(step(&event), traceparent(&sent.span_context));
    assert_eq!(step(&answer), traceparent(&sent_back.span_context));
    for event in [&event, &answer] {
        assert_eq!(event.others["traceparent"], traceparent(&sent.span_context));
        assert!(!event.others.contains_key("tracestate"));
    }

    let size = serde_json::to_vec(&event.data).unwrap().len();
    for (span, operation, kind, client) in [
        (sent, "publish", "send", "a"),
        (processed, "process", "process", "b"),
    ] {
        assert_eq!(span.name, format!("{operation} {}", world.subject()));
        let expected = [
            ("messaging.system", "nats"),
            ("messaging.destination.name", world.subject()),
            ("messaging.operation.name", operation),
            ("messaging.operation.type", kind),
            ("messaging.client.id", client),
            ("messaging.message.id", &event.id),
        ];
        for (name, value) in expected {
            assert_eq!(text(span, name), value, "{name}");
        }
        let expected = Value::I64(i64::try_from(size).unwrap());
        assert_eq!(
            attribute(span, "messaging.message.body.size"),
            Some(&expected)
        );
        assert_eq!(span.instrumentation_scope.name(), "natterjack-bus");
    }
    assert!(!a.trace_with(&at_b.provider), "the first one stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_leads_to_who_is_asked_and_to_what_comes_of_that() {
    let world = World::new(TransportKind::Nats).await;
    let (at_a, a) = Collector::of(&world, "a").await;
    let (at_b, b) = Collector::of(&world, "b").await;
    let mut events = a.subscribe();
    let root = at_a.root();
    let request = root.span().span_context().clone();
    let told = b.clone();
    let answering = b.answer(move |question: Event<Note>| {
        let told = told.clone();
        async move {
            let number = question.data.number;
            told.publish(&note("b", number)).await.unwrap();
            if number == 0 {
                return Err("no idea");
            }
            Ok(number)
        }
    });
    let _answering = answering.unwrap();
    for number in [1, 0] {
        let question = note("a", number);
        let patience = std::time::Duration::from_secs(20);
        let answered = a.ask::<u64>("b", &question, patience);
        let answered = within("answer", answered.with_context(root.clone())).await;
        assert_eq!(answered.ok(), (number > 0).then_some(number));
        let told = take(&mut events, 1).await.remove(0);

        let asked = at_a.ended().pop().unwrap();
        assert_eq!(asked.name, format!("ask {}.ask", world.subject()));
        assert_eq!(asked.span_kind, SpanKind::Client);
        assert_eq!(asked.parent_span_id, request.span_id());
        // What is sent and what is done about it end at different times.
        eventually("it ends", || at_b.ended().len() % 2 == 0).await;
        let mut spans = at_b.ended();
        let (answer, published) = (spans.pop().unwrap(), spans.pop().unwrap());
        assert_eq!(answer.name, format!("answer {}.ask", world.subject()));
        assert_eq!(answer.span_kind, SpanKind::Server);
        assert_eq!(answer.parent_span_id, asked.span_context.span_id());
        assert!(answer.parent_span_is_remote);
        assert_eq!(published.parent_span_id, answer.span_context.span_id());
        assert_eq!(
            told.trace.unwrap().parent(),
            traceparent(&published.span_context)
        );
        for span in [&asked, &answer, &published] {
            assert_eq!(span.span_context.trace_id(), request.trace_id());
        }
        let id = text(&answer, "messaging.message.id");
        assert_eq!(text(&asked, "messaging.message.id"), id);
        let (failed, reason) = if number == 0 {
            let failed = Status::error("`b` cannot answer: no idea");
            (failed, Status::error("no idea"))
        } else {
            (Status::Unset, Status::Unset)
        };
        assert_eq!((asked.status, answer.status), (failed, reason));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_merged_leads_to_all_that_it_was_merged_of() {
    let world = World::new(TransportKind::Nats).await;
    let (collector, bus) = Collector::of(&world, "node").await;
    let mut events = bus.subscribe();
    let merging = Merging {
        events_max: 3,
        ..Merging::default()
    };
    let merging = bus.merging(merging, |into, next| {
        let is_foldable = next.number < 3;
        into.number += next.number;
        is_foldable
    });
    let roots = [(); 2].map(|()| collector.root());
    let context = |root: &Context| root.span().span_context().clone();
    for (number, root) in [(1, 0), (2, 1), (7, 1)] {
        let published = merging.publish(note("node", number));
        let published = published.with_context(roots[root].clone());
        within("publish", published).await.unwrap();
    }
    let events = take(&mut events, 2).await;
    let [of_two, of_one] = &collector.ended()[..] else {
        panic!("{:?}", collector.ended())
    };
    let links: Vec<_> = (of_two.links.iter())
        .map(|link| link.span_context.clone())
        .collect();
    assert_eq!(links, [context(&roots[0]), context(&roots[1])]);
    assert_eq!(of_two.parent_span_id, SpanId::INVALID);
    assert_eq!(of_one.parent_span_id, context(&roots[1]).span_id());
    assert!(of_one.links.is_empty());
    for (event, span) in events.iter().zip([of_two, of_one]) {
        let parent = event.trace.as_ref().unwrap().parent();
        assert_eq!(parent, traceparent(&span.span_context));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_go_from_other_clients_to_other_clients() {
    let world = World::new(TransportKind::Nats).await;
    let (collector, bus) = Collector::of(&world, "node").await;
    let mut events = bus.subscribe();
    let client = async_nats::connect(world.address()).await.unwrap();
    let mut messages = client.subscribe(world.subject().to_string()).await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Traceparent", PARENT);
    headers.insert("tracestate", "vendor=one two");
    let json = serde_json::to_vec(&note("curl", 1)).unwrap();
    let subject = world.subject().to_string();
    let sent = client.publish_with_headers(subject, headers, json.into());
    within("publish", sent).await.unwrap();
    within("own message", messages.next()).await.unwrap();

    let event = take(&mut events, 1).await.remove(0);
    let next = note("node", 2);
    let next = bus.publish_with(&next, Publish::default().following(&event));
    within("publish", next).await.unwrap();
    let message = within("message", messages.next()).await.unwrap();
    let headers = message.headers.unwrap();
    let header = |name| headers.get(name).map(|value| value.as_str().to_string());
    let [span] = &collector.ended()[..] else {
        panic!("{:?}", collector.ended())
    };
    assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
    assert!(span.parent_span_is_remote);
    let expected = traceparent(&span.span_context);
    assert!(expected.starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert_eq!(header("traceparent").as_ref(), Some(&expected));
    assert_eq!(header("tracestate").as_deref(), Some("vendor=one two"));
    assert_eq!(header("ce-traceparent"), Some(expected));
    assert_eq!(header("ce-tracestate").as_deref(), Some("vendor=one%20two"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_sampled_is_passed_on_and_not_recorded() {
    for kind in [TransportKind::Local, TransportKind::Nats] {
        let world = World::new(kind).await;
        let off = Collector::new(|builder| builder.with_sampler(Sampler::AlwaysOff));
        let bus = world.bus("node").await;
        assert!(bus.trace_with(&off.provider));
        let mut events = bus.subscribe();
        let on = Collector::new(|builder| builder);
        within("publish", bus.publish(&note("node", 1)))
            .await
            .unwrap();
        let event = take(&mut events, 1).await.remove(0);
        let parent = event.trace.as_ref().unwrap().parent();
        assert!(parent.ends_with("-00"), "{parent}");
        // Whoever is below it keeps to that.
        let tracer = on.provider.tracer("program");
        let span = tracer.start_with_context("handler", &event.trace_context());
        let context = Context::new().with_span(span);
        let context = context.span().span_context().clone();
        assert_eq!(&context.trace_id().to_string(), &parent[3..35]);
        assert!(!context.is_sampled());
        assert!(on.ended().is_empty() && off.ended().is_empty());
    }
}

#[test]
fn what_is_malformed_names_no_parent() {
    let fine = |event: &Event<u32>| {
        let context = event.trace_context();
        context.has_active_span().then(|| {
            assert!(context.span().span_context().is_remote());
            traceparent(context.span().span_context())
        })
    };
    let malformed = [
        "garbage",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-00",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ];
    assert_eq!(fine(&told(None, &[])), None);
    let other = "00-11111111111111111111111111111111-2222222222222222-00";
    for parent in malformed {
        let trace = Trace::new(parent, "k=v");
        assert!(trace.is_some());
        assert_eq!(fine(&told(trace.clone(), &[])), None, "{parent}");
        assert_eq!(
            fine(&told(None, &[("traceparent", parent)])),
            None,
            "{parent}"
        );
        let event = told(trace, &[("traceparent", other)]);
        assert_eq!(fine(&event).as_deref(), Some(other), "{parent}");
    }
    // What a later version adds, and flags that have no meaning yet, are left out.
    let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff-what-ever";
    for parent in [PARENT, later] {
        let event = told(Trace::new(parent, "no state"), &[("traceparent", other)]);
        assert_eq!(fine(&event).as_deref(), Some(PARENT));
        let context = event.trace_context();
        assert_eq!(
            context.span().span_context().trace_state(),
            &TraceState::NONE
        );
    }
    let event = told(Trace::new(PARENT, "a=1, b=2"), &[("tracestate", "c=3")]);
    let context = event.trace_context();
    assert_eq!(
        context.span().span_context().trace_state().header(),
        "a=1,b=2"
    );
}

#[tokio::test]
async fn an_event_that_is_refused_ends_its_span_with_the_reason() {
    let world = World::new(TransportKind::Local).await;
    let mut settings = world.settings("node");
    settings.limits.event_bytes_max = 1000;
    let bus = world::start(settings).await;
    let collector = Collector::new(|builder| builder);
    assert!(bus.trace_with(&collector.provider));
    let mut large = note("node", 1);
    large.text = "x".repeat(1000);
    let refused = bus.publish(&large).await;
    assert!(matches!(refused, Err(PublishError::TooLarge { .. })));
    let [span] = &collector.ended()[..] else {
        panic!("{:?}", collector.ended())
    };
    assert_eq!(span.status, Status::error(refused.unwrap_err().to_string()));
    assert_eq!(attribute(span, "messaging.message.id"), None);
    assert_eq!(text(span, "messaging.system"), "natterjack");
}

/// One test, since the process has but one global provider.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_provider_no_spans_are_made_until_the_process_has_one() {
    let world = World::new(TransportKind::Nats).await;
    let bus = world.bus("node").await;
    let mut events = bus.subscribe();

    within("publish", bus.publish(&note("node", 1)))
        .await
        .unwrap();
    let event = take(&mut events, 1).await.remove(0);
    assert_eq!((&event.trace, event.others.len()), (&None, 0));
    assert!(!bus.consumer_span(&event).span().span_context().is_valid());

    // Whatever came goes on.
    let garbage = Publish {
        trace: Trace::new("gar bage", "k"),
        ..Publish::default()
    };
    within(
        "publish",
        bus.publish_with(&note("node", 2), garbage.clone()),
    )
    .await
    .unwrap();
    let event = take(&mut events, 1).await.remove(0);
    assert_eq!((&event.trace, event.others.len()), (&garbage.trace, 0));

    // So does the trace around it, whoever collects that.
    let around = SpanContext::new(
        TraceId::from(7),
        SpanId::from(8),
        TraceFlags::SAMPLED,
        true,
        "k=v".parse().unwrap(),
    );
    let context = Context::new().with_remote_span_context(around.clone());
    let third = note("node", 3);
    let published = bus.publish(&third).with_context(context);
    within("publish", published).await.unwrap();
    let event = take(&mut events, 1).await.remove(0);
    assert_eq!(event.trace, Trace::new(traceparent(&around), "k=v"));
    assert_eq!(event.others["tracestate"], "k=v");

    let collector = Collector::new(|builder| builder);
    opentelemetry::global::set_tracer_provider(collector.provider.clone());
    within("publish", bus.publish(&note("node", 4)))
        .await
        .unwrap();
    let event = take(&mut events, 1).await.remove(0);
    drop(bus.consumer_span(&event));
    let names: Vec<_> = collector
        .ended()
        .into_iter()
        .map(|span| span.name)
        .collect();
    let expected = ["publish", "process"].map(|what| format!("{what} {}", world.subject()));
    assert_eq!(names, expected);
}
