//! The files that tell others about this process, and their change while it runs.

use std::path::Path;

use natterjack_cli::log::program;
use natterjack_server::Server;

use crate::pid_file::{PidFile, PidFileError};
use crate::ports_file::{Ports, PortsFile, urls};

/// The files there are. They are removed when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pid: Option<PidFile>,
    ports: Option<PortsFile>,
}

impl Files {
    /// Takes this process id file instead of the one so far, which goes. On an error nothing changes.
    pub(crate) fn claim_pid_file(&mut self, path: Option<&Path>) -> Result<(), PidFileError> {
        let same = self.pid.as_ref().map(PidFile::path) == path;
        if !same {
            self.pid = path.map(PidFile::claim).transpose()?;
        }
        Ok(())
    }

    /// Writes where the server listens into this folder, and removes the file so far. As with nats-server, a server that
    /// cannot write it serves all the same.
    pub(crate) fn write_ports(&mut self, folder: Option<&Path>, server: &Server) {
        let path = folder.map(|folder| PortsFile::path_in(folder, &program()));
        if self.ports.as_ref().map(PortsFile::path) == path.as_deref() {
            return;
        }
        self.ports = None;
        let Some(path) = path else { return };
        match PortsFile::write(path.clone(), &ports(server)) {
            Ok(file) => self.ports = Some(file),
            Err(error) => {
                tracing::error!("Error writing ports file ({}): {error}", path.display());
            }
        }
    }
}

fn ports(server: &Server) -> Ports {
    let clients = if server.options().tls.is_some() {
        "tls"
    } else {
        "nats"
    };
    Ports {
        nats: urls(clients, server.client_addrs()),
        monitoring: [
            urls("http", server.monitoring_addr().as_slice()),
            urls("https", server.monitoring_tls_addr().as_slice()),
        ]
        .concat(),
        ..Ports::default()
    }
}
