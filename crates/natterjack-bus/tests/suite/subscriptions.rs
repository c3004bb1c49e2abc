//! What a subscriber can ask for: keys, filters, a queue of its own; and what it hears of its losses.

use futures_util::{FutureExt, StreamExt};
use natterjack_bus::{Event, Fault, Overflow, Publish};

use crate::world::{Note, World, eventually, note, numbers, rest, start, take, within};

over_every_transport!(
    filters_come_before_the_queue,
    values_can_be_mapped_on_the_way,
    keys_select,
    own_events_can_be_left_out,
    an_overflow_is_one_episode_and_so_is_the_next,
    bytes_are_bounded_too,
    bytes_of_attributes_count,
    a_filter_that_panics_loses_its_own_subscriber_one_event,
);

async fn filters_come_before_the_queue(world: World) {
    let bus = world.bus("a").await;
    let mut tens = bus
        .subscription()
        .filter(|event| event.data.number % 10 == 0)
        .queue(10, Overflow::DropNewest)
        .start();
    let mut all = bus.subscribe();
    for number in 0..100 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    take(&mut all, 100).await;
    let expected: Vec<_> = (0..10).map(|number| number * 10).collect();
    assert_eq!(numbers(&take(&mut tens, 10).await), expected);
    assert_eq!(tens.dropped_events(), 0);
}

async fn values_can_be_mapped_on_the_way(world: World) {
    let bus = world.bus("a").await;
    let halves = bus
        .subscription()
        .filter(|event| event.data.publisher == "yes")
        .filter_map(|event| (event.data.number % 2 == 0).then_some(event.data.number / 2))
        .filter(|event| event.data != 3);
    let mut halves = halves.start();
    let mut all = bus.subscribe();
    for number in 0..10 {
        bus.publish(&note("no", number)).await.unwrap();
        bus.publish(&note("yes", number)).await.unwrap();
    }
    let received: Vec<Event<u64>> = within("halves", halves.by_ref().take(4).collect()).await;
    let data: Vec<_> = received.iter().map(|event| event.data).collect();
    assert_eq!(data, [0, 1, 2, 4]);
    let sources = take(&mut all, 20).await;
    let whole = |half: &Event<u64>| {
        sources
            .iter()
            .find(|event| event.id == half.id)
            .unwrap()
            .data
            .number
    };
    assert!(received.iter().all(|half| whole(half) == 2 * half.data));
}

async fn keys_select(world: World) {
    let bus = world.bus("a").await;
    let mut seven = bus.subscription().key("7").start();
    let mut either = bus.subscription().key("7").key("8").key("7").start();
    let publish = async |key: &str, number| {
        let publish = Publish::key(key);
        bus.publish_with(&note("a", number), publish).await.unwrap();
    };
    publish("7", 1).await;
    publish("8", 2).await;
    publish("9", 3).await;
    bus.publish(&note("a", 4)).await.unwrap();
    assert_eq!(numbers(&take(&mut either, 2).await), [1, 2]);
    assert_eq!(numbers(&take(&mut seven, 1).await), [1]);
    // What has no key, or one that nobody named, is ignored as long as everybody names keys.
    eventually("all arrived", || bus.stats().received_events == 4).await;
    assert_eq!(bus.stats().ignored_events, 2);
    let mut all = bus.subscribe();
    drop(either);
    publish("8", 5).await;
    publish("7", 6).await;
    assert_eq!(numbers(&take(&mut all, 2).await), [5, 6]);
    within("drain", bus.drain()).await.unwrap();
    assert_eq!(numbers(&rest(&mut seven).await), [6]);
}

async fn own_events_can_be_left_out(world: World) {
    let bus = world.bus("a").await;
    let mut others = bus.subscription().others_only().start();
    let mut all = bus.subscribe();
    for number in 0..5 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    assert!(take(&mut all, 5).await.iter().all(Event::is_own));
    within("drain", bus.drain()).await.unwrap();
    assert!(rest(&mut others).await.is_empty());
}

async fn an_overflow_is_one_episode_and_so_is_the_next(world: World) {
    let bus = world.bus("a").await;
    let mut faults = bus.faults();
    let mut small = bus
        .subscription()
        .name("the small one")
        .queue(4, Overflow::DropOldest)
        .start();
    let mut all = bus.subscribe();
    for _ in 0..2 {
        for number in 0..20 {
            bus.publish(&note("a", number)).await.unwrap();
        }
        take(&mut all, 20).await;
        // The subscriber that was offered events last may not have been the one that counted them.
        eventually("four are left", || small.queued_events() == 4).await;
        assert_eq!(numbers(&take(&mut small, 4).await), [16, 17, 18, 19]);
        let fault = within("begin", faults.next()).await.unwrap();
        let Fault::SubscriberOverflowBegan {
            subscriber,
            node,
            subject,
        } = fault
        else {
            panic!("{fault}")
        };
        assert_eq!(&*subscriber, "the small one");
        assert_eq!((&*node, &*subject), (bus.name(), world.subject()));
        let fault = within("end", faults.next()).await.unwrap();
        let Fault::SubscriberOverflowEnded { events, .. } = fault else {
            panic!("{fault}")
        };
        assert_eq!(events, 16);
        assert!(
            faults.next().now_or_never().is_none(),
            "nothing more to tell"
        );
    }
    assert_eq!(small.dropped_events(), 32);
    assert_eq!(bus.stats().subscriber_dropped_events, 32);
}

async fn bytes_are_bounded_too(world: World) {
    let bus = world.bus("a").await;
    let mut small = bus
        .subscription()
        .queue(100, Overflow::DropOldest)
        .queue_bytes(10_000)
        .start();
    let mut all = bus.subscribe();
    let big = |number, bytes| Note {
        text: "x".repeat(bytes),
        ..note("a", number)
    };
    for number in 0..10 {
        bus.publish(&big(number, 2000)).await.unwrap();
    }
    bus.publish(&big(10, 20_000)).await.unwrap();
    bus.publish(&big(11, 10)).await.unwrap();
    take(&mut all, 12).await;
    within("drain", bus.drain()).await.unwrap();
    // The big one drove out all before it, and itself gave way to the next.
    assert_eq!(numbers(&rest(&mut small).await), [11]);
    assert_eq!(small.dropped_events(), 11);
}

async fn bytes_of_attributes_count(world: World) {
    let bus = world.bus("a").await;
    let mut small = bus
        .subscription()
        .queue(100, Overflow::DropNewest)
        .queue_bytes(10_000)
        .start();
    let mut all = bus.subscribe();
    for number in 0..10 {
        let attributes = [("padding".to_owned(), "x".repeat(2000))].into();
        let publish = Publish {
            attributes,
            ..Publish::default()
        };
        bus.publish_with(&note("a", number), publish).await.unwrap();
    }
    take(&mut all, 10).await;
    within("drain", bus.drain()).await.unwrap();
    assert_eq!(numbers(&rest(&mut small).await), [0, 1, 2, 3]);
    assert_eq!(small.dropped_events(), 6);
}

async fn a_filter_that_panics_loses_its_own_subscriber_one_event(world: World) {
    let mut settings = world.settings("a");
    settings.limits.faults_max = 8;
    let bus = start(settings).await;
    let mut faults = bus.faults();
    let mut clumsy = bus
        .subscription()
        .name("the clumsy one")
        .filter(|event| {
            assert!(event.data.number != 3, "three is too many");
            true
        })
        .start();
    let mut all = bus.subscribe();
    for number in 0..6 {
        bus.publish(&note("a", number)).await.unwrap();
    }
    assert_eq!(numbers(&take(&mut all, 6).await), [0, 1, 2, 3, 4, 5]);
    assert_eq!(numbers(&take(&mut clumsy, 5).await), [0, 1, 2, 4, 5]);
    let fault = within("fault", faults.next()).await.unwrap();
    assert_eq!(
        fault.to_string(),
        "the clumsy one panicked: three is too many"
    );
    assert_eq!(bus.stats().panics, 1);
    within("drain", bus.drain()).await.unwrap();
}
