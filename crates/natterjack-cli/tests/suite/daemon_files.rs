//! The files `natterjackd` leaves for others: its process id, and where it listens.

use std::fs;

use serde_json::{Value, json};

use crate::process::{Daemon, NATTERJACKD, run, wait_for_text};

#[test]
fn two_servers_do_not_share_a_process_id_file() {
    let folder = tempfile::tempdir().unwrap();
    let (pid, ports) = (folder.path().join("pid"), folder.path().join("ports"));
    fs::create_dir(&ports).unwrap();
    let path = pid.to_str().unwrap();
    let first = Daemon::start(&["-P", path]);
    let arguments = [
        "-a",
        "127.0.0.1",
        "-p",
        "-1",
        "-P",
        path,
        "--ports_file_dir",
        ports.to_str().unwrap(),
    ];
    let second = run(NATTERJACKD, &arguments, "");
    assert_eq!(second.code, Some(1), "{second:?}");
    let owner = format!(
        "[FTL] the process id file {path} belongs to another server that runs, natterjackd with process id {}; stop",
        first.running.pid()
    );
    assert!(second.stderr.contains(&owner), "{second:?}");
    assert!(!second.stderr.contains("Listening"), "{second:?}");
    assert_eq!(fs::read_dir(&ports).unwrap().count(), 0);
    // The first one's is as it was, and goes with it.
    assert_eq!(
        fs::read_to_string(&pid).unwrap(),
        first.running.pid().to_string()
    );
    first.running.signal("TERM");
    first.running.end();
    assert!(!pid.exists());
}

#[test]
fn a_killed_server_leaves_a_file_that_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let arguments = ["-P", pid.to_str().unwrap()];
    let first = Daemon::start(&arguments);
    first.running.signal("KILL");
    first.running.end();
    assert!(pid.exists());
    let second = Daemon::start(&arguments);
    assert_eq!(
        fs::read_to_string(&pid).unwrap(),
        second.running.pid().to_string()
    );
}

#[test]
fn what_is_no_process_id_file_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("natterjackd.conf");
    fs::write(&path, "port: 4222\n").unwrap();
    let ended = run(
        NATTERJACKD,
        &["-a", "127.0.0.1", "-p", "-1", "-P", path.to_str().unwrap()],
        "",
    );
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("is not a process id file"),
        "{ended:?}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "port: 4222\n");
}

#[test]
fn the_ports_file_says_where_it_listens_and_goes_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&[
        "-m",
        "-1",
        "--ports_file_dir",
        folder.path().to_str().unwrap(),
    ]);
    let path = folder
        .path()
        .join(format!("natterjackd_{}.ports", daemon.running.pid()));
    let ports: Value = serde_json::from_str(&wait_for_text(&path, "}")).unwrap();
    let monitoring = ports["monitoring"][0].as_str().unwrap();
    assert!(monitoring.starts_with("http://127.0.0.1:"), "{ports}");
    assert_eq!(
        ports,
        json!({ "nats": [daemon.url], "monitoring": [monitoring] })
    );
    daemon.running.signal("TERM");
    daemon.running.end();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_ports_file_that_cannot_be_written_is_no_reason_not_to_serve() {
    let daemon = Daemon::start(&["--ports_file_dir", "/nonexistent"]);
    daemon.running.signal("TERM");
    let ended = daemon.running.end();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended
            .stderr
            .contains("[ERR] Error writing ports file (/nonexistent/natterjackd_"),
        "{ended:?}"
    );
}

#[test]
fn a_server_that_cannot_start_leaves_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let pid = folder.path().join("pid");
    let first = Daemon::start(&[]);
    let port = first.url.rsplit(':').next().unwrap();
    let arguments = [
        "-a",
        "127.0.0.1",
        "-p",
        port,
        "-P",
        pid.to_str().unwrap(),
        "--ports_file_dir",
        path,
    ];
    let second = run(NATTERJACKD, &arguments, "");
    assert_eq!(second.code, Some(1));
    let expected = format!(
        "[FTL] Error listening on port: 127.0.0.1:{port}, \"listen tcp 127.0.0.1:{port}: bind: address already in use"
    );
    assert!(second.stderr.contains(&expected), "{second:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
