//! Logging in over real sockets: what takes the operating system's randomness or another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use natterjack_server::access::{AccountAccess, Credential, Permissions, SubjectRules, User};
use natterjack_server::{Access, ClientError, Options, Server};
use nkeys::KeyPair;
use testkit::Peer;

use crate::support::{beside, options, until};

/// `s3cret`, with a cost that takes a while.
const HASH: &str = "$2b$11$BmSaDe1cdKljxg0nnPDwauYTkeylAJUJ.m3eKLBYH7oB7Wx5DBBTu";

async fn start(access: Access) -> Server {
    Server::start(Options {
        authorization: access,
        auth_timeout: Duration::from_secs(60),
        ..options()
    })
    .await
    .expect("a server on a free port")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_with_keys_sign_what_the_server_made_up() {
    let pair = KeyPair::new_user();
    let server = start(Access {
        users: vec![User {
            name: pair.public_key(),
            credential: Credential::Nkey,
            ..User::default()
        }],
        ..Access::default()
    })
    .await;
    let address = server.client_addr();
    beside(move || {
        let connect = |peer: &mut Peer, nonce: &str| {
            let signature = pair.sign(nonce.as_bytes()).expect("a signature");
            let signature = data_encoding::BASE64URL_NOPAD.encode(&signature);
            let key = pair.public_key();
            peer.send(format!(
                "CONNECT {{\"verbose\":false,\"nkey\":\"{key}\",\"sig\":\"{signature}\"}}\r\n"
            ));
        };
        let nonce_of = |peer: &mut Peer| {
            let info = peer.expect_info();
            info["nonce"].as_str().expect("a nonce").to_owned()
        };
        let (mut first, mut second) = (Peer::connect(address), Peer::connect(address));
        let (nonce, other) = (nonce_of(&mut first), nonce_of(&mut second));
        assert_eq!(nonce.len(), 15);
        assert_ne!(nonce, other);
        connect(&mut first, &nonce);
        first.ping_pong();
        // What was signed for one connection is worth nothing on another.
        connect(&mut second, &nonce);
        second.expect_error("Authorization Violation");
        second.expect_closed();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hashes_are_checked_where_they_hold_up_nobody() {
    let server = start(Access {
        users: vec![
            User {
                name: "slow".to_owned(),
                credential: Credential::Password(HASH.into()),
                ..User::default()
            },
            User {
                name: "quick".to_owned(),
                credential: Credential::None,
                ..User::default()
            },
        ],
        no_auth_user: Some("quick".to_owned()),
        ..Access::default()
    })
    .await;
    let address = server.client_addr();
    let connect = r#"CONNECT {"verbose":false,"user":"slow","pass":"s3cret"}"#;
    let others_were_first = beside(move || {
        let mut slow = Peer::connect(address);
        slow.expect_info();
        slow.send(format!("{connect}\r\nPING\r\n"));
        slow.set_patience(Duration::from_secs(60));
        let is_checked = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_checked);
        let slow = std::thread::spawn(move || {
            slow.expect("PONG\r\n");
            told.store(true, Ordering::SeqCst);
        });
        // The only thread of the runtime answers others meanwhile.
        let mut quick = Peer::introduced(address, &serde_json::json!({ "verbose": false }));
        for _ in 0..3 {
            quick.ping_pong();
        }
        let is_first = !is_checked.load(Ordering::SeqCst);
        slow.join().expect("no panic");
        is_first
    })
    .await;
    assert!(
        others_were_first,
        "the password was checked before others were answered"
    );

    // Clients that do not wait for the outcome leave nothing behind.
    beside(move || {
        for _ in 0..10 {
            let mut impatient = Peer::connect(address);
            impatient.expect_info();
            impatient.send(format!("{connect}\r\nSUB a 1\r\n"));
        }
    })
    .await;
    until("all are gone", || {
        server.connections() == 0 && server.subscriptions() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedder_is_whoever_it_wants_to_be() {
    let server = start(Access {
        accounts: vec![AccountAccess {
            name: "A".to_owned(),
            users: vec![User {
                name: "ann".to_owned(),
                credential: Credential::Password(HASH.into()),
                permissions: Some(Permissions {
                    publish: SubjectRules {
                        allow: Some(vec!["allowed".to_owned()]),
                        deny: vec![],
                    },
                    ..Permissions::default()
                }),
                ..User::default()
            }],
            ..AccountAccess::default()
        }],
        ..Access::default()
    })
    .await;
    let unknown = server.in_process_client_as("bob");
    assert!(matches!(unknown, Err(ClientError::UnknownUser(name)) if name == "bob"));
    let ann = server.in_process_client_as("ann").expect("a client");
    let somebody = server.in_process_client().expect("a client");
    let mut heard = ann.subscribe(">").await.expect("a subscription");
    ann.flush().await.expect("done");
    // In another account, and where she may not.
    somebody.publish("allowed", "1").await.expect("published");
    somebody.flush().await.expect("done");
    ann.publish("forbidden", "2").await.expect("sent");
    ann.publish("allowed", "3").await.expect("published");
    let message = heard.next().await.expect("a message");
    assert_eq!(
        (message.subject.as_str(), &message.payload[..]),
        ("allowed", &b"3"[..])
    );
}
