//! The signals that end a command in good order.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What comes sooner after a signal is the same once more: timeout(1), for one, signals a program and then its group.
const ECHO_MAX: Duration = Duration::from_millis(500);

/// SIGINT and SIGTERM from the moment this is made; before that they kill.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Stop {
    pub(crate) fn watch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: None,
        })
    }

    /// SIGHUP, too: whoever closes the terminal wants an end.
    pub(crate) fn and_hangup(self) -> io::Result<Self> {
        Ok(Self {
            hangup: Some(signal(SignalKind::hangup())?),
            ..self
        })
    }

    /// Waits for the next of them.
    pub(crate) async fn signalled(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            Some(_) = async { self.hangup.as_mut()?.recv().await } => {}
        }
    }

    /// Waits for another one, just after one has come.
    pub(crate) async fn signalled_again(&mut self) {
        let echoes = async {
            loop {
                self.signalled().await;
            }
        };
        // It ends by time alone.
        let _: Result<(), _> = tokio::time::timeout(ECHO_MAX, echoes).await;
        self.signalled().await;
    }
}
