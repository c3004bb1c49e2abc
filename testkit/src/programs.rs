//! Where the programs under test are: our daemon, and the real peers that `cargo xtask peers` prepares.
//!
//! Two environment variables override what is found beside the running test: `NATTERJACK_NATTERJACKD` names our daemon,
//! `NATTERJACK_PEERS` the folder of prepared peers. With `NATTERJACK_WITHOUT_PEERS` set, a test whose peer is missing may skip
//! itself, see [`Missing::skips`].

use std::path::{Path, PathBuf};

/// A program that is not there, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{program} is not at {}: run `{remedy}`", path.display())]
pub struct Missing {
    program: &'static str,
    path: PathBuf,
    remedy: &'static str,
}

impl Missing {
    /// Whether the test is to be skipped, naming this as its reason, rather than to fail. So it is for the real peers when
    /// `NATTERJACK_WITHOUT_PEERS` is set, never for our own daemon.
    #[must_use]
    pub fn skips(&self) -> bool {
        self.remedy == PREPARE && std::env::var_os("NATTERJACK_WITHOUT_PEERS").is_some()
    }
}

const PREPARE: &str = "cargo xtask peers";
const BUILD: &str = "cargo build --workspace --bins";

/// Our daemon, of the same profile as the running test.
///
/// # Errors
/// When it is not built.
pub fn natterjackd() -> Result<PathBuf, Missing> {
    let path = match std::env::var_os("NATTERJACK_NATTERJACKD") {
        Some(path) => PathBuf::from(path),
        None => profile_folder().join("natterjackd"),
    };
    existing("natterjackd", path, BUILD)
}

/// Our command line, of the same profile as the running test.
///
/// # Errors
/// When it is not built.
pub fn natterjack() -> Result<PathBuf, Missing> {
    existing("natterjack", profile_folder().join("natterjack"), BUILD)
}

/// The real nats-server.
///
/// # Errors
/// When it is not prepared.
pub fn nats_server() -> Result<PathBuf, Missing> {
    existing(
        "nats-server",
        peers_folder().join("python/bin/nats-server"),
        PREPARE,
    )
}

/// The nats-server of another age, as Debian 12 has it: 2.9.10, which knows neither pools of routes nor their compression.
///
/// # Errors
/// When it is not prepared.
pub fn old_nats_server() -> Result<PathBuf, Missing> {
    existing(
        "the old nats-server",
        peers_folder().join("debian/usr/sbin/nats-server"),
        PREPARE,
    )
}

/// The root in which Puppet's server is, with everything below it. Its programs run there by `chroot`.
///
/// # Errors
/// When it is not prepared.
pub fn puppet() -> Result<PathBuf, Missing> {
    let root = peers_folder().join("puppet");
    existing(
        "Puppet's server",
        root.join("usr/share/puppetserver/puppetserver.jar"),
        PREPARE,
    )?;
    Ok(root)
}

/// The root in which dnsmasq, knot and facter are, with everything below them. They run there by `chroot`.
///
/// # Errors
/// When it is not prepared.
pub fn naming() -> Result<PathBuf, Missing> {
    let root = peers_folder().join("naming");
    existing("dnsmasq", root.join("usr/sbin/dnsmasq"), PREPARE)?;
    Ok(root)
}

/// The root in which MCollective's daemon and client are, with everything below them. They run there by `chroot`.
///
/// # Errors
/// When it is not prepared.
pub fn mcollective() -> Result<PathBuf, Missing> {
    let root = peers_folder().join("mcollective");
    existing("MCollective", root.join("usr/sbin/mcollectived"), PREPARE)?;
    Ok(root)
}

/// A Python that can `import nats`.
///
/// # Errors
/// When it is not prepared.
pub fn python() -> Result<PathBuf, Missing> {
    existing("nats.py", peers_folder().join("python/bin/python"), PREPARE)
}

/// The folder from which Node.js resolves `@nats-io/transport-node`.
///
/// # Errors
/// When it is not prepared.
pub fn javascript() -> Result<PathBuf, Missing> {
    let folder = peers_folder().join("js");
    existing(
        "nats.js",
        folder.join("node_modules/@nats-io/transport-node"),
        PREPARE,
    )?;
    Ok(folder)
}

/// The folder from which Node.js resolves `playwright-core`, with a browser for it, `chromium`.
///
/// # Errors
/// When it is not prepared.
pub fn browser() -> Result<PathBuf, Missing> {
    let folder = peers_folder().join("browser");
    existing("Chromium", folder.join("chromium"), PREPARE)?;
    Ok(folder)
}

/// A folder beside the build's for what tests leave to be looked at; it may not exist.
#[must_use]
pub fn left_by_tests(name: &str) -> PathBuf {
    profile_folder().with_file_name(name)
}

fn existing(
    program: &'static str,
    path: PathBuf,
    remedy: &'static str,
) -> Result<PathBuf, Missing> {
    if path.exists() {
        Ok(path)
    } else {
        Err(Missing {
            program,
            path,
            remedy,
        })
    }
}

fn peers_folder() -> PathBuf {
    match std::env::var_os("NATTERJACK_PEERS") {
        Some(path) => PathBuf::from(path),
        None => profile_folder().with_file_name("peers"),
    }
}

/// Where cargo puts the binaries of this build: the folder above the `deps` that holds the running test.
fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let deps = test.ancestors().find(|folder| folder.ends_with("deps"));
    deps.and_then(Path::parent)
        .or_else(|| test.parent())
        .unwrap_or(&test)
        .to_owned()
}
