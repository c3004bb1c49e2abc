//! Publishing merged.

use std::time::Duration;

use natterjack_bus::{EventBus, Fault, Merging, MergingPublisher, Publish, PublishError};

use crate::world::{Note, World, eventually, note, numbers, rest, take, within};

over_every_transport!(
    neighbours_are_merged_when_enough_were_taken_in,
    what_was_taken_in_is_published_after_a_while,
    what_is_left_is_published_at_the_end,
    a_dropped_publisher_loses_nothing,
    what_a_dropped_publisher_holds_is_published_at_once,
    a_batch_that_is_published_keeps_nobody_waiting,
    a_publisher_made_after_the_end_takes_nothing,
    what_grew_too_large_is_told,
);

/// Adds up the numbers of one publisher.
fn sum(into: &mut Note, next: &Note) -> bool {
    let is_one = into.publisher == next.publisher;
    if is_one {
        into.number += next.number;
        into.text += &next.text;
    }
    is_one
}

fn merging(bus: &EventBus<Note>, events_max: usize, window: Duration) -> MergingPublisher<Note> {
    let publish = Publish::key("merged");
    bus.merging(
        Merging {
            events_max,
            window,
            publish,
        },
        sum,
    )
}

const LONG: Duration = Duration::from_secs(3600);

async fn neighbours_are_merged_when_enough_were_taken_in(world: World) {
    let bus = world.bus("a").await;
    let mut events = bus.subscribe();
    let merging = merging(&bus, 6, LONG);
    for (publisher, number) in [
        ("x", 1),
        ("x", 2),
        ("y", 10),
        ("x", 100),
        ("x", 200),
        ("x", 400),
    ] {
        merging.publish(note(publisher, number)).await.unwrap();
    }
    let received = take(&mut events, 3).await;
    assert_eq!(numbers(&received), [3, 10, 700]);
    assert!(received.iter().all(|event| event.key() == Some("merged")));
    assert_eq!(bus.stats().published_events, 3);
    merging.publish(note("x", 5)).await.unwrap();
    merging.flush().await.unwrap();
    assert_eq!(numbers(&take(&mut events, 1).await), [5]);
}

async fn what_was_taken_in_is_published_after_a_while(world: World) {
    let bus = world.bus("a").await;
    let mut events = bus.subscribe();
    let merging = merging(&bus, 1000, Duration::from_millis(20));
    for round in 1..4 {
        merging.publish(note("x", round)).await.unwrap();
        assert_eq!(numbers(&take(&mut events, 1).await), [round]);
    }
}

async fn what_is_left_is_published_at_the_end(world: World) {
    let bus = world.bus("a").await;
    let mut events = bus.subscribe();
    let merging = merging(&bus, 1000, LONG);
    for number in 1..=4 {
        merging.publish(note("x", number)).await.unwrap();
    }
    within("drain", bus.drain()).await.unwrap();
    assert_eq!(numbers(&rest(&mut events).await), [10]);
    let refused = merging.publish(note("x", 1)).await;
    assert!(matches!(refused, Err(PublishError::Closed)));
}

async fn a_dropped_publisher_loses_nothing(world: World) {
    let bus = world.bus("a").await;
    let mut events = bus.subscribe();
    let merging = merging(&bus, 1000, Duration::from_millis(20));
    merging.publish(note("x", 1)).await.unwrap();
    drop(merging);
    assert_eq!(numbers(&take(&mut events, 1).await), [1]);
}

async fn what_a_dropped_publisher_holds_is_published_at_once(world: World) {
    let bus = world.bus("a").await;
    let mut events = bus.subscribe();
    let merging = merging(&bus, 1000, LONG);
    let other = merging.clone();
    merging.publish(note("x", 1)).await.unwrap();
    drop(merging);
    other.publish(note("x", 2)).await.unwrap();
    drop(other);
    assert_eq!(numbers(&take(&mut events, 1).await), [3]);
}

async fn a_batch_that_is_published_keeps_nobody_waiting(world: World) {
    let bus = world.bus("a").await;
    let mut events = bus.subscribe();
    let merging = merging(&bus, 2, LONG);
    let runtime = tokio::runtime::Handle::current().metrics();
    let tasks = runtime.num_alive_tasks();
    for _ in 0..100 {
        merging.publish(note("x", 1)).await.unwrap();
        merging.publish(note("x", 1)).await.unwrap();
    }
    take(&mut events, 100).await;
    // The world's server has tasks that come and go.
    eventually("no waiting tasks", || {
        runtime.num_alive_tasks() < tasks + 50
    })
    .await;
}

async fn a_publisher_made_after_the_end_takes_nothing(world: World) {
    let bus = world.bus("a").await;
    within("drain", bus.drain()).await.unwrap();
    let refused = merging(&bus, 1000, LONG).publish(note("x", 1)).await;
    assert!(matches!(refused, Err(PublishError::Closed)));
}

async fn what_grew_too_large_is_told(world: World) {
    let bus = world.bus("a").await;
    let mut faults = bus.faults();
    let mut events = bus.subscribe();
    let merging = merging(&bus, 3, LONG);
    let text = "x".repeat(bus.event_bytes_max() * 2 / 3);
    for publisher in ["x", "x", "y"] {
        let text = text.clone();
        merging
            .publish(Note {
                text,
                ..note(publisher, 1)
            })
            .await
            .unwrap();
    }
    let event = take(&mut events, 1).await.remove(0);
    assert_eq!(event.data.publisher, "y");
    let fault = within("fault", faults.next()).await.unwrap();
    assert!(matches!(fault, Fault::Unpublished { .. }), "{fault}");
    assert_eq!(bus.stats().refused_events, 1);
}
