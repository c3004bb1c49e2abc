//! What is missing of a cluster gets dialled, whatever became of who was to do so before.

use std::sync::atomic::Ordering;
use std::time::Duration;

use natterjack_engine::Session as _;

use super::forming::{exchange, with_chances};
use super::world::{World, cluster};

const A_WHILE: Duration = Duration::from_secs(8);

/// Two that know each other by a third one only: numbers 1 and 2.
fn three(chance: u64) -> World {
    let mut world = World::with(chance, [cluster(&[]), cluster(&[0]), cluster(&[0])]);
    world.run(A_WHILE);
    world.check_full();
    world
}

/// Numbers of the connections of the pool that a server has with another one.
fn shared(world: &World, here: usize, there: usize) -> Vec<u64> {
    let name = format!("node{there}");
    let snapshot = world.snapshot(here);
    let peer = snapshot.peers.iter().find(|peer| peer.name == name);
    let shared = peer.expect("a peer").shared.iter();
    shared.flatten().copied().collect()
}

/// Ends connections of one server's, for that side, and for the other one too or not: then nothing comes through there.
fn end(world: &World, node: usize, connections: &[u64], is_for_both: bool) {
    let ends = world.nodes[node].ends.iter();
    for end in ends.filter(|end| connections.contains(&end.session.outbox().id())) {
        end.inbound.is_ended.store(true, Ordering::Relaxed);
        if is_for_both {
            end.outbound.is_ended.store(true, Ordering::Relaxed);
        } else {
            end.outbound.is_cut.store(true, Ordering::Relaxed);
        }
    }
}

/// One connection is still there, so that nobody counts as lost; the others cannot be made again for a time.
#[test]
fn what_could_not_be_dialled_for_a_time_is_dialled_again() {
    with_chances(20, |chance| {
        let mut world = three(chance);
        world.bar(1, 2);
        let all = shared(&world, 1, 2);
        let count = world.rng.usize(1..=all.len());
        end(&world, 1, &all[..count], true);
        world.run(Duration::from_secs(120));
        let dials = [world.nodes[1].dials, world.nodes[2].dials];
        world.run(Duration::from_secs(600));
        for (node, before) in [1, 2].into_iter().zip(dials) {
            // Less and less often, and never not at all.
            let dialled = world.nodes[node].dials - before;
            assert!((18..=24).contains(&dialled), "{dialled}");
        }
        world.join(1, 2);
        world.run(Duration::from_secs(35));
        world.check_full();
        exchange(&mut world);
    });
}

/// One side has lost connections of which the other one has not heard: it refuses new ones in their place until it has
/// found out.
#[test]
fn what_the_peer_thinks_is_there_is_dialled_until_it_knows_better() {
    with_chances(20, |chance| {
        let mut world = three(chance);
        let here = 1 + world.rng.usize(0..2);
        let all = shared(&world, here, 3 - here);
        let first = world.rng.usize(0..all.len());
        end(&world, here, &all[first..], false);
        // Each is doubted for 5 s, one after the other.
        world.run(Duration::from_secs(60));
        world.check_full();
        exchange(&mut world);
    });
}

/// Word of a new server is lost with the connections it was said on, and with those alone.
#[test]
fn one_that_missed_word_of_another_is_told_again() {
    with_chances(20, |chance| {
        let mut world = World::with(chance, [cluster(&[]), cluster(&[0])]);
        world.run(A_WHILE);
        let peer = &world.snapshot(0).peers[0];
        let told: Vec<u64> = (peer.shared[0].into_iter())
            .chain(peer.dedicated.iter().map(|(_, id)| *id))
            .collect();
        for end in &world.nodes[0].ends {
            if told.contains(&end.session.outbox().id()) {
                end.outbound.is_cut.store(true, Ordering::Relaxed);
            }
        }
        world.add(cluster(&[0]));
        world.run(Duration::from_secs(1));
        assert_eq!(world.snapshot(1).peers.len(), 1, "word came through");
        // The connection for one account is not known to be dead yet, and says nothing more.
        end(&world, 0, &told[..1], true);
        world.run(Duration::from_secs(10));
        assert_eq!(shared(&world, 1, 2).len(), 3);
        world.run(Duration::from_secs(100));
        world.check_full();
        exchange(&mut world);
    });
}

/// Nobody told of the one that is found again but those who look for it.
#[test]
fn one_that_is_found_again_is_made_known_to_all() {
    with_chances(20, |chance| {
        let mut world = World::with(chance, [cluster(&[]), cluster(&[0])]);
        world.run(A_WHILE);
        world.part(0, 1, false);
        world.run(Duration::from_secs(20));
        world.add(cluster(&[0]));
        world.bar(1, 2);
        world.run(Duration::from_secs(20));
        world.join(0, 1);
        world.join(1, 2);
        world.run(Duration::from_secs(75));
        world.check_full();
        exchange(&mut world);
    });
}

/// Whoever meets it only after it has said so, or missed it, is told by it as well; and sends nobody's clients there.
#[test]
fn one_that_is_about_to_go_says_so_to_whoever_comes() {
    with_chances(20, |chance| {
        let mut world = three(chance);
        let client = world.client(1);
        let is_early = world.rng.bool();
        if is_early {
            world.nodes[0].engine.announce_lame_duck(world.now);
            world.run(Duration::from_millis(100));
        }
        let all: Vec<u64> = (world.nodes[1].ends.iter())
            .map(|end| end.session.outbox().id())
            .collect();
        end(&world, 1, &all, true);
        for _ in 0..world.rng.u32(0..40) {
            world.run(Duration::from_millis(50));
        }
        // Maybe in the middle of a handshake.
        world.turns(4);
        world.nodes[0].engine.announce_lame_duck(world.now);
        world.run(Duration::from_secs(10));
        world.check_full();
        let received = world.nodes[1].clients[client].take();
        let last = received.rsplit("INFO ").next().expect("a split has parts");
        let is_named = |node: u16| last.contains(&format!("127.0.0.1:{}", 4000 + node));
        assert!(!is_named(0) && is_named(1) && is_named(2), "{received}");
    });
}
