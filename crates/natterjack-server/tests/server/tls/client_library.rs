//! A client library as people use it: TLS after INFO and before it, with and without a certificate.

use async_nats::ConnectOptions;
use futures_util::StreamExt;
use natterjack_server::HandshakeFirst;
use tokio::time::timeout;

use super::authority::Authority;
use super::server;
use crate::support::PATIENCE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn async_nats_publishes_and_asks_over_tls() {
    const MESSAGES: usize = 2_000;
    let authority = Authority::new();
    let pair = authority.pair("client");
    for handshake_first in [
        HandshakeFirst::No,
        HandshakeFirst::Yes,
        HandshakeFirst::AUTO,
    ] {
        let server = server(&authority, |tls| {
            tls.verify = true;
            tls.handshake_first = handshake_first;
        })
        .await;
        let url = format!("tls://localhost:{}", server.client_addr().port());
        let options = ConnectOptions::new()
            .add_root_certificates(authority.ca_file())
            .add_client_certificate(pair.cert_file.clone(), pair.key_file.clone());
        let options = match handshake_first {
            HandshakeFirst::No => options,
            _ => options.tls_first(),
        };
        let client = options.connect(&url).await.expect("connected");
        let exchange = async {
            let mut asked = client.subscribe("ask").await.expect("subscribed");
            let mut heard = client.subscribe("a.*").await.expect("subscribed");
            for number in 0..MESSAGES {
                let text = number.to_string();
                client.publish("a.b", text.into()).await.expect("sent");
            }
            for number in 0..MESSAGES {
                let message = heard.next().await.expect("a message");
                assert_eq!(message.payload, number.to_string().as_bytes());
            }
            let answering = client.clone();
            let answer = tokio::spawn(async move {
                let question = asked.next().await.expect("a question");
                let inbox = question.reply.expect("an inbox");
                answering
                    .publish(inbox, "yes".into())
                    .await
                    .expect("answered");
            });
            let large = vec![b'x'; 1_000_000];
            let reply = client.request("ask", large.into()).await.expect("a reply");
            assert_eq!(&reply.payload[..], b"yes");
            answer.await.expect("no panic");
        };
        timeout(PATIENCE, exchange).await.expect("in time");
        server.shutdown().await;
    }
}
