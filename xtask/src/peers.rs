//! The real peers the tests talk to, prepared once per set of lock files under `target/peers`:
//! nats-server and nats.py in a Python virtual environment, nats.js in a `node_modules`, an old nats-server unpacked from
//! a package of Debian's, Puppet's server and MCollective with all they need unpacked from packages of Debian's, a browser
//! and what drives it.
//!
//! What is installed is decided by the lock files in `interop/` alone. They have hashes, except that of Puppet's server: it
//! needs 280 packages, some of which have security updates every few weeks, after which the former ones are gone. There
//! apt's own check of the archive's signatures has to do. This file decides when to install, and what to tell a person when
//! that cannot be done; which test needs which peer is `testkit`'s to know.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

static GROUPS: [&Group; 7] = [
    &PYTHON,
    &JAVASCRIPT,
    &DEBIAN,
    &PUPPET,
    &NAMING,
    &MCOLLECTIVE,
    &BROWSER,
];

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

static PUPPET: Group = Group {
    name: "puppet",
    provides: "Puppet's server",
    lock_files: &["interop/debian/puppet.packages"],
    results: &[
        "usr/share/puppetserver/puppetserver.jar",
        "usr/lib/jvm/default-java/bin/java",
        "usr/bin/ruby",
        "etc/passwd",
    ],
    remedy: "It needs apt-get and dpkg-deb with a source of Debian 12 (bookworm) packages, 200 MB to download and 600 MB \
             of disk. Then run `cargo xtask peers`.",
    install: install_puppet,
};

static NAMING: Group = Group {
    name: "naming",
    provides: "dnsmasq, knot and facter",
    lock_files: &["interop/debian/naming.packages"],
    results: &[
        "usr/sbin/dnsmasq",
        "usr/sbin/knotd",
        "usr/bin/facter",
        "etc/passwd",
    ],
    remedy: "It needs apt-get and dpkg-deb with a source of Debian 12 (bookworm) packages, 50 MB to download and 150 MB \
             of disk. Then run `cargo xtask peers`.",
    install: install_naming,
};

static BROWSER: Group = Group {
    name: "browser",
    provides: "Playwright and Chromium",
    lock_files: &[
        "interop/browser/package.json",
        "interop/browser/package-lock.json",
        "interop/debian/browser.packages",
    ],
    results: &["node_modules/playwright-core/package.json", "chromium"],
    remedy: "It needs Node.js 20 or later with npm, and npm's registry or a filled npm cache; and either an installed Chromium \
             (Debian: apt-get install chromium), or apt-get and dpkg-deb with a source of Debian 12 (bookworm) packages, \
             230 MB to download and 800 MB of disk. Then run `cargo xtask peers`.",
    install: install_browser,
};

static MCOLLECTIVE: Group = Group {
    name: "mcollective",
    provides: "MCollective",
    lock_files: &["interop/debian/mcollective.packages"],
    results: &[
        "usr/sbin/mcollectived",
        "usr/bin/mco",
        "usr/bin/ruby",
        "etc/passwd",
    ],
    remedy: "It needs apt-get and dpkg-deb with a source of Debian 12 (bookworm) packages, 15 MB to download and 60 MB \
             of disk. Then run `cargo xtask peers`.",
    install: install_mcollective,
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
    install_modules(workspace, JAVASCRIPT.lock_files, folder)
}

/// What a `package.json` and its lock name, into the folder's `node_modules`.
fn install_modules(workspace: &Workspace, lock_files: &[&str], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for lock_file in lock_files {
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

fn install_puppet(workspace: &Workspace, folder: &Path) -> Result<()> {
    install_root(workspace, PUPPET.lock_files[0], folder)?;
    // What a maintainer script would have done.
    let java = folder.join("usr/share/java");
    std::os::unix::fs::symlink("clojure-1.11.jar", java.join("clojure.jar"))
        .context("cannot link clojure.jar")
}

fn install_naming(workspace: &Workspace, folder: &Path) -> Result<()> {
    install_root(workspace, NAMING.lock_files[0], folder)
}

fn install_mcollective(workspace: &Workspace, folder: &Path) -> Result<()> {
    install_root(workspace, MCOLLECTIVE.lock_files[0], folder)
}

/// What becomes Chromium in the root beside it. It finds `/tmp` as it is outside, where Playwright puts a profile for it. The
/// mounts are the process's own and end with it.
const CHROMIUM_IN_ROOT: &str = r#"#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/root
[ "$(id -u)" = 0 ] || user="--user --map-root-user"
exec unshare $user --mount sh -c '
mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc" && mount --rbind /tmp "$1/tmp" || exit 1
root=$1
shift
exec chroot "$root" /usr/lib/chromium/chromium "$@"
' enter "$root" "$@"
"#;

/// Chromium is the one that is installed, which whoever develops the page has. Only where there is none it is unpacked.
fn install_browser(workspace: &Workspace, folder: &Path) -> Result<()> {
    install_modules(workspace, &BROWSER.lock_files[..2], folder)?;
    let chromium = folder.join("chromium");
    let installed = std::env::var_os("PATH")
        .and_then(|path| {
            let places = std::env::split_paths(&path);
            let programs = places.map(|place| place.join("chromium"));
            programs.into_iter().find(|program| program.is_file())
        })
        .filter(|program| run::output(Command::new(program).arg("--version")).is_ok());
    if let Some(installed) = installed {
        println!("Chromium is the installed {}", installed.display());
        return std::os::unix::fs::symlink(installed, chromium).context("cannot link Chromium");
    }
    install_root(workspace, BROWSER.lock_files[2], &folder.join("root"))?;
    fs::write(&chromium, CHROMIUM_IN_ROOT)
        .and_then(|()| fs::set_permissions(&chromium, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", chromium.display()))?;
    let version = run::output(Command::new(&chromium).arg("--version")).context(
        "Chromium runs in a root of its own, which takes root (CAP_SYS_ADMIN), or a system on which users may create user \
         namespaces",
    )?;
    println!("{}", version.trim());
    Ok(())
}

/// Unpacks the packages of a list and everything below them, down to the C library, into a root of their own, in which they
/// find each other where they expect it. Nothing is installed: programs run there by `chroot`, on any Linux.
fn install_root(workspace: &Workspace, list_file: &str, folder: &Path) -> Result<()> {
    let list = fs::read_to_string(workspace.root.join(list_file))
        .with_context(|| format!("cannot read {list_file}"))?;
    let wanted = list
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let archives = folder.join("packages");
    fs::create_dir_all(archives.join("partial"))
        .with_context(|| format!("cannot create {}", archives.display()))?;
    // As if nothing were installed, so that nothing is taken from this system.
    let status = folder.join("packages/status");
    fs::write(&status, "").with_context(|| format!("cannot write {}", status.display()))?;
    let own = [
        format!("Dir::State::Status={}", status.display()),
        format!("Dir::Cache::Archives={}", archives.display()),
        "APT::Install-Recommends=false".to_owned(),
    ];
    with_lists(folder, |command| {
        for option in &own {
            command.args(["-o", option]);
        }
        command.args(["--yes", "--download-only", "install"]);
        command.args(wanted.clone());
    })?;

    // Debian keeps them below /usr; packages still name the former places.
    for name in ["bin", "sbin", "lib", "lib64"] {
        let below = Path::new("usr").join(name);
        fs::create_dir_all(folder.join(&below))
            .and_then(|()| std::os::unix::fs::symlink(&below, folder.join(name)))
            .with_context(|| format!("cannot make {}", below.display()))?;
    }
    let mut packages = 0;
    for entry in fs::read_dir(&archives).context("the packages are there")? {
        let package = entry.context("the packages are there")?.path();
        if package.extension().is_some_and(|end| end == "deb") {
            unpack(&package, folder)?;
            packages += 1;
        }
    }
    fs::remove_dir_all(&archives)
        .with_context(|| format!("cannot remove {}", archives.display()))?;
    println!("{packages} packages");

    // What maintainer scripts would have done, as far as it is needed. The user `puppet` is root here, whom alone there is
    // within a user namespace.
    for (name, text) in [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\npuppet:x:0:0:puppet:/mnt:/bin/sh\n",
        ),
        ("etc/group", "root:x:0:\npuppet:x:0:\n"),
        ("etc/hosts", "127.0.0.1 localhost puppet\n"),
        (
            "etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\n",
        ),
    ] {
        fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    // Where the test puts things.
    for name in ["dev", "proc", "mnt", "tmp"] {
        fs::create_dir_all(folder.join(name)).with_context(|| format!("cannot create {name}"))?;
    }
    Ok(())
}

/// `dpkg-deb --extract`, except that it follows the links above, and leaves out what only people read.
fn unpack(package: &Path, folder: &Path) -> Result<()> {
    let mut open = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let content = open.stdout.take().context("it has a pipe")?;
    let unpacked = Command::new("tar")
        .args(["--extract", "--keep-directory-symlink", "--no-same-owner"])
        .args(["--exclude=./usr/share/doc/*", "--exclude=./usr/share/man/*"])
        .args(["--exclude=./usr/share/locale/*", "--exclude=./dev/*"])
        .current_dir(folder)
        .stdin(content)
        .status()
        .context("cannot start tar")?;
    let opened = open.wait().context("dpkg-deb is ours to wait for")?;
    if !opened.success() || !unpacked.success() {
        bail!("cannot unpack {}", package.display());
    }
    Ok(())
}

/// Downloads a package by its file name, `<name>_<version>_<architecture>.deb`.
fn download_debian(package: &str, folder: &Path) -> Result<()> {
    let mut parts = package.split('_');
    let wanted = match (parts.next(), parts.next()) {
        (Some(name), Some(version)) => format!("{name}={version}"),
        _ => bail!("`{package}` is no file name of a package"),
    };
    with_lists(folder, |command| {
        command.args(["download", &wanted]);
    })
}

/// Has apt-get do what `arguments` say. The lists of what there is are apt's own if it has them, as a developer's machine
/// does; a fresh container has none, and only root may fill apt's, so then they are fetched to a folder of ours.
fn with_lists(folder: &Path, arguments: impl Fn(&mut Command)) -> Result<()> {
    // Otherwise apt lets another user write the files when we are root, who may not be able to reach the folder.
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command
            .args(["-qq", "-o", "APT::Sandbox::User=root"])
            .args(["-o", "Debug::NoLocking=1"])
            .current_dir(folder);
        command
    };
    let mut with_apts_lists = apt_get();
    arguments(&mut with_apts_lists);
    if run::run(&mut with_apts_lists).is_ok() {
        return Ok(());
    }
    let state = folder.join("apt");
    fs::create_dir_all(state.join("lists/partial"))
        .and_then(|()| fs::create_dir_all(state.join("cache/archives/partial")))
        .with_context(|| format!("cannot create {}", state.display()))?;
    let own = |command: &mut Command| {
        let lists = format!("Dir::State::Lists={}", state.join("lists").display());
        let cache = format!("Dir::Cache={}", state.join("cache").display());
        command.args(["-o", &lists, "-o", &cache]);
    };
    let mut update = apt_get();
    own(&mut update);
    run::run(update.arg("update"))?;
    let mut again = apt_get();
    own(&mut again);
    arguments(&mut again);
    run::run(&mut again)?;
    fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))
}
