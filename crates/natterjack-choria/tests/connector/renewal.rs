//! Keys and certificates that change while a connector runs, and servers whose certificates were revoked.

use std::fs;
use std::time::Duration;

use natterjack_choria::connector::Event;
use natterjack_server::Options;
use testkit::replace;

use crate::support::{Authority, by_name, event, failure, start, start_at, within};

const RIP: &str = "rip.mcollective";

/// An authority that was made anew, and whatever it signed with it.
#[tokio::test]
async fn what_is_renewed_is_taken_by_the_next_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = old.server().await;
    let address = server.client_addr();
    let connector = old.connector(RIP, vec![by_name(&server)]);
    within("a connection", connector.connect()).await.unwrap();
    let mut events = connector.events();

    let pair = new.pair(RIP, &[RIP]);
    for (file, renewed) in [
        (old.ca(), new.ca()),
        (old.file(RIP, ""), pair.certificate),
        (old.file(RIP, "-key"), pair.key),
    ] {
        replace(&file, &fs::read_to_string(renewed).unwrap());
    }
    server.shutdown().await;
    let _server = start_at(address, new.options()).await;
    event(&mut events, "the connection", |event| match event {
        Event::Connected { is_again, .. } => is_again.then_some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn a_revoked_server_is_refused() {
    let authority = Authority::new();
    let options = |name: &str, serial| authority.options_of(name, &["localhost"], serial);
    let (good, bad) = (options("good", 20), options("bad", 21));
    let crl = authority.revoke(&[21], 2100);
    let settings = format!("plugin.security.file.crl = {}\n", crl.display());
    let connect = |name: &str, options: Options| {
        let (authority, settings, name) = (&authority, &settings, name.to_owned());
        async move {
            let server = start(options).await;
            let servers = vec![by_name(&server)];
            let connector = authority.connector_with(&name, servers, settings, |_| ());
            (server, connector)
        }
    };
    let (_server, connector) = connect(RIP, good).await;
    within("a connection", connector.connect()).await.unwrap();

    let (_server, connector) = connect("bob.mcollective", bad).await;
    let said = failure(&connector).await;
    assert!(said.contains("Revoked"), "{said}");
}

/// Without a reason to connect anew, files are looked at as well.
#[tokio::test]
async fn what_is_revoked_meanwhile_is_noticed() {
    let authority = Authority::new();
    let server = start(authority.options_of("server", &["localhost"], 20)).await;
    let address = server.client_addr();
    let crl = authority.revoke(&[], 2100);
    let settings = format!("plugin.security.file.crl = {}\n", crl.display());
    let servers = vec![by_name(&server)];
    let connector = authority.connector_with(RIP, servers, &settings, |options| {
        options.files_interval = Duration::from_millis(20);
    });
    within("a connection", connector.connect()).await.unwrap();
    let mut events = connector.events();
    authority.revoke(&[20], 2100);
    server.shutdown().await;
    let _server = start_at(address, authority.options_of("server", &["localhost"], 20)).await;
    event(&mut events, "the refusal", |event| match event {
        // Until it is there again, nobody can be refused.
        Event::Failed { reason, .. } => reason.to_string().contains("Revoked").then_some(()),
        Event::Connected { .. } => panic!("connected"),
        _ => None,
    })
    .await;
}
