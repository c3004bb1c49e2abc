//! Talking with a service manager: what state we are in, that we are alive, and sockets it has opened for us.
//!
//! sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3). Without a service manager nothing here does anything.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use listenfd::ListenFd;
use natterjack_server::Listeners;
use rustix::time::{ClockId, clock_gettime};

/// Tells the service manager.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    pub(crate) fn from_environment() -> Self {
        Self::new(|name| std::env::var_os(name))
    }

    /// With variables from elsewhere.
    pub(crate) fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let socket = variable("NOTIFY_SOCKET").and_then(|address| match connect(&address) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!("cannot talk to the service manager at {address:?}: {error}");
                None
            }
        });
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_for_us = variable("WATCHDOG_PID").is_none()
            || number("WATCHDOG_PID") == Some(std::process::id().into());
        let watchdog = number("WATCHDOG_USEC")
            .filter(|micros| *micros > 0 && is_for_us && socket.is_some())
            .map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// Serving.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// Reading the configuration anew; [`ready`](Self::ready) ends it.
    pub(crate) fn reloading(&self) {
        // The manager needs it to tell this reload from an earlier one.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reloading\n"
        ));
    }

    /// On the way out, which takes this long at most.
    pub(crate) fn stopping(&self, status: &str, time_max: Duration) {
        let micros = time_max.as_micros();
        self.send(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\nSTATUS={status}\n"
        ));
    }

    /// Still alive.
    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1\n");
    }

    /// How often [`alive`](Self::alive) must be said at least. `None`: never.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    fn send(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(text.as_bytes())
        {
            tracing::debug!("the service manager does not listen: {error}");
        }
    }
}

/// A path, or `@` and a name without a file.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt as _;
            let name = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.connect_addr(&name)?;
        }
        [b'/', ..] => socket.connect(address)?,
        _ => return Err(io::ErrorKind::Unsupported.into()),
    }
    // A manager that does not read must not stop us.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Why sockets that were opened for us cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActivationError {
    #[error("socket {index} from the service manager is not a TCP socket that listens: {error}")]
    Socket { index: usize, error: io::Error },
    #[error("a socket from the service manager is named {0:?}; there are `client` and `monitor`")]
    Name(String),
    #[error("the service manager has two sockets named `monitor`; one is enough")]
    Monitors,
}

/// Sockets the service manager has opened for us: those named `monitor` for the monitoring pages, all others for clients.
/// systemd names a socket after its unit if the unit does not name it.
pub(crate) fn sockets() -> Result<Listeners, ActivationError> {
    let mut sockets = ListenFd::from_env();
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut listeners = Listeners::default();
    for index in 0..sockets.len() {
        let failed = |error| ActivationError::Socket { index, error };
        let name = names.next().unwrap_or_default();
        let purpose = purpose(name).ok_or_else(|| ActivationError::Name(name.into()))?;
        let Some(listener) = sockets.take_tcp_listener(index).map_err(failed)? else {
            continue;
        };
        match purpose {
            Purpose::Clients => listeners.clients.push(listener),
            Purpose::Monitoring if listeners.monitoring.is_some() => {
                return Err(ActivationError::Monitors);
            }
            Purpose::Monitoring => listeners.monitoring = Some(listener),
        }
    }
    Ok(listeners)
}

#[derive(Debug, PartialEq, Eq)]
enum Purpose {
    Clients,
    Monitoring,
}

fn purpose(name: &str) -> Option<Purpose> {
    match name {
        "monitor" => Some(Purpose::Monitoring),
        // Nameless: without LISTEN_FDNAMES, or started by another program than systemd.
        "client" | "" | "unknown" => Some(Purpose::Clients),
        unit if unit.ends_with(".socket") => Some(Purpose::Clients),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Manager {
        _folder: tempfile::TempDir,
        socket: UnixDatagram,
        notifier: Notifier,
    }

    fn manager(watchdog: &[(&str, &str)]) -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let notifier = Notifier::new(|name| {
            if name == "NOTIFY_SOCKET" {
                return Some(path.clone().into());
            }
            let (_, value) = watchdog.iter().find(|(known, _)| *known == name)?;
            Some(value.into())
        });
        Manager {
            _folder: folder,
            socket,
            notifier,
        }
    }

    impl Manager {
        fn heard(&self) -> String {
            let mut buffer = [0; 1_000];
            let length = self.socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        }
    }

    #[test]
    fn the_manager_is_told() {
        let manager = manager(&[]);
        manager.notifier.ready("Serving");
        assert_eq!(manager.heard(), "READY=1\nSTATUS=Serving\n");
        manager.notifier.stopping("Bye", Duration::from_secs(2));
        assert_eq!(
            manager.heard(),
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000\nSTATUS=Bye\n"
        );
        manager.notifier.alive();
        assert_eq!(manager.heard(), "WATCHDOG=1\n");
        manager.notifier.reloading();
        let heard = manager.heard();
        let micros = heard
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .and_then(|rest| rest.split_once('\n'))
            .unwrap_or_else(|| panic!("{heard}"))
            .0;
        assert!(micros.parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        let notifier = Notifier::new(|_| None);
        notifier.ready("Serving");
        assert_eq!(notifier.watchdog(), None);
        // A wrong address is no reason not to serve.
        let notifier = Notifier::new(|name| (name == "NOTIFY_SOCKET").then(|| "nowhere".into()));
        notifier.ready("Serving");
    }

    #[test]
    fn the_watchdog_is_for_us_or_not_at_all() {
        let own = std::process::id().to_string();
        let check = |variables: &[(&str, &str)], expected: Option<u64>| {
            let watchdog = manager(variables).notifier.watchdog();
            assert_eq!(
                watchdog,
                expected.map(Duration::from_micros),
                "{variables:?}"
            );
        };
        check(&[], None);
        check(&[("WATCHDOG_USEC", "2000000")], Some(2_000_000));
        check(
            &[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", &own)],
            Some(2_000_000),
        );
        check(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "1")], None);
        check(&[("WATCHDOG_USEC", "0")], None);
        check(&[("WATCHDOG_USEC", "soon")], None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_without_a_file_will_do() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("natterjackd-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::new(|variable| {
            (variable == "NOTIFY_SOCKET").then(|| format!("@{name}").into())
        });
        notifier.alive();
        let mut buffer = [0; 100];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 11);
    }

    #[test]
    fn sockets_have_a_purpose() {
        for name in ["client", "", "natterjackd.socket", "unknown"] {
            assert_eq!(purpose(name), Some(Purpose::Clients), "{name}");
        }
        assert_eq!(purpose("monitor"), Some(Purpose::Monitoring));
        assert_eq!(purpose("cluster"), None);
    }
}
