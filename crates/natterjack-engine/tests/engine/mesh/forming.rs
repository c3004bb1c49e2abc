//! How a cluster comes about: whoever dials whom, in whatever order, there is one whole set of connections between any
//! two servers, and all know what all want.

use std::collections::BTreeSet;
use std::time::Duration;

use natterjack_engine::{ClusterSettings, Compression};

use super::world::{World, cluster};

const A_WHILE: Duration = Duration::from_secs(8);

/// Runs it with several seeds, and names the one that fails.
pub(super) fn with_chances(count: u64, test: impl Fn(u64)) {
    for chance in 0..count {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(chance)));
        if let Err(panic) = outcome {
            let text = panic.downcast_ref::<String>().map_or("", String::as_str);
            panic!("seed {chance}: {text}");
        }
    }
}

#[test]
fn one_dials_the_other() {
    with_chances(20, |chance| {
        let mut world = World::with(chance, [cluster(&[]), cluster(&[0])]);
        world.run(Duration::from_millis(100));
        world.check_full();
        let peer = &world.snapshot(0).peers[0];
        assert_eq!((peer.shared.len(), peer.dedicated.len()), (3, 1));
        assert_eq!(peer.dedicated[0].0, "$SYS");
        assert_eq!(world.nodes[1].dials, 4);
    });
}

#[test]
fn both_dial_each_other() {
    with_chances(200, |chance| {
        let mut world = World::with(chance, [cluster(&[1]), cluster(&[0])]);
        world.run(A_WHILE);
        world.check_full();
        assert!(world.snapshot(0).peers[0].is_explicit && world.snapshot(1).peers[0].is_explicit);
        // Once it has settled nobody dials any more.
        let dials = [world.nodes[0].dials, world.nodes[1].dials];
        world.run(Duration::from_secs(120));
        assert_eq!(dials, [world.nodes[0].dials, world.nodes[1].dials]);
    });
}

#[test]
fn whatever_the_sizes_of_their_pools() {
    for (here, there) in [
        (3, 3),
        (1, 3),
        (3, 1),
        (0, 3),
        (3, 0),
        (0, 0),
        (5, 2),
        (1, 1),
    ] {
        for seeds in [[&[][..], &[0]], [&[1], &[]], [&[1], &[0]]] {
            with_chances(10, |chance| {
                let with = |size, seeds| ClusterSettings {
                    pool_size: size,
                    ..cluster(seeds)
                };
                let mut world = World::with(chance, [with(here, seeds[0]), with(there, seeds[1])]);
                world.run(A_WHILE);
                world.check_full();
                let peer = &world.snapshot(0).peers[0];
                let has_pool = here > 0 && there > 0;
                let expected = if has_pool { here.max(there) } else { 1 };
                assert_eq!(
                    peer.shared.len(),
                    expected as usize,
                    "{here} {there} {seeds:?}"
                );
                assert_eq!(peer.dedicated.len(), usize::from(has_pool));
            });
        }
    }
}

#[test]
fn whatever_they_compress() {
    for here in Compression::ALL {
        for there in Compression::ALL {
            with_chances(4, |chance| {
                let with = |compression, seeds| ClusterSettings {
                    compression,
                    ..cluster(seeds)
                };
                let mut world = World::with(chance, [with(here, &[1]), with(there, &[0])]);
                world.run(A_WHILE);
                world.check_full();
                exchange(&mut world);
            });
        }
    }
}

#[test]
fn a_third_one_is_told_of() {
    with_chances(50, |chance| {
        let mut world = World::with(chance, [cluster(&[]), cluster(&[0]), cluster(&[0])]);
        world.run(A_WHILE);
        world.check_full();
        exchange(&mut world);
    });
}

#[test]
fn five_in_a_row_find_all_others() {
    with_chances(20, |chance| {
        let clusters = [&[][..], &[0], &[1], &[2], &[3]].map(cluster);
        let mut world = World::with(chance, clusters);
        world.run(A_WHILE);
        world.check_full();
        exchange(&mut world);
    });
}

#[test]
fn all_dial_all() {
    with_chances(20, |chance| {
        let clusters = [&[1, 2, 3][..], &[0, 2, 3], &[0, 1, 3], &[0, 1, 2]].map(cluster);
        let mut world = World::with(chance, clusters);
        world.run(A_WHILE);
        world.check_full();
        exchange(&mut world);
    });
}

#[test]
fn all_have_the_same_seeds_themselves_among_them() {
    with_chances(20, |chance| {
        let clusters = [(); 3].map(|()| cluster(&[0, 1, 2]));
        let mut world = World::with(chance, clusters);
        world.run(A_WHILE);
        world.check_full();
        let dials: Vec<_> = world.nodes.iter().map(|node| node.dials).collect();
        world.run(Duration::from_secs(60));
        let later: Vec<_> = world.nodes.iter().map(|node| node.dials).collect();
        assert_eq!(dials, later);
    });
}

#[test]
fn names_that_were_made_up_become_one() {
    with_chances(30, |chance| {
        let nameless = |seeds| ClusterSettings {
            name: String::new(),
            ..cluster(seeds)
        };
        let mut world = World::with(chance, [nameless(&[]), nameless(&[0]), nameless(&[0])]);
        world.run(Duration::from_secs(20));
        world.check_full();
        let names = [0, 1, 2].map(|node| world.snapshot(node).name);
        assert!(
            names
                .iter()
                .all(|name| name.len() == 22 && *name == names[0])
        );
    });
}

#[test]
fn a_name_that_was_made_up_is_given_up() {
    with_chances(30, |chance| {
        let nameless = |seeds| ClusterSettings {
            name: String::new(),
            ..cluster(seeds)
        };
        let mut world = World::with(chance, [nameless(&[]), nameless(&[0]), cluster(&[1])]);
        world.run(Duration::from_secs(20));
        world.check_full();
        for node in 0..3 {
            assert_eq!(world.snapshot(node).name, "c");
        }
    });
}

#[test]
fn two_clusters_stay_two() {
    let other = ClusterSettings {
        name: "d".to_owned(),
        ..cluster(&[0])
    };
    let mut world = World::with(1, [cluster(&[]), other]);
    world.run(A_WHILE);
    assert!(world.snapshot(0).peers.is_empty() && world.snapshot(1).peers.is_empty());
    assert!(world.reasons[&(0, "Cluster Name Conflict")] > 4);
    // One try a second for each of the two.
    assert!(
        (10..24).contains(&world.nodes[1].dials),
        "{}",
        world.nodes[1].dials
    );
}

/// What other servers want in the global account. An account that goes from one connection to another may be on both.
fn wanted_by_others(world: &World, node: usize) -> usize {
    let peers = world.snapshot(node).peers;
    let peer_of = |connection: u64| {
        peers.iter().position(|peer| {
            let dedicated = peer.dedicated.iter().map(|(_, connection)| *connection);
            let mut all = peer.shared.iter().flatten().copied().chain(dedicated);
            all.any(|known| known == connection)
        })
    };
    let mut wanted = BTreeSet::new();
    let engine = &world.nodes[node].engine;
    engine.for_each_peer_interest(|interest| {
        if interest.account == engine.global_account().name() {
            let queue = interest.queue.map(|(name, _)| name.to_vec());
            wanted.insert((
                peer_of(interest.connection),
                interest.subject.to_vec(),
                queue,
            ));
        }
    });
    wanted.len()
}

/// Every server's subscribers get what is published on every server, once.
pub(super) fn exchange(world: &mut World) {
    let up: Vec<usize> = (0..world.nodes.len())
        .filter(|&node| world.nodes[node].is_up)
        .collect();
    let clients: Vec<_> = up.iter().map(|&node| (node, world.client(node))).collect();
    for &(node, client) in &clients {
        let text = format!("SUB all 1\r\nSUB only.{node} 2\r\nSUB shared group 3\r\n");
        world.says(node, client, &text);
    }
    world.run(Duration::from_millis(50));
    for &node in &up {
        let expected = 3 * (up.len() - 1);
        let wanted = wanted_by_others(world, node);
        assert_eq!(wanted, expected, "what others want at node {node}");
    }
    for &(node, client) in &clients {
        let wanted: String = up
            .iter()
            .map(|other| format!("PUB only.{other} 1\r\n{node}\r\n"))
            .collect();
        let text = format!("{wanted}PUB all 1\r\n{node}\r\nPUB shared 1\r\n{node}\r\n");
        world.says(node, client, &text);
    }
    world.run(Duration::from_millis(50));
    let mut shared = 0;
    for &(node, client) in &clients {
        let received = world.nodes[node].clients[client].take();
        let count = |head: &str| received.matches(head).count();
        assert_eq!(
            count("MSG all 1 1\r\n"),
            up.len(),
            "node {node}: {received}"
        );
        assert_eq!(
            count(&format!("MSG only.{node} 2 1\r\n")),
            up.len(),
            "node {node}"
        );
        shared += count("MSG shared 3 1\r\n");
    }
    assert_eq!(shared, up.len());
    for &(node, client) in &clients {
        world.says(node, client, "UNSUB 1\r\nUNSUB 2\r\nUNSUB 3\r\n");
    }
    world.run(Duration::from_millis(50));
    for &(node, client) in &clients {
        world.says(node, client, "PUB all r 1\r\nx\r\n");
        let received = world.nodes[node].clients[client].take();
        assert_eq!(received, "", "nobody is to be asked any more");
    }
}
