//! What signals do to `natterjackd`, and `--signal` that sends them.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use crate::process::{DEADLINE, Daemon, NATTERJACKD, run};

/// A client that stays.
fn connect(daemon: &Daemon) -> TcpStream {
    let address = daemon.url.strip_prefix("nats://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
        .write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n")
        .unwrap();
    wait_for_pong(&stream);
    stream
}

fn wait_for_pong(stream: &TcpStream) {
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while line != "PONG\r\n" {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0);
    }
}

#[test]
fn quit_tells_what_the_server_is_doing() {
    let daemon = Daemon::start(&[]);
    let _client = connect(&daemon);
    daemon.running.signal("QUIT");
    let ended = daemon.running.end();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for text in [
        "Trapped \"quit\" signal",
        "Uptime: ",
        "Connections: 1\n",
        "Subscriptions: 0\n",
        "Connection: {\"cid\":",
    ] {
        assert!(ended.stderr.contains(text), "no {text} in {ended:?}");
    }
}

#[test]
fn in_lame_duck_mode_only_an_interrupt_hurries() {
    let mut daemon = Daemon::start(&[]);
    let _client = connect(&daemon);
    daemon.running.signal("USR2");
    daemon.running.stderr_line("Entering lame duck mode");
    daemon.running.signal("TERM");
    daemon.running.stderr_line("Trapped \"terminated\" signal");
    // It is still there, and listens to signals.
    daemon.running.signal("USR1");
    daemon
        .running
        .stderr_line("File log re-open ignored, not a file logger");
    daemon.running.signal("INT");
    let ended = daemon.running.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("Server Exiting.."), "{ended:?}");
}

/// A client that takes nothing is waited for, but not if somebody is in a hurry.
#[test]
fn another_interrupt_hurries() {
    let mut daemon = Daemon::start(&[]);
    let (mut reader, mut writer) = (connect(&daemon), connect(&daemon));
    reader.write_all(b"SUB s 1\r\nPING\r\n").unwrap();
    wait_for_pong(&reader);
    let mut message = b"PUB s 1000000\r\n".to_vec();
    message.resize(message.len() + 1_000_000, b'x');
    message.extend_from_slice(b"\r\n");
    for _ in 0..30 {
        writer.write_all(&message).unwrap();
    }
    writer.write_all(b"PING\r\n").unwrap();
    wait_for_pong(&writer);
    daemon.running.signal("INT");
    daemon.running.stderr_line("Initiating Shutdown...");
    daemon.running.signal("INT");
    daemon
        .running
        .stderr_line("[WRN] Interrupted once more: ending at once");
    let ended = daemon.running.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.stderr.contains("Server Exiting.."), "{ended:?}");
}

#[test]
fn signals_are_sent_by_process_id_and_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pid");
    let mut daemon = Daemon::start(&["-P", path.to_str().unwrap()]);
    let pid = daemon.running.pid().to_string();
    let send = |argument: String| {
        let ended = run(NATTERJACKD, &["--signal", &argument], "");
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
            (Some(0), "", ""),
            "{argument}"
        );
    };
    send(format!("reopen={pid}"));
    daemon
        .running
        .stderr_line("Trapped \"user defined signal 1\" signal");
    send(format!("reload={}", path.display()));
    daemon.running.stderr_line("Trapped \"hangup\" signal");
    daemon.running.stderr_line(
        "[ERR] Failed to reload server configuration: can only reload config when a file is provided using -c or --config",
    );
    send(format!("ldm={pid}"));
    let ended = daemon.running.end();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended
            .stderr
            .contains("Trapped \"user defined signal 2\" signal")
    );

    for (word, code, name) in [
        ("quit", Some(0), "interrupt"),
        ("term", Some(0), "terminated"),
    ] {
        let daemon = Daemon::start(&[]);
        send(format!("{word}={}", daemon.running.pid()));
        let ended = daemon.running.end();
        assert_eq!(ended.code, code, "{word}");
        assert!(
            ended.stderr.contains(&format!("Trapped {name:?} signal")),
            "{ended:?}"
        );
    }
    let daemon = Daemon::start(&[]);
    send(format!("stop={}", daemon.running.pid()));
    assert_eq!(daemon.running.end().code, None);
}

#[test]
fn signals_that_cannot_be_sent() {
    let check = |argument: &str, expected: &str| {
        let ended = run(NATTERJACKD, &["-sl", argument], "");
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(1), ""),
            "{argument}"
        );
        assert_eq!(ended.stderr, format!("natterjackd: {expected}\n"));
    };
    check(
        "reload=999999999",
        "signal \"reload\" 999999999: no such process",
    );
    check(
        "relaod=1",
        "unknown signal \"relaod\" (did you mean \"reload\"?); there are ldm, stop, quit, term, reopen and reload",
    );
    check(
        "reload=/nonexistent",
        "invalid pid: /nonexistent: neither a process id nor a file with one",
    );
    // The process in this file runs, but is a test and no server.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pid");
    fs::write(&path, std::process::id().to_string()).unwrap();
    let argument = format!("stop={}", path.display());
    let ended = run(NATTERJACKD, &["-sl", &argument], "");
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .contains("not a server; the file is out of date"),
        "{ended:?}"
    );
}
