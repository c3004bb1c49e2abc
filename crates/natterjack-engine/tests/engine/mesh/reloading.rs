//! Settings of a cluster that change while it runs, on one server after another.

use std::sync::atomic::Ordering;
use std::time::Duration;

use natterjack_engine::{Access, AccountAccess, ClusterSettings, Compression, Session};

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

/// Two servers between which an account has a connection to itself.
fn two_apart(chance: u64, account: &str, accesses: [Access; 2]) -> World {
    let mut world = World::new(chance);
    for (seed, access) in [1, 0].into_iter().zip(accesses) {
        let settings = ClusterSettings {
            accounts: vec![account.to_owned()],
            ..cluster(&[seed])
        };
        world.add_with(settings, access);
    }
    world.run(A_WHILE);
    world.check_full();
    assert_eq!(world.snapshot(0).peers[0].dedicated.len(), 2);
    world
}

/// On a line that takes its time nothing is lost for that.
#[test]
fn what_is_long_on_its_way_on_a_connection_that_is_left_arrives() {
    with_chances(20, |chance| {
        let mut world = two_apart(chance, "$G", [Access::open(), Access::open()]);
        let from = world.rng.usize(..2);
        let (publisher, subscriber) = (world.client(from), world.client(1 - from));
        world.says(1 - from, subscriber, "SUB slow 1\r\n");
        world.run(A_WHILE);
        world.run(A_WHILE);
        let dedicated = world.snapshot(from).peers.remove(0).dedicated;
        let own = dedicated.iter().find(|(account, _)| account == "$G");
        let own = own.expect("a connection of its own").1;
        let mut ends = world.nodes[from].ends.iter();
        let end = ends.find(|end| end.session.outbox().id() == own);
        let end = end.expect("its end");
        let pipes = [&end.outbound, &end.inbound].map(std::sync::Arc::clone);
        pipes[0].is_cut.store(true, Ordering::Relaxed);
        pipes[1].is_cut.store(chance % 2 == 0, Ordering::Relaxed);
        let mut number = 0;
        let mut publish = |world: &mut World| {
            for _ in 0..50 {
                number += 1;
                let text = format!("PUB slow 3\r\n{number:03}\r\n");
                world.says(from, publisher, &text);
            }
        };
        publish(&mut world);
        for node in 0..2 {
            world.reload(node, |settings| settings.accounts.clear());
            let pause = world.rng.u64(0..1000);
            world.run(Duration::from_millis(pause));
        }
        publish(&mut world);
        let pause = world.rng.u64(6..50);
        world.run(Duration::from_secs(pause));
        for pipe in pipes {
            pipe.is_cut.store(false, Ordering::Relaxed);
        }
        world.run(A_WHILE);
        publish(&mut world);
        world.run(Duration::from_millis(50));
        let received = world.nodes[1 - from].clients[subscriber].take();
        let mut arrived: Vec<&str> = received.lines().skip(1).step_by(2).collect();
        arrived.sort_unstable();
        let all: Vec<String> = (1..=150).map(|number| format!("{number:03}")).collect();
        assert_eq!(arrived, all, "{:?}", world.reasons);
        world.check_full();
        assert_eq!(world.snapshot(0).peers[0].dedicated.len(), 1);
    });
}

/// Nobody waits for what a server that has no such account will not say by itself.
#[test]
fn a_connection_of_an_account_that_is_not_everywhere_ends_at_once() {
    with_chances(20, |chance| {
        let name = "a".repeat(if chance % 2 == 0 { 1 } else { 300 });
        let mut access = Access::open();
        access.accounts = vec![AccountAccess {
            name: name.clone(),
            ..AccountAccess::default()
        }];
        let mut world = two_apart(chance, &name, [access.clone(), access]);
        let mut configuration = world.nodes[1].engine.configuration();
        configuration.access.accounts.clear();
        drop((world.nodes[1].engine).reconfigure(configuration, world.now));
        world.run(A_WHILE);
        world.check_full();
        let mut order = [0, 1];
        world.rng.shuffle(&mut order);
        for node in order {
            world.reload(node, |settings| settings.accounts.clear());
            let pause = world.rng.u64(0..100);
            world.run(Duration::from_millis(pause));
        }
        world.run(Duration::from_secs(1));
        assert_eq!(world.snapshot(0).peers[0].dedicated.len(), 1);
        world.check_full();
        exchange(&mut world);
    });
}
