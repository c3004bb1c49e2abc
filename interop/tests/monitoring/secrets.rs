//! No page tells a secret: a server that was given one in every way there is, and clients that showed theirs, right and wrong.

use libtest_mimic::Trial;
use serde_json::json;
use testkit::{Config, HttpAnswer, Kind, Listener, Peer, ServerUnderTest};

use crate::trial;

/// Every page, with what makes it tell the most.
const PAGES: [&str; 21] = [
    "/",
    "/varz",
    "/connz?auth=1&subs=detail&state=all",
    "/connz?auth=1&subs=1&state=closed",
    "/routez?subs=detail",
    "/subsz?subs=1",
    "/subscriptionsz?subs=1",
    "/accountz",
    "/accountz?acc=A",
    "/accountz?acc=SYS",
    "/accstatz?unused=1",
    "/gatewayz?accs=1&subs=detail",
    "/leafz?subs=1",
    "/jsz?accounts=1&streams=1&consumers=1&config=1",
    "/healthz?details=1",
    "/metrics",
    "/stacksz",
    "/debug/vars",
    "/ipqueuesz?all=1",
    "/raftz",
    "/nowhere",
];

/// In every secret, and in nothing else.
const MARK: &str = "Hush";

/// `Hush-bcrypt` as its hash, of which no part may be seen either.
const HASH: &str = "$2a$04$BmSaDe1cdKljxg0nnPDwaunlfgNA2wGdlA9qCctDVN.f82Cq6au1m";

pub(super) fn trials() -> Vec<Trial> {
    let needs = [Kind::Natterjack.program().map(drop)];
    let name = "monitoring::secrets::no_page_tells_one".to_owned();
    vec![trial(name, needs, no_page_tells_one)]
}

fn no_page_tells_one() {
    let config = Config::file(format!(
        "http: \"127.0.0.1:-1\"
        http_token: \"Hush-monitoring\"
        system_account: SYS
        accounts {{
            A {{ users: [
                {{user: a, password: \"Hush-a\"}}
                {{user: hashed, password: \"{HASH}\"}}
            ] }}
            SYS {{ users: [{{user: s, password: \"Hush-s\"}}] }}
        }}
        cluster {{
            name: c
            listen: \"127.0.0.1:-1\"
            authorization {{ user: r, password: \"Hush-route\" }}
            routes: [\"nats-route://r:Hush-url@127.0.0.1:1\"]
        }}"
    ))
    // Ignored, since the file has accounts; but whoever looks at processes sees it.
    .argument("--routes")
    .argument("nats-route://r:Hush-flag@127.0.0.1:1");
    let server = ServerUnderTest::start(Kind::Natterjack, &config);
    let connect = |password: &str| {
        json!({ "verbose": false, "user": "a", "pass": password, "auth_token": "Hush-token", "jwt": "Hush-jwt",
            "sig": "Hush-sig", "name": "shown" })
    };
    let mut stays = Peer::introduced(server.address(), &connect("Hush-a"));
    stays.send("SUB foo 1\r\n");
    stays.ping_pong();
    let mut wrong = Peer::connect(server.address());
    wrong.expect_info();
    wrong.send(format!("CONNECT {}\r\nPING\r\n", connect("Hush-wrong")));
    wrong.expect_error("Authorization Violation");

    let monitor = server.listener(Listener::Monitor);
    let mut is_shown = false;
    for page in PAGES {
        let request =
            format!("GET {page} HTTP/1.0\r\nAuthorization: Bearer Hush-monitoring\r\n\r\n");
        let answer = HttpAnswer::to(monitor, &request);
        let expected = if ["/raftz", "/nowhere"].contains(&page) {
            404
        } else {
            200
        };
        assert_eq!(answer.status, expected, "{page}");
        let text = format!("{answer:?}");
        for secret in [MARK, HASH, &HASH[7..29], "SHVzaC"] {
            assert!(!text.contains(secret), "{page} tells {secret}: {text}");
        }
        is_shown |= text.contains("shown");
    }
    assert!(is_shown, "the client is on some page");
    let log = server.log();
    assert!(!log.contains(MARK) && !log.contains(HASH), "{log}");
}
