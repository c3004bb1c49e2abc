//! The service manager's watchdog: it is told that we are alive only as long as tasks run, timers fire and the server
//! answers. If any of that stops, so do the messages, and the manager starts the process anew.

use std::sync::Arc;
use std::time::Duration;

use natterjack_cli::service_manager::Notifier;
use natterjack_server::Server;
use tokio::time::{MissedTickBehavior, interval};

/// Starts to tell, on the server's own runtime, if the manager wants to know.
pub(crate) fn start(notifier: Arc<Notifier>, server: Arc<Server>) {
    let Some(deadline) = notifier.watchdog() else {
        return;
    };
    tracing::debug!(
        "Telling the service manager every {:?} that all is well",
        pause(deadline)
    );
    tokio::spawn(async move {
        let mut ticks = interval(pause(deadline));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let server = Arc::clone(&server);
            // In a task of its own, so that it has to be scheduled like any other. The numbers do not matter: a server
            // that holds its locks for ever does not come back with them.
            let asked = tokio::spawn(async move { (server.connections(), server.subscriptions()) });
            if asked.await.is_ok() {
                notifier.alive();
            }
        }
    });
}

/// As sd_watchdog_enabled(3) advises.
fn pause(deadline: Duration) -> Duration {
    deadline / 2
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc::channel;

    use natterjack_server::Options;

    use super::*;

    /// The runtime is made to hang, and the manager hears nothing until it is set free.
    #[test]
    fn a_runtime_that_hangs_is_silent() {
        const TICK: Duration = Duration::from_millis(10);
        const LONG: Duration = Duration::from_secs(30);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let hear = |wait_max| {
            manager.set_read_timeout(Some(wait_max)).unwrap();
            manager.recv(&mut [0; 100]).map_err(|error| error.kind())
        };
        let notifier = Notifier::new(|name| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into()),
            "WATCHDOG_USEC" => Some((2 * TICK).as_micros().to_string().into()),
            _ => None,
        });
        let (hanging, hangs) = channel();
        let (release, released) = channel();
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        let runtime = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let options = Options {
                    host: "127.0.0.1".into(),
                    port: 0,
                    ..Options::default()
                };
                let server = Arc::new(Server::start(options).await.unwrap());
                start(Arc::new(notifier), Arc::clone(&server));
                tokio::spawn(async move {
                    let mut ticks = interval(5 * TICK);
                    ticks.tick().await;
                    ticks.tick().await;
                    hanging.send(()).unwrap();
                    released.recv_timeout(LONG).unwrap();
                });
                finished.await.unwrap();
                server.shutdown().await;
            });
        });
        hangs.recv_timeout(LONG).unwrap();
        // What was said before, and then nothing for many ticks.
        while hear(20 * TICK).is_ok() {}
        assert_eq!(hear(TICK), Err(ErrorKind::WouldBlock));
        release.send(()).unwrap();
        assert_eq!(hear(LONG), Ok("WATCHDOG=1\n".len()));
        finish.send(()).unwrap();
        runtime.join().unwrap();
    }
}
