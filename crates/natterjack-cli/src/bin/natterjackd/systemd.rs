//! Sockets that a service manager has opened for us: sd_listen_fds(3). Without one there are none.

use std::io;

use listenfd::ListenFd;
use natterjack_server::Listeners;

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

    #[test]
    fn sockets_have_a_purpose() {
        for name in ["client", "", "natterjackd.socket", "unknown"] {
            assert_eq!(purpose(name), Some(Purpose::Clients), "{name}");
        }
        assert_eq!(purpose("monitor"), Some(Purpose::Monitoring));
        assert_eq!(purpose("cluster"), None);
    }
}
