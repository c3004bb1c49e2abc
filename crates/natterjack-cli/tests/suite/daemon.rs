//! `natterjackd`: flags, log, process id file, signals, exit codes.

use crate::process::{Daemon, NATTERJACK, NATTERJACKD, Running, run, wait_for_text};

#[test]
fn it_logs_its_start_and_its_end_as_nats_server_does() {
    let daemon = Daemon::start(&["-logtime_utc"]);
    let pid = daemon.running.pid();
    daemon.running.signal("INT");
    let ended = daemon.running.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    let mut rest = ended.stderr.as_str();
    for text in [
        "[INF] Starting natterjackd\n",
        concat!("[INF]   Version:  ", env!("CARGO_PKG_VERSION"), "\n"),
        "[INF] Listening for client connections on 127.0.0.1:",
        "[INF] Server is ready\n",
        "[INF] Trapped \"interrupt\" signal\n",
        "[INF] Initiating Shutdown...\n",
        "[INF] Server Exiting..\n",
    ] {
        let at = rest
            .find(text)
            .unwrap_or_else(|| panic!("no {text:?} in:\n{}", ended.stderr));
        rest = &rest[at + text.len()..];
    }
    for line in ended.stderr.lines() {
        let after_pid = line
            .strip_prefix(&format!("[{pid}] 20"))
            .expect("the process id and a year");
        assert_eq!(&after_pid[24..26], " [", "{line}");
    }
}

#[test]
fn term_stops_it_and_lame_duck_lets_it_go() {
    for (signal, name) in [("TERM", "terminated"), ("USR2", "user defined signal 2")] {
        let daemon = Daemon::start(&[]);
        daemon.running.signal(signal);
        let ended = daemon.running.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(
            ended.stderr.contains(&format!("Trapped \"{name}\" signal")),
            "{ended:?}"
        );
    }
}

#[test]
fn the_process_id_file_comes_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pid");
    let daemon = Daemon::start(&["--pid", path.to_str().unwrap()]);
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        daemon.running.pid().to_string()
    );
    daemon.running.signal("TERM");
    daemon.running.end();
    assert!(!path.exists());
    let ended = run(NATTERJACKD, &["-p", "-1", "-P", "/nonexistent/pid"], "");
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .contains("[FTL] cannot write the process id to /nonexistent/pid"),
        "{ended:?}"
    );
}

#[test]
fn the_log_file_is_opened_anew_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("log"), folder.path().join("moved"));
    let pid_path = folder.path().join("pid");
    // With a log file nothing is on standard error; the process id file is there before the server is ready.
    let arguments = [
        "-a",
        "127.0.0.1",
        "-p",
        "-1",
        "-l",
        path.to_str().unwrap(),
        "-P",
        pid_path.to_str().unwrap(),
    ];
    let daemon = Running::start(NATTERJACKD, &arguments);
    wait_for_text(&path, "Server is ready");
    std::fs::rename(&path, &moved).unwrap();
    daemon.signal("USR1");
    wait_for_text(&path, "File log re-opened");
    daemon.signal("HUP");
    wait_for_text(&path, "Failed to reload server configuration");
    daemon.signal("TERM");
    let ended = daemon.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(
        std::fs::read_to_string(&moved)
            .unwrap()
            .contains("Trapped \"user defined signal 1\"")
    );
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .contains("Server Exiting..")
    );
}

#[test]
fn mistakes_on_the_command_line_end_it() {
    let check = |arguments: &[&str], expected: &str, wants_advice: bool| {
        let ended = run(NATTERJACKD, arguments, "");
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(1), ""),
            "{arguments:?}"
        );
        assert!(
            ended
                .stderr
                .starts_with(&format!("natterjackd: {expected}")),
            "{ended:?}"
        );
        assert_eq!(
            ended
                .stderr
                .ends_with("natterjackd --help lists all flags\n"),
            wants_advice,
            "{ended:?}"
        );
    };
    check(
        &["--prot", "4222"],
        "unknown flag: -prot; did you mean --port?\n",
        true,
    );
    check(&["-p"], "flag needs an argument: -p\n", true);
    check(&["-p=x"], "invalid value \"x\" for flag -p", true);
    check(&["serve"], "unrecognized command: \"serve\"\n", false);
    check(
        &["-l", "/nonexistent/log"],
        "cannot open the log file /nonexistent/log",
        false,
    );
}

#[test]
fn flags_of_nats_server_that_are_not_there_yet_say_so() {
    for (flags, text) in [
        (&["--profile", "6060"][..], "--profile"),
        (&["-js"][..], "-js"),
        (&["-sd", "x"][..], "-sd"),
    ] {
        let ended = run(NATTERJACKD, flags, "");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
        assert!(
            ended.stderr.contains(text) && ended.stderr.contains("is not supported yet"),
            "{ended:?}"
        );
        assert!(!ended.stderr.contains("Starting"), "{ended:?}");
    }
}

#[test]
fn help_and_version() {
    for arguments in [["-h"], ["--help"], ["help"]] {
        let ended = run(NATTERJACKD, &arguments, "");
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        assert!(
            ended.stdout.contains("-p, --port <port>"),
            "{}",
            ended.stdout
        );
    }
    for arguments in [["-v"], ["--version"], ["version"]] {
        let ended = run(NATTERJACKD, &arguments, "");
        assert_eq!(
            ended.stdout,
            concat!("natterjackd: v", env!("CARGO_PKG_VERSION"), "\n")
        );
        assert_eq!(ended.code, Some(0));
    }
}

#[test]
fn a_port_in_use_is_fatal() {
    let daemon = Daemon::start(&[]);
    let port = daemon.url.rsplit(':').next().unwrap();
    let check = |arguments: &[&str], expected: &str| {
        let ended = run(NATTERJACKD, arguments, "");
        assert_eq!(ended.code, Some(1));
        let mut lines = ended.stderr.lines();
        let fatal = lines.find(|line| line.contains("[FTL]"));
        let fatal = fatal.expect("a fatal line");
        assert!(
            fatal.contains(expected) && fatal.contains("in use"),
            "{fatal}"
        );
        assert!(!ended.stderr.contains("is ready"), "{ended:?}");
    };
    check(
        &["-a", "127.0.0.1", "-p", port],
        &format!(
            "Error listening on port: 127.0.0.1:{port}, \"listen tcp 127.0.0.1:{port}: bind: address already in use\""
        ),
    );
    check(
        &["-a", "127.0.0.1", "-p", "-1", "-m", port],
        &format!(
            "Can't start monitoring: can't listen to the monitor port: listen tcp 127.0.0.1:{port}: bind: address"
        ),
    );
}

#[test]
fn a_trace_shows_the_protocol_without_payloads() {
    let daemon = Daemon::start(&["-V", "-T=false"]);
    let arguments = ["pub", "subject.x", "a secret", "-s", &daemon.url];
    assert_eq!(run(NATTERJACK, &arguments, "").code, Some(0));
    daemon.running.signal("TERM");
    let log = daemon.running.end().stderr;
    let traced = |line: &&str| line.contains("[TRC]") && line.contains("subject.x");
    assert_eq!(log.lines().filter(traced).count(), 1, "{log}");
    assert!(!log.contains("a secret"), "{log}");
}

#[test]
fn arguments_that_are_no_text_are_refused() {
    let script = r#""$0" -n "$(printf '\377')""#;
    let ended = run("sh", &["-c", script, NATTERJACKD], "");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("is not UTF-8"), "{ended:?}");
}

#[test]
fn flags_reach_the_server() {
    let daemon = Daemon::start(&["-n", "marvin", "-D", "-T=false"]);
    let ended = run(NATTERJACK, &["pub", "s", "x", "-s", &daemon.url], "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    daemon.running.signal("TERM");
    let log = daemon.running.end().stderr;
    assert!(log.contains("marvin") && log.contains("[DBG]"), "{log}");
    assert!(
        log.lines().all(|line| line
            .split(' ')
            .nth(1)
            .is_some_and(|word| word.starts_with('['))),
        "{log}"
    );
}
