//! Several nodes, and programs without this library, on one subject.

use futures_util::{FutureExt, StreamExt};
use natterjack_bus::settings::TransportKind;
use natterjack_bus::{Fault, Publish, Trace};

use crate::world::{World, eventually, note, numbers, rest, take, within};

async fn client(world: &World) -> async_nats::Client {
    within("connect", async_nats::connect(world.address()))
        .await
        .expect("the server answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_sees_every_event() {
    let world = World::new(TransportKind::Nats).await;
    let (a, b) = (world.bus("a").await, world.bus("b").await);
    let (mut at_a, mut at_b) = (a.subscribe(), b.subscribe());
    for number in 0..100 {
        a.publish(&note("a", number)).await.unwrap();
        b.publish(&note("b", number)).await.unwrap();
    }
    for (name, events) in [("a", &mut at_a), ("b", &mut at_b)] {
        let received = take(events, 200).await;
        for publisher in ["a", "b"] {
            let from: Vec<_> = received
                .iter()
                .filter(|event| event.source == publisher)
                .collect();
            assert!(
                from.iter().map(|event| event.data.number).eq(0..100),
                "{publisher} at {name}"
            );
            assert!(
                from.iter()
                    .all(|event| event.is_own() == (publisher == name))
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_share_a_name_still_tell_their_own_events() {
    let world = World::new(TransportKind::Nats).await;
    let (a, b) = (world.bus("same").await, world.bus("same").await);
    let mut at_a = a.subscribe();
    a.publish(&note("first", 1)).await.unwrap();
    assert!(take(&mut at_a, 1).await[0].is_own());
    b.publish(&note("second", 2)).await.unwrap();
    assert!(!take(&mut at_a, 1).await[0].is_own());
    within("drain", a.drain()).await.unwrap();
    within("drain", b.drain()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_travel_as_binary_cloud_events() {
    let world = World::new(TransportKind::Nats).await;
    let client = client(&world).await;
    let mut messages = client.subscribe(world.subject().to_string()).await.unwrap();
    client.flush().await.unwrap();
    let bus = world.bus("node").await;
    // The other connection's subscription is known once its own message comes back.
    client
        .publish(world.subject().to_string(), "0".into())
        .await
        .unwrap();
    within("own message", messages.next()).await.unwrap();
    bus.publish(&note("x", 7)).await.unwrap();
    let message = within("message", messages.next()).await.unwrap();
    assert_eq!(&message.payload[..], br#"{"publisher":"x","number":7}"#);
    let headers = message.headers.expect("headers");
    let header = |name: &str| headers.get(name).map(|value| value.as_str().to_string());
    assert_eq!(header("ce-specversion").as_deref(), Some("1.0"));
    assert_eq!(header("ce-source").as_deref(), Some("node"));
    assert_eq!(header("ce-type").as_deref(), Some("natterjack.event"));
    assert_eq!(header("content-type").as_deref(), Some("application/json"));
    assert_eq!(header("ce-id").map(|id| id.len()), Some(36));
    assert!(header("ce-time").is_some_and(|time| time.ends_with('Z')));
    assert_eq!(headers.len(), 6, "{headers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_goes_on_as_it_came() {
    let world = World::new(TransportKind::Nats).await;
    let bus = world.bus("node").await;
    let mut events = bus.subscribe();
    let client = client(&world).await;
    let mut messages = client.subscribe(world.subject().to_string()).await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    // The bus need not understand it.
    let trace = [
        ("traceparent", "as it came"),
        ("tracestate", "100%=\"yes\""),
        ("ce-traceparent", "first"),
    ];
    for (name, value) in trace {
        headers.insert(name, value);
    }
    let json = r#"{"publisher":"curl","number":1}"#;
    client
        .publish_with_headers(world.subject().to_string(), headers, json.into())
        .await
        .unwrap();
    within("own message", messages.next()).await.unwrap();
    let event = take(&mut events, 1).await.remove(0);
    assert_eq!(event.trace, Trace::new(trace[0].1, trace[1].1));
    let publish = Publish::key("k").following(&event);
    bus.publish_with(&note("node", 2), publish).await.unwrap();
    let message = within("message", messages.next()).await.unwrap();
    let headers = message.headers.expect("headers");
    let header = |name: &str| headers.get(name).map(|value| value.as_str().to_string());
    for (name, value) in trace {
        assert_eq!(header(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(header("ce-routingkey").as_deref(), Some("k"));
    // Nobody else's.
    bus.publish(&note("node", 3)).await.unwrap();
    let message = within("message", messages.next()).await.unwrap();
    assert!(message.headers.unwrap().get("traceparent").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_programs_take_part() {
    let world = World::new(TransportKind::Nats).await;
    let bus = world.bus("node").await;
    let mut events = bus.subscribe();
    let client = client(&world).await;
    let json = r#"{"publisher":"curl","number":1}"#;
    client
        .publish(world.subject().to_string(), json.into())
        .await
        .unwrap();
    let event = take(&mut events, 1).await.remove(0);
    assert_eq!(
        (event.data.publisher.as_str(), event.is_own()),
        ("curl", false)
    );
    assert_eq!(
        (event.source.as_str(), event.kind.as_str()),
        (world.subject(), "unknown")
    );

    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "5"),
        ("ce-source", "/x%20y"),
        ("ce-type", "t"),
        ("ce-subject", "s"),
    ] {
        headers.insert(name, value);
    }
    client
        .publish_with_headers(world.subject().to_string(), headers, json.into())
        .await
        .unwrap();
    let event = take(&mut events, 1).await.remove(0);
    assert_eq!(
        (
            event.id.as_str(),
            event.source.as_str(),
            event.kind.as_str()
        ),
        ("5", "/x y", "t")
    );
    assert_eq!(event.others["subject"], "s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_event_is_a_fault_and_the_stream_goes_on() {
    let world = World::new(TransportKind::Nats).await;
    let bus = world.bus("node").await;
    let mut events = bus.subscribe();
    let mut faults = bus.faults();
    let client = client(&world).await;
    for payload in ["not json", "[1]", "", r#"{"publisher":"ok","number":1}"#] {
        client
            .publish(world.subject().to_string(), payload.into())
            .await
            .unwrap();
    }
    assert_eq!(numbers(&take(&mut events, 1).await), [1]);
    for payload in ["not json", "[1]", ""] {
        let fault = within("fault", faults.next()).await.unwrap();
        let Fault::Undecodable {
            id: None,
            origin,
            payload: at_fault,
            ..
        } = &fault
        else {
            panic!("{fault}")
        };
        assert_eq!(
            (origin.as_str(), &at_fault[..]),
            (world.subject(), payload.as_bytes())
        );
        let text = fault.to_string();
        assert!(text.contains("(without an id) cannot be read"), "{text}");
    }
    assert_eq!(bus.stats().undecodable_messages, 3);
    within("drain", bus.drain()).await.unwrap();
    assert!(within("end of faults", faults.next()).await.is_none());
    assert!(rest(&mut events).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overflow_is_reported_once_and_again_when_it_ends() {
    let world = World::new(TransportKind::Nats).await;
    let mut settings = world.settings("node");
    settings.limits.inbound_events_max = 8;
    let bus = crate::world::start(settings).await;
    let mut stuck = bus.subscribe_with(1, natterjack_bus::Overflow::Wait);
    let mut faults = bus.faults();
    for number in 0..1000 {
        within("publish", bus.publish(&note("node", number)))
            .await
            .unwrap();
    }
    let fault = within("overflow", faults.next()).await.unwrap();
    assert!(matches!(fault, Fault::OverflowBegan { .. }), "{fault}");
    // What is on its way has arrived, or was dropped, when everything published is accounted for.
    eventually("the rest", || bus.stats().lost_events + 10 >= 1000).await;
    // Now it reads. The end is noticed when an event arrives that finds room enough, so there must be events.
    let mut read = 0;
    let mut published = 1000;
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(2));
    let ended = within("end of overflow", async {
        loop {
            pace.tick().await;
            while stuck.next().now_or_never().flatten().is_some() {
                read += 1;
            }
            bus.publish(&note("node", published)).await.unwrap();
            published += 1;
            while let Some(Some(fault)) = faults.next().now_or_never() {
                if let Fault::OverflowEnded { events, .. } = fault {
                    return events;
                }
            }
        }
    })
    .await;
    // What a drain finds out to be lost is its answer; here only the sums matter.
    let _ = within("drain", bus.drain()).await;
    read += rest(&mut stuck).await.len() as u64;
    let stats = bus.stats();
    assert!(ended >= 900, "all but what fits in the queues, not {ended}");
    assert_eq!(stats.lost_events, stats.overflowed_events);
    assert_eq!(read + stats.overflowed_events, published);
}
