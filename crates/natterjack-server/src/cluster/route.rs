//! One connection with another server, from its socket to its end.

use std::fmt::Display;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

use natterjack_engine::{CertificateNames, DialId, Direction, RoutePeer, Session};
use tokio::net::TcpStream;

use super::{Cluster, Encrypted};
use crate::clock::now;
use crate::identity;
use crate::lifecycle::Phase;
use crate::net::compressed::Compressed;
use crate::net::connection::{Wire, drive, finish, hang_up};
use crate::net::newcomers::Place;
use crate::net::route_tls;
use crate::net::socket::Socket;
use crate::net::strangers::Origin;
use crate::net::stream::Stream as _;
use crate::options::{Options, RouteUrl};
use crate::server::Shared;
use crate::tls::fingerprint;

/// Why one that has lost its place is closed.
const CROWD: &str = "Too many connections that have not been let in, most of them from there: the one that has been there \
                     the longest is closed";

/// Which side has dialled.
pub(super) enum Dialled {
    /// The other one.
    No,
    /// This one, and the peer's certificate must be for this name or address.
    Yes(DialId, String),
}

/// Serves a connection until it is gone.
pub(super) async fn serve(
    shared: Arc<Shared>,
    tcp: TcpStream,
    address: SocketAddr,
    dialled: Dialled,
) {
    let Some(cluster) = &shared.cluster else {
        return;
    };
    let _route = shared.lifecycle.routes.pass();
    // Batches are written whole; waiting to fill a segment would only add latency.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%address, %error, "TCP_NODELAY not set");
    }
    let direction = match dialled {
        Dialled::No => Direction::Accepted,
        Dialled::Yes(id, _) => Direction::Dialled(id),
    };
    let origin = Origin::of(Some(address.ip()));
    // Those that this server dials are few.
    let place = matches!(dialled, Dialled::No).then(|| cluster.newcomers.enter(origin));
    let lost = async {
        match &place {
            Some(place) => place.lost().await,
            None => pending().await,
        }
    };
    let give_up = || {
        if let Some(mesh) = shared.engine.mesh() {
            mesh.tell_of_stranger(address, &CROWD, now());
        }
    };
    // In a box of its own, so that a connection does not keep the room for a handshake all its life.
    let secured = Box::pin(async {
        tokio::select! {
            secured = secure(&shared, cluster, tcp, address, dialled) => secured,
            () = lost => {
                give_up();
                None
            }
        }
    });
    let Some((socket, fingerprint)) = secured.await else {
        return;
    };
    let kits = Arc::clone(&cluster.kits);
    let wire = Wire::new(Compressed::new(socket, kits, origin).in_place(place));
    let reading = shared.lifecycle.readers.pass();
    let peer = RoutePeer {
        address: Some(address),
        nonce: identity::nonce(),
        direction,
    };
    let Some(mut session) = shared.engine.open_route(peer, wire.transport(), now()) else {
        return;
    };
    let id = session.outbox().id();
    wire.stream().place(|place| place.guard(session.outbox()));
    if let Some(fingerprint) = fingerprint {
        let outbox = Arc::clone(session.outbox());
        let route = Encrypted {
            fingerprint,
            outbox,
        };
        cluster.encrypted.lock().insert(id, route);
        // Pins may have been exchanged while it was not in the list.
        cluster.close_unpinned();
    }
    let reason = drive(&shared, &wire, &mut session, reading).await;
    if wire.stream().place(Place::is_lost) == Some(true) {
        give_up();
    }
    if let Some(damage) = wire.stream().damage()
        && let Some(mesh) = shared.engine.mesh()
    {
        let why = format_args!("What the other side compressed cannot be read: {damage}");
        mesh.tell_of_stranger(address, &why, now());
    }
    if let Some(refusal) = wire.stream().socket().and_then(route_tls::late_refusal) {
        session.tell_of_refusal(&refusal);
    }
    cluster.encrypted.lock().remove(&id);
    let write_deadline = shared.write_deadline_of_routes();
    finish(&wire, &mut session, reason, write_deadline).await;
    drop(session);
    hang_up(&shared, &wire, reason).await;
}

/// The socket, encrypted if routes are, and then the fingerprint of the peer's key. `None` if that did not come about, which whoever dialled has been told.
async fn secure(
    shared: &Shared,
    cluster: &Cluster,
    tcp: TcpStream,
    address: SocketAddr,
    dialled: Dialled,
) -> Option<(Socket, Option<Option<String>>)> {
    let Some(context) = cluster.tls.current() else {
        return Some((Socket::new(tcp, false), None));
    };
    let socket = Socket::new(tcp, true);
    let label = address.to_string();
    let refuse = |why: &dyn Display| {
        if let Some(mesh) = shared.engine.mesh() {
            mesh.tell_of_stranger(address, why, now());
        }
    };
    let (id, name) = match dialled {
        Dialled::No => (None, None),
        Dialled::Yes(id, name) => (Some(id), Some(name)),
    };
    let handshake = route_tls::secure(
        &cluster.tls,
        &context,
        &shared.scratch,
        &socket,
        name.as_deref(),
        &label,
    );
    let settled = tokio::select! {
        settled = handshake => settled,
        () = shared.lifecycle.reached(Phase::Draining) => return None,
    };
    let is_unknown = |secure: &route_tls::Secure| {
        id.is_none()
            && context.options().verify_cert_and_check_known_urls
            && !names_route(&shared.options(), &secure.names.dns_names)
    };
    match settled {
        Ok(secure) if is_unknown(&secure) => {
            let subject = &secure.names.subject;
            refuse(&format_args!(
                "The certificate of {subject:?} names no host of the configured routes, as \
                 verify_cert_and_check_known_urls asks for"
            ));
            None
        }
        Ok(secure) if id.is_none() && is_stranger(&shared.options(), &secure.names) => {
            let subject = &secure.names.subject;
            refuse(&format_args!(
                "The certificate of {subject:?} does not name the user of the cluster's authorization, as \
                 verify_and_map asks for"
            ));
            None
        }
        Ok(secure) => {
            let fingerprint = fingerprint(&secure.facts).map(str::to_owned);
            Some((socket, Some(fingerprint)))
        }
        Err(fault) => {
            match (id, shared.engine.mesh()) {
                (Some(id), Some(mesh)) => {
                    mesh.dial_failed(id, &format_args!("{label}: {fault}"), now());
                }
                // Nobody has a reason to probe the port for routes.
                _ => refuse(&fault),
            }
            None
        }
    }
}

/// Whether certificates have to name the user that peers log in as (`verify_and_map`), and this one does not.
fn is_stranger(options: &Options, names: &CertificateNames) -> bool {
    let Some(cluster) = &options.cluster else {
        return false;
    };
    let tls = cluster.tls.as_ref();
    // Whose host is known needs no name.
    let maps = tls.is_some_and(|tls| tls.verify_and_map && !tls.verify_cert_and_check_known_urls);
    let lists = [&names.emails, &names.dns_names, &names.uris];
    let mut named = lists.into_iter().flatten().chain([&names.subject]);
    maps && !named.any(|name| Some(name) == cluster.user.as_ref())
}

/// Whether one of these names is that of a host among the configured routes. As on nats-server a star stands for the
/// first part of a name.
fn names_route(options: &Options, names: &[String]) -> bool {
    let routes = options.cluster.iter().flat_map(|cluster| &cluster.routes);
    let fits = |route: &RouteUrl, name: &str| match name.strip_prefix("*.") {
        Some(rest) => (route.host.split_once('.'))
            .is_some_and(|(_, domain)| domain.eq_ignore_ascii_case(rest)),
        None => route.host.eq_ignore_ascii_case(name),
    };
    let mut routes = routes;
    routes.any(|route| names.iter().any(|name| fits(route, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_name_hosts_of_routes() {
        let options = Options {
            cluster: Some(crate::options::Cluster {
                routes: vec![RouteUrl {
                    host: "n1.Example.net".to_owned(),
                    port: Some(6222),
                    user: None,
                    password: None,
                    tls: true,
                }],
                ..Default::default()
            }),
            ..Options::default()
        };
        let check = |names: &[&str], expected| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(names_route(&options, &names), expected, "{names:?}");
        };
        check(&["n1.example.net"], true);
        check(&["x", "*.example.net"], true);
        check(&["*.net", "n2.example.net", "*.n1.example.net", "*"], false);
        check(&[], false);
    }
}
