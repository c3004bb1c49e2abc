//! The live page in a real browser: that it shows what the other pages say, soon, safely and to everybody. Pictures of it are
//! left in `target/page/` to be looked at. What it is made of is the server's to test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use testkit::cluster::{Client, Cluster, Plan};
use testkit::programs;
use testkit::{
    Config, Deadline, HttpAnswer, Kind, Listener, PATIENCE, Peer, ServerUnderTest, ask_until,
};

use self::browser::{Browser, View};
use crate::trial;

mod browser;

/// Within this time of the page's own clock it must show what has become of a connection.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);

/// What nobody may take for markup.
const MARKUP: &str = "<script>alert(1)</script>";

/// The same where there must be no parenthesis.
const MARKUP_IN_NAME: &str = "<img/src=x/onerror=alert`1`>";

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, fn()); 12] = [
        ("values_are_those_of_varz", values_are_those_of_varz),
        ("charts_begin_where_rates_are", charts_begin_where_rates_are),
        ("a_slow_consumer_shows_soon", a_slow_consumer_shows_soon),
        ("who_is_behind_shows_soon", who_is_behind_shows_soon),
        ("a_lost_server_shows_soon", a_lost_server_shows_soon),
        ("a_crowd_can_be_looked_at", a_crowd_can_be_looked_at),
        ("names_stay_text", names_stay_text),
        ("keys_are_enough", keys_are_enough),
        ("it_fits_and_can_be_read", it_fits_and_can_be_read),
        ("without_scripts_it_is_an_index", without_scripts),
        ("only_its_own_script_runs", only_its_own_script_runs),
        ("a_login_in_the_address_is_enough", a_login_in_the_address),
    ];
    let needs = || {
        [
            Kind::Natterjack.program().map(drop),
            programs::browser().map(drop),
        ]
    };
    let tests = tests.map(|(name, run)| trial(format!("page::{name}"), needs(), run));
    tests.into()
}

/// While messages flow, numbers on the page grow and are never ahead of `/varz`; once none do, they are the same.
fn values_are_those_of_varz() {
    const REFRESHES: usize = 5;
    const AT_ONCE: usize = 20;
    let (server, monitor) = server("server_name: loaded");
    let mut subscribers: Vec<Peer> = (0..3)
        .map(|at| client(&server, &format!("s{at}")))
        .collect();
    for subscriber in &mut subscribers {
        subscriber.send("SUB load.> 1\r\nSUB other 2\r\n");
        subscriber.ping_pong();
    }
    let mut publisher = client(&server, "publisher");
    let mut browser = Browser::start();
    browser.open(monitor, View::DESK);

    let deadline = Deadline::after(PATIENCE);
    let (mut shown_so_far, mut sent) = (Vec::from([0]), 0);
    while shown_so_far.len() <= REFRESHES {
        publisher.send("PUB load.x 10\r\n0123456789\r\n".repeat(AT_ONCE));
        publisher.ping_pong();
        for subscriber in &mut subscribers {
            subscriber.expect("MSG load.x 1 10\r\n0123456789\r\n".repeat(AT_ONCE));
        }
        sent += AT_ONCE;
        let shown = number(&browser.text("#messages-in + small"));
        let is = varz(monitor)["in_msgs"].as_u64().expect("a number");
        let last = shown_so_far.last().copied().unwrap_or_default();
        assert!(last <= shown && shown <= is, "{last}, {shown}, {is}");
        if shown > last {
            shown_so_far.push(shown);
        }
        assert!(deadline.left().is_some(), "it stays at {shown_so_far:?}");
    }
    let is = varz(monitor);
    assert_eq!(is["in_msgs"], sent);
    assert_eq!(is["out_msgs"], sent * 3);
    for (element, field) in [
        ("#messages-in + small", "in_msgs"),
        ("#messages-out + small", "out_msgs"),
        ("#bytes-in + small", "in_bytes"),
        ("#bytes-out + small", "out_bytes"),
        ("#connection-count", "connections"),
        ("#connection-count + small", "total_connections"),
        ("#subscription-count", "subscriptions"),
        ("#slow-count", "slow_consumers"),
        ("#peer-count + small", "routes"),
    ] {
        // Exact numbers are in the title where the text is rounded.
        browser.wait_for(&format!(
            "(() => {{ const shown = document.querySelector('{element}');
                const text = (shown.title || shown.textContent).replaceAll(',', '');
                return Number.parseInt(text, 10) === {}; }})()",
            is[field]
        ));
    }
    // Rates were drawn while there were any.
    let drawn = browser.evaluate(
        "Math.max(...document.querySelector('#chart-messages path.out').getAttribute('d')
            .split('L').map((point) => 147 - Number(point.split(' ')[1])))",
    );
    assert!(
        drawn.as_f64().is_some_and(|height| height > 100.0),
        "{drawn}"
    );
    assert_eq!(browser.faults(), [""; 0]);
    browser.keep_picture("load");
}

/// Whoever opens the page while messages flow sees no beginning that there was not.
fn charts_begin_where_rates_are() {
    let (server, monitor) = server("");
    let mut publisher = client(&server, "publisher");
    let is_over = Arc::new(AtomicBool::new(false));
    let is_heard = Arc::clone(&is_over);
    let publishing = thread::spawn(move || {
        while !is_heard.load(Ordering::Relaxed) {
            publisher.send("PUB load 2\r\nhi\r\n");
            publisher.ping_pong();
        }
    });
    wait_until(|| varz(monitor)["in_msgs"].as_u64() > Some(100));
    let mut browser = Browser::start();
    browser.open(monitor, View::DESK);
    let points = "(document.querySelector('#chart-messages path.in').getAttribute('d') ?? '')
        .split(/[ML]/).filter(Boolean).map((point) => 147 - Number(point.split(' ')[1]))";
    browser.wait_for(&format!("{points}.length >= 3"));
    let none = browser.evaluate(&format!("{points}.filter((height) => height < 1)"));
    is_over.store(true, Ordering::Relaxed);
    publishing.join().expect("it publishes to the end");
    assert_eq!(none, json!([]));
}

fn a_slow_consumer_shows_soon() {
    let (server, monitor) = server("max_pending: 1MB, write_deadline: \"1s\"");
    let mut browser = Browser::start();
    browser.open(monitor, stopping());
    let mut slow = client(&server, "slow one");
    slow.send("SUB flood 1\r\n");
    slow.ping_pong();
    browser.wait_for("document.getElementById('connections').textContent.includes('slow one')");
    assert_eq!(browser.text("#slow-count"), "0");
    browser.stop_clock();

    let mut publisher = client(&server, "publisher");
    let message = format!("PUB flood 65536\r\n{}\r\n", "x".repeat(65536));
    let deadline = Deadline::after(PATIENCE);
    while varz(monitor)["slow_consumers"] == 0 {
        for _ in 0..32 {
            publisher.send(&message);
        }
        publisher.ping_pong();
        assert!(deadline.left().is_some(), "nobody is slow");
    }
    assert_eq!(browser.text("#slow-count"), "0", "the clock stands still");
    browser.pass_time(SHOWN_WITHIN);
    browser.wait_for("document.getElementById('slow-count').textContent === '1'");
    browser.wait_for("document.getElementById('slow').textContent.includes('slow one')");
    let why = browser.text("#slow tbody tr");
    assert!(why.contains("Slow Consumer"), "{why}");
    assert_eq!(browser.faults(), [""; 0]);
    browser.keep_picture("slow");
}

/// Somebody who is slow and still there, with each refreshing of the page.
fn who_is_behind_shows_soon() {
    let (server, monitor) = server("write_deadline: \"10m\"");
    let mut browser = Browser::start();
    browser.open(monitor, stopping());
    let mut behind = client(&server, "laggard");
    behind.send("SUB flood 1\r\n");
    behind.ping_pong();
    browser.wait_for("document.getElementById('connections').textContent.includes('laggard')");
    browser.wait_for("document.getElementById('top-messages').textContent === 'top: 0'");
    browser.stop_clock();

    let mut publisher = client(&server, "publisher");
    fall_behind(&mut publisher, monitor);
    let is_shown = "document.getElementById('slow').textContent.includes('laggard')";
    assert_eq!(browser.evaluate(is_shown), false, "the clock stands still");
    browser.pass_time(SHOWN_WITHIN / 2);
    browser.wait_for(is_shown);
    drop(behind);
    wait_until(|| HttpAnswer::get(monitor, "/varz").json()["connections"] == 1);
    browser.pass_time(SHOWN_WITHIN / 2);
    browser.wait_for(&format!("!{is_shown}"));
    assert_eq!(browser.faults(), [""; 0]);
}

/// Publishes until whoever listens is behind: more than sockets hold, and less than it is closed for.
fn fall_behind(publisher: &mut Peer, monitor: SocketAddr) {
    let message = format!("PUB flood 65536\r\n{}\r\n", "x".repeat(65536));
    let deadline = Deadline::after(PATIENCE);
    let is_behind = || {
        let connz = HttpAnswer::get(monitor, "/connz?sort=pending&limit=1").json();
        connz["connections"][0]["pending_bytes"].as_u64() > Some(2 << 20)
    };
    while !is_behind() {
        publisher.send(message.repeat(8));
        publisher.ping_pong();
        assert!(deadline.left().is_some(), "nobody is behind");
    }
}

fn a_lost_server_shows_soon() {
    let mut cluster = three();
    let monitor = cluster.server(0).listener(Listener::Monitor);
    let mut browser = Browser::start();
    browser.open(monitor, stopping());
    let count = |wanted: &str| {
        format!(
            "[...document.querySelectorAll('#routes tbody tr')].filter((row) => row.textContent.includes('{wanted}')).length"
        )
    };
    browser.wait_for(&format!("{} === 2", count("connected")));
    browser.keep_picture("cluster");
    browser.stop_clock();

    cluster.kill(2);
    wait_until(|| HttpAnswer::get(monitor, "/varz").json()["remotes"] == 1);
    assert_eq!(
        browser.evaluate(&count("lost")),
        0,
        "the clock stands still"
    );
    browser.pass_time(SHOWN_WITHIN);
    browser.wait_for(&format!("{} === 1", count("lost")));
    let row = browser.evaluate(
        "[...document.querySelectorAll('#routes tbody tr')].find((row) => row.textContent.includes('lost')).cells[0].textContent",
    );
    assert_eq!(row, "node-2");
    let drawn = browser.evaluate("document.querySelectorAll('#graph line.bad').length");
    assert_eq!(drawn, 1);
    let words = browser.evaluate("document.getElementById('graph').getAttribute('aria-label')");
    assert_eq!(words, "1 server connected, 1 lost");
    assert_eq!(browser.faults(), [""; 0]);
    browser.keep_picture("lost");

    // Not for ever: whoever does not come back is not missed.
    browser.evaluate("window.former = Date.now; Date.now = () => window.former() + 601000; 0");
    browser.pass_time(SHOWN_WITHIN);
    browser.wait_for(&format!(
        "{} === 1 && {} === 0",
        count("connected"),
        count("lost")
    ));
    let words = browser.evaluate("document.getElementById('graph').getAttribute('aria-label')");
    assert_eq!(words, "1 server connected, 0 lost");
    browser.evaluate("Date.now = window.former; 0");

    // Back, under another id: there is nothing lost any more.
    cluster.start(2);
    wait_until(|| HttpAnswer::get(monitor, "/varz").json()["remotes"] == 2);
    browser.pass_time(SHOWN_WITHIN);
    browser.wait_for(&format!(
        "{} === 2 && {} === 0",
        count("connected"),
        count("lost")
    ));
}

/// Five servers, some hundred connections, and one of them behind: what an operator looks at when something is wrong.
fn a_crowd_can_be_looked_at() {
    const SERVERS: usize = 5;
    const CLIENTS: usize = 300;
    let plan = Plan::of(&[Kind::Natterjack; SERVERS]);
    let mut cluster = plan.server("write_deadline: \"10m\"").start();
    cluster.wait_until_complete();
    let monitor = cluster.server(0).listener(Listener::Monitor);
    let join = |name: &str| {
        let connect = json!({ "verbose": false, "name": name, "lang": "rust", "version": "1.2.3" });
        Peer::introduced(cluster.address(0), &connect)
    };
    let mut crowd: Vec<Peer> = (0..CLIENTS - 2)
        .map(|at| join(&format!("worker-{at}")))
        .collect();
    for (at, client) in crowd.iter_mut().enumerate() {
        client.send(format!("SUB orders.{at}.> 1\r\nSUB status q 2\r\n"));
        client.ping_pong();
    }
    // Of which the beginning and the end are seen.
    let publisher_name = "publisher-of-what-was-ordered-in-the-east-7d9f8b6c5";
    let (mut behind, mut publisher) = (join("laggard"), join(publisher_name));
    behind.send("SUB flood 1\r\n");
    behind.ping_pong();
    fall_behind(&mut publisher, monitor);

    let mut browser = Browser::start();
    for (name, width, height, is_phone) in [("desk", 1280, 900, false), ("phone", 390, 844, true)] {
        for (shade, is_dark) in [("light", false), ("dark", true)] {
            let view = View {
                width,
                height,
                is_phone,
                is_dark,
                ..View::DESK
            };
            browser.open(monitor, view);
            browser.wait_for(&format!(
                "document.querySelectorAll('#connections tbody tr').length === {CLIENTS}"
            ));
            browser.wait_for("document.querySelectorAll('#graph line.good').length === 4");
            browser.wait_for("document.getElementById('slow').textContent.includes('laggard')");
            let wide = browser.evaluate("document.documentElement.scrollWidth");
            assert_eq!(wide, width, "{name} scrolls sideways");
            assert_eq!(browser.evaluate(FAINT), json!([]), "{name} {shade}");
            assert_eq!(browser.evaluate(MEETING), json!([]), "{name} {shade}");
            browser.keep_picture(&format!("crowd-{name}-{shade}"));
        }
    }
    let row = browser.text("#slow tbody tr");
    assert!(
        row.starts_with("not yet") && row.contains("MiB wait"),
        "{row}"
    );

    let publisher_shown = browser.evaluate(&format!(
        "[...document.querySelectorAll('#connections td')].find((cell) => cell.title === '{publisher_name}').textContent"
    ));
    assert_eq!(publisher_shown, "publisher-of-what-…ast-7d9f8b6c5");

    // Nor do words meet that tell of one who is lost.
    cluster.kill(SERVERS - 1);
    browser.wait_for("document.querySelectorAll('#graph line.bad').length === 1");
    assert_eq!(browser.evaluate(MEETING), json!([]));
    browser.keep_picture("crowd-lost");

    // Whoever is looked for is found without a pointer, and who waits most is first.
    browser.press("/");
    browser.type_text("worker-17");
    browser.wait_for("document.querySelectorAll('#connections tbody tr').length === 11");
    browser.press("Escape");
    tab_until(
        &mut browser,
        "document.activeElement.closest('#connections') !== null && document.activeElement.textContent === 'Pending'",
    );
    browser.press("Enter");
    browser.wait_for(
        "document.querySelector('#connections tbody tr').textContent.includes('laggard')",
    );
    assert_eq!(browser.faults(), [""; 0]);
    drop((crowd, behind, publisher));
}

fn names_stay_text() {
    let accounts = format!(
        "server_name: \"{MARKUP_IN_NAME}\"
        accounts {{ \"{MARKUP}\" {{ users: [{{user: \"{MARKUP}\", password: p}}] }} }}"
    );
    let (server, monitor) = server(&accounts);
    let connect = json!({
        "verbose": false, "user": MARKUP, "pass": "p", "name": MARKUP, "lang": MARKUP, "version": MARKUP,
    });
    let mut named = Peer::introduced(server.address(), &connect);
    named.send(format!("SUB {MARKUP} {MARKUP_IN_NAME}\r\n"));
    named.ping_pong();
    let mut browser = Browser::start();
    browser.open(monitor, View::DESK);
    browser.wait_for(&format!(
        "document.querySelectorAll('#connections tbody td').length > 5
            && [...document.querySelectorAll('#connections td')].filter((cell) => cell.textContent === {0}).length === 3
            && [...document.querySelectorAll('#accounts td')].some((cell) => cell.textContent === {0})",
        json!(MARKUP)
    ));
    browser.evaluate("document.querySelector('#connections details').open = true");
    let subject = browser.wait_for("document.querySelector('#connections li')?.textContent");
    assert_eq!(subject, MARKUP);
    assert_eq!(browser.text("#name"), MARKUP_IN_NAME);
    assert_eq!(browser.text("title"), MARKUP_IN_NAME);
    let scripts = browser.evaluate("[document.scripts.length, document.images.length]");
    assert_eq!(scripts, json!([1, 0]));
    assert_eq!(browser.faults(), [""; 0]);
    browser.keep_picture("names");
}

/// Everything that can be done can be done without a pointer.
fn keys_are_enough() {
    let (server, monitor) = server("");
    let clients = ["anna", "bert", "carl"].map(|name| {
        let mut client = client(&server, name);
        client.send("SUB foo.bar 1\r\n");
        client.ping_pong();
        client
    });
    let mut browser = Browser::start();
    browser.open(monitor, View::DESK);
    let names = "[...document.querySelectorAll('#connections tbody tr')].map((row) => row.cells[1]?.textContent)";
    browser.wait_for(&format!("{names}.length === 3"));

    browser.press("/");
    browser.type_text("BER");
    assert_eq!(browser.evaluate(names), json!(["bert"]));
    browser.press("Escape");
    assert_eq!(browser.evaluate(names).as_array().map(Vec::len), Some(3));

    // The heads of the table come after the search, and what can be pressed can be seen to be next.
    browser.press("/");
    let focused = "(document.activeElement.closest('th')?.textContent ?? '')";
    tab_until(&mut browser, &format!("{focused} === 'Name'"));
    let outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid");
    for order in [["anna", "bert", "carl"], ["carl", "bert", "anna"]] {
        browser.press("Enter");
        assert_eq!(browser.evaluate(names), json!(order));
    }
    tab_until(&mut browser, "document.activeElement.tagName === 'SUMMARY'");
    browser.press("Enter");
    let subject =
        browser.wait_for("document.querySelector('#connections details[open] li')?.textContent");
    assert_eq!(subject, "foo.bar");

    browser.press("d");
    assert_eq!(
        browser.evaluate("document.documentElement.dataset.theme"),
        "dark"
    );
    browser.press("d");
    assert_eq!(
        browser.evaluate("document.documentElement.dataset.theme"),
        "light"
    );
    browser.press("p");
    assert_eq!(browser.text("#state"), "Paused");
    browser.press("p");
    browser.wait_for("document.getElementById('state').textContent === 'Live'");
    assert_eq!(browser.faults(), [""; 0]);
    drop(clients);
}

/// At a desk and on telephones, by day and by night.
fn it_fits_and_can_be_read() {
    let cluster = three();
    let monitor = cluster.server(0).listener(Listener::Monitor);
    let mut clients: Vec<Client> = (0..12).map(|_| cluster.client(0)).collect();
    for client in &mut clients {
        client
            .subscribe("a.subject.that.is.rather.long.as.they.are.at.times.and.does.not.end.soon");
        client.round_trip();
    }
    let mut browser = Browser::start();
    for (name, width, height, is_phone) in [
        ("desk", 1280, 900, false),
        ("phone", 390, 844, true),
        ("small-phone", 320, 568, true),
    ] {
        for (shade, is_dark) in [("light", false), ("dark", true)] {
            browser.open(
                monitor,
                View {
                    width,
                    height,
                    is_phone,
                    is_dark,
                    ..View::DESK
                },
            );
            browser.wait_for("document.querySelectorAll('#connections tbody tr').length === 12");
            browser.wait_for("document.querySelectorAll('#routes tbody tr').length === 2");
            let wide = browser.evaluate("document.documentElement.scrollWidth");
            assert_eq!(wide, width, "{name} scrolls sideways");
            let background = browser.evaluate("getComputedStyle(document.body).backgroundColor");
            let is_night = background != "rgb(246, 247, 244)";
            assert_eq!(is_night, is_dark, "{background}");
            let faint = browser.evaluate(FAINT);
            assert_eq!(faint, json!([]), "{name} {shade}");
            assert_eq!(browser.faults(), [""; 0]);
            browser.keep_picture(&format!("{name}-{shade}"));
        }
    }
}

/// Texts that stand out from what is behind them by less than 4.5 to 1 (WCAG 2.1, 1.4.3).
const FAINT: &str = r"(() => {
    const parts = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
    const light = ([red, green, blue]) => {
        const linear = (part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
        return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
    };
    const behind = (node) => {
        for (let at = node; at; at = at.parentElement) {
            const colour = parts(getComputedStyle(at).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const faint = new Set();
    for (const node of document.body.querySelectorAll('*')) {
        const hasText = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
        if (!hasText || node.closest('script, style, [hidden]')) continue;
        const style = getComputedStyle(node);
        const colour = parts(node.namespaceURI.endsWith('svg') ? style.fill : style.color);
        const [one, other] = [light(colour), light(behind(node))].sort((a, b) => b - a);
        if ((one + 0.05) / (other + 0.05) < 4.5) faint.add(`${node.tagName}.${node.className.baseVal ?? node.className}`);
    }
    return [...faint];
})()";

/// Words in the picture of the cluster that lie upon each other.
const MEETING: &str = r"(() => {
    const words = [...document.querySelectorAll('#graph text')].filter((node) => node.textContent);
    const boxes = words.map((node) => ({ text: node.textContent, box: node.getBoundingClientRect() }));
    const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    return boxes.flatMap((one, index) =>
        boxes.slice(index + 1).filter((other) => meet(one.box, other.box)).map((other) => `${one.text} and ${other.text}`));
})()";

fn without_scripts() {
    let (_server, monitor) = server("http_base_path: /deep/down");
    let mut browser = Browser::start();
    let view = View {
        has_scripts: false,
        ..View::DESK
    };
    browser.open_at(monitor, "/deep/down", view);
    let links = browser.evaluate(
        "[...document.querySelectorAll('nav a')].map((link) => new URL(link.href).pathname)",
    );
    let links: Vec<String> = serde_json::from_value(links).expect("paths");
    assert!(links.len() > 10, "{links:?}");
    for link in links {
        assert!(link.starts_with("/deep/down/"), "{link}");
        assert_eq!(HttpAnswer::get(monitor, &link).status, 200, "{link}");
    }
    let live = browser.evaluate("document.getElementById('live').offsetHeight + document.getElementById('controls').offsetHeight");
    assert_eq!(live, 0, "what does not work without scripts is not there");
    browser.keep_picture("without-scripts");
}

/// Whoever keeps the token in a bookmark, below a base path as well, need not type it.
fn a_login_in_the_address() {
    for (base, path) in [("/", "/"), ("/deep/down", "/deep/down")] {
        let (server, monitor) = server(&format!("http_token: secret, http_base_path: \"{base}\""));
        let _client = client(&server, "anna");
        let mut browser = Browser::start();
        browser.open_as(monitor, path, "anybody:secret@", View::DESK);
        browser.wait_for("document.getElementById('connections').textContent.includes('anna')");
        assert_eq!(browser.faults(), [""; 0]);
    }
}

/// What gets into the page in spite of all care does nothing.
fn only_its_own_script_runs() {
    let (_server, monitor) = server("");
    let mut browser = Browser::start();
    let headers = browser.open(monitor, View::DESK);
    let policy = headers["content-security-policy"]
        .as_str()
        .expect("a policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(browser.faults(), [""; 0]);

    browser.evaluate(
        "window.refused = [];
        document.addEventListener('securitypolicyviolation', (event) => window.refused.push(event.effectiveDirective));
        const script = document.createElement('script');
        script.textContent = 'window.wasRun = true';
        const far = document.createElement('script');
        far.src = 'http://192.0.2.1/x.js';
        const image = document.createElement('img');
        image.src = 'http://192.0.2.1/x.png';
        image.setAttribute('onerror', 'window.wasRun = true');
        const style = document.createElement('style');
        style.textContent = 'body { display: none }';
        const frame = document.createElement('iframe');
        frame.src = '/varz';
        document.body.append(script, far, image, style, frame);
        fetch('http://192.0.2.1/').catch(() => {})",
    );
    browser.wait_for(
        "['script-src-elem', 'img-src', 'style-src-elem', 'connect-src', 'frame-src', 'script-src-attr']
            .every((kind) => window.refused.includes(kind))",
    );
    assert_eq!(browser.evaluate("window.wasRun === undefined"), true);
    let shown = browser.evaluate("getComputedStyle(document.body).display");
    assert_eq!(shown, "block");
}

// ----- what is looked at

fn server(lines: &str) -> (ServerUnderTest, SocketAddr) {
    let config = Config::file(format!("http: \"127.0.0.1:-1\"\n{lines}\n"));
    let server = ServerUnderTest::start(Kind::Natterjack, &config);
    let monitor = server.listener(Listener::Monitor);
    (server, monitor)
}

fn three() -> Cluster {
    let mut cluster = Plan::of(&[Kind::Natterjack; 3]).start();
    cluster.wait_until_complete();
    cluster
}

fn client(server: &ServerUnderTest, name: &str) -> Peer {
    let connect = json!({ "verbose": false, "name": name, "lang": "rust", "version": "1" });
    Peer::introduced(server.address(), &connect)
}

fn stopping() -> View {
    View {
        has_clock: true,
        ..View::DESK
    }
}

fn varz(monitor: SocketAddr) -> Value {
    HttpAnswer::get(monitor, "/varz").json()
}

/// The number that a text begins with.
fn number(text: &str) -> u64 {
    let digits = text
        .chars()
        .take_while(|letter| *letter != ' ')
        .filter(char::is_ascii_digit);
    digits.collect::<String>().parse().expect("a number")
}

/// Presses the key that leads on, until what it led to is the wanted element.
#[track_caller]
fn tab_until(browser: &mut Browser, wanted: &str) {
    const STEPS_MAX: usize = 60;
    for _ in 0..STEPS_MAX {
        if browser.evaluate(wanted) == true {
            return;
        }
        browser.press("Tab");
    }
    panic!("Tab does not lead to {wanted}");
}

#[track_caller]
fn wait_until(mut condition: impl FnMut() -> bool) {
    let met = ask_until(PATIENCE, || condition().then_some(()));
    assert!(met.is_some(), "it does not come about");
}
