//! The signals nats-server knows, as one stream of events.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the process was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGQUIT.
    Quit,
    /// SIGHUP: read the configuration anew.
    Reload,
    /// SIGUSR1: open the log file anew.
    Reopen,
    /// SIGUSR2.
    LameDuck,
}

impl Request {
    /// What Go, and so nats-server's log, calls the signal.
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupt",
            Self::Terminate => "terminated",
            Self::Quit => "quit",
            Self::Reload => "hangup",
            Self::Reopen => "user defined signal 1",
            Self::LameDuck => "user defined signal 2",
        }
    }
}

/// Signals from the moment this is made; before that they kill.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    pub(crate) fn watch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next one, and logs it. Several of a kind that come at once are one.
    pub(crate) async fn next(&mut self) -> Request {
        let request = tokio::select! {
            _ = self.interrupt.recv() => Request::Interrupt,
            _ = self.terminate.recv() => Request::Terminate,
            _ = self.quit.recv() => Request::Quit,
            _ = self.hang_up.recv() => Request::Reload,
            _ = self.user_1.recv() => Request::Reopen,
            _ = self.user_2.recv() => Request::LameDuck,
        };
        tracing::info!("Trapped {:?} signal", request.name());
        request
    }
}
