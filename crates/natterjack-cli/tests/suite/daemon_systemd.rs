//! `natterjackd` under a service manager: what it is told, and sockets it has opened.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::process::{DEADLINE, Daemon, NATTERJACK, NATTERJACKD, Running, run};

/// Listens where a service manager would.
struct Manager {
    _folder: tempfile::TempDir,
    path: PathBuf,
    socket: UnixDatagram,
}

fn manager() -> Manager {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    Manager {
        _folder: folder,
        path,
        socket,
    }
}

impl Manager {
    #[track_caller]
    fn hears(&self) -> String {
        let mut buffer = [0; 1_000];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}

#[test]
fn the_manager_is_told_when_it_serves_and_when_it_stops() {
    let manager = manager();
    let daemon = Daemon::start_with(&[], &[("NOTIFY_SOCKET", manager.path.to_str().unwrap())]);
    let address = daemon.url.strip_prefix("nats://").unwrap();
    assert_eq!(
        manager.hears(),
        format!("READY=1\nSTATUS=Serving clients on {address}\n")
    );
    daemon.running.signal("HUP");
    let reloading = manager.hears();
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert!(manager.hears().starts_with("READY=1\n"));
    daemon.running.signal("TERM");
    let stopping = manager.hears();
    assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
    assert_eq!(daemon.running.end().code, Some(0));
}

#[test]
fn the_watchdog_hears_from_it_again_and_again() {
    let manager = manager();
    let environment = [
        ("NOTIFY_SOCKET", manager.path.to_str().unwrap()),
        ("WATCHDOG_USEC", "20000"),
    ];
    let daemon = Daemon::start_with(&[], &environment);
    let mut alive = 0;
    while alive < 5 {
        let text = manager.hears();
        assert!(
            text == "WATCHDOG=1\n" || text.starts_with("READY=1\n"),
            "{text}"
        );
        alive += usize::from(text == "WATCHDOG=1\n");
    }
    daemon.running.signal("TERM");
    assert_eq!(daemon.running.end().code, Some(0));
}

/// Sockets start at number 3, and say for which process they are: a shell sees to both, and becomes the daemon.
fn start_with_socket(listener: TcpListener, names: &str) -> Running {
    let script = r#"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES="$1" exec "$0" -a 127.0.0.1 -p -1"#;
    let mut command = Command::new("sh");
    command
        .args(["-c", script, NATTERJACKD, names])
        .stdin(Stdio::from(OwnedFd::from(listener)));
    Running::spawn(command)
}

#[test]
fn it_serves_on_the_socket_it_is_given() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut daemon = start_with_socket(listener, "client");
    let line = daemon.stderr_line("Listening for client connections on ");
    assert!(line.ends_with(&address.to_string()), "{line}");
    daemon.stderr_line("Server is ready");
    let url = format!("nats://{address}");
    let ended = run(NATTERJACK, &["pub", "s", "x", "-s", &url], "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, Some(0));
}

#[test]
fn a_socket_may_be_for_the_monitoring_pages() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut daemon = start_with_socket(listener, "monitor");
    let line = daemon.stderr_line("Starting http monitor on ");
    assert!(line.ends_with(&address.to_string()), "{line}");
    let line = daemon.stderr_line("Listening for client connections on ");
    assert!(!line.ends_with(&address.to_string()), "{line}");
    daemon.stderr_line("Server is ready");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, Some(0));
}

#[test]
fn a_socket_for_nobody_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ended = start_with_socket(listener, "cluster").end();
    assert_eq!(ended.code, Some(1));
    let expected = "[FTL] a socket from the service manager is named \"cluster\"; there are `client` and `monitor`";
    assert!(ended.stderr.contains(expected), "{ended:?}");
}
