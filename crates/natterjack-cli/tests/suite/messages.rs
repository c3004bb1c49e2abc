//! `natterjack pub`, `sub`, `request` and `reply`, with each other and our daemon.

use crate::process::{Daemon, Ended, NATTERJACK, NATTERJACKD, Running, free_port, run};

fn natterjack(daemon: &Daemon, arguments: &[&str], input: &str) -> Ended {
    run(
        NATTERJACK,
        &[arguments, &["-s", &daemon.url]].concat(),
        input,
    )
}

fn start(daemon: &Daemon, arguments: &[&str], ready: &str) -> Running {
    let mut running = Running::start(NATTERJACK, &[arguments, &["-s", &daemon.url]].concat());
    running.stderr_line(ready);
    running
}

#[test]
fn what_is_published_is_printed() {
    let daemon = Daemon::start(&[]);
    let sub = start(
        &daemon,
        &["sub", "a.>", "b", "--count", "2"],
        "Subscribed to a.>, b",
    );
    let ended = natterjack(
        &daemon,
        &["pub", "a.x", "hello", "-H", "K:v 1", "-H", "K: v2"],
        "",
    );
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), ""),
        "{ended:?}"
    );
    assert_eq!(ended.stderr, "Published 5 bytes to \"a.x\"\n");
    natterjack(&daemon, &["pub", "b", "bye", "--reply", "r"], "");
    let ended = sub.end();
    assert_eq!(ended.code, Some(0));
    assert_eq!(
        ended.stdout,
        "[#1] Received on \"a.x\"\nK: v 1\nK: v2\n\nhello\n\n[#2] Received on \"b\" with reply \"r\"\nbye\n\n"
    );
}

#[test]
fn payloads_from_standard_input_and_templates() {
    let daemon = Daemon::start(&[]);
    let sub = start(
        &daemon,
        &["sub", "s", "--raw", "--count", "5"],
        "Subscribed",
    );
    for arguments in [&["pub", "s"][..], &["pub", "s", "-"]] {
        assert_eq!(
            natterjack(&daemon, arguments, "from {{Count}} stdin").code,
            Some(0)
        );
    }
    let ended = natterjack(
        &daemon,
        &["pub", "s", "n {{Count}}", "--count", "2", "--sleep", "1ms"],
        "",
    );
    assert_eq!(ended.stderr, "Published 2 messages, 6 bytes, to \"s\"\n");
    natterjack(
        &daemon,
        &["pub", "s", "{{Count}}", "--no-templates", "--quiet"],
        "",
    );
    assert_eq!(
        sub.end().stdout,
        "from {{Count}} stdin\nfrom {{Count}} stdin\nn 1\nn 2\n{{Count}}\n"
    );
}

#[test]
fn a_queue_group_shares() {
    let daemon = Daemon::start(&[]);
    let arguments = ["sub", "jobs", "--queue", "q", "--raw"];
    let members = [
        start(&daemon, &arguments, "Subscribed"),
        start(&daemon, &arguments, "Subscribed"),
    ];
    let mut all = start(
        &daemon,
        &["sub", "jobs", "--raw", "--count", "40"],
        "Subscribed",
    );
    natterjack(&daemon, &["pub", "jobs", "{{Count}}", "--count", "40"], "");
    all.stdout_line("40");
    let mut received: Vec<u32> = Vec::new();
    for member in members {
        // The server gave it to all in one go, and a member that ends prints what was sent to it before.
        member.signal("INT");
        let ended = member.end();
        assert_eq!(ended.code, Some(0));
        received.extend(
            ended
                .stdout
                .lines()
                .map(|line| line.parse::<u32>().unwrap()),
        );
    }
    received.sort_unstable();
    assert!(
        received.iter().copied().eq(1..=40),
        "each exactly once: {received:?}"
    );
}

#[test]
fn requests_are_answered() {
    let daemon = Daemon::start(&[]);
    let echo = start(
        &daemon,
        &["reply", "echo", "--count", "2"],
        "Answering requests on echo",
    );
    let clock = start(
        &daemon,
        &["reply", "count", "{{Count}}: {{Request}}", "-H", "A:b"],
        "Answering",
    );
    let ended = natterjack(&daemon, &["request", "echo", "ping", "--raw"], "");
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "ping\n"),
        "{ended:?}"
    );
    let ended = natterjack(&daemon, &["request", "echo", "-H", "X:y"], "from stdin");
    assert!(
        ended.stdout.starts_with("[#1] Received on \"_INBOX."),
        "{ended:?}"
    );
    assert!(
        ended.stdout.ends_with("\"\nX: y\n\nfrom stdin\n\n"),
        "{ended:?}"
    );
    assert_eq!(echo.end().code, Some(0));
    let ended = natterjack(&daemon, &["request", "count", "x"], "");
    assert!(ended.stdout.ends_with("A: b\n\n1: x\n\n"), "{ended:?}");
    clock.signal("TERM");
    assert_eq!(clock.end().code, Some(0));
}

#[test]
fn several_answers_can_be_gathered() {
    let daemon = Daemon::start(&[]);
    let _workers: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            start(
                &daemon,
                &["reply", "who", name, "--queue", name],
                "Answering",
            )
        })
        .into();
    let gather = |replies, timeout| {
        let arguments = [
            "request",
            "who",
            "",
            "--raw",
            "--replies",
            replies,
            "--timeout",
            timeout,
        ];
        let ended = natterjack(&daemon, &arguments, "");
        let mut names: Vec<_> = ended.stdout.lines().map(String::from).collect();
        names.sort();
        (ended.code, names, ended.stderr)
    };
    let (code, names, _) = gather("3", "20s");
    assert_eq!((code, names.join("")), (Some(0), "abc".into()));
    let (code, names, stderr) = gather("4", "500ms");
    assert_eq!((code, names.join("")), (Some(1), "abc".into()));
    assert!(stderr.contains("only 3 of 4 answers"), "{stderr}");
    let (code, names, _) = gather("0", "500ms");
    assert_eq!((code, names.join("")), (Some(0), "abc".into()));
}

#[test]
fn failures_say_what_to_do() {
    let daemon = Daemon::start(&[]);
    let check = |arguments: &[&str], expected: &str| {
        let ended = natterjack(&daemon, arguments, "");
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(1), ""),
            "{ended:?}"
        );
        assert!(
            ended.stderr.contains(expected),
            "{arguments:?}: {}",
            ended.stderr
        );
    };
    check(
        &["request", "nobody", "x"],
        "nobody is subscribed to \"nobody\"",
    );
    check(
        &["sub", "quiet", "--count", "1", "--timeout", "50ms"],
        "only 0 of 1 messages arrived in time",
    );
    let _silent = start(&daemon, &["sub", "silent"], "Subscribed");
    check(
        &["request", "silent", "x", "--timeout", "50ms"],
        "no answer within 50ms",
    );

    let url = format!("nats://127.0.0.1:{}", free_port());
    let ended = run(NATTERJACK, &["pub", "s", "x", "-s", &url], "");
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("Connection refused") && ended.stderr.contains("natterjackd"),
        "{ended:?}"
    );
    for (arguments, expected) in [
        (["pub", "a..b", "x"], "no word may be empty"),
        (["pub", "a.*", "x"], "wildcards"),
        (["request", "a.>", "x"], "wildcards"),
        (["sub", "a.>.b", "c"], "must be the last"),
    ] {
        let ended = run(NATTERJACK, &arguments, "");
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(
            ended.stderr.contains(arguments[1]) && ended.stderr.contains(expected),
            "{ended:?}"
        );
    }
    let ended = run(NATTERJACK, &["pub", "s", "x", "-H", "novalue"], "");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("Key:Value"), "{ended:?}");
}

#[test]
fn a_subscriber_ends_in_good_order() {
    let daemon = Daemon::start(&[]);
    for signal in ["INT", "TERM"] {
        let sub = start(&daemon, &["sub", "s"], "Subscribed");
        sub.signal(signal);
        let ended = sub.end();
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(0), ""),
            "{signal}"
        );
    }
    let ended = natterjack(&daemon, &["sub", "s", "--timeout", "10ms"], "");
    assert_eq!(
        ended.code,
        Some(0),
        "without --count, time over is an ending like any other"
    );
}

#[test]
fn an_outage_is_told_once() {
    let port = free_port().to_string();
    let daemon = |name| {
        let mut daemon = Running::start(
            NATTERJACKD,
            &["-a", "127.0.0.1", "-p", &port, "--name", name],
        );
        daemon.stderr_line("Server is ready");
        daemon
    };
    let first = daemon("first");
    let url = format!("nats://127.0.0.1:{port}");
    let mut sub = Running::start(NATTERJACK, &["sub", "s", "-s", &url]);
    sub.stderr_line("Subscribed");
    drop(first);
    sub.stderr_line("disconnected from nats://127.0.0.1:");
    let _second = daemon("second");
    // Which it is shows only once it has greeted.
    sub.stderr_line(&format!("reconnected to {url}, where `second` answers"));
    sub.signal("INT");
    let ended = sub.end();
    assert_eq!(
        (ended.code, ended.stderr.lines().count()),
        (Some(0), 3),
        "{ended:?}"
    );
}

#[test]
fn version_and_help() {
    let version = run(NATTERJACK, &["--version"], "");
    assert_eq!(
        version.stdout,
        format!("natterjack {}\n", env!("CARGO_PKG_VERSION"))
    );
    let help = run(NATTERJACK, &["help"], "");
    for command in ["bus", "pub", "sub", "request", "reply", "bench"] {
        assert!(
            help.stdout.contains(&format!("\n  {command} ")),
            "{}",
            help.stdout
        );
    }
}

#[test]
fn logins_are_flags_variables_or_part_of_the_address() {
    let daemon = Daemon::start(&["--user", "u", "--pass", "p@ss"]);
    let with_user = |user: &str| daemon.url.replace("://", &format!("://{user}@"));
    let publish = |arguments: &[&str]| {
        run(
            NATTERJACK,
            &[&["pub", "s", "x", "-s"], arguments].concat(),
            "",
        )
    };
    for arguments in [
        &[with_user("u:p@ss").as_str()][..],
        &[with_user("%75:p%40ss").as_str()],
        &[&daemon.url, "--user", "u", "--password", "p@ss"],
    ] {
        let ended = publish(arguments);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    for (address, expected) in [
        (daemon.url.clone(), "it wants a login"),
        (with_user("u:secret"), "it refuses this login"),
    ] {
        let ended = publish(&[&address]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(expected), "{ended:?}");
        assert!(!ended.stderr.contains("secret"), "{ended:?}");
    }
    let tls = publish(&[&daemon.url.replace("nats://", "tls://")]);
    assert!(tls.stderr.contains("it does not speak TLS"), "{tls:?}");
    let daemon = Daemon::start(&["--auth", "t"]);
    assert_eq!(publish(&[&daemon.url, "--token", "t"]).code, Some(0));
    let with_token = daemon.url.replace("://", "://t@");
    assert_eq!(publish(&[&with_token]).code, Some(0));
    assert_eq!(publish(&[&daemon.url, "--token", "wrong"]).code, Some(1));
}
