//! Servers that go and come, and wires that break: afterwards everything is as if nothing had happened.

use std::sync::atomic::Ordering;
use std::time::Duration;

use natterjack_engine::ClusterSettings;

use super::forming::{exchange, with_chances};
use super::world::{World, cluster};

const A_WHILE: Duration = Duration::from_secs(8);

fn three(chance: u64) -> World {
    let mut world = World::with(chance, [cluster(&[1, 2]), cluster(&[0]), cluster(&[0])]);
    world.run(A_WHILE);
    world.check_full();
    world
}

#[test]
fn one_that_comes_back_is_taken_in_again() {
    with_chances(20, |chance| {
        let mut world = three(chance);
        for number in [2, 0] {
            world.stop(number);
            world.run(Duration::from_secs(5));
            world.check_full();
            exchange(&mut world);
            world.start(number);
            world.run(A_WHILE);
            world.check_full();
            exchange(&mut world);
        }
    });
}

#[test]
fn one_that_nobody_has_as_a_seed_comes_back_by_itself() {
    with_chances(20, |chance| {
        let mut world = World::with(chance, [cluster(&[]), cluster(&[0]), cluster(&[0])]);
        world.run(A_WHILE);
        world.stop(2);
        world.run(Duration::from_secs(5));
        world.start(2);
        world.run(A_WHILE);
        world.check_full();
        // One that may be gone for good is looked for less and less often, for a day.
        world.stop(2);
        world.run(Duration::from_secs(60));
        let mut dials = |duration| {
            let before = [world.nodes[0].dials, world.nodes[1].dials];
            world.run(duration);
            [
                world.nodes[0].dials - before[0],
                world.nodes[1].dials - before[1],
            ]
        };
        for dialled in dials(Duration::from_secs(600)) {
            assert!((18..=21).contains(&dialled), "{dialled}");
        }
        dials(Duration::from_secs(24 * 60 * 60));
        assert_eq!(dials(Duration::from_secs(600)), [0, 0]);
    });
}

#[test]
fn every_connection_that_breaks_is_made_again() {
    with_chances(40, |chance| {
        let mut world = three(chance);
        for _ in 0..5 {
            let node = world.rng.usize(0..3);
            let ends = world.nodes[node].ends.len();
            let end = world.rng.usize(0..ends);
            let end = &world.nodes[node].ends[end];
            end.outbound.is_ended.store(true, Ordering::Relaxed);
            end.inbound.is_ended.store(true, Ordering::Relaxed);
            world.run(A_WHILE);
            world.check_full();
        }
        exchange(&mut world);
    });
}

#[test]
fn a_cluster_that_was_parted_heals() {
    for is_silent in [false, true] {
        with_chances(10, |chance| {
            let mut world = three(chance);
            let pair = if world.rng.bool() { (0, 1) } else { (1, 2) };
            world.part(pair.0, pair.1, is_silent);
            let apart = world.rng.u64(1..200);
            world.run(Duration::from_secs(apart));
            world.join(pair.0, pair.1);
            // Who does not notice that nothing comes takes three times 30 s for it. Those two who met through a third one
            // look for each other by themselves.
            world.run(Duration::from_secs(150));
            world.check_full();
            exchange(&mut world);
        });
    }
}

#[test]
fn waits_between_tries_double_if_they_are_to() {
    for (backs_off, expected) in [(false, 100..130), (true, 12..25)] {
        let settings = ClusterSettings {
            connect_backoff: backs_off,
            ..cluster(&[1])
        };
        let mut world = World::with(1, [settings, cluster(&[])]);
        world.stop(1);
        world.run(Duration::from_secs(60));
        let dials = world.nodes[0].dials;
        assert!(expected.contains(&dials), "{dials}");
    }
}

/// Anything, in any order; then peace, and everything as it should be.
#[test]
fn after_any_history_the_cluster_is_whole() {
    with_chances(60, |chance| {
        let count = 2 + (chance % 4) as usize;
        let everybody: Vec<usize> = (0..count).collect();
        let mut world = World::new(chance);
        for _ in 0..count {
            let compression = world.rng.choice(natterjack_engine::Compression::ALL);
            let settings = ClusterSettings {
                pool_size: world.rng.u32(0..4),
                compression: compression.expect("there are some"),
                connect_backoff: world.rng.bool(),
                ..cluster(&everybody)
            };
            world.add(settings);
            let pause = world.rng.u64(0..2000);
            world.run(Duration::from_millis(pause));
        }
        for _ in 0..30 {
            let (one, other) = (world.rng.usize(0..count), world.rng.usize(0..count));
            match world.rng.u32(0..5) {
                0 if world.nodes[one].is_up => world.stop(one),
                0 => world.start(one),
                1 | 2 if one != other => {
                    let is_silent = world.rng.bool();
                    world.part(one, other, is_silent);
                }
                3 => world.join(one, other),
                _ => {
                    let ends = &world.nodes[one].ends;
                    if let Some(end) = ends.first() {
                        end.outbound.is_ended.store(true, Ordering::Relaxed);
                    }
                }
            }
            let pause = world.rng.u64(0..3000);
            world.run(Duration::from_millis(pause));
        }
        for one in 0..count {
            for other in 0..count {
                world.join(one, other);
            }
            if !world.nodes[one].is_up {
                world.start(one);
            }
        }
        world.run(Duration::from_secs(200));
        world.check_full();
        exchange(&mut world);
    });
}
