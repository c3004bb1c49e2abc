//! Telling a service manager what state the process is in, and that it is alive.
//!
//! sd_notify(3) and sd_watchdog_enabled(3). Without a service manager nothing here does anything.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Tells the service manager.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The one that the process was started by, if it was.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::new(|name| std::env::var_os(name))
    }

    /// With variables from elsewhere.
    #[must_use]
    pub fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
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
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// Reading the configuration anew; [`ready`](Self::ready) ends it.
    pub fn reloading(&self) {
        // The manager needs it to tell this reload from an earlier one.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reloading\n"
        ));
    }

    /// On the way out, which takes this long at most.
    pub fn stopping(&self, status: &str, time_max: Duration) {
        let micros = time_max.as_micros();
        self.send(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\nSTATUS={status}\n"
        ));
    }

    /// Still alive.
    pub fn alive(&self) {
        self.send("WATCHDOG=1\n");
    }

    /// How often [`alive`](Self::alive) must be said at least. `None`: never.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
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
}
