//! Settings of a cluster that change while it runs, on one server after another.

use std::time::Duration;

use natterjack_engine::Compression;

use super::forming::{exchange, with_chances};
use super::world::{World, cluster};

const A_WHILE: Duration = Duration::from_secs(8);

fn three(chance: u64) -> World {
    let clusters = [cluster(&[1, 2]), cluster(&[0]), cluster(&[0])];
    let mut world = World::with(chance, clusters);
    world.run(A_WHILE);
    world.check_full();
    world
}

#[test]
fn an_account_gets_connections_of_its_own_and_loses_them() {
    with_chances(10, |chance| {
        let mut world = three(chance);
        let listed = [vec!["$G".to_owned()], Vec::new()];
        for (accounts, connections) in listed.into_iter().zip([2, 1]) {
            // Subscriptions of before go along.
            let client = world.client(1);
            world.says(1, client, "SUB kept 1\r\n");
            for node in 0..3 {
                world.reload(node, |settings| settings.accounts.clone_from(&accounts));
                let pause = world.rng.u64(0..3000);
                world.run(Duration::from_millis(pause));
            }
            world.run(A_WHILE);
            world.check_full();
            for peer in &world.snapshot(0).peers {
                assert_eq!(peer.dedicated.len(), connections, "{peer:?}");
            }
            let publisher = world.client(2);
            world.says(2, publisher, "PUB kept 1\r\nx\r\n");
            world.run(Duration::from_millis(50));
            let received = world.nodes[1].clients[client].take();
            assert_eq!(received, "MSG kept 1 1\r\nx\r\n");
            world.says(1, client, "UNSUB 1\r\n");
            world.run(Duration::from_millis(50));
            exchange(&mut world);
        }
    });
}

#[test]
fn pools_grow_and_shrink() {
    with_chances(10, |chance| {
        let mut world = three(chance);
        for size in [1, 5, 0, 3] {
            for node in 0..3 {
                world.reload(node, |settings| settings.pool_size = size);
                let pause = world.rng.u64(0..3000);
                world.run(Duration::from_millis(pause));
            }
            world.run(A_WHILE);
            world.check_full();
            assert_eq!(
                world.snapshot(0).peers[0].shared.len(),
                size.max(1) as usize
            );
            exchange(&mut world);
        }
    });
}

#[test]
fn compression_comes_and_goes() {
    with_chances(10, |chance| {
        let mut world = three(chance);
        for mode in [
            Compression::S2Fast,
            Compression::S2Best,
            Compression::S2Auto,
            Compression::Accept,
        ] {
            for node in 0..3 {
                world.reload(node, |settings| settings.compression = mode);
                let pause = world.rng.u64(0..3000);
                world.run(Duration::from_millis(pause));
            }
            world.run(A_WHILE);
            world.check_full();
            exchange(&mut world);
        }
    });
}

/// Until the others are reloaded, too, there is no such connection; meanwhile the account is where it was.
#[test]
fn who_alone_wants_a_connection_for_an_account_loses_nothing() {
    with_chances(10, |chance| {
        let mut world = three(chance);
        exchange(&mut world);
        for node in 0..3 {
            world.reload(node, |settings| settings.accounts = vec!["$G".to_owned()]);
            exchange(&mut world);
            world.run(A_WHILE);
            exchange(&mut world);
        }
        // A connection that others refused is tried again within 30 s.
        world.run(Duration::from_secs(30));
        for peer in &world.snapshot(0).peers {
            assert_eq!(peer.dedicated.len(), 2, "{peer:?}");
        }
        exchange(&mut world);
    });
}
