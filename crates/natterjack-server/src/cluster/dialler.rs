//! Dialling other servers, when the mesh says so.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use natterjack_engine::{Dial, Mesh};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep_until, timeout};

use super::route::{self, Dialled};
use crate::clock::now;
use crate::lifecycle::Phase;
use crate::options::Endpoint;
use crate::server::Shared;

/// How long a peer may take to accept a connection, as on nats-server (route protocol, section 9).
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// How long the system may take to say what addresses a name has.
const LOOK_UP_MAX: Duration = Duration::from_secs(5);

/// Addresses of one name that are tried at one time.
const ADDRESSES_MAX: usize = 8;

/// Between two looks at a plan that said something was due and then had nothing: never, as long as it is right.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Dials until the server stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let Some(mesh) = shared.engine.mesh() else {
        return;
    };
    loop {
        let dials = tokio::select! {
            dials = next(mesh) => dials,
            () = shared.lifecycle.reached(Phase::Draining) => return,
        };
        for dial in dials {
            tokio::spawn(carry_out(Arc::clone(&shared), dial));
        }
    }
}

/// Waits until there is something to dial.
async fn next(mesh: &Mesh) -> Vec<Dial> {
    let mut timer = Box::pin(sleep_until(now().into()));
    poll_fn(|context| {
        let mut dials = Vec::new();
        loop {
            let time = now();
            mesh.poll_dials(time, context.waker(), &mut dials);
            if !dials.is_empty() {
                return Poll::Ready(std::mem::take(&mut dials));
            }
            let Some(at) = mesh.next_dial_at() else {
                return Poll::Pending;
            };
            timer.as_mut().reset(at.max(time + LOOK_PAUSE).into());
            ready!(timer.as_mut().poll(context));
        }
    })
    .await
}

async fn carry_out(shared: Arc<Shared>, dial: Dial) {
    let connected = tokio::select! {
        connected = connect(&dial) => connected,
        () = shared.lifecycle.reached(Phase::Draining) => return,
    };
    match connected {
        Ok((tcp, address)) => {
            let name = dial.tls_name.unwrap_or(dial.host);
            route::serve(shared, tcp, address, Dialled::Yes(dial.id, name)).await;
        }
        Err(error) => {
            if let Some(mesh) = shared.engine.mesh() {
                mesh.dial_failed(dial.id, &error, now());
            }
        }
    }
}

/// Connects to one of the addresses, which are tried in an order of chance's choice. The error is that of the last.
async fn connect(dial: &Dial) -> io::Result<(TcpStream, SocketAddr)> {
    let name = Endpoint {
        host: dial.host.clone(),
        port: dial.port,
    };
    let found = timeout(LOOK_UP_MAX, lookup_host((dial.host.as_str(), dial.port))).await;
    let mut addresses: Vec<SocketAddr> = found
        .map_err(|_| too_late(format!("looking up {:?} takes too long", dial.host)))??
        .collect();
    fastrand::shuffle(&mut addresses);
    let mut failed = io::Error::new(
        ErrorKind::NotFound,
        format!("{:?} has no address", dial.host),
    );
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        tracing::debug!("Trying to connect to route on {name} ({address})");
        match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok((tcp, address)),
            Ok(Err(error)) => failed = io::Error::new(error.kind(), format!("{address}: {error}")),
            Err(_) => failed = too_late(format!("{address}: no answer within {CONNECT_MAX:?}")),
        }
    }
    Err(failed)
}

fn too_late(text: String) -> io::Error {
    io::Error::new(ErrorKind::TimedOut, text)
}
