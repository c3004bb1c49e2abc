//! Keys and certificates that change while a connector runs, and servers whose certificates were revoked.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use natterjack_choria::connector::{Connector, Event, LossReason, OutgoingRequest, Recipients};
use natterjack_choria::subject::TargetKind;
use natterjack_server::{Options, Server};
use testkit::replace;

use crate::support::{
    Authority, broadcast_to_all, by_name, event, failure, next, next_content, request, start,
    start_at, within,
};

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

/// Somebody connected and subscribed, who looks at his files all the time, and does not wait with what he finds.
async fn restless(authority: &Authority, server: &Server) -> Connector {
    let connector = authority.connector_with(RIP, vec![by_name(server)], "", |options| {
        options.files_interval = Duration::from_millis(20);
        options.renewal_spread = Duration::ZERO;
    });
    within("a connection", connector.connect()).await.unwrap();
    connector
        .subscribe("discovery", TargetKind::Broadcast, "mcollective")
        .unwrap();
    connector
}

/// Another certificate of the same authority for the same name.
fn renew(authority: &Authority) {
    let file = |suffix| authority.file(RIP, suffix);
    let [certificate, key] = ["", "-key"].map(file);
    let before = [&certificate, &key].map(|file| fs::read_to_string(file).unwrap());
    let pair = authority.pair("renewed", &[RIP]);
    let renewed = [pair.certificate, pair.key].map(|file| fs::read_to_string(file).unwrap());
    assert_ne!(before, renewed);
    replace(&certificate, &renewed[0]);
    replace(&key, &renewed[1]);
}

#[tokio::test]
async fn a_connection_with_an_old_certificate_gives_way_to_one_with_the_new() {
    let authority = Authority::new();
    let server = authority.server().await;
    let connector = restless(&authority, &server).await;
    let (mut incoming, mut events) = (connector.receive(), connector.events());
    for round in 1..=2 {
        renew(&authority);
        event(&mut events, "the end of the old one", |event| match event {
            Event::Failed { reason, .. } => panic!("{reason}"),
            Event::Disconnected { reason, .. } => {
                assert!(matches!(*reason, LossReason::Renewed), "{reason}");
                Some(())
            }
            _ => None,
        })
        .await;
        event(&mut events, "the new one", |event| match event {
            Event::Connected { is_again, .. } => {
                assert!(is_again);
                Some(())
            }
            _ => None,
        })
        .await;
        assert_eq!(connector.statistics().reconnects, round);
        broadcast_to_all(&connector, "after it").await;
        assert_eq!(next_content(&mut incoming).await, "after it");
    }
    // Nothing was renewed since, so nothing happens any more; a flush takes longer than to look at files.
    assert!(connector.flush().await);
    assert_eq!(connector.statistics().reconnects, 2);
}

#[tokio::test]
async fn a_connection_stays_if_the_server_takes_none_with_the_new_certificate() {
    let authority = Authority::new();
    let server = start(Options {
        max_connections: 1,
        ..authority.options()
    })
    .await;
    let connector = restless(&authority, &server).await;
    let (mut incoming, mut events) = (connector.receive(), connector.events());
    renew(&authority);
    event(&mut events, "the refusal", |event| match event {
        Event::Failed { .. } => Some(()),
        Event::Disconnected { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await;
    broadcast_to_all(&connector, "still there").await;
    assert_eq!(next_content(&mut incoming).await, "still there");
    assert_eq!(connector.statistics().reconnects, 0);
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
    assert!(said.to_lowercase().contains("revoked"), "{said}");
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
        Event::Failed { reason, .. } => {
            let is_revoked = reason.to_string().to_lowercase().contains("revoked");
            is_revoked.then_some(())
        }
        Event::Connected { .. } => panic!("connected"),
        _ => None,
    })
    .await;
}

/// What is asked last.
const END: &str = "the end";

/// Asks everybody, and one of a group.
async fn ask_both(asking: &Connector, content: &str) {
    for (agent, recipients) in [
        ("discovery", Recipients::Everyone),
        ("work", Recipients::Service),
    ] {
        let reply_to = asking.reply_subject("mcollective").unwrap();
        let outgoing = OutgoingRequest {
            agent: agent.into(),
            ..request(content, recipients, reply_to)
        };
        asking.publish(outgoing).await.expect("published");
    }
}

/// Whoever is asked all the time while certificates are renewed, again and again, hears everything, once, and in its order;
/// so does who is alone in a group, but for the order.
#[tokio::test]
async fn nothing_is_missed_and_nothing_comes_twice_while_connections_change() {
    const CHANGES: u64 = 5;
    let authority = Authority::new();
    let server = authority.server().await;
    let connector = restless(&authority, &server).await;
    connector.subscribe_service("work", "mcollective").unwrap();
    assert!(connector.flush().await);
    let asking = authority.connector("bob.mcollective", vec![by_name(&server)]);
    within("a connection", asking.connect()).await.unwrap();

    let asked = async {
        let mut number = 0_usize;
        let mut files = 0;
        while connector.statistics().reconnects < CHANGES {
            if connector.statistics().reconnects == files {
                renew(&authority);
                files += 1;
            }
            ask_both(&asking, &number.to_string()).await;
            number += 1;
            // As fast as one can be heard, and no faster: nothing is to be lost because there is no room.
            if number.is_multiple_of(50) {
                assert!(asking.flush().await);
            }
        }
        number
    };
    let asked = within("the changes", asked).await;
    ask_both(&asking, END).await;
    let mut incoming = connector.receive();
    let mut heard = BTreeMap::<String, Vec<usize>>::new();
    let mut ends = 0;
    while ends < 2 {
        let next = next(&mut incoming).await;
        let content = String::from_utf8(next.transport.content).unwrap();
        if content == END {
            ends += 1;
        } else {
            let number = content.parse().unwrap();
            heard.entry(next.subject).or_default().push(number);
        }
    }
    assert_eq!(heard.len(), 2);
    for (subject, mut heard) in heard {
        if subject.contains("service") {
            heard.sort_unstable();
        }
        assert_eq!(heard, Vec::from_iter(0..asked), "{subject}");
    }
    assert_eq!(connector.statistics().dropped, 0);
}
