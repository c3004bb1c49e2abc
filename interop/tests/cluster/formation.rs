//! How a cluster comes to be: in every order, by one seed or by many, with and without a name, with five servers; and that all
//! see the same cluster afterwards.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::cluster::{Cluster, Plan, Seeding};
use testkit::{Kind, PATIENCE, ask_until};

use super::{Scenario, cycled, scenario};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario(
        "formation::all_dial_all_in_any_order",
        all_dial_all_in_any_order,
    ),
    scenario("formation::one_seed_is_enough", one_seed_is_enough),
    scenario("formation::the_seed_comes_last", the_seed_comes_last),
    scenario(
        "formation::nameless_servers_agree_on_a_name",
        nameless_servers_agree_on_a_name,
    ),
    scenario("formation::five", five),
    scenario("formation::strangers_stay_out", strangers_stay_out),
    scenario("formation::routez_agree", routez_agree),
];

fn all_dial_all_in_any_order(kinds: &[Kind]) {
    for order in orders(kinds) {
        let mut cluster = Plan::of(kinds).prepare();
        for node in order {
            cluster.start(node);
        }
        cluster.wait_until_complete();
        each_hears_each_once(&mut cluster);
    }
}

/// The orders in which servers of these kinds can be started; those that differ only in which of two alike comes first
/// are one.
fn orders(kinds: &[Kind]) -> Vec<Vec<usize>> {
    let mut orders: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in kinds {
        let mut longer = Vec::new();
        for order in &orders {
            let mut tried = Vec::new();
            for node in (0..kinds.len()).filter(|node| !order.contains(node)) {
                if !tried.contains(&kinds[node]) {
                    tried.push(kinds[node]);
                    longer.push([order.as_slice(), &[node]].concat());
                }
            }
        }
        orders = longer;
    }
    orders
}

fn one_seed_is_enough(kinds: &[Kind]) {
    let mut cluster = Plan::of(kinds).seeding(Seeding::First).start();
    cluster.wait_until_complete();
    each_hears_each_once(&mut cluster);
}

fn the_seed_comes_last(kinds: &[Kind]) {
    let mut cluster = Plan::of(kinds).seeding(Seeding::First).prepare();
    for node in (0..cluster.len()).rev() {
        cluster.start(node);
    }
    cluster.wait_until_complete();
    each_hears_each_once(&mut cluster);
}

fn nameless_servers_agree_on_a_name(kinds: &[Kind]) {
    let mut cluster = Plan::of(kinds).nameless().start();
    cluster.wait_until_complete();
    each_hears_each_once(&mut cluster);
    let names = ask_until(PATIENCE, || {
        let names: BTreeSet<String> = (0..cluster.len())
            .map(|node| cluster_name(&cluster, node))
            .collect();
        (names.len() == 1).then_some(names)
    });
    let names = names.expect("one name for all");
    assert!(names.iter().all(|name| !name.is_empty()), "{names:?}");
}

fn five(kinds: &[Kind]) {
    let mut cluster = Plan::of(&cycled(kinds, 5)).seeding(Seeding::First).start();
    cluster.wait_until_complete();
    each_hears_each_once(&mut cluster);
    agree(&mut cluster);
}

/// Another cluster's name, another password: whoever has it is turned away each time it comes, hears nothing of what happens
/// inside, and the others do not mind.
fn strangers_stay_out(kinds: &[Kind]) {
    let stranger = kinds.len() - 1;
    let inside: Vec<usize> = (0..stranger).collect();
    let plan = Plan::of(kinds)
        .proxied()
        .cluster("authorization { user: route, password: right, timeout: 2 }")
        .route_login("route:right@");
    for plan in [
        plan.clone().cluster_of(stranger, "name: elsewhere"),
        plan.route_login_of(stranger, "route:wrong@"),
    ] {
        let mut cluster = plan.start();
        cluster.wait_until_connected(&inside);
        for wire in cluster.wires_of(stranger) {
            wire.wait_for_ends(2);
        }
        let mut clients = cluster.clients();
        for (node, client) in clients.iter_mut().enumerate() {
            client.subscribe(&format!("hello.{node}"));
            client.round_trip();
        }
        for &node in &inside {
            assert!(!clients[node].is_heard(&format!("hello.{stranger}"), b""));
            assert!(!clients[stranger].is_heard(&format!("hello.{node}"), b""));
        }
    }
}

fn routez_agree(kinds: &[Kind]) {
    let mut cluster = Plan::of(kinds).seeding(Seeding::Lower).start();
    cluster.wait_until_complete();
    agree(&mut cluster);
    // Those that are left know of nobody else, and what one finds that comes again is the same as before.
    let gone = cluster.len() - 1;
    cluster.kill(gone);
    cluster.start(gone);
    cluster.wait_until_complete();
    agree(&mut cluster);
}

/// The page `/routez` of each server names every other one, and says the same of their connections, and of what each has
/// subscribed to, as the other's page; and the connections on it are those that by the log came about and did not end.
fn agree(cluster: &mut Cluster) {
    let mut clients = cluster.clients();
    for (node, client) in clients.iter_mut().enumerate() {
        client.subscribe(&format!("agreed.{node}"));
    }
    cluster.settle(&mut clients);
    let mut last = String::new();
    // Connections of a pool that no message has needed may still be on their way.
    let agreed = ask_until(PATIENCE, || {
        let pages: Vec<Value> = (0..cluster.len())
            .map(|node| cluster.page(node, "/routez?subs=1"))
            .collect();
        let problem = disagreement(&pages).or_else(|| {
            pages.iter().enumerate().find_map(|(node, page)| {
                let server = cluster.server(node);
                let (logged, shown) = (logged(&server.log(), server.kind()), shown(page));
                (logged != shown)
                    .then(|| format!("{node} has logged {logged:?} and shows {shown:?}"))
            })
        });
        match problem {
            Some(problem) => {
                last = format!("{problem}: {pages:#?}");
                None
            }
            None => Some(()),
        }
    });
    assert!(agreed.is_some(), "{last}");
}

/// The numbers of connections that came about and did not end. nats-server on a busy machine may log the end of a duplicate
/// before that it came about; what ours logs is in order.
fn logged(log: &str, kind: Kind) -> BTreeSet<u64> {
    let (mut open, mut ended) = (BTreeSet::new(), BTreeSet::new());
    for line in log.lines() {
        let Some((_, rest)) = line.split_once(" - rid:") else {
            continue;
        };
        let (number, said) = rest.split_once(" - ").unwrap_or((rest, ""));
        let number = number.parse().expect("the number of a connection");
        if said.starts_with("Route connection created") {
            open.insert(number);
        } else if said.starts_with("Router connection closed") {
            open.remove(&number);
            ended.insert(number);
        }
    }
    if kind != Kind::Natterjack {
        open.retain(|number| !ended.contains(number));
    }
    open
}

fn shown(page: &Value) -> BTreeSet<u64> {
    let numbers = routes(page).iter().map(|route| route["rid"].as_u64());
    numbers.map(|number| number.expect("a number")).collect()
}

/// In what the pages contradict each other.
fn disagreement(pages: &[Value]) -> Option<String> {
    for (node, page) in pages.iter().enumerate() {
        if page["num_routes"] != routes(page).len() {
            return Some(format!("{node} miscounts its routes"));
        }
        let is_known = |route: &&Value| pages.iter().any(|page| route["remote_id"] == id(page));
        if routes(page).iter().filter(is_known).count() != routes(page).len() {
            return Some(format!("{node} has a route to nobody"));
        }
        for (other, page_of_other) in pages.iter().enumerate().filter(|(other, _)| *other != node) {
            let (there, back) = (
                connections(page, id(page_of_other)),
                connections(page_of_other, id(page)),
            );
            let accounts = |connections: &[(String, bool)]| -> Vec<String> {
                connections
                    .iter()
                    .map(|(account, _)| account.clone())
                    .collect()
            };
            if there.is_empty() || accounts(&there) != accounts(&back) {
                return Some(format!("{node} and {other} name other connections"));
            }
            // Where both have dialled, both say so of the connection that is left.
            let dialled = there
                .iter()
                .chain(&back)
                .filter(|(_, is_dialled)| *is_dialled);
            if dialled.count() < there.len() {
                return Some(format!(
                    "{node} and {other} have connections that nobody dialled"
                ));
            }
            let subject = Value::from(format!("agreed.{other}"));
            let heard = routes(page)
                .iter()
                .filter(|route| route["remote_id"] == id(page_of_other))
                .filter_map(|route| route["subscriptions_list"].as_array())
                .flatten();
            if heard.filter(|heard| **heard == subject).count() != 1 {
                return Some(format!("{node} does not name {subject} once"));
            }
        }
    }
    None
}

fn id(page: &Value) -> &str {
    page["server_id"].as_str().expect("the id of the server")
}

fn routes(page: &Value) -> &[Value] {
    page["routes"].as_array().map_or(&[], Vec::as_slice)
}

/// The connections to a peer: which account each is for, if for one alone, and whether it was dialled from here.
fn connections(page: &Value, remote: &str) -> Vec<(String, bool)> {
    let to_it = routes(page)
        .iter()
        .filter(|route| route["remote_id"] == remote);
    let mut found: Vec<_> = to_it
        .map(|route| {
            let account = route["account"].as_str().unwrap_or_default();
            let is_dialled = route["did_solicit"].as_bool().expect("a flag");
            (account.to_owned(), is_dialled)
        })
        .collect();
    found.sort();
    found
}

/// What a server calls the cluster.
fn cluster_name(cluster: &Cluster, node: usize) -> String {
    let info = cluster.client(node).next_info();
    info["cluster"].as_str().unwrap_or_default().to_owned()
}

/// A message from each server is heard by a client of every server, once.
pub(super) fn each_hears_each_once(cluster: &mut Cluster) {
    let mut clients = cluster.clients();
    for client in &mut clients {
        client.subscribe("hello.*");
    }
    cluster.settle(&mut clients);
    for (node, client) in clients.iter_mut().enumerate() {
        client.publish(&format!("hello.{node}"), node.to_string());
        client.flush();
    }
    for client in &mut clients {
        let heard: BTreeSet<String> = (0..cluster.len())
            .map(|_| client.next_message().text().to_owned())
            .collect();
        let all: BTreeSet<String> = (0..cluster.len()).map(|node| node.to_string()).collect();
        assert_eq!(heard, all, "each once");
    }
    // What comes twice comes before what is asked for afterwards.
    cluster.settle(&mut clients);
    for client in &mut clients {
        client.round_trip();
        assert_eq!(client.take_messages(), [], "nothing twice");
    }
}
