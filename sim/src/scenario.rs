//! What differs from run to run besides chance: how many clients, how large, how tight.

use std::time::Duration;

use fastrand::Rng;
use natterjack_engine::Limits;

/// Sizes of the payloads published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payloads {
    /// From nothing to some ten bytes.
    Tiny,
    /// Up to some kilobytes, on both sides of where bodies are no longer copied beside their heads.
    Mixed,
    /// Tiny ones, and some around the 64 KiB from which a message gets a buffer of its own.
    Large,
}

/// The frame of a run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// A name for people.
    pub name: &'static str,
    /// Clients at one time.
    pub clients: usize,
    /// Workers the tasks take turns with.
    pub workers: usize,
    /// Steps until the links heal: a task's turn, or something happening to a client or a link.
    pub steps: u64,
    /// The engine's bounds.
    pub limits: Limits,
    /// Sizes of payloads.
    pub payloads: Payloads,
    /// Time between two events of one client or link, about.
    pub pace: Duration,
    /// How often, of 100 writes, other tasks run meanwhile.
    pub interleaved_percent: u8,
    /// Whether clients die and come back.
    pub mortal: bool,
    /// Whether the server is given other limits as it runs, and with mortal clients sometimes fewer connections.
    pub reconfigures: bool,
    /// Whether the server may drop a client that is slow. If not, doing so is a failure.
    pub drops: bool,
}

impl Scenario {
    /// Room for everybody: nobody is dropped, so everything must arrive.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            name: "calm",
            clients: 6,
            workers: 3,
            steps: 2500,
            limits: Limits {
                write_deadline: Duration::from_secs(3600),
                ..Limits::default()
            },
            payloads: Payloads::Mixed,
            pace: Duration::from_millis(1),
            interleaved_percent: 25,
            mortal: false,
            reconfigures: false,
            drops: false,
        }
    }

    /// Bounds so small that they are reached all the time.
    #[must_use]
    pub fn tight() -> Self {
        Self {
            name: "tight",
            limits: Limits {
                payload_bytes_max: 16 * 1024,
                pending_bytes_max: 20 * 1024,
                write_deadline: Duration::from_millis(400),
                ping_interval: Duration::from_millis(300),
                ..Limits::default()
            },
            mortal: true,
            drops: true,
            ..Self::calm()
        }
    }

    /// Messages around the size from which they get a buffer of their own.
    #[must_use]
    pub fn large() -> Self {
        Self {
            name: "large",
            clients: 4,
            steps: 1500,
            payloads: Payloads::Large,
            mortal: true,
            limits: Limits {
                pending_bytes_max: 1024 * 1024,
                write_deadline: Duration::from_secs(5),
                ..Limits::default()
            },
            drops: true,
            ..Self::calm()
        }
    }

    /// Whether clients may find the server full, or be closed because there are too many.
    pub(crate) fn may_be_full(&self) -> bool {
        self.reconfigures && self.mortal
    }

    /// The scenario that a seed stands for, so that one number is all it takes to run it again.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        // Not the generator of the run itself: its first numbers would be the same.
        let mut rng = Rng::with_seed(seed ^ 0x5ce0_a210);
        let mut scenario = match rng.u8(..4) {
            0 => Self::tight(),
            1 => Self::large(),
            _ => Self::calm(),
        };
        scenario.clients = rng.usize(2..=scenario.clients + 2);
        scenario.workers = rng.usize(1..=4);
        scenario.interleaved_percent = [0, 10, 40][rng.usize(..3)];
        scenario.pace = Duration::from_millis([1, 1, 10, 100][rng.usize(..4)]);
        if scenario.payloads == Payloads::Mixed && rng.bool() {
            scenario.payloads = Payloads::Tiny;
        }
        if !scenario.drops {
            scenario.mortal = rng.u8(..3) == 0;
        }
        scenario.reconfigures = rng.bool();
        scenario
    }
}
