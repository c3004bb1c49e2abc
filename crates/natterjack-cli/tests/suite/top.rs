//! `natterjack top`, on a terminal and as text: it shows what a server under load does, keys do what help says, and the
//! terminal is as before however it ends. Screens are left under `target/top` to be looked at.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use testkit::{Config, Kind, Listener, ServerUnderTest, Terminal, programs};

use crate::process::{Daemon, Ended, NATTERJACK, Running, run};

/// No wait takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with monitoring and this in its configuration, and the address of monitoring.
fn server(configuration: &str) -> (ServerUnderTest, String) {
    let configuration = format!("http: \"127.0.0.1:-1\"\n{configuration}\n");
    let server = ServerUnderTest::start(Kind::Natterjack, &Config::file(configuration));
    let url = format!("http://{}", server.listener(Listener::Monitor));
    (server, url)
}

/// Two servers that are a cluster, with this in the configuration of both.
fn cluster(configuration: &str) -> [(ServerUnderTest, String); 2] {
    let member = |name: &str, routes: &str| {
        server(&format!(
            "{configuration}\nserver_name: {name}\ncluster {{ name: C, listen: \"127.0.0.1:-1\", {routes} }}"
        ))
    };
    let first = member("n1", "");
    let route = first.0.listener(Listener::Route);
    let second = member("n2", &format!("routes: [\"nats://{route}\"]"));
    [first, second]
}

/// A subscriber and a publisher that does not end: some load, from clients with names.
fn load(server: &ServerUnderTest) -> [Running; 2] {
    let url = &server.url();
    let mut subscriber = Running::start(NATTERJACK, &["sub", "load", "--raw", "-s", url]);
    subscriber.stderr_line("Subscribed");
    let publisher = Running::start(
        NATTERJACK,
        &[
            "pub",
            "load",
            "x",
            "--count",
            "100000000",
            "--sleep",
            "5ms",
            "-s",
            url,
        ],
    );
    [subscriber, publisher]
}

fn top(arguments: &[&str], columns: u16, lines: u16) -> Terminal {
    top_with(arguments, &[], columns, lines)
}

fn top_with(
    arguments: &[&str],
    environment: &[(&str, &str)],
    columns: u16,
    lines: u16,
) -> Terminal {
    let arguments = [&["top", "--interval", "200ms"], arguments].concat();
    Terminal::start(
        Path::new(NATTERJACK),
        &arguments,
        environment,
        columns,
        lines,
    )
}

fn once(arguments: &[&str]) -> Ended {
    let arguments = [&["top", "--once", "--interval", "300ms"], arguments].concat();
    run(NATTERJACK, &arguments, "")
}

/// Leaves a screen to be looked at.
fn keep(name: &str, screen: &str) {
    let folder = programs::left_by_tests("top");
    std::fs::create_dir_all(&folder).expect("a folder beside the build");
    std::fs::write(folder.join(name), format!("{screen}\n")).expect("a file in it");
}

#[track_caller]
fn quits(mut terminal: Terminal) {
    terminal.type_in("q");
    let status = terminal.wait_for_exit(PATIENCE).expect("it ends");
    assert!(status.success(), "{status}");
    assert!(terminal.is_given_back(PATIENCE), "{}", terminal.text());
}

#[test]
fn it_shows_load_and_does_what_keys_say() {
    let (daemon, url) = server("server_name: loaded");
    let _load = load(&daemon);
    let mut terminal = top(&[&url], 80, 24);
    let shown = terminal.wait_until("load", PATIENCE, |shown| {
        // Two connections, of which one receives.
        shown.contains("Conns 2") && shown.contains('█') && !shown.contains(" – ")
    });
    assert!(shown.starts_with("loaded · natterjack "), "{shown}");
    assert!(terminal.has_colours());
    keep("connections-80x24.txt", &shown);

    // The receiver comes first, by what goes out; the other way round it comes last.
    let first = |shown: &str| shown.lines().nth(6).unwrap_or_default().trim().to_owned();
    let receiver = first(&shown)
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned();
    terminal.type_in("r");
    terminal.wait_until("the other one first", PATIENCE, |shown| {
        let first = first(shown);
        !first.is_empty() && !first.starts_with(&format!("{receiver} "))
    });
    terminal.type_in("ocid\r");
    terminal.wait_for("CID▴", PATIENCE);
    terminal.type_in("osomething\r");
    terminal.wait_for("is none of", PATIENCE);
    terminal.type_in("\u{1b}");
    terminal.wait_for("q quit", PATIENCE);

    terminal.type_in("/nobody at all");
    terminal.wait_for("Nothing matches nobody at all", PATIENCE);
    terminal.type_in("\u{1b}");
    terminal.wait_until("all again", PATIENCE, |shown| {
        !shown.contains("Nothing matches")
    });

    terminal.type_in("?");
    let shown = terminal.wait_for("not known", PATIENCE);
    keep("help-80x24.txt", &shown);
    terminal.type_in("?");
    terminal.wait_until("no help", PATIENCE, |shown| {
        !shown.contains("rows with this")
    });

    for (key, words, name) in [
        ("2", "answers", "servers"),
        ("3", "No server is connected", "routes"),
        ("4", "$G", "accounts"),
        ("5", "No client is behind", "slow"),
        ("6", "JetStream", "details"),
    ] {
        terminal.type_in(key);
        let shown = terminal.wait_for(words, PATIENCE);
        keep(&format!("{name}-80x24.txt"), &shown);
    }
    terminal.type_in("1\r");
    let shown = terminal.wait_for("ADDRESS      127.0.0.1:", PATIENCE);
    keep("row-80x24.txt", &shown);
    terminal.type_in("\u{1b}");
    terminal.wait_for("CID▴", PATIENCE);

    terminal.type_in("p");
    terminal.wait_for("PAUSED", PATIENCE);
    terminal.type_in("p");
    terminal.wait_for("every 200ms", PATIENCE);

    for (columns, lines) in [(40, 15), (120, 40), (200, 50)] {
        terminal.resize(columns, lines);
        let shown = terminal.wait_until("a new size", PATIENCE, |shown| {
            let has_footer = shown
                .lines()
                .last()
                .is_some_and(|line| line.starts_with("q quit"));
            has_footer && shown.contains("OUT/s")
        });
        keep(&format!("connections-{columns}x{lines}.txt"), &shown);
    }
    quits(terminal);
}

#[test]
fn what_is_paused_stays_as_it_is() {
    let (daemon, url) = server("");
    let mut terminal = top(&[&url], 80, 24);
    terminal.wait_for("Conns 0", PATIENCE);
    terminal.type_in("p");
    terminal.wait_for("PAUSED", PATIENCE);
    let _load = load(&daemon);
    // The server shows them by now; the view must not. Keys are still obeyed, which proves that it had its chance.
    let ended = once(&[&url, "--json"]);
    let report: Value = serde_json::from_str(&ended.stdout).expect("one line of JSON");
    assert_eq!(report["connections_total"], 2, "{report}");
    terminal.type_in("2");
    terminal.wait_for("STATE", PATIENCE);
    assert!(terminal.text().contains("Conns 0"), "{}", terminal.text());
    terminal.type_in(" ");
    terminal.wait_for("Conns 2", PATIENCE);
    quits(terminal);
}

#[test]
fn a_server_that_goes_is_told_of_and_comes_back_by_itself() {
    let port = crate::process::free_port().to_string();
    let monitored = ["-m", &port, "-n", "here"];
    let daemon = Daemon::start(&monitored);
    let terminal = top(&[&format!("http://127.0.0.1:{port}")], 80, 24);
    terminal.wait_for("here · natterjack", PATIENCE);
    drop(daemon);
    let shown = terminal.wait_for("here does not answer for 1s", PATIENCE);
    assert!(
        shown.contains("cannot connect: Connection refused"),
        "{shown}"
    );
    keep("silent-80x24.txt", &shown);
    let _daemon = Daemon::start(&monitored);
    terminal.wait_until("an answer", PATIENCE, |shown| {
        shown.contains("Conns 0") && !shown.contains("does not answer")
    });
    quits(terminal);
}

#[test]
fn the_wrong_port_is_told_with_the_remedy() {
    let (daemon, _) = server("");
    let address = daemon.address().to_string();
    let terminal = top(&[&address], 40, 15);
    let shown = terminal.wait_for("http_port", PATIENCE);
    keep("wrong-port-40x15.txt", &shown);
    quits(terminal);
    let ended = once(&[&address]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("this is a port for clients"),
        "{ended:?}"
    );
    let ended = once(&[&daemon.url()]);
    assert!(
        ended.stderr.contains("is where clients connect"),
        "{ended:?}"
    );
}

#[test]
fn the_terminal_is_given_back_when_a_signal_ends_it() {
    let (_daemon, url) = server("");
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        let mut terminal = top(&[&url], 80, 24);
        terminal.wait_for("q quit", PATIENCE);
        assert!(!terminal.is_as_before());
        let pid = terminal.pid().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-s", signal, &pid])
            .status();
        assert!(sent.is_ok_and(|status| status.success()));
        terminal.wait_for_exit(PATIENCE).expect("it ends");
        assert!(
            terminal.is_given_back(PATIENCE),
            "{signal}: {}",
            terminal.text()
        );
    }
    let mut terminal = top(&[&url], 80, 24);
    terminal.wait_for("q quit", PATIENCE);
    terminal.type_in("\u{3}");
    terminal.wait_for_exit(PATIENCE).expect("it ends");
    assert!(terminal.is_given_back(PATIENCE));
}

#[test]
fn counted_rounds_end_it_and_no_color_is_obeyed() {
    let (_daemon, url) = server("");
    let mut terminal = top_with(&[&url, "--count", "3"], &[("NO_COLOR", "1")], 80, 24);
    terminal.wait_for("q quit", PATIENCE);
    assert!(!terminal.has_colours());
    assert!(terminal.wait_for_exit(PATIENCE).expect("it ends").success());
    assert!(terminal.is_given_back(PATIENCE));
}

#[test]
fn scripts_get_json_and_people_tables() {
    let (daemon, url) = server("server_name: loaded");
    let _load = load(&daemon);
    let ended = once(&[&url, "--json", "--count", "2", "--sort", "cid"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let reports: Vec<Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert_eq!(reports.len(), 2);
    let report = &reports[1];
    assert!(
        report["rates"]["in_msgs"].as_f64().unwrap() > 0.0,
        "{report}"
    );
    let [subscriber, publisher] = [0, 1].map(|at| &report["connections"][at]);
    assert_eq!(subscriber["subscriptions"], 1, "{report}");
    assert!(
        subscriber["rates"]["out_msgs"].as_f64().unwrap() > 0.0,
        "{report}"
    );
    assert!(
        publisher["rates"]["in_msgs"].as_f64().unwrap() > 0.0,
        "{report}"
    );
    assert_eq!(report["servers"][0]["name"], "loaded");
    assert_eq!(report["servers"][0]["has_jetstream"], false);

    let ended = once(&[&url]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(
        ended.stdout.starts_with("Servers\nSERVER"),
        "{}",
        ended.stdout
    );
    keep("once.txt", &ended.stdout);
    let ended = once(&[&url, "--screen", "accounts"]);
    assert!(ended.stdout.starts_with("ACCOUNT"), "{}", ended.stdout);
    assert!(!ended.stdout.contains('\u{1b}'));
}

#[test]
fn a_token_lets_in() {
    let (_daemon, url) = server("http_token: \"a long random text\"");
    let ended = once(&[&url]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("it wants a login"), "{ended:?}");
    let ended = once(&[&url, "--token", "another text"]);
    assert!(
        ended.stderr.contains("it does not accept this login"),
        "{ended:?}"
    );
    let ended = once(&[&url, "--token", "a long random text"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let in_address = url.replace("http://", "http://anybody:a long random text@");
    assert_eq!(once(&[&in_address]).code, Some(0));
}

#[test]
fn a_token_need_not_be_an_argument() {
    let (_daemon, url) = server("http_token: \"a long random text\"");
    let folder = tempfile::tempdir().expect("a folder for a test");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file in a folder of ours");
        path.display().to_string()
    };
    let right = file("right", "a long random text\n");
    let ended = once(&[&url, "--token-file", &right]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for wrong in [
        file("empty", "\n"),
        file("two", "one\ntwo\n"),
        file("long", &"x".repeat(9000)),
    ] {
        let ended = once(&[&url, "--token-file", &wrong]);
        assert_eq!(ended.code, Some(1), "{wrong}");
        assert!(ended.stderr.contains("its one line"), "{ended:?}");
    }
    let nowhere = folder.path().join("nowhere").display().to_string();
    let ended = once(&[&url, "--token-file", &nowhere]);
    assert!(ended.stderr.contains("cannot read the token"), "{ended:?}");
    let both = once(&[&url, "--token-file", &right, "--token", "x"]);
    assert_eq!(both.code, Some(2), "{both:?}");

    let with_variable = |value: &str, more: &[&str]| {
        let mut command = std::process::Command::new(NATTERJACK);
        command
            .args(["top", "--once", "--interval", "300ms", &url])
            .args(more)
            .env("NATTERJACK_MONITOR_TOKEN", value)
            .output()
            .expect("the program runs")
    };
    let code = |value: &str, more: &[&str]| with_variable(value, more).status.code();
    assert_eq!(code("a long random text", &[]), Some(0));
    assert_eq!(code("another text", &[]), Some(1));
    assert_eq!(code("", &[]), Some(1));
    // What is said for this one time counts.
    assert_eq!(code("another text", &["--token-file", &right]), Some(0));
    assert_eq!(
        code("another text", &["--token", "a long random text"]),
        Some(0)
    );
}

#[test]
fn over_https_with_an_authority_of_ones_own() {
    let folder = tempfile::tempdir().expect("a folder for a test");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (out, ca, certificate, key) =
        (file(""), file("ca.crt"), file("nats.crt"), file("nats.key"));
    for arguments in [
        &["certs", "ca", "--out", &out][..],
        &[
            "certs", "node", "--ca", &ca, "--out", &out, "--host", "here",
        ],
    ] {
        let ended = run(NATTERJACK, arguments, "");
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let configuration = format!(
        "https: \"127.0.0.1:-1\"\ntls {{ cert_file: \"{certificate}\", key_file: \"{key}\" }}\n"
    );
    let server = ServerUnderTest::start(Kind::Natterjack, &Config::file(configuration));
    let line = server.wait_for_log("Starting https monitor on ");
    let address = line.rsplit(' ').next().expect("an address");
    let url = format!("https://{address}");
    let ended = once(&[&url, "--json", "--tlsca", &ca]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert!(
        report["servers"][0]["certificate_end"].is_string(),
        "{report}"
    );
    for (arguments, words) in [
        (&[&*url][..], "cannot connect securely"),
        (&[&url.replace("https", "http")], "write https://"),
        (
            &[&format!("https://{}", server.address())],
            "this is a port for clients",
        ),
        (&[&url, "--tlsca", &key], "there is no certificate in"),
        (&[&url, "--tlscert", &certificate], "need each other"),
    ] {
        let ended = once(arguments);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(words), "{ended:?}");
    }
    let terminal = top(&[&url, "--tlsca", &ca], 80, 24);
    let shown = terminal.wait_for("Cert ", PATIENCE);
    assert!(shown.contains("Conns 0"), "{shown}");
    quits(terminal);
}

#[test]
fn names_do_nothing_to_the_terminal() {
    let (daemon, url) = server("");
    let mut client = std::net::TcpStream::connect(daemon.address()).expect("the server listens");
    let connect = r#"CONNECT {"verbose":false,"name":"\u001b[2J<script>\r\n\u202e"}"#;
    write!(client, "{connect}\r\nPING\r\n").expect("it reads");
    let terminal = top(&[&url], 160, 24);
    let shown = terminal.wait_for(r"\u{1b}[2J<script>\r\n\u{202e}", PATIENCE);
    assert!(shown.contains("q quit"), "{shown}");
    quits(terminal);
}

#[test]
fn a_cluster_is_seen_as_one() {
    let [(_first, first_url), (_second, second_url)] = cluster("");
    let mut terminal = top(&[&first_url, &second_url], 100, 30);
    let shown = terminal.wait_for("C · 2 of 2 servers answer", PATIENCE);
    assert!(shown.contains("Conns 0"), "{shown}");
    terminal.type_in("3");
    let shown = terminal.wait_until("both ways", PATIENCE, |shown| {
        shown.matches("connected").count() == 2
    });
    keep("routes-100x30.txt", &shown);
    terminal.type_in("2");
    let shown = terminal.wait_until("both", PATIENCE, |shown| {
        shown.matches("answers").count() == 2
    });
    keep("servers-100x30.txt", &shown);
    quits(terminal);

    // On one machine monitoring is at another port for each, which cannot be guessed.
    let mut terminal = top(&[&first_url, "--cluster"], 100, 30);
    let shown = terminal.wait_for("n2 cannot be asked: ", PATIENCE);
    assert!(
        shown.contains("name the address of its monitoring"),
        "{shown}"
    );
    terminal.type_in("2");
    terminal.wait_for("not asked: ", PATIENCE);
    quits(terminal);
}

#[test]
fn the_system_account_knows_all_servers() {
    let accounts = "system_account: S\naccounts { S { users: [{user: s, password: p}] }, A { users: [{user: a, password: p}] } }\n";
    let [(first, _), (_second, _)] = cluster(accounts);
    let url = first.url();
    let login = ["--server", &url, "--password", "p", "--user"];
    let mut terminal = top(&[&login[..], &["s"]].concat(), 80, 24);
    terminal.wait_for("C · 2 of 2 servers answer", PATIENCE);
    terminal.type_in("3");
    let shown = terminal.wait_until("both ways", PATIENCE, |shown| {
        shown.matches("connected").count() == 2
    });
    keep("routes-by-system-account-80x24.txt", &shown);
    quits(terminal);
    let ended = once(&[&login[..], &["a"]].concat());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("is not in the system account"),
        "{ended:?}"
    );
}

#[test]
fn without_a_terminal_and_with_contradictions_it_says_what_to_do() {
    for (arguments, words) in [
        (&["top"][..], "--once prints tables"),
        (
            &["top", "--once", "--sort", "size"],
            "there is no column size",
        ),
        (&["top", "--once", "ftp://h"], "is no address"),
        (&["top", "--once", "h", "--server", "h"], "two ways to ask"),
        (
            &["top", "--once", "h", "--creds", "f"],
            "--creds and --nkey are for --server",
        ),
        (
            &["top", "--once", "h", "--tlsca", "f"],
            "begin with https://",
        ),
        (&["top", "--interval", "1ms"], "100ms at least"),
        (&["top", "--json"], "--once"),
    ] {
        let ended = run(NATTERJACK, arguments, "");
        assert!(matches!(ended.code, Some(1 | 2)), "{ended:?}");
        assert!(ended.stderr.contains(words), "{ended:?}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = nobody.local_addr().expect("an address").to_string();
    drop(nobody);
    let ended = once(&[&address, "--json"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("does not answer: cannot connect"),
        "{ended:?}"
    );
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON all the same");
    assert_eq!(report["servers"][0]["state"], "silent");
}
