//! Several types of events on one bus, and what is said about an event beside its value.

use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::StreamExt;
use natterjack_bus::{Fault, Publish, PublishError};
use serde::{Deserialize, Serialize};

use crate::world::{World, note, numbers, rest, take, within};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    celsius: f64,
}

/// Not a [`Reading`], although it has the same type attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Broken {
    celsius: String,
}

const READING: &str = "com.example.reading.v1";

over_every_transport!(
    each_type_reaches_its_own_subscribers,
    one_type_may_have_two_forms,
    what_nobody_subscribed_to_is_not_decoded,
    what_cannot_be_decoded_is_told_and_the_rest_arrives,
    what_is_said_about_an_event_arrives,
    identifiers_ascend_whoever_publishes,
    the_last_handle_ends_the_bus,
    a_type_of_a_drained_bus_is_drained,
);

async fn each_type_reaches_its_own_subscribers(world: World) {
    let bus = world.bus("a").await;
    let readings = bus.with_type::<Reading>(READING);
    assert_eq!((readings.kind(), readings.name()), (READING, "a"));
    let (mut at_bus, mut at_readings) = (bus.subscribe(), readings.subscribe());
    for number in 0..10 {
        bus.publish(&note("a", number)).await.unwrap();
        let celsius = number as f64 + 0.5;
        readings.publish(&Reading { celsius }).await.unwrap();
    }
    within("drain", bus.drain()).await.unwrap();
    assert_eq!(
        numbers(&rest(&mut at_bus).await),
        (0..10).collect::<Vec<_>>()
    );
    let received: Vec<_> = within("readings", at_readings.by_ref().collect()).await;
    assert!(received.iter().all(|event| event.kind == READING));
    let celsius: Vec<_> = received.iter().map(|event| event.data.celsius).collect();
    assert_eq!(
        celsius,
        (0..10)
            .map(|number| number as f64 + 0.5)
            .collect::<Vec<_>>()
    );
    assert_eq!(bus.stats().received_events, 20);
}

async fn one_type_may_have_two_forms(world: World) {
    let bus = world.bus("a").await;
    let readings = bus.with_type::<Reading>(READING);
    let raw = bus.with_type::<serde_json::Value>(READING);
    let (mut typed, mut untyped) = (readings.subscribe(), raw.subscribe());
    readings.publish(&Reading { celsius: 1.5 }).await.unwrap();
    let event = within("reading", typed.next()).await.unwrap();
    assert_eq!(event.data, Reading { celsius: 1.5 });
    let event = within("value", untyped.next()).await.unwrap();
    assert_eq!(event.data, serde_json::json!({"celsius": 1.5}));
}

async fn what_nobody_subscribed_to_is_not_decoded(world: World) {
    let bus = world.bus("a").await;
    let mut faults = bus.faults();
    let mut notes = bus.subscribe();
    let readings = bus.with_type::<Reading>(READING);
    let broken = bus.with_type::<Broken>(READING);
    let celsius = "warm".to_string();
    broken.publish(&Broken { celsius }).await.unwrap();
    bus.publish(&note("a", 1)).await.unwrap();
    assert_eq!(numbers(&take(&mut notes, 1).await), [1]);
    // With nobody left who calls it his the type falls back to the first handle, which cannot read it.
    drop((readings, broken));
    let broken = bus.with_type::<Broken>(READING);
    let celsius = "hot".to_string();
    broken.publish(&Broken { celsius }).await.unwrap();
    drop(broken);
    within("drain", bus.drain()).await.unwrap();
    assert!(rest(&mut notes).await.is_empty());
    let stats = bus.stats();
    let undecodable = stats.undecodable_messages;
    // Whether the handle was gone before the event arrived is a matter of luck.
    assert!(undecodable <= 1, "{stats:?}");
    assert_eq!(stats.ignored_events, 2 - undecodable, "{stats:?}");
    assert_eq!(stats.received_events, 3 - undecodable, "{stats:?}");
    let told: Vec<_> = within("faults", faults.by_ref().collect()).await;
    assert_eq!(told.len() as u64, undecodable, "{told:?}");
}

async fn what_cannot_be_decoded_is_told_and_the_rest_arrives(world: World) {
    let bus = world.bus("a").await;
    let mut faults = bus.faults();
    let readings = bus.with_type::<Reading>(READING);
    let broken = bus.with_type::<Broken>(READING);
    let mut at_readings = readings.subscribe();
    let celsius = "warm".to_string();
    broken.publish(&Broken { celsius }).await.unwrap();
    readings.publish(&Reading { celsius: 2.0 }).await.unwrap();
    let event = within("reading", at_readings.next()).await.unwrap();
    assert_eq!(event.data, Reading { celsius: 2.0 });
    let fault = within("fault", faults.next()).await.unwrap();
    let Fault::Undecodable {
        id: Some(_),
        kind,
        origin,
        payload,
        ..
    } = fault
    else {
        panic!("{fault}")
    };
    assert_eq!((kind.as_str(), origin.as_str()), (READING, "a"));
    assert_eq!(payload, r#"{"celsius":"warm"}"#);
}

async fn what_is_said_about_an_event_arrives(world: World) {
    let bus = world.bus("a").await;
    let mut events = bus.subscribe();
    let publish = Publish {
        key: Some("agent 7 %".into()),
        subject: Some("ü/1".into()),
        time: Some(UNIX_EPOCH + Duration::from_secs(1)),
        attributes: [("traceparent".to_string(), "00-1".to_string())].into(),
        ..Publish::default()
    };
    bus.publish_with(&note("a", 1), publish).await.unwrap();
    let event = take(&mut events, 1).await.remove(0);
    assert_eq!(
        (event.key(), event.subject()),
        (Some("agent 7 %"), Some("ü/1"))
    );
    assert_eq!(event.others["traceparent"], "00-1");
    assert_eq!(event.time.as_deref(), Some("1970-01-01T00:00:01.000000Z"));
    let attributes = [("id".to_string(), "mine".to_string())].into();
    let publish = Publish {
        attributes,
        ..Publish::default()
    };
    let error = bus.publish_with(&note("a", 2), publish).await.unwrap_err();
    assert!(matches!(error, PublishError::Attribute { .. }), "{error}");
    assert_eq!(bus.stats().refused_events, 1);
}

async fn identifiers_ascend_whoever_publishes(world: World) {
    let bus = world.bus("a").await;
    let readings = bus.with_type::<Reading>(READING);
    let mut events = bus.with_type::<serde_json::Value>(READING).subscribe();
    let mut publishers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let readings = readings.clone();
        publishers.spawn(async move {
            for number in 0..500 {
                let celsius = f64::from(number);
                readings.publish(&Reading { celsius }).await.unwrap();
            }
        });
    }
    within("publishers", publishers.join_all()).await;
    let received: Vec<_> = within("events", events.by_ref().take(2000).collect()).await;
    let ids: Vec<_> = received.iter().map(|event| event.id.as_str()).collect();
    assert!(ids.is_sorted_by(|left, right| left < right));
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 2000);
}

async fn the_last_handle_ends_the_bus(world: World) {
    let bus = world.bus("a").await;
    let readings = bus.with_type::<Reading>(READING);
    let mut events = readings.subscribe();
    let clone = readings.clone();
    drop((bus, readings));
    clone.publish(&Reading { celsius: 3.0 }).await.unwrap();
    let event = within("reading", events.next()).await.unwrap();
    assert_eq!(event.data, Reading { celsius: 3.0 });
    drop(clone);
    assert!(within("end", events.next()).await.is_none());
}

async fn a_type_of_a_drained_bus_is_drained(world: World) {
    let bus = world.bus("a").await;
    within("drain", bus.drain()).await.unwrap();
    let readings = bus.with_type::<Reading>(READING);
    assert!(within("end", readings.subscribe().next()).await.is_none());
    let refused = readings.publish(&Reading { celsius: 0.0 }).await;
    assert!(matches!(refused, Err(PublishError::Closed)));
}
