//! `natterjack passwd` and `natterjack nkey`: what they print is what a server lets in, and nothing secret is shown.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use rustix::termios::{LocalModes, tcgetattr};

use crate::process::{Daemon, Ended, NATTERJACK, Running, run, terminal};

fn passwd(arguments: &[&str], input: &str) -> Ended {
    run(NATTERJACK, &[&["passwd"], arguments].concat(), input)
}

fn nkey(arguments: &[&str], input: &str) -> Ended {
    run(NATTERJACK, &[&["nkey"], arguments].concat(), input)
}

fn daemon(folder: &tempfile::TempDir, text: &str) -> Daemon {
    let file = folder.path().join("nats.conf");
    fs::write(&file, text).expect("a file in a folder of ours");
    Daemon::start(&["-c", file.to_str().expect("a plain path")])
}

#[track_caller]
fn publishes(daemon: &Daemon, arguments: &[&str]) -> bool {
    let publish = ["pub", "a", "b", "-s", &daemon.url];
    let ended = run(NATTERJACK, &[&publish, arguments].concat(), "");
    assert_eq!(
        ended.code == Some(0),
        ended.stderr.contains("Published"),
        "{ended:?}"
    );
    ended.code == Some(0)
}

#[test]
fn a_password_becomes_a_hash_that_lets_in() {
    let ended = passwd(&["--cost", "4"], "s3cret word\n");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let hash = ended.stdout.trim_end();
    assert!(hash.starts_with("$2b$04$") && hash.len() == 60, "{ended:?}");
    let folder = tempfile::tempdir().expect("a folder for a test");
    let daemon = daemon(
        &folder,
        &format!("authorization {{ user: ann, password: \"{hash}\" }}"),
    );
    assert!(publishes(
        &daemon,
        &["--user", "ann", "--password", "s3cret word"]
    ));
    assert!(!publishes(
        &daemon,
        &["--user", "ann", "--password", "s3cret"]
    ));
    assert!(!publishes(&daemon, &["--user", "ann", "--password", hash]));
}

#[test]
fn the_cost_is_11_unless_said_otherwise() {
    let hash = passwd(&[], "pw").stdout;
    assert!(hash.starts_with("$2b$11$"), "{hash}");
    for wrong in ["3", "32", "many"] {
        assert_eq!(passwd(&["--cost", wrong], "pw").code, Some(2), "{wrong}");
    }
}

#[test]
fn passwords_are_no_arguments_and_not_empty_long_or_several() {
    assert_eq!(passwd(&["s3cret"], "").code, Some(2));
    for (input, reason) in [
        ("", "empty"),
        ("\n", "empty"),
        ("one\ntwo\n", "more than one line"),
        (&*"x".repeat(73), "longer than the 72 bytes"),
        (&*"x".repeat(100_000), "longer than the 72 bytes"),
    ] {
        let ended = passwd(&["--cost", "4"], input);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
        assert!(ended.stderr.contains(reason), "{ended:?}");
        assert!(input.len() < 2 || !ended.stderr.contains(input.trim()));
    }
}

#[test]
fn a_generated_password_is_told_beside_its_hash() {
    let ended = passwd(&["--generate", "--cost", "4"], "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let password = ended.stderr.trim_end().strip_prefix("password: ");
    let password = password.expect("a password");
    assert_eq!(password.len(), 26, "130 bits");
    let hash = ended.stdout.trim_end();
    let folder = tempfile::tempdir().expect("a folder for a test");
    let daemon = daemon(&folder, &format!("authorization {{ token: \"{hash}\" }}"));
    assert!(publishes(&daemon, &["--token", password]));
    assert_ne!(passwd(&["-g", "--cost", "4"], "").stderr, ended.stderr);
}

fn start_on(terminal: &fs::File) -> Running {
    let mut command = Command::new(NATTERJACK);
    command
        .args(["passwd", "--cost", "4"])
        .stdin(Stdio::from(terminal.try_clone().expect("a descriptor")));
    Running::spawn(command)
}

/// Runs `natterjack passwd` on a terminal of its own where this is typed, and returns what the terminal showed.
fn on_a_terminal(typed: &[&str]) -> (Ended, String) {
    let (mut master, terminal) = terminal();
    let mut running = start_on(&terminal);
    for (prompt, line) in ["New password:", "Once more:"].into_iter().zip(typed) {
        // Standard error is read by lines, and a question does not end its own. The prompt of the second one comes with
        // the end of the first; typing ahead is what the terminal's buffer is for.
        if prompt == "Once more:" {
            running.stderr_line("New password:");
        } else {
            wait_for_silence(&terminal);
        }
        writeln!(master, "{line}").expect("the terminal takes it");
    }
    let ended = running.end();
    // A mark behind everything that was shown, echoed by the terminal that shows again.
    writeln!(master, "the end").expect("the terminal takes it");
    let mut shown = Vec::new();
    let mut piece = [0; 256];
    while !String::from_utf8_lossy(&shown).contains("the end") {
        let count = master.read(&mut piece).expect("what the terminal shows");
        shown.extend_from_slice(&piece[..count]);
    }
    (ended, String::from_utf8_lossy(&shown).into_owned())
}

/// Until the program has switched the echo off: what is typed before would be dropped.
fn wait_for_silence(terminal: &fs::File) {
    crate::process::wait_until("silent terminal", || !shows(terminal));
}

/// Whether a terminal shows what is typed.
fn shows(terminal: &fs::File) -> bool {
    let modes = tcgetattr(terminal).expect("a terminal").local_modes;
    modes.contains(LocalModes::ECHO)
}

#[test]
fn a_terminal_shows_again_after_an_interruption() {
    let (_master, terminal) = terminal();
    for signal in ["INT", "TERM"] {
        assert!(shows(&terminal));
        let running = start_on(&terminal);
        wait_for_silence(&terminal);
        running.signal(signal);
        let ended = running.end();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
        assert!(shows(&terminal), "after {signal}");
    }
}

#[test]
fn on_a_terminal_it_is_typed_twice_unseen_and_the_terminal_shows_again_afterwards() {
    let (ended, shown) = on_a_terminal(&["hush hush", "hush hush"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("$2b$04$"), "{ended:?}");
    assert!(!shown.contains("hush"), "{shown}");
    let (ended, shown) = on_a_terminal(&["hush", "hash"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("not the same"), "{ended:?}");
    assert!(!shown.contains("hush") && !shown.contains("hash"));
}

#[test]
fn key_pairs_of_every_role() {
    for (arguments, letter) in [
        (&[][..], 'U'),
        (&["user"], 'U'),
        (&["account"], 'A'),
        (&["server"], 'N'),
    ] {
        let ended = nkey(arguments, "");
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        let (seed, public) = ended.stdout.trim_end().split_once('\n').expect("two lines");
        assert!(seed.starts_with(&format!("S{letter}")) && seed.len() == 58);
        assert!(public.starts_with(letter) && public.len() == 56);
        assert_eq!(nkey(&["--public"], seed).stdout.trim_end(), public);
        assert_eq!(nkey(&["--public"], public).stdout.trim_end(), public);
        assert_ne!(nkey(arguments, "").stdout, ended.stdout);
    }
    assert_eq!(nkey(&["nobody"], "").code, Some(2));
}

#[test]
fn a_seed_goes_into_a_file_of_its_owner_and_is_never_overwritten() {
    let folder = tempfile::tempdir().expect("a folder for a test");
    let path = folder.path().join("app.nk");
    let file = path.to_str().expect("a plain path");
    let ended = nkey(&["--output", file], "");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let public = ended.stdout.trim_end();
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let seed = fs::read_to_string(&path).expect("a file");
    assert!(!ended.stdout.contains(seed.trim_end()));
    assert_eq!(nkey(&["--public", file], "").stdout.trim_end(), public);
    assert_eq!(nkey(&["--output", file], "").code, Some(1));
    assert_eq!(fs::read_to_string(&path).expect("a file"), seed);
}

#[test]
fn a_server_lets_in_who_has_the_seed() {
    let folder = tempfile::tempdir().expect("a folder for a test");
    let path = folder.path().join("app.nk");
    let file = path.to_str().expect("a plain path");
    let public = nkey(&["--output", file], "").stdout;
    let other = folder.path().join("other.nk");
    let other = other.to_str().expect("a plain path");
    nkey(&["--output", other], "");
    let daemon = daemon(
        &folder,
        &format!(
            "authorization {{ users: [ {{ nkey: {} }} ] }}",
            public.trim_end()
        ),
    );
    assert!(publishes(&daemon, &["--nkey", file]));
    assert!(!publishes(&daemon, &["--nkey", other]));
    let explained = format!(
        "-----BEGIN USER NKEY SEED-----\n{}------END USER NKEY SEED------\n",
        fs::read_to_string(file).expect("a file")
    );
    fs::write(other, explained).expect("written");
    assert!(publishes(&daemon, &["--nkey", other]));
    assert!(!publishes(&daemon, &[]));
}

#[test]
fn what_is_no_key_is_refused_without_being_shown() {
    let seed = nkey(&[], "").stdout[..58].to_owned();
    let changed = if seed.ends_with('A') { "B" } else { "A" };
    let damaged = format!("{}{changed}", &seed[..57]);
    for input in ["", "hello", &damaged, &seed[..57], &seed.to_lowercase()] {
        let ended = nkey(&["--public"], input);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
        assert!(input.len() < 9 || !ended.stderr.contains(&input[..9]));
    }
    assert_eq!(nkey(&["--public", "/nope"], "").code, Some(1));
    assert_eq!(nkey(&["user", "--public"], "").code, Some(2));
}
