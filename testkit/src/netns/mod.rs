//! Machines of their own for servers under test, and a bad network between them.
//!
//! Each machine is a network namespace: a loopback of its own, and one device that leads to the others. What leaves by that
//! device comes to a relay in this process, which decides packet by packet, by the [`Weather`] in that direction and
//! a seed, whether it arrives, when, behind which others and how often. Nothing but the kernel's namespaces and TUN devices is
//! needed, no traffic control and no packet filter, and nothing on the host is touched.
//!
//! Whoever is to live on a machine is started [inside](Network::inside): a server started there, and a client connected there,
//! stay there. A client on its server's machine speaks over the loopback, which has no weather.
//!
//! Nothing has a name, so nothing can collide or be left behind. When the network is dropped, or this process dies in whatever
//! way, all processes on its machines are killed and the machines are gone with the last of them.

mod namespace;
mod privileges;
mod relay;
mod weather;

use std::net::Ipv4Addr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::deadline::Deadline;
use namespace::Namespace;
use relay::Relay;

pub use privileges::with_privileges;
pub use weather::{Fate, Weather};

/// The device's name on every machine.
const DEVICE: &str = "weather";
/// What fits into a packet. Less than usual, so that more packets go for the same bytes.
const PACKET_BYTES_MAX: u16 = 1400;
/// There is one byte for the number of a machine in its address.
const MACHINES_MAX: usize = 200;

/// Machines, each with a way to each other.
///
/// # Examples
/// ```no_run
/// use testkit::netns::{Network, Weather};
/// use testkit::{Config, Kind, ServerUnderTest};
///
/// let network = Network::of(2, 42);
/// let server = network.inside(0, || ServerUnderTest::start(Kind::NatsServer, &Config::default()));
/// network.set(0, 1, Weather::DARK);
/// ```
#[derive(Debug)]
pub struct Network {
    // Ends first: its devices are the machines'.
    relay: Relay,
    machines: Vec<Namespace>,
}

impl Network {
    /// So many machines in fair weather. The same seed decides the same for the same packets; when packets come is up to those
    /// who send them, so a run is repeated in kind and not to the letter.
    ///
    /// # Panics
    /// When the system does not allow it; the message says what is needed. See [`with_privileges`].
    #[must_use]
    #[track_caller]
    pub fn of(count: usize, seed: u64) -> Self {
        assert!(count <= MACHINES_MAX, "{count} machines are too many");
        let machines: Vec<Namespace> = (0..count).map(|_| Namespace::create()).collect();
        let devices = machines.iter().enumerate().map(|(number, machine)| {
            machine.run(|| {
                let device = relay::open_device(DEVICE);
                let address = format!("{}/24", address(number));
                ip(&["address", "add", &address, "dev", DEVICE]);
                ip(&[
                    "link",
                    "set",
                    DEVICE,
                    "mtu",
                    &PACKET_BYTES_MAX.to_string(),
                    "up",
                ]);
                device
            })
        });
        Self {
            relay: Relay::between(devices.collect(), seed),
            machines,
        }
    }

    /// How many machines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.machines.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.machines.is_empty()
    }

    /// A machine's address, as the others know it.
    #[must_use]
    pub fn address(&self, machine: usize) -> Ipv4Addr {
        address(machine)
    }

    /// Does this on a machine, in a thread there: processes started and sockets opened meanwhile are that machine's for good.
    /// A panic there goes on here.
    pub fn inside<T: Send>(&self, machine: usize, work: impl FnOnce() -> T + Send) -> T {
        self.machines[machine].run(work)
    }

    /// The weather for what goes from one machine to another, from now on.
    pub fn set(&self, from: usize, to: usize, weather: Weather) {
        self.relay.set(from, to, weather);
    }

    /// The weather in all directions, from now on.
    pub fn set_all(&self, weather: Weather) {
        for from in 0..self.len() {
            self.isolate_with(from, weather);
        }
    }

    /// Nothing goes to a machine or comes from it, from now on.
    pub fn isolate(&self, machine: usize) {
        self.isolate_with(machine, Weather::DARK);
    }

    /// Fair weather everywhere, from now on.
    pub fn heal(&self) {
        self.set_all(Weather::FAIR);
    }

    /// Lets the weather last.
    pub fn pass(&self, duration: Duration) {
        let deadline = Deadline::after(duration);
        while let Some(left) = deadline.left() {
            thread::park_timeout(left);
        }
    }

    /// How many packets have met which fate since the beginning, in all directions.
    #[must_use]
    pub fn count(&self, fate: Fate) -> u64 {
        self.relay.count(fate)
    }

    fn isolate_with(&self, machine: usize, weather: Weather) {
        for other in (0..self.len()).filter(|other| *other != machine) {
            self.set(machine, other, weather);
            self.set(other, machine, weather);
        }
    }
}

fn address(machine: usize) -> Ipv4Addr {
    let last = u8::try_from(machine + 1).expect("few machines");
    Ipv4Addr::new(10, 99, 0, last)
}

/// The machine that has an address of this network.
fn machine(address: [u8; 4]) -> Option<usize> {
    match address {
        [10, 99, 0, last] => usize::from(last).checked_sub(1),
        _ => None,
    }
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output();
    let output = output.expect("`ip`, of the package iproute2, is installed");
    assert!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
