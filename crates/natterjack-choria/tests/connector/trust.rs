//! With whom there is a connection, and with whom there is none.

use natterjack_choria::connector::{ConnectError, Credentials};
use natterjack_server::{Options, TlsVersion};

use crate::support::{Authority, at, by_name, failure, nowhere, start, within};

const RIP: &str = "rip.mcollective";

#[tokio::test]
async fn a_server_of_the_same_authority_is_connected_to() {
    let authority = Authority::new();
    let server = authority.server().await;
    let connector = authority.connector(RIP, vec![by_name(&server)]);
    let connected = within("a connection", connector.connect()).await;
    assert_eq!(connected.unwrap(), by_name(&server));
    assert_eq!(connector.connected_server(), Some(by_name(&server)));
    assert!(within("a flush", connector.flush()).await);
    connector.disconnect().await;
    assert_eq!(connector.connected_server(), None);
    assert!(matches!(
        connector.connect().await,
        Err(ConnectError::Closed)
    ));
}

#[tokio::test]
async fn tls_1_3_is_spoken() {
    let authority = Authority::new();
    let mut options = authority.options();
    options.tls.as_mut().unwrap().min_version = TlsVersion::V1_3;
    let server = start(options).await;
    let connector = authority.connector(RIP, vec![by_name(&server)]);
    within("a connection", connector.connect()).await.unwrap();
}

#[tokio::test]
async fn a_server_of_another_name_is_none() {
    let authority = Authority::new();
    let server = start(authority.options_for("nats1.example.net", &["nats1.example.net"])).await;
    let connector = authority.connector(RIP, vec![by_name(&server)]);
    let failure = failure(&connector).await;
    assert!(
        failure.starts_with("Tls") && failure.contains("nats1.example.net"),
        "{failure}"
    );
    // An address is a name like any other.
    let connector = authority.connector(
        "bob.mcollective",
        vec![at("127.0.0.1", server.client_addr())],
    );
    assert!(crate::support::failure(&connector).await.starts_with("Tls"));
}

#[tokio::test]
async fn the_common_name_counts_if_there_are_no_alternatives() {
    let authority = Authority::new();
    let server = start(authority.options_for("localhost", &[])).await;
    let connector = authority.connector(RIP, vec![by_name(&server)]);
    within("a connection", connector.connect()).await.unwrap();

    let with_others = Authority::new();
    let server = start(with_others.options_for("localhost", &["other.example.net"])).await;
    let connector = with_others.connector(RIP, vec![by_name(&server)]);
    let failure = failure(&connector).await;
    assert!(failure.starts_with("Tls"), "{failure}");
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let (ours, other) = (Authority::new(), Authority::new());
    let mut options = other.options();
    // It would take our certificate.
    options.tls.as_mut().unwrap().ca_files = vec![ours.ca()];
    let server = start(options).await;
    let connector = ours.connector(RIP, vec![by_name(&server)]);
    let failure = failure(&connector).await;
    assert!(
        failure.starts_with("Tls: TLS: its certificate was signed by none of the authorities"),
        "{failure}"
    );
}

#[tokio::test]
async fn our_certificate_is_shown_and_may_be_refused() {
    let (ours, other) = (Authority::new(), Authority::new());
    let mut options = ours.options();
    options.tls.as_mut().unwrap().ca_files = vec![other.ca()];
    let server = start(options).await;
    let connector = ours.connector(RIP, vec![by_name(&server)]);
    // What breaks first, the alert or the connection, depends on the moment.
    let failure = failure(&connector).await;
    assert!(
        failure.starts_with("Tls") || failure.starts_with("Closed"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_server_without_tls_is_refused() {
    let authority = Authority::new();
    let options = Options {
        tls: None,
        ..authority.options()
    };
    let server = start(options).await;
    let connector = authority.connector(RIP, vec![by_name(&server)]);
    let failure = failure(&connector).await;
    assert!(failure.starts_with("Plaintext"), "{failure}");
}

#[tokio::test]
async fn where_tls_is_possible_it_is_used() {
    let authority = Authority::new();
    let options = Options {
        allow_non_tls: true,
        ..authority.options()
    };
    let server = start(options).await;
    let connector = authority.connector(RIP, vec![by_name(&server)]);
    within("a connection", connector.connect()).await.unwrap();
}

#[tokio::test]
async fn the_first_connection_has_its_time() {
    let authority = Authority::new();
    let server = nowhere();
    let connector = authority.connector_with(
        RIP,
        vec![server.clone()],
        "connection_timeout = 1\n",
        |_| (),
    );
    let error = within("an error", connector.connect()).await.unwrap_err();
    let ConnectError::Timeout {
        reason, servers, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(reason.as_ref().unwrap().0, server);
    assert_eq!(servers, std::slice::from_ref(&server));
    assert!(error.to_string().contains("connection_timeout"), "{error}");
    let tried = format!("; servers to try: {server}");
    assert!(error.to_string().ends_with(&tried), "{error}");
    // What is not wanted any more can be ended.
    within("the end", connector.disconnect()).await;
}

#[tokio::test]
async fn credentials_that_cannot_be_read_are_told_of() {
    let authority = Authority::new();
    let server = authority.server().await;
    let absent = authority.folder().join("absent.creds");
    let connector = authority.connector_with(RIP, vec![by_name(&server)], "", |options| {
        options.credentials = Credentials::File(absent);
    });
    let failure = failure(&connector).await;
    assert!(failure.starts_with("Credentials"), "{failure}");
}
