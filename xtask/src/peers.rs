//! The real peers the tests talk to, prepared once per set of lock files under `target/peers`:
//! nats-server and nats.py in a Python virtual environment, nats.js in a `node_modules`, an old nats-server unpacked from
//! a package of Debian's.
//!
//! What is installed is decided by the lock files in `interop/` alone, every one of them with hashes. This file decides
//! when to install, and what to tell a person when that cannot be done; which test needs which peer is `testkit`'s to know.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run;
use crate::workspace::Workspace;

/// The prepared peers.
pub(crate) struct Peers {
    /// The folder that `NATTERJACK_PEERS` names for the tests.
    pub(crate) folder: PathBuf,
}

impl Peers {
    /// Prepares every peer that is not yet prepared for the lock files as they are now.
    ///
    /// # Errors
    /// When a peer cannot be prepared; the others are tried all the same, and each failure is told with the command that
    /// failed and a remedy.
    pub(crate) fn prepare(workspace: &Workspace) -> Result<Self> {
        let folder = Self::folder(workspace);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        // Two chores at once must not install into one folder. The lock goes with the file, whatever happens to us.
        let lock = File::create(folder.join("lock")).context("cannot create target/peers/lock")?;
        lock.lock().context("cannot lock target/peers/lock")?;

        let mut failures = 0;
        for peer in GROUPS {
            if let Err(error) = peer.prepare(workspace, &folder) {
                failures += 1;
                eprintln!(
                    "\nCould not prepare {}:\n  {error:#}\n  {}",
                    peer.provides, peer.remedy
                );
            }
        }
        if failures > 0 {
            bail!(
                "{failures} of the {} groups of peers could not be prepared (see above); \
                 `cargo xtask test --without-peers` runs the tests that need none of the missing ones",
                GROUPS.len()
            );
        }
        Ok(Self { folder })
    }

    /// Where the peers are, or would be, prepared.
    pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
        workspace.target.join("peers")
    }

    pub(crate) fn nats_server(&self) -> PathBuf {
        self.folder.join("python/bin/nats-server")
    }
}

/// One folder under `target/peers` with one package manager's work in it.
struct Group {
    /// Its folder.
    name: &'static str,
    /// Whom a reader will miss when it cannot be prepared.
    provides: &'static str,
    /// Relative to the checkout; any change of their text prepares anew.
    lock_files: &'static [&'static str],
    /// Files that must be there afterwards, relative to the group's folder.
    results: &'static [&'static str],
    remedy: &'static str,
    install: fn(&Workspace, &Path) -> Result<()>,
}

static GROUPS: [&Group; 3] = [&PYTHON, &JAVASCRIPT, &DEBIAN];

static PYTHON: Group = Group {
    name: "python",
    provides: "nats-server and nats.py",
    lock_files: &["interop/python/requirements.txt"],
    results: &["bin/nats-server", "bin/python"],
    remedy: "It needs Python 3 with venv (Debian: apt-get install python3-venv) and pip's package index, \
             or the same wheels in a folder that PIP_FIND_LINKS names. Then run `cargo xtask peers`.",
    install: install_python,
};

static JAVASCRIPT: Group = Group {
    name: "js",
    provides: "nats.js",
    lock_files: &["interop/js/package.json", "interop/js/package-lock.json"],
    results: &["node_modules/@nats-io/transport-node/package.json"],
    remedy: "It needs Node.js 20 or later with npm, and npm's registry or a filled npm cache. \
             Then run `cargo xtask peers`.",
    install: install_javascript,
};

static DEBIAN: Group = Group {
    name: "debian",
    provides: "nats-server 2.9.10",
    lock_files: &["interop/debian/packages.sha256"],
    results: &["usr/sbin/nats-server"],
    remedy: "It needs apt-get and dpkg-deb with a source of Debian 12 (bookworm) packages, or the package that \
             interop/debian/packages.sha256 names in a folder that NATTERJACK_DEBIAN_PACKAGES names. \
             Then run `cargo xtask peers`.",
    install: install_debian,
};

impl Group {
    fn prepare(&self, workspace: &Workspace, peers: &Path) -> Result<()> {
        let folder = peers.join(self.name);
        let stamp = peers.join(format!("{}.stamp", self.name));
        let wanted = self.stamp(workspace, &folder)?;
        let complete = self
            .results
            .iter()
            .all(|result| folder.join(result).exists());
        if complete && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            println!(
                "{}: already prepared in {}",
                self.provides,
                workspace.shown(&folder)
            );
            return Ok(());
        }

        println!(
            "{}: preparing in {}",
            self.provides,
            workspace.shown(&folder)
        );
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        if let Err(error) = (self.install)(workspace, &folder) {
            // A half-filled folder would be taken for a peer by whoever only looks whether it is there. That this may fail too
            // is less important than why the installation did.
            let _ = fs::remove_dir_all(&folder);
            return Err(error);
        }
        for result in self.results {
            if !folder.join(result).exists() {
                bail!("{} was installed, but {result} is missing", self.provides);
            }
        }
        // Written last: an interrupted preparation is not taken for a finished one.
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
    }

    /// What the folder was prepared from: the lock files' own text, which is small enough to need no digest, and the folder,
    /// since a virtual environment does not survive being moved.
    fn stamp(&self, workspace: &Workspace, folder: &Path) -> Result<String> {
        let mut stamp = format!("{}\n", folder.display());
        for lock_file in self.lock_files {
            let path = workspace.root.join(lock_file);
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {lock_file}"))?;
            stamp.push_str(&text);
        }
        Ok(stamp)
    }
}

fn install_python(workspace: &Workspace, folder: &Path) -> Result<()> {
    run::run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
    ])
    .args(["--require-hashes", "--only-binary=:all:"])
    .args(["-r", "interop/python/requirements.txt"])
    .current_dir(&workspace.root);
    run::run(&mut pip)?;
    let version = run::output(Command::new(folder.join("bin/nats-server")).arg("--version"))?;
    println!("{}", version.trim());
    Ok(())
}

fn install_javascript(workspace: &Workspace, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for lock_file in JAVASCRIPT.lock_files {
        let source = workspace.root.join(lock_file);
        let name = source.file_name().context("a lock file has a name")?;
        fs::copy(&source, folder.join(name)).with_context(|| format!("cannot copy {lock_file}"))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(folder);
    run::run(&mut npm).with_context(|| format!("in {}", workspace.shown(folder)))
}

/// Unpacks the package without installing it, which needs neither root nor a system without a nats-server of its own.
fn install_debian(workspace: &Workspace, folder: &Path) -> Result<()> {
    let lock_file = workspace.root.join(DEBIAN.lock_files[0]);
    let lock = fs::read_to_string(&lock_file)
        .with_context(|| format!("cannot read {}", lock_file.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let architecture = run::output(Command::new("dpkg").arg("--print-architecture"))?;
    let suffix = format!("_{}.deb", architecture.trim());
    let package = lock
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .find(|name| name.ends_with(&suffix))
        .with_context(|| {
            format!(
                "{} names no package for {}",
                DEBIAN.lock_files[0],
                architecture.trim()
            )
        })?;

    match std::env::var_os("NATTERJACK_DEBIAN_PACKAGES") {
        Some(packages) => {
            let source = Path::new(&packages).join(package);
            fs::copy(&source, folder.join(package))
                .with_context(|| format!("cannot copy {}", source.display()))?;
        }
        None => download_debian(package, folder)?,
    }
    let mut check = Command::new("sha256sum");
    check
        .args(["--check", "--ignore-missing", "--strict", "--quiet"])
        .arg(&lock_file)
        .current_dir(folder);
    run::run(&mut check).with_context(|| format!("{package} is not the package we know"))?;
    run::run(
        Command::new("dpkg-deb")
            .args(["--extract", package, "."])
            .current_dir(folder),
    )?;
    let version = run::output(Command::new(folder.join("usr/sbin/nats-server")).arg("--version"))?;
    println!("{}", version.trim());
    Ok(())
}

/// Downloads a package by its file name, `<name>_<version>_<architecture>.deb`. The lists of what there is are apt's own if
/// it has them, as a developer's machine does; a fresh container has none, and only root may fill apt's, so then they are
/// fetched to a folder of ours.
fn download_debian(package: &str, folder: &Path) -> Result<()> {
    let mut parts = package.split('_');
    let wanted = match (parts.next(), parts.next()) {
        (Some(name), Some(version)) => format!("{name}={version}"),
        _ => bail!("`{package}` is no file name of a package"),
    };
    // Otherwise apt lets another user write the files when we are root, who may not be able to reach the folder.
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command
            .args(["-qq", "-o", "APT::Sandbox::User=root"])
            .current_dir(folder);
        command
    };
    if run::run(apt_get().args(["download", &wanted])).is_ok() {
        return Ok(());
    }
    let state = folder.join("apt");
    fs::create_dir_all(state.join("lists/partial"))
        .and_then(|()| fs::create_dir_all(state.join("cache/archives/partial")))
        .with_context(|| format!("cannot create {}", state.display()))?;
    let own = |command: &mut Command| {
        let lists = format!("Dir::State::Lists={}", state.join("lists").display());
        let cache = format!("Dir::Cache={}", state.join("cache").display());
        command.args(["-o", &lists, "-o", &cache, "-o", "Debug::NoLocking=1"]);
    };
    let mut update = apt_get();
    own(&mut update);
    run::run(update.arg("update"))?;
    let mut download = apt_get();
    own(&mut download);
    run::run(download.args(["download", &wanted]))?;
    fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))
}
