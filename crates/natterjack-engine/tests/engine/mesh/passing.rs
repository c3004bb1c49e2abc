//! Messages that go to other servers: all of them, once, and in order, however their subjects and queue groups change
//! from one to the next.

use std::time::Duration;

use super::forming::with_chances;
use super::world::{World, cluster};

const A_MOMENT: Duration = Duration::from_millis(100);
const MESSAGES: usize = 60;

/// A client that listens at one server.
struct Listener {
    node: usize,
    client: usize,
}

impl Listener {
    fn new(world: &mut World, node: usize, subscriptions: &str) -> Self {
        let client = world.client(node);
        world.says(node, client, subscriptions);
        Self { node, client }
    }

    /// Subject and payload of everything.
    fn heard(&self, world: &mut World) -> Vec<(String, usize)> {
        let text = world.nodes[self.node].clients[self.client].take();
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let mut heard = Vec::new();
        while let Some(line) = lines.next() {
            let subject = line
                .strip_prefix("MSG ")
                .and_then(|rest| rest.split(' ').next());
            let subject = subject.unwrap_or_else(|| panic!("{line}"));
            let payload = lines.next().expect("a payload");
            heard.push((subject.to_owned(), payload.parse().expect("a number")));
        }
        heard
    }
}

#[test]
fn each_arrives_once_and_in_order() {
    with_chances(60, |chance| {
        let mut rng = fastrand::Rng::with_seed(chance);
        let mut world = World::with(chance, [cluster(&[]), cluster(&[0]), cluster(&[0])]);
        world.run(A_MOMENT);
        let plain: Vec<_> = (0..3)
            .map(|node| Listener::new(&mut world, node, "SUB m.> 1\r\n"))
            .collect();
        let literal = Listener::new(&mut world, 1, "SUB m.1 1\r\n");
        let workers: Vec<_> = (0..6)
            .map(|number| {
                let subscriptions = "SUB m.q.* workers 1\r\nSUB g.1 workers 2\r\n";
                Listener::new(&mut world, number % 3, subscriptions)
            })
            .collect();
        let others = Listener::new(&mut world, 2, "SUB m.q.1 others 1\r\n");
        world.run(A_MOMENT);
        let subjects = ["m.1", "m.2", "m.q.1", "m.q.2", "g.1", "nobody"];
        let published: Vec<(String, usize)> = (0..MESSAGES)
            .map(|number| (subjects[rng.usize(..subjects.len())].to_owned(), number))
            .collect();
        let publisher = world.client(0);
        let mut rest = &published[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rng.usize(1..=rest.len()));
            let text: String = now
                .iter()
                .map(|(subject, number)| {
                    let payload = number.to_string();
                    format!("PUB {subject} {}\r\n{payload}\r\n", payload.len())
                })
                .collect();
            world.says(0, publisher, &text);
            rest = later;
        }
        world.run(A_MOMENT);
        let those = |is_wanted: fn(&str) -> bool| {
            let wanted = published.iter().filter(|(subject, _)| is_wanted(subject));
            wanted.cloned().collect::<Vec<_>>()
        };
        for listener in &plain {
            let expected = those(|subject| subject.starts_with("m."));
            assert_eq!(
                listener.heard(&mut world),
                expected,
                "node {}",
                listener.node
            );
        }
        assert_eq!(literal.heard(&mut world), those(|subject| subject == "m.1"));
        assert_eq!(
            others.heard(&mut world),
            those(|subject| subject == "m.q.1")
        );
        let mut shared = Vec::new();
        for worker in &workers {
            let heard = worker.heard(&mut world);
            assert!(heard.is_sorted_by_key(|(_, number)| *number), "{heard:?}");
            shared.extend(heard);
        }
        shared.sort_by_key(|(_, number)| *number);
        let expected = those(|subject| subject.starts_with("m.q.") || subject == "g.1");
        assert_eq!(shared, expected);
    });
}
