//! The files that tell others about this process, and their change while it runs.

use std::path::Path;

use natterjack_cli::log::program;
use natterjack_server::{Cluster, Server};

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

    /// Writes where the server listens into this folder, and removes a file elsewhere. As with nats-server, a server that
    /// cannot write it serves all the same.
    pub(crate) fn write_ports(&mut self, folder: Option<&Path>, server: &Server) {
        let path = folder.map(|folder| PortsFile::path_in(folder, &program()));
        self.ports
            .take_if(|file| Some(file.path()) != path.as_deref());
        let Some(path) = path else { return };
        // Also if it is there: with TLS or without it the URLs are others.
        let written = match &self.ports {
            Some(file) => file.rewrite(&ports(server)),
            None => {
                PortsFile::write(path.clone(), &ports(server)).map(|file| self.ports = Some(file))
            }
        };
        if let Err(error) = written {
            tracing::error!("Error writing ports file ({}): {error}", path.display());
        }
    }
}

fn ports(server: &Server) -> Ports {
    let clients = if server.options().tls.is_some() {
        "tls"
    } else {
        "nats"
    };
    let has_route_tls = |cluster: &Cluster| cluster.tls.is_some();
    let routes = match server.options().cluster.as_ref().is_some_and(has_route_tls) {
        true => "tls",
        false => "nats",
    };
    Ports {
        nats: urls(clients, server.client_addrs()),
        monitoring: [
            urls("http", server.monitoring_addr().as_slice()),
            urls("https", server.monitoring_tls_addr().as_slice()),
        ]
        .concat(),
        cluster: urls(routes, server.cluster_addrs()),
    }
}
