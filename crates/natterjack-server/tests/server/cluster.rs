//! Clusters of servers in one process, over real sockets: who comes together, in clear text, encrypted and compressed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use natterjack_server::{
    Cluster, Compression, Endpoint, KeyPairFiles, Options, RouteUrl, Server, Subscription, Tls,
};
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::support::{PATIENCE, beside, options, until};
use crate::tls::authority::Authority;

/// Connections to a peer: three that share the accounts, and one for the system account.
const CONNECTIONS: usize = 4;

fn member(routes: &[SocketAddr], change: impl FnOnce(&mut Cluster)) -> Options {
    let mut cluster = Cluster {
        name: Some("c".to_owned()),
        listen: Some(Endpoint {
            host: "127.0.0.1".to_owned(),
            port: 0,
        }),
        routes: routes.iter().map(route).collect(),
        ..Cluster::default()
    };
    change(&mut cluster);
    Options {
        cluster: Some(cluster),
        ..options()
    }
}

fn route(address: &SocketAddr) -> RouteUrl {
    RouteUrl {
        host: address.ip().to_string(),
        port: Some(address.port()),
        user: None,
        password: None,
        tls: false,
    }
}

async fn start(options: Options) -> Server {
    Server::start(options).await.expect("a member")
}

fn address(server: &Server) -> SocketAddr {
    server.cluster_addr().expect("in a cluster")
}

/// Whether the server has all connections to so many peers.
fn is_connected(server: &Server, peers: usize) -> bool {
    let mesh = server.mesh().expect("in a cluster");
    let connections = mesh.peers.iter().map(|peer| {
        let shared = peer.shared.iter().flatten().count();
        shared + peer.dedicated.len()
    });
    connections.filter(|&count| count == CONNECTIONS).count() == peers
}

async fn connected(servers: &[&Server]) {
    until("all servers are connected", || {
        let peers = servers.len() - 1;
        servers.iter().all(|server| is_connected(server, peers))
    })
    .await;
}

/// A subscription on `server` that is known to `others`: each has had a message through.
async fn known_subscription(server: &Server, others: &[&Server], subject: &str) -> Subscription {
    let client = server.in_process_client().expect("a client");
    let mut subscription = client.subscribe(subject).await.expect("subscribed");
    for other in others {
        let client = other.in_process_client().expect("a client");
        let heard = async {
            loop {
                client.publish(subject, Bytes::new()).await.expect("sent");
                let next = timeout(Duration::from_millis(20), subscription.next()).await;
                if let Ok(Some(_)) = next {
                    break;
                }
            }
        };
        timeout(PATIENCE, heard).await.expect("interest arrives");
    }
    subscription
}

/// Sends messages of many sizes from one server to a subscriber on another, and compares what comes.
async fn pass_messages(from: &Server, to: &Server) {
    let mut subscription = known_subscription(to, &[from], "across").await;
    let client = from.in_process_client().expect("a client");
    client.publish("across", "begin").await.expect("sent");
    let begin = async { while subscription.next().await.expect("a message").payload != "begin" {} };
    timeout(PATIENCE, begin).await.expect("in time");
    let sizes = (0..2000).map(|number: usize| match number {
        0..1985 => number % 300,
        _ => number * 37 % 200_000,
    });
    let sizes: Vec<usize> = sizes.collect();
    let sending = async {
        for (number, &size) in sizes.iter().enumerate() {
            client
                .publish("across", payload(number, size))
                .await
                .expect("sent");
        }
    };
    let receiving = async {
        for (number, &size) in sizes.iter().enumerate() {
            let message = subscription.next().await.expect("a message");
            assert!(message.payload == payload(number, size), "message {number}");
        }
    };
    timeout(PATIENCE, async { tokio::join!(sending, receiving) })
        .await
        .expect("all in time");
}

fn payload(number: usize, size: usize) -> Bytes {
    let mut text = format!("{number}:");
    while text.len() < size {
        text.push_str("toads and ");
        text.push_str(&(text.len() * number).to_string());
    }
    text.truncate(size.max(8));
    text.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_come_together_by_one_route_each() {
    let first = start(member(&[], |_| {})).await;
    let second = start(member(&[address(&first)], |_| {})).await;
    let third = start(member(&[address(&first)], |_| {})).await;
    connected(&[&first, &second, &third]).await;
    pass_messages(&second, &third).await;
    pass_messages(&first, &second).await;
    let client = first.in_process_client().expect("a client");
    let mut service = known_subscription(&third, &[&first], "service").await;
    let serving = third.in_process_client().expect("a client");
    let answer = async {
        loop {
            let request = service.next().await.expect("a request");
            if let Some(reply) = request.reply {
                serving.publish(reply, "answer").await.expect("sent");
                break;
            }
        }
    };
    let request = client.request("service", "question", PATIENCE);
    let (answered, ()) = tokio::join!(request, answer);
    assert_eq!(answered.expect("an answer").payload, "answer");

    third.shutdown().await;
    until("the others notice", || {
        is_connected(&first, 1) && first.mesh().expect("a mesh").peers.len() == 1
    })
    .await;
    // It is taken back in at its old address.
    let mut again = member(&[address(&first)], |cluster| {
        cluster.listen = Some(Endpoint {
            host: "127.0.0.1".to_owned(),
            port: address(&third).port(),
        });
    });
    again.server_name = Some("again".to_owned());
    let third = start(again).await;
    connected(&[&first, &second, &third]).await;
}

/// Whoever opens connections without end gives up its own, and others come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_does_not_take_all_places_for_newcomers() {
    let server = start(member(&[], |_| {})).await;
    let to = address(&server);
    let connect = async |from: [u8; 4]| {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("an address");
        socket.connect(to).await.expect("connected")
    };
    let mut early = connect([127, 0, 0, 1]).await;
    let mut greedy = Vec::new();
    for _ in 0..1100 {
        greedy.push(connect([127, 0, 0, 2]).await);
    }
    let mut late = connect([127, 0, 0, 1]).await;
    for stream in [&mut early, &mut late] {
        let mut first = [0; 5];
        let read = timeout(PATIENCE, stream.read_exact(&mut first)).await;
        read.expect("in time").expect("a greeting");
        assert_eq!(&first, b"INFO ");
    }
    // Those that came first are gone, and not because they took too long.
    for stream in greedy.drain(..50) {
        let mut text = String::new();
        let mut stream = BufReader::new(stream);
        let read = timeout(PATIENCE, stream.read_to_string(&mut text)).await;
        read.expect("in time").expect("the end");
        assert!(!text.contains("-ERR"), "{text}");
    }
    let peer = start(member(&[to], |_| {})).await;
    connected(&[&server, &peer]).await;
    drop(greedy);
    for server in [server, peer] {
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_without_peers_stop_at_once_while_they_dial() {
    let free = TcpStream::connect("127.0.0.1:1").map(drop).is_err();
    assert!(free, "nobody listens on port 1");
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let server = start(member(&[nobody], |_| {})).await;
    timeout(Duration::from_secs(4), server.shutdown())
        .await
        .expect("nobody is waited for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_are_compressed_in_all_modes() {
    let auto = || Compression::S2Auto(vec![Duration::ZERO, Duration::from_secs(9)]);
    for (one, other) in [
        (Compression::S2Fast, Compression::Accept),
        (Compression::Accept, Compression::S2Best),
        (auto(), Compression::S2Better),
        (Compression::S2Auto(Vec::new()), auto()),
    ] {
        let first = start(member(&[], |cluster| cluster.compression = one)).await;
        let second = start(member(&[address(&first)], |cluster| {
            cluster.compression = other;
        }))
        .await;
        connected(&[&first, &second]).await;
        pass_messages(&first, &second).await;
        pass_messages(&second, &first).await;
    }
}

fn tls(authority: &Authority, pair: KeyPairFiles) -> Tls {
    Tls {
        cert_file: Some(pair.cert_file),
        key_file: Some(pair.key_file),
        ca_files: vec![authority.ca_file()],
        // On a machine that is busy with other tests two seconds are not much.
        timeout: PATIENCE,
        ..Tls::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_are_encrypted_in_both_directions() {
    let authority = Authority::new();
    let encrypted = |name: &str, routes: &[SocketAddr], compression| {
        let tls = tls(&authority, authority.pair(name));
        member(routes, |cluster| {
            cluster.tls = Some(tls);
            cluster.compression = compression;
        })
    };
    let first = start(encrypted("first", &[], Compression::S2Fast)).await;
    let by_name = {
        let mut options = encrypted("second", &[address(&first)], Compression::S2Fast);
        let cluster = options.cluster.as_mut().expect("a cluster");
        cluster.routes[0].host = "localhost".to_owned();
        options
    };
    let second = start(by_name).await;
    let third = start(encrypted("third", &[address(&first)], Compression::Off)).await;
    connected(&[&first, &second, &third]).await;
    pass_messages(&first, &second).await;
    pass_messages(&second, &third).await;
    let plain = address(&first);
    beside(move || {
        let mut socket = TcpStream::connect(plain).expect("connected");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket.write_all(b"CONNECT {}\r\n").expect("sent");
        let mut said = Vec::new();
        // Whether it is closed or reset: nothing is said in clear text.
        let _ = socket.read_to_end(&mut said);
        assert!(!said.starts_with(b"INFO"), "{said:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_servers_with_the_right_certificate_get_in() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let with = |tls: Tls, routes: &[SocketAddr]| member(routes, |cluster| cluster.tls = Some(tls));
    let first = start(with(tls(&authority, authority.pair("first")), &[])).await;
    let target = [address(&first)];
    let refused = |what: &'static str, tls: Tls| {
        let first = &first;
        let options = with(tls, &target);
        async move {
            let server = start(options.clone()).await;
            // Dialled once at least, since the next try is a second later.
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            for _ in 0..40 {
                ticks.tick().await;
                assert!(!is_connected(&server, 1), "{what}");
                assert!(first.mesh().expect("a mesh").peers.is_empty(), "{what}");
            }
            (server, options)
        }
    };
    let foreign = stranger.pair("foreign");
    // It does not trust, and is not trusted.
    refused("another authority", tls(&stranger, foreign.clone())).await;
    // It trusts everybody, but still is not trusted.
    let insecure = Tls {
        insecure: true,
        ..tls(&stranger, foreign)
    };
    refused("insecure", insecure).await;
    let for_servers = authority.pair_with("for-servers", |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    refused("not for clients", tls(&authority, for_servers)).await;
    let expired = authority.pair_with("expired", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    refused("expired", tls(&authority, expired)).await;
    let pinned = Tls {
        pinned_certs: vec!["00".repeat(32)],
        ..tls(&authority, authority.pair("pinning"))
    };
    let (server, mut options) = refused("not pinned", pinned).await;
    // Without the pins, after a reload, it comes in by itself.
    let cluster = options.cluster.as_mut().expect("a cluster");
    cluster.tls.as_mut().expect("TLS").pinned_certs.clear();
    server.reload(options).await.expect("reloaded");
    connected(&[&first, &server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_of_who_is_dialled_must_be_for_its_name() {
    let authority = Authority::new();
    let elsewhere = authority.pair_with("elsewhere", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName(
            "elsewhere.example.net".try_into().expect("ascii"),
        )];
    });
    let with = |tls: Tls, routes: &[SocketAddr]| member(routes, |cluster| cluster.tls = Some(tls));
    let first = start(with(tls(&authority, elsewhere), &[])).await;
    let own = tls(&authority, authority.pair("second"));
    let strict = with(own.clone(), &[address(&first)]);
    let second = start(strict.clone()).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..40 {
        ticks.tick().await;
        assert!(!is_connected(&second, 1));
    }
    let careless = Tls {
        insecure: true,
        ..own
    };
    let mut careless = with(careless, &[address(&first)]);
    careless.cluster.as_mut().expect("a cluster").listen =
        strict.cluster.expect("a cluster").listen;
    second.reload(careless).await.expect("reloaded");
    connected(&[&first, &second]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_end_when_their_peers_are_pinned_no_more() {
    let authority = Authority::new();
    let with = |tls: Tls, routes: &[SocketAddr]| member(routes, |cluster| cluster.tls = Some(tls));
    let own = tls(&authority, authority.pair("first"));
    let first = start(with(own.clone(), &[])).await;
    let other = tls(&authority, authority.pair("second"));
    let second = start(with(other, &[address(&first)])).await;
    connected(&[&first, &second]).await;
    let pinning = Tls {
        pinned_certs: vec!["00".repeat(32)],
        ..own.clone()
    };
    first.reload(with(pinning, &[])).await.expect("reloaded");
    until("nobody is left", || {
        first.mesh().expect("a mesh").peers.is_empty()
    })
    .await;
    first.reload(with(own, &[])).await.expect("reloaded");
    connected(&[&first, &second]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_names_the_user_is_a_login() {
    let authority = Authority::new();
    let with = |name: &str, routes: &[SocketAddr]| {
        member(routes, |cluster| {
            cluster.tls = Some(tls(&authority, authority.pair(name)));
        })
    };
    let mut mapping = with("first", &[]);
    let cluster = mapping.cluster.as_mut().expect("a cluster");
    cluster.tls.as_mut().expect("TLS").verify_and_map = true;
    cluster.user = Some("CN=known".to_owned());
    cluster.password = Some("not asked for".into());
    let first = start(mapping).await;
    let target = [address(&first)];
    let stranger = start(with("stranger", &target)).await;
    let known = start(with("known", &target)).await;
    until("the known one is in", || is_connected(&first, 1)).await;
    let peers = first.mesh().expect("a mesh").peers;
    assert_eq!(peers[0].id, known.server_id());
    assert!(stranger.mesh().expect("a mesh").peers.is_empty());
}
