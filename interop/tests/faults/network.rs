//! The network itself: that it does to packets what the scenarios believe.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use testkit::netns::{Fate, Network, Weather, with_privileges};
use testkit::{Deadline, PATIENCE, Program, ask_until};

use crate::trial;

pub(super) fn trials() -> Vec<Trial> {
    let tests: [(&str, fn()); 3] = [
        (
            "faults::network::directions_are_apart",
            directions_are_apart,
        ),
        (
            "faults::network::weather_is_what_it_says",
            weather_is_what_it_says,
        ),
        ("faults::network::nobody_stays_behind", nobody_stays_behind),
    ];
    let trials = tests
        .into_iter()
        .map(|(name, run)| trial(name.to_owned(), [], move || with_privileges(name, run)));
    trials.collect()
}

/// A network with a socket on each machine.
struct Sockets {
    network: Network,
    sockets: Vec<UdpSocket>,
}

impl Sockets {
    fn on(count: usize) -> Self {
        let network = Network::of(count, 1);
        let sockets = (0..count).map(|machine| {
            let address = (network.address(machine), 7000);
            let socket = network.inside(machine, || UdpSocket::bind(address));
            socket.expect("a port on a machine of its own")
        });
        let sockets = sockets.collect();
        Self { network, sockets }
    }

    fn send(&self, from: usize, to: usize, number: u16) {
        let to = (self.network.address(to), 7000);
        let sent = self.sockets[from].send_to(&number.to_be_bytes(), to);
        sent.expect("there is a way");
    }

    /// The next number that arrives, and from where.
    fn next(&self, to: usize, patience: Duration) -> Option<(SocketAddr, u16)> {
        let socket = &self.sockets[to];
        let mut bytes = [0; 2];
        socket
            .set_read_timeout(Some(patience))
            .expect("an open socket");
        let (_, from) = socket.recv_from(&mut bytes).ok()?;
        Some((from, u16::from_be_bytes(bytes)))
    }
}

/// What is dark from 0 to 1 is fair from 1 to 0, and between others.
fn directions_are_apart() {
    let sockets = Sockets::on(3);
    let network = &sockets.network;
    network.set(0, 1, Weather::DARK);
    let from = |machine| SocketAddr::from((network.address(machine), 7000));
    for (number, (sender, receiver)) in [(1, 0), (0, 2), (2, 1)].into_iter().enumerate() {
        let number = u16::try_from(number).expect("three");
        sockets.send(0, 1, 99);
        sockets.send(sender, receiver, number);
        assert_eq!(
            sockets.next(receiver, PATIENCE),
            Some((from(sender), number))
        );
    }
    let lost = ask_until(PATIENCE, || (network.count(Fate::Lost) == 3).then_some(()));
    assert!(lost.is_some(), "three went nowhere");
    network.heal();
    sockets.send(0, 1, 7);
    assert_eq!(
        sockets.next(1, PATIENCE),
        Some((from(0), 7)),
        "and nothing before it"
    );
}

/// Delay takes its time; without reordering the order is kept, with it not; doubles are doubles.
fn weather_is_what_it_says() {
    const COUNT: u16 = 300;
    let sockets = Sockets::on(2);
    let network = &sockets.network;
    let delay = Duration::from_millis(50);
    network.set(
        0,
        1,
        Weather {
            delay,
            ..Weather::FAIR
        },
    );
    sockets.send(0, 1, 0);
    assert_eq!(sockets.next(1, delay / 2), None, "not so soon");
    assert!(sockets.next(1, PATIENCE).is_some());

    let jitter = Duration::from_millis(10);
    network.set(
        0,
        1,
        Weather {
            jitter,
            ..Weather::FAIR
        },
    );
    let numbers = exchange(&sockets, COUNT);
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>(), "jitter alone");

    network.set(
        0,
        1,
        Weather {
            reordering: 0.2,
            duplication: 0.1,
            ..Weather::FAIR
        },
    );
    let mut numbers = exchange(&sockets, COUNT);
    assert!(!numbers.is_sorted(), "some are overtaken");
    let doubled = numbers.len() - usize::from(COUNT);
    assert!((10..60).contains(&doubled), "{doubled} are doubled");
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), usize::from(COUNT), "none is lost");

    network.set(
        0,
        1,
        Weather {
            loss: 0.3,
            ..Weather::FAIR
        },
    );
    let arrived = exchange(&sockets, COUNT).len();
    assert!((150..270).contains(&arrived), "{arrived} arrive");
}

/// Sends numbers from 0 to 1, and returns what has arrived when no more comes.
fn exchange(sockets: &Sockets, count: u16) -> Vec<u16> {
    let mut arrived = Vec::new();
    for number in 0..count {
        sockets.send(0, 1, number);
        // One at a time is what an idle socket's queue has room for in any case.
        arrived.extend(
            sockets
                .next(1, Duration::from_millis(1))
                .map(|(_, number)| number),
        );
    }
    let rest = std::iter::from_fn(|| sockets.next(1, Duration::from_millis(300)));
    arrived.extend(rest.map(|(_, number)| number));
    arrived
}

/// A process on a machine, and what it has started, ends with the network even if nobody ends it.
fn nobody_stays_behind() {
    let network = Network::of(1, 1);
    let mut shell = Command::new("sh");
    shell.args(["-c", "sleep 1000 & echo started $!; wait"]);
    let program = network
        .inside(0, || Program::spawn(&mut shell))
        .expect("a shell");
    let line = program.wait_for("started", PATIENCE).expect("it starts");
    let process = format!("/proc/{}", line.trim_start_matches("started "));
    assert!(fs::exists(&process).is_ok_and(|is_there| is_there));
    drop(network);
    let deadline = Deadline::after(PATIENCE);
    while fs::read_to_string(format!("{process}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(deadline.left().is_some(), "{process} runs on");
    }
}
