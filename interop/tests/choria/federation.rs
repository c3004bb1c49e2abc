//! A federation as its operator sees it: two clusters with brokers of their own, a program between each of them and the
//! federation's broker, and commands that reach all nodes.

use std::net::SocketAddr;

use libtest_mimic::Trial;
use serde_json::json;
use testkit::{Kind, Program, ServerUnderTest, ask_until, programs};

use super::authority::PATIENCE;
use super::processes::{Party, RIP, World, text, wait_for};
use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let kinds = [Kind::Natterjack, Kind::NatsServer];
    let needs = || {
        let mut needs = vec![programs::natterjack().map(drop)];
        needs.extend(kinds.map(|kind| kind.program().map(drop)));
        needs
    };
    kinds
        .into_iter()
        .map(|kind| {
            let name = format!("choria::federation::{}", kind.name());
            trial(name, needs(), move || play(kind))
        })
        .collect()
}

/// The servers of a federation of two clusters, the one in the middle of this kind and the others of both kinds, and what is
/// between them.
pub(super) struct Federation {
    pub(super) servers: [ServerUnderTest; 3],
    between: [Program; 2],
}

pub(super) const CLUSTERS: [&str; 2] = ["london", "paris"];

impl Federation {
    pub(super) fn start(world: &World, kind: Kind) -> Self {
        let servers = [kind, Kind::Natterjack, Kind::NatsServer].map(|kind| world.broker(kind));
        let [federation, clusters @ ..] = servers.each_ref().map(ServerUnderTest::address);
        let between = [0, 1].map(|place| {
            let more = format!(
                "plugin.choria.federation_middleware_hosts = localhost:{}\nplugin.choria.federation.cluster = {}\n",
                federation.port(),
                CLUSTERS[place]
            );
            let name = format!("broker.{}.example.net", CLUSTERS[place]);
            world.party(&name, clusters[place], &more).federate()
        });
        Self { servers, between }
    }

    /// Where the nodes of a cluster connect to.
    pub(super) fn cluster(&self, place: usize) -> SocketAddr {
        self.servers[place + 1].address()
    }

    /// Somebody who asks the nodes of all clusters.
    pub(super) fn client(&self, world: &World, more: &str) -> Party {
        let address = self.servers[0].address();
        let more = format!(
            "plugin.choria.federation_middleware_hosts = localhost:{}\nplugin.choria.federation.collectives = {}\n{more}",
            address.port(),
            CLUSTERS.join(", ")
        );
        world.party(RIP, address, &more)
    }

    /// Ends what is between; each must have passed on everything that came.
    pub(super) fn end(self) {
        for mut program in self.between {
            program.interrupt();
            wait_for(&program, " replies passed on, 0 dropped");
            let status = program.wait_for_exit(PATIENCE).expect("it ends");
            assert!(status.success(), "{}", program.output());
        }
    }
}

fn play(kind: Kind) {
    let world = World::new();
    let federation = Federation::start(&world, kind);
    let _nodes: Vec<_> = [0, 1]
        .into_iter()
        .flat_map(|place| [(place, 1), (place, 2)])
        .map(|(place, number)| {
            let name = format!("node{number}.{}.example.net", CLUSTERS[place]);
            let node = world.party(&name, federation.cluster(place), "");
            let facts = json!({"town": CLUSTERS[place], "number": number});
            node.knowing(&facts, &[]).serve()
        })
        .collect();
    let rip = federation.client(&world, "");
    all_are_there(&rip);

    let paris = ["node1.paris.example.net", "node2.paris.example.net"];
    assert_eq!(rip.ping(2, &["-F", "town=paris"]), paris);
    // Each gets a request of its own.
    directed(&rip);
    // All share one.
    let more = "direct_addressing_threshold = 0\n";
    directed(&federation.client(&world, more));
    federation.end();
}

/// The programs between subscribe to requests just after they have connected.
fn all_are_there(rip: &Party) {
    let nodes = [
        "node1.london.example.net",
        "node1.paris.example.net",
        "node2.london.example.net",
        "node2.paris.example.net",
    ];
    let mut last = String::new();
    let found = ask_until(PATIENCE, || {
        let output = rip.ask(&["ping", "--names", "--expect", "4"]);
        last = text(&output.stdout);
        let mut names: Vec<_> = last.lines().collect();
        names.sort_unstable();
        (names == nodes).then_some(())
    });
    assert!(found.is_some(), "only:\n{last}");
}

fn directed(rip: &Party) {
    let get = ["rpcutil", "get_fact", "fact=town", "--expect", "2"];
    let replies = rip.call(&[&get[..], &["--discovery-timeout", "60s", "-F", "number=2"]].concat());
    let found: Vec<_> = replies
        .iter()
        .map(|reply| (reply["sender"].as_str(), reply["data"]["value"].as_str()))
        .collect();
    let expected = [
        (Some("node2.london.example.net"), Some("london")),
        (Some("node2.paris.example.net"), Some("paris")),
    ];
    assert_eq!(found, expected);
}
