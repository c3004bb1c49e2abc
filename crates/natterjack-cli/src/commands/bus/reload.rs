//! SIGHUP: settings are read again, and what can be of them is taken over.

use std::io;
use std::sync::Arc;

use natterjack_bus::settings::{Loaded, Problem};
use natterjack_bus::{ReloadError, Reloaded};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Bus;
use super::given::Given;
use crate::output::note;

/// SIGHUP from now on; before that it kills.
pub(super) fn requests() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Answers requests for ever.
pub(super) async fn run(mut requests: Signal, given: Given, bus: Arc<Bus>) {
    while requests.recv().await.is_some() {
        let (problems, outcome) = reload(&given, &bus).await;
        let lines = problems
            .iter()
            .map(ToString::to_string)
            .chain(outcome.lines().map(str::to_owned));
        lines.for_each(|line| note(format_args!("{line}")));
    }
}

/// What is wrong with the settings, and what became of them.
async fn reload(given: &Given, bus: &Bus) -> (Vec<Problem>, String) {
    const REFUSED: &str = "the settings are not taken over; the bus goes on as it was";
    let (settings, warnings) = match given.load() {
        Ok(Loaded {
            settings, warnings, ..
        }) => (settings, warnings),
        Err(problems) => return (problems.0, REFUSED.into()),
    };
    match bus.reload(&settings).await {
        Ok(reloaded) => (warnings, outcome(&reloaded)),
        // They have changed since they were read.
        Err(ReloadError::Settings(problems)) => (problems.0, REFUSED.into()),
        Err(error) => (warnings, format!("{error}\n{REFUSED}")),
    }
}

fn outcome(reloaded: &Reloaded) -> String {
    let Reloaded {
        taken,
        at_next_start,
        ..
    } = reloaded;
    let mut outcome = match &taken[..] {
        [] => "the settings were read again; nothing changes".to_owned(),
        taken => format!(
            "the settings were read again; taken over: {}",
            taken.join(", ")
        ),
    };
    if !at_next_start.is_empty() {
        outcome.push_str(&format!(
            "\nafter another start only: {}",
            at_next_start.join(", ")
        ));
    }
    outcome
}
