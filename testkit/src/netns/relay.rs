//! The thread that carries packets from machine to machine.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::PipeWriter;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::privileges::NEEDS;
use super::weather::{Direction, Fate, Weather};
use super::{PACKET_BYTES_MAX, machine};

/// Packets on their way in all directions; more are lost, as in a router.
const UNDER_WAY_MAX: usize = 20_000;
/// Packets taken from one device before the others have their turn.
const TURN_PACKETS_MAX: usize = 64;
/// Before the address that a packet of IPv4 is for.
const DESTINATION_AT: usize = 16;

/// Opens the device by which packets leave the machine this thread is in. It is not configured, and gone when closed.
#[track_caller]
pub(super) fn open_device(name: &str) -> SyncDevice {
    let builder = DeviceBuilder::new()
        .name(name)
        .layer(Layer::L3)
        .enable(false);
    let device = builder
        .build_sync()
        .unwrap_or_else(|error| panic!("{NEEDS}: /dev/net/tun: {error}"));
    rustix::io::ioctl_fionbio(&device, true).expect("a device can be read without waiting");
    device
}

/// Ends its thread when dropped.
#[derive(Debug)]
pub(super) struct Relay {
    sky: Arc<Sky>,
    /// Closed to end the thread.
    end: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

/// The weather everywhere, and what it has done.
#[derive(Debug)]
struct Sky {
    directions: Mutex<BTreeMap<(usize, usize), Direction>>,
    counts: [AtomicU64; 4],
}

impl Relay {
    /// Between the machines whose devices these are, in their order.
    pub(super) fn between(devices: Vec<SyncDevice>, seed: u64) -> Self {
        let mut seeds = fastrand::Rng::with_seed(seed);
        let all = 0..devices.len();
        let pairs = all
            .clone()
            .flat_map(|from| all.clone().map(move |to| (from, to)));
        let directions = pairs.map(|pair| (pair, Direction::new(seeds.u64(..))));
        let sky = Arc::new(Sky {
            directions: Mutex::new(directions.collect()),
            counts: Default::default(),
        });
        let (ended, end) = std::io::pipe().expect("a pipe");
        let mut carrier = Carrier {
            sky: Arc::clone(&sky),
            devices,
            under_way: BinaryHeap::new(),
            number: 0,
        };
        let thread = thread::spawn(move || carrier.run(&ended));
        Self {
            sky,
            end: Some(end),
            thread: Some(thread),
        }
    }

    pub(super) fn set(&self, from: usize, to: usize, weather: Weather) {
        let mut directions = self.sky.directions();
        directions
            .get_mut(&(from, to))
            .expect("two machines")
            .weather = weather;
    }

    pub(super) fn count(&self, fate: Fate) -> u64 {
        self.sky.counts[fate as usize].load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end = None;
        let thread = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            thread
                .expect("joined once")
                .expect("the relay does not fail");
        }
    }
}

impl Sky {
    fn directions(&self) -> MutexGuard<'_, BTreeMap<(usize, usize), Direction>> {
        self.directions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, fate: Fate) {
        self.counts[fate as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Whoever arrives first, then whoever was sent first.
type UnderWay = Reverse<(Instant, u64, usize, Vec<u8>)>;

struct Carrier {
    sky: Arc<Sky>,
    devices: Vec<SyncDevice>,
    under_way: BinaryHeap<UnderWay>,
    number: u64,
}

impl Carrier {
    /// Until the other end of this pipe is closed.
    fn run(&mut self, ended: &std::io::PipeReader) {
        loop {
            let timeout = self.under_way.peek().map(|Reverse((due, ..))| {
                let left = due.saturating_duration_since(now());
                Timespec::try_from(left).expect("packets do not take years")
            });
            let mut watched: Vec<PollFd<'_>> = self
                .devices
                .iter()
                .map(|device| PollFd::new(device, PollFlags::IN))
                .collect();
            watched.push(PollFd::new(ended, PollFlags::IN));
            match poll(&mut watched, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => panic!("the relay cannot wait: {error}"),
            }
            let mut ready: Vec<bool> = watched
                .iter()
                .map(|watched| !watched.revents().is_empty())
                .collect();
            if ready.pop() == Some(true) {
                return;
            }
            for from in (0..ready.len()).filter(|from| ready[*from]) {
                self.take(from);
            }
            self.hand_over();
        }
    }

    /// Decides about what has been sent from a machine.
    fn take(&mut self, from: usize) {
        let mut packet = [0; PACKET_BYTES_MAX as usize];
        for _ in 0..TURN_PACKETS_MAX {
            let length = match rustix::io::read(&self.devices[from], &mut packet) {
                Ok(length) => length,
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(error) => panic!("the device of machine {from} cannot be read: {error}"),
            };
            let packet = &packet[..length];
            // The system also says things of its own, to everybody and of IPv6.
            let Some(to) = destination(packet).filter(|to| *to < self.devices.len()) else {
                continue;
            };
            let mut directions = self.sky.directions();
            let direction = directions.get_mut(&(from, to)).expect("two machines");
            let arrivals = direction.arrivals(now());
            drop(directions);
            let mut is_lost = true;
            for (due, fate) in arrivals {
                if self.under_way.len() == UNDER_WAY_MAX {
                    break;
                }
                is_lost = false;
                self.sky.note(fate);
                self.number += 1;
                self.under_way
                    .push(Reverse((due, self.number, to, packet.to_vec())));
            }
            if is_lost {
                self.sky.note(Fate::Lost);
            }
        }
    }

    /// Gives out what has arrived by now.
    fn hand_over(&mut self) {
        let now = now();
        while self
            .under_way
            .peek()
            .is_some_and(|Reverse((due, ..))| *due <= now)
        {
            let Some(Reverse((_, _, to, packet))) = self.under_way.pop() else {
                return;
            };
            // As at a machine that has no room for it.
            if rustix::io::write(&self.devices[to], &packet).is_err() {
                self.sky.note(Fate::Lost);
            }
        }
    }
}

fn destination(packet: &[u8]) -> Option<usize> {
    let is_ipv4 = packet.first()? >> 4 == 4;
    let address = packet.get(DESTINATION_AT..DESTINATION_AT + 4)?;
    is_ipv4.then(|| machine(address.try_into().expect("four bytes")))?
}

#[expect(
    clippy::disallowed_methods,
    reason = "packets of real processes take real time"
)]
fn now() -> Instant {
    Instant::now()
}
