//! The embedded server: the only place that touches the server crate.

use std::io;

use natterjack_server::{Options, Server};

use crate::bus::StartError;
use crate::settings;

/// Runs until shut down or dropped.
pub(crate) struct Embedded {
    server: Server,
}

impl Embedded {
    pub(crate) async fn start(settings: &settings::Server) -> Result<Self, StartError> {
        let options = Options {
            server_name: Some(settings.name.clone()),
            host: settings.client.host.clone(),
            port: settings.client.port,
            ..Options::default()
        };
        match Server::start(options).await {
            Ok(server) => Ok(Self { server }),
            Err(natterjack_server::StartError::Bind { host, port, source })
                if source.kind() == io::ErrorKind::AddrInUse =>
            {
                Err(StartError::PortInUse { host, port, source })
            }
            Err(error) => Err(StartError::Server(Box::new(error))),
        }
    }

    pub(crate) fn client_url(&self) -> String {
        self.server.client_url()
    }

    pub(crate) async fn shutdown(&self) {
        self.server.shutdown().await;
    }
}
