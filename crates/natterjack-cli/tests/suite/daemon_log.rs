//! Where `natterjackd` logs to, and what becomes of its log when that fails.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{
    DEADLINE, Daemon, NATTERJACK, NATTERJACKD, Running, run, wait_for_text, wait_until,
};

/// A daemon that logs to a file.
fn start_with_file(path: &Path, arguments: &[&str]) -> Running {
    let path = path.to_str().unwrap();
    let all = [&["-a", "127.0.0.1", "-p", "-1", "-l", path], arguments].concat();
    Running::start(NATTERJACKD, &all)
}

#[test]
fn a_log_that_is_too_large_is_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.log");
    let daemon = start_with_file(&path, &["--log_size_limit", "300", "-D"]);
    let backups = || -> Vec<PathBuf> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|other| *other != path);
        paths.sort();
        paths
    };
    let whole = || -> String {
        let paths = backups();
        let texts = paths.iter().chain([&path]).map(fs::read_to_string);
        texts.map(Result::unwrap_or_default).collect()
    };
    wait_until("a server that is ready", || {
        whole().contains("Server is ready")
    });
    daemon.signal("TERM");
    let ended = daemon.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let text = whole();
    for part in [
        "Starting natterjackd",
        "Version: ",
        "Trapped",
        "Server Exiting..",
    ] {
        assert_eq!(text.matches(part).count(), 1, "{part} in {text}");
    }
    for backup in backups() {
        let name = backup.file_name().unwrap().to_str().unwrap().to_owned();
        // As nats-server's: x.log.2026.11.22.03.07.30.330027332
        let numbers: Vec<&str> = name.strip_prefix("x.log.").unwrap().split('.').collect();
        let digits: Vec<usize> = numbers.iter().map(|number| number.len()).collect();
        assert_eq!(digits, [4, 2, 2, 2, 2, 2, 9], "{name}");
        assert!(text.contains(&format!("Rotated log, backup saved as {backup:?}")));
    }
    assert!(backups().len() > 1, "{text}");
}

#[test]
fn a_full_disk_stops_nothing_and_is_told_once() {
    let mut daemon = start_with_file(Path::new("/dev/full"), &["-DV"]);
    let line = daemon.stderr_line("cannot write the log");
    assert!(
        line.starts_with("natterjackd: cannot write the log: No space left on device"),
        "{line}"
    );
    // The log cannot say where it listens: it must stop in good order all the same.
    daemon.signal("TERM");
    let ended = daemon.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}

#[test]
fn lines_lost_to_a_full_disk_are_counted_in_the_next_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.log");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let mut daemon = start_with_file(&path, &[]);
    daemon.stderr_line("cannot write the log");
    fs::remove_file(&path).unwrap();
    daemon.signal("USR1");
    let text = wait_for_text(&path, "File log re-opened");
    assert!(
        text.contains("lines of this log were lost: the log before this one failed"),
        "{text}"
    );
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, Some(0));
}

#[test]
fn json_is_one_object_per_line() {
    let daemon = Daemon::start(&["--log_format", "json", "-logtime_utc"]);
    let pid = daemon.running.pid();
    daemon.running.signal("TERM");
    let ended = daemon.running.end();
    let lines: Vec<Value> = ended
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    assert!(lines.len() > 5, "{ended:?}");
    for line in &lines {
        assert_eq!(line["pid"], pid);
        assert_eq!(line["level"], "info");
        let time = line["time"].as_str().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    }
    let is_ready = |line: &Value| line["message"] == "Server is ready";
    assert!(lines.iter().any(is_ready), "{ended:?}");
}

/// `<5>2026-11-22T03:08:02Z vm natterjackd[20538]: Server is ready`, as nats-server sends it.
#[track_caller]
fn check_remote_line(line: &str, pid: u32, priority: u8, text: &str) {
    let head = format!("<{priority}>20");
    let tail = format!(" natterjackd[{pid}]: {text}\n");
    assert!(line.starts_with(&head) && line.ends_with(&tail), "{line:?}");
}

/// Datagrams until one has this text.
#[track_caller]
fn datagram(text: &str, receive: impl Fn(&mut [u8]) -> std::io::Result<usize>) -> String {
    let mut buffer = [0; 2_000];
    for _ in 0..1_000 {
        let length = receive(&mut buffer).unwrap();
        let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if line.contains(text) {
            return line;
        }
    }
    panic!("no {text}");
}

#[test]
fn a_syslog_gets_datagrams_over_the_network() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(DEADLINE)).unwrap();
    let url = format!("udp://{}", receiver.local_addr().unwrap());
    let arguments = ["-a", "127.0.0.1", "-p", "-1", "-D", "--remote_syslog", &url];
    let daemon = Running::start(NATTERJACKD, &arguments);
    let next = |text: &str| datagram(text, |buffer| receiver.recv(buffer));
    check_remote_line(&next("Starting"), daemon.pid(), 5, "Starting natterjackd");
    check_remote_line(&next("ready"), daemon.pid(), 5, "Server is ready");
    daemon.signal("TERM");
    next("Server Exiting..");
    let ended = daemon.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_syslog_gets_datagrams_on_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let receiver = UnixDatagram::bind(&path).unwrap();
    receiver.set_read_timeout(Some(DEADLINE)).unwrap();
    let url = format!("unix://{}", path.display());
    let daemon = Running::start(NATTERJACKD, &["-a", "127.0.0.1", "-p", "-1", "-r", &url]);
    let next = |text: &str| datagram(text, |buffer| receiver.recv(buffer));
    check_remote_line(&next("ready"), daemon.pid(), 5, "Server is ready");
    daemon.signal("TERM");
    next("Server Exiting..");
    assert_eq!(daemon.end().code, Some(0));
}

#[test]
fn a_syslog_gets_lines_over_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let daemon = Running::start(NATTERJACKD, &["-a", "127.0.0.1", "-p", "-1", "-r", &url]);
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut text = String::new();
    let mut buffer = [0; 2_000];
    while !text.contains("Server is ready") {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    let pid = daemon.pid();
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, Some(0));
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains(&format!("natterjackd[{pid}]: Server Exiting..\n")));
    assert!(text.lines().all(|line| line.starts_with("<5>20")), "{text}");
}

#[test]
fn a_log_that_cannot_be_is_said_before_anything_starts() {
    let check = |arguments: &[&str], expected: &str| {
        let all = [&["-a", "127.0.0.1", "-p", "-1"], arguments].concat();
        let ended = run(NATTERJACKD, &all, "");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
        assert!(
            ended
                .stderr
                .starts_with(&format!("natterjackd: {expected}"))
                && ended.stderr.lines().count() == 1,
            "{ended:?}"
        );
    };
    check(
        &["-l", "/nonexistent/log"],
        "cannot open the log file /nonexistent/log: No such file or directory",
    );
    check(
        &["-r", "unix:///nonexistent/log"],
        "cannot connect to the syslog at unix:///nonexistent/log: No such file or directory",
    );
    let ended = run(NATTERJACKD, &["-r", "http://127.0.0.1:514"], "");
    assert_eq!(ended.code, Some(1));
    let expected = "error: remote_syslog: \"http://127.0.0.1:514\" must begin with udp://, tcp:// or unix://\n";
    assert!(ended.stderr.starts_with(expected), "{ended:?}");
}

/// Nobody reads standard error, and the trace of what a client sends fills the pipe many times over.
#[test]
fn a_standard_error_that_nobody_reads_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"exec "$0" -a 127.0.0.1 -p -1 -DV --ports_file_dir "$1" 2>&3"#;
    let fifo = folder.path().join("fifo");
    assert_eq!(run("mkfifo", &[fifo.to_str().unwrap()], "").code, Some(0));
    // Opened for reading and writing, so that it opens at once; read by nobody.
    let script = format!(r#"exec 3<>"$1/fifo"; {script}"#);
    let arguments = ["-c", &script, NATTERJACKD, folder.path().to_str().unwrap()];
    let daemon = Running::start("sh", &arguments);
    let ports = folder
        .path()
        .join(format!("natterjackd_{}.ports", daemon.pid()));
    let ports: Value = serde_json::from_str(&wait_for_text(&ports, "nats")).unwrap();
    let url = ports["nats"][0].as_str().unwrap();
    let messages = [
        "bench",
        "--msgs",
        "30000",
        "--size",
        "16",
        "--subscribers",
        "0",
        "-s",
        url,
    ];
    let ended = run(NATTERJACK, &messages, "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, Some(0));
}
