//! What every transport promises.

use natterjack_bus::{Overflow, PublishError};

use crate::world::{Note, World, note, numbers, rest, start, take, within};

macro_rules! over_every_transport {
    ($($test:ident),* $(,)?) => {
        mod local {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::world::World::new(natterjack_bus::settings::TransportKind::Local).await).await;
            })*
        }
        mod nats {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::world::World::new(natterjack_bus::settings::TransportKind::Nats).await).await;
            })*
        }
        mod in_process {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::world::World::in_process().await).await;
            })*
        }
    };
}

over_every_transport!(
    own_events_arrive_exactly_once_and_in_order,
    every_local_subscriber_gets_every_event,
    events_carry_their_attributes,
    an_oversize_event_is_refused_with_the_limit,
    drain_loses_nothing_that_was_accepted,
    drain_does_not_wait_for_readers,
    a_drained_bus_refuses,
    a_waiting_subscriber_loses_nothing,
    a_stuck_subscriber_does_not_stop_publishing,
    dropping_policies_drop_and_count,
    a_dropped_stream_is_unsubscribed,
    publishers_in_parallel_keep_their_own_order,
);

async fn own_events_arrive_exactly_once_and_in_order(world: World) {
    let bus = world.bus("a").await;
    let mut events = bus.subscribe();
    for number in 0..500 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    let received = take(&mut events, 500).await;
    assert_eq!(numbers(&received), (0..500).collect::<Vec<_>>());
    assert!(
        received
            .iter()
            .all(|event| event.is_own() && event.source == "a")
    );
    bus.drain().await.unwrap();
    assert!(rest(&mut events).await.is_empty(), "nothing arrives twice");
    let stats = bus.stats();
    assert_eq!(
        (
            stats.published_events,
            stats.received_events,
            stats.own_events
        ),
        (500, 500, 500)
    );
}

async fn every_local_subscriber_gets_every_event(world: World) {
    let bus = world.bus("a").await;
    let mut streams: Vec<_> = (0..3).map(|_| bus.subscribe()).collect();
    for number in 0..50 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    for events in &mut streams {
        assert_eq!(
            numbers(&take(events, 50).await),
            (0..50).collect::<Vec<_>>()
        );
    }
}

async fn events_carry_their_attributes(world: World) {
    let mut settings = world.settings("node-1");
    settings.nats.client.event_type = "test.note".into();
    let bus = start(settings).await;
    let mut events = bus.subscribe();
    bus.publish(&note("x", 1)).await.unwrap();
    bus.publish(&note("x", 2)).await.unwrap();
    let events = take(&mut events, 2).await;
    let first = &events[0];
    assert_eq!(
        (first.source.as_str(), first.kind.as_str()),
        ("node-1", "test.note")
    );
    assert_eq!(first.content_type.as_deref(), Some("application/json"));
    assert_eq!(first.id.len(), 36);
    assert_eq!(first.id.as_bytes()[14], b'7', "a UUIDv7: {}", first.id);
    assert!(first.id < events[1].id, "identifiers ascend");
    let time = first.time.as_deref().unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    assert!(first.others.is_empty());
}

async fn an_oversize_event_is_refused_with_the_limit(world: World) {
    let bus = world.bus("a").await;
    let mut events = bus.subscribe();
    let text = "x".repeat(bus.event_bytes_max());
    let oversize = Note {
        text,
        ..note("a", 0)
    };
    let error = bus.publish(&oversize).await.unwrap_err();
    let PublishError::TooLarge {
        event_bytes,
        event_bytes_max,
    } = error
    else {
        panic!("{error}")
    };
    assert!(event_bytes > event_bytes_max);
    assert_eq!(event_bytes_max, bus.event_bytes_max());
    assert!(
        error.to_string().contains(&event_bytes_max.to_string()),
        "{error}"
    );
    // The largest that fits does fit: the limit is exact.
    let empty = Note {
        text: String::from("x"),
        ..note("a", 0)
    };
    let header_bytes = event_bytes - serde_json::to_vec(&oversize).unwrap().len();
    let bare_bytes = serde_json::to_vec(&empty).unwrap().len() - 1;
    let largest = Note {
        text: "y".repeat(event_bytes_max - header_bytes - bare_bytes),
        ..note("a", 1)
    };
    bus.publish(&largest).await.unwrap();
    assert_eq!(take(&mut events, 1).await[0].data, largest);
    assert_eq!(bus.stats().refused_events, 1);
}

async fn drain_loses_nothing_that_was_accepted(world: World) {
    let bus = world.bus("a").await;
    let mut events = bus.subscribe();
    for number in 0..2000 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    let (drained, received) = tokio::join!(within("drain", bus.drain()), rest(&mut events));
    drained.unwrap();
    assert_eq!(numbers(&received), (0..2000).collect::<Vec<_>>());
}

async fn drain_does_not_wait_for_readers(world: World) {
    let mut settings = world.settings("a");
    settings.limits.subscriber_events_max = 2;
    let bus = start(settings).await;
    let mut events = bus.subscribe();
    for number in 0..100 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    within("drain", bus.drain()).await.unwrap();
    assert_eq!(
        numbers(&rest(&mut events).await),
        (0..100).collect::<Vec<_>>()
    );
}

async fn a_drained_bus_refuses(world: World) {
    let bus = world.bus("a").await;
    within("drain", bus.drain()).await.unwrap();
    within("second drain", bus.drain()).await.unwrap();
    assert!(matches!(
        bus.publish(&note("a", 1)).await,
        Err(PublishError::Closed)
    ));
    assert!(rest(&mut bus.subscribe()).await.is_empty());
}

async fn a_waiting_subscriber_loses_nothing(world: World) {
    let bus = world.bus("a").await;
    let mut slow = bus.subscribe_with(1, Overflow::Wait);
    let mut quick = bus.subscribe();
    for number in 0..300 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    let (slow, quick) = tokio::join!(take(&mut slow, 300), take(&mut quick, 300));
    assert_eq!(numbers(&slow), numbers(&quick));
    assert_eq!(numbers(&slow), (0..300).collect::<Vec<_>>());
    assert_eq!(bus.stats().subscriber_dropped_events, 0);
}

async fn a_stuck_subscriber_does_not_stop_publishing(world: World) {
    let bus = world.bus("a").await;
    let mut stuck = bus.subscribe_with(1, Overflow::Wait);
    // More than the ledger of the nats transport holds, so that it must be emptied all the while.
    let count = 6000;
    for number in 0..count {
        within("publish", bus.publish(&note("a", number)))
            .await
            .unwrap();
    }
    assert_eq!(
        take(&mut stuck, 6000).await.last().unwrap().data.number,
        count - 1
    );
    assert_eq!(bus.stats().overflowed_events, 0);
}

async fn dropping_policies_drop_and_count(world: World) {
    let bus = world.bus("a").await;
    let mut newest = bus.subscribe_with(10, Overflow::DropOldest);
    let mut oldest = bus.subscribe_with(10, Overflow::DropNewest);
    let mut all = bus.subscribe();
    for number in 0..100 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    take(&mut all, 100).await;
    assert_eq!(
        numbers(&take(&mut newest, 10).await),
        (90..100).collect::<Vec<_>>()
    );
    assert_eq!(
        numbers(&take(&mut oldest, 10).await),
        (0..10).collect::<Vec<_>>()
    );
    assert_eq!((newest.dropped_events(), oldest.dropped_events()), (90, 90));
    within("drain", bus.drain()).await.unwrap();
    assert_eq!(bus.stats().subscriber_dropped_events, 180);
}

async fn a_dropped_stream_is_unsubscribed(world: World) {
    let bus = world.bus("a").await;
    let gone = bus.subscribe_with(1, Overflow::Wait);
    let mut stays = bus.subscribe();
    for number in 0..3 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    drop(gone);
    for number in 3..10 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    within("last event", async {
        while stays.next().await.expect("an event").data.number < 9 {}
    })
    .await;
}

async fn publishers_in_parallel_keep_their_own_order(world: World) {
    let bus = world.bus("a").await;
    let mut events = bus.subscribe();
    let publisher = |name: &'static str| {
        let bus = &bus;
        async move {
            for number in 0..200 {
                bus.publish(&note(name, number)).await.unwrap();
            }
        }
    };
    tokio::join!(publisher("p"), publisher("q"), publisher("r"));
    let received = take(&mut events, 600).await;
    for name in ["p", "q", "r"] {
        let own: Vec<_> = received
            .iter()
            .filter(|event| event.data.publisher == name)
            .collect();
        assert!(
            own.iter().map(|event| event.data.number).eq(0..200),
            "{name}"
        );
    }
}
