//! Which crate may reach which, and what the engine may not name. The compiler keeps privacy; this keeps direction.
//!
//! The table below is the architecture's list of arrows. To add an arrow is a decision, made here and explained in
//! `ARCHITECTURE.md`.

use std::fmt::Display;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::run::output;
use crate::source::{code_only, rust_files};
use crate::workspace::{DependencyKind, Package, Workspace};

/// A product crate, and the other product crates it may use. A crate only names crates that stand before it.
struct Room {
    name: &'static str,
    may_use: &'static [&'static str],
    /// Whether tokio must be out of reach: what decides runs without a runtime.
    without_runtime: bool,
}

const ROOMS: [Room; 10] = [
    Room {
        name: "natterjack-wire",
        may_use: &[],
        without_runtime: true,
    },
    Room {
        name: "natterjack-subject",
        may_use: &[],
        without_runtime: true,
    },
    Room {
        name: "natterjack-conf",
        may_use: &[],
        without_runtime: true,
    },
    Room {
        name: "natterjack-dns",
        may_use: &[],
        without_runtime: false,
    },
    Room {
        // What the two clients have in common.
        name: "natterjack-link",
        may_use: &["natterjack-wire"],
        without_runtime: false,
    },
    Room {
        name: "natterjack-engine",
        may_use: &["natterjack-wire", "natterjack-subject"],
        without_runtime: true,
    },
    Room {
        name: "natterjack-server",
        may_use: &[
            "natterjack-wire",
            "natterjack-subject",
            "natterjack-conf",
            "natterjack-dns",
            "natterjack-engine",
        ],
        without_runtime: false,
    },
    Room {
        name: "natterjack-bus",
        // Public APIs only: what the bus cannot do through the server's own face is a gap in that face. Of the
        // configuration language it takes how people write durations, and the guess at what they meant. It is a client of
        // other servers, too, and speaks to them with the codec.
        may_use: &[
            "natterjack-wire",
            "natterjack-conf",
            "natterjack-link",
            "natterjack-server",
        ],
        without_runtime: false,
    },
    Room {
        name: "natterjack-choria",
        may_use: &[
            "natterjack-wire",
            "natterjack-dns",
            "natterjack-link",
            "natterjack-server",
            "natterjack-bus",
        ],
        without_runtime: false,
    },
    Room {
        name: "natterjack-cli",
        may_use: &[
            "natterjack-conf",
            // The resolver that it hands to the connector.
            "natterjack-dns",
            // What a client of HTTP needs: it asks for the pages of monitoring.
            "natterjack-link",
            "natterjack-server",
            "natterjack-bus",
            "natterjack-choria",
        ],
        without_runtime: false,
    },
];

/// The crate that decides: it takes the time as an argument and facts from the shell.
const ENGINE: &str = "natterjack-engine";

/// Paths that would let the engine look at the world by itself. Addresses, which are facts, live in `core::net`.
const ENGINE_NEVER_NAMES: [&str; 14] = [
    "Instant::now",
    "SystemTime",
    "UNIX_EPOCH",
    "std::net",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::io::stdin",
    "tokio",
    "chrono",
    "getrandom",
    // A generator that seeds itself; the engine's are seeded by the caller.
    "Rng::new",
    "fastrand::seed",
];

/// Modules of `std` that a grouped `use std::{…}` could bring in unseen.
const STD_MODULES_BANNED: [&str; 5] = ["net", "fs", "env", "process", "thread"];

/// Checks every wall and reports all breaches, not the first.
pub(crate) fn walls(workspace: &Workspace) -> Result<()> {
    let mut breaches = Vec::new();
    for package in workspace.product() {
        breaches.extend(arrow_breaches(workspace, package));
    }
    for room in ROOMS.iter().filter(|room| room.without_runtime) {
        breaches.extend(runtime_breaches(workspace, room.name)?);
    }
    breaches.extend(engine_breaches(workspace)?);

    if breaches.is_empty() {
        println!("{} product crates keep their walls", ROOMS.len());
        return Ok(());
    }
    for breach in &breaches {
        eprintln!("{breach}");
    }
    bail!("{} walls are breached (see above)", breaches.len());
}

/// Arrows that point up, sideways or out of the product.
fn arrow_breaches(workspace: &Workspace, package: &Package) -> Vec<String> {
    let Some(room) = ROOMS.iter().find(|room| room.name == package.name) else {
        return vec![format!(
            "{}: has no place in the table of rooms (xtask/src/walls.rs)",
            package.name
        )];
    };
    let members = &workspace.packages;
    let ours = package
        .dependencies
        .iter()
        .filter(|dependency| members.iter().any(|member| member.name == dependency.name));
    let mut breaches = Vec::new();
    for dependency in ours {
        let is_product = ROOMS.iter().any(|room| room.name == dependency.name);
        let allowed = match dependency.kind {
            DependencyKind::Normal | DependencyKind::Build => {
                room.may_use.contains(&dependency.name.as_str())
            }
            // A test may use any tool of ours, and what its crate may use, but not a crate above.
            DependencyKind::Development => {
                !is_product
                    || dependency.name == room.name
                    || room.may_use.contains(&dependency.name.as_str())
            }
        };
        if !allowed {
            breaches.push(format!(
                "{} must not depend on {}",
                room.name, dependency.name
            ));
        }
    }
    breaches
}

/// Whether tokio is among what the package needs to run. Resolved for this package alone, since features that
/// other members switch on are not its doing.
fn runtime_breaches(workspace: &Workspace, package: &str) -> Result<Vec<String>> {
    let tree = output(workspace.cargo().args([
        "tree",
        "--package",
        package,
        "--edges",
        "normal",
        "--all-features",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    if !tree.starts_with(package) {
        bail!("cargo tree says nothing about {package}");
    }
    let reached = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .any(is_runtime);
    Ok(if reached {
        vec![format!(
            "{package} reaches tokio (see `cargo tree -p {package} -i tokio`)"
        )]
    } else {
        Vec::new()
    })
}

fn is_runtime(name: &str) -> bool {
    name == "tokio" || name == "mio" || name.starts_with("tokio-")
}

fn engine_breaches(workspace: &Workspace) -> Result<Vec<String>> {
    let engine = workspace
        .product()
        .find(|package| package.name == ENGINE)
        .with_context(|| format!("there is no crate {ENGINE}"))?;
    let mut breaches = Vec::new();
    for path in rust_files(&engine.folder.join("src"))? {
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", workspace.shown(&path)))?;
        let shown = workspace.shown(&path);
        breaches.extend(named_in(&text).iter().map(|name| breach_in(&shown, name)));
    }
    Ok(breaches)
}

fn breach_in(path: &dyn Display, name: &str) -> String {
    let remedy = match name {
        "std::net" => "; addresses are in core::net",
        "Instant::now" | "SystemTime" => "; the time is an argument",
        _ => "",
    };
    format!("{path}: the engine must not name {name}{remedy}")
}

/// The banned paths that a source names, in code rather than in comments and strings. The tests at a file's end are left
/// out: their virtual time has to start somewhere, and the standard library makes an `Instant` only from the clock.
fn named_in(source: &str) -> Vec<String> {
    let code: String = code_only(source)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let tight = code
        .replace(" :: ", "::")
        .replace(":: ", "::")
        .replace(" ::", "::");
    let tight = tight.split(" mod tests {").next().unwrap_or_default();
    let mut named: Vec<String> = ENGINE_NEVER_NAMES
        .into_iter()
        .filter(|path| names_path(tight, path))
        .map(str::to_owned)
        .collect();
    for group in tight.split("std::{").skip(1) {
        let items = top_level_items(group);
        named.extend(
            STD_MODULES_BANNED
                .into_iter()
                .filter(|module| {
                    items
                        .iter()
                        .any(|item| item.split([':', ' ']).next() == Some(module))
                })
                .map(|module| format!("std::{module}")),
        );
    }
    named.dedup();
    named
}

/// Whether `path` occurs as whole words.
fn names_path(code: &str, path: &str) -> bool {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + path.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The items of a `use` group, given what follows its opening brace.
fn top_level_items(group: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                items.push(group[start..at].trim());
                return items;
            }
            ',' if depth == 0 => {
                items.push(group[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &[&str]) {
        assert_eq!(named_in(source), expected, "in: {source}");
    }

    #[test]
    fn the_clock_and_the_world_are_found() {
        check("let now = Instant::now();", &["Instant::now"]);
        check("use std::time::{Instant, SystemTime};", &["SystemTime"]);
        check("use std :: net :: TcpStream;", &["std::net"]);
        check("use std::{io, fs, sync::Arc};", &["std::fs"]);
        check("use std::{sync::{Arc, Mutex}, net::IpAddr};", &["std::net"]);
        check("let generator = fastrand::Rng::new();", &["Rng::new"]);
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        check("// Instant::now is the shell's\nfn f(now: Instant) {}", &[]);
        check("fn f() -> &'static str { \"std::fs\" }", &[]);
        check("use core::net::IpAddr;", &[]);
        check("use std::{sync::{Arc, atomic}, collections::HashMap};", &[]);
        check("MySystemTimer::start()", &[]);
        check("Rng::new_seeded(1)", &[]);
        check("fn f() {}\n#[cfg(test)]\nmod tests { use std::fs; }", &[]);
    }

    #[test]
    fn arrows_point_at_earlier_rooms() {
        for (at, room) in ROOMS.iter().enumerate() {
            for used in room.may_use {
                let position = ROOMS.iter().position(|other| other.name == *used);
                assert!(
                    position.is_some_and(|position| position < at),
                    "{} -> {used}",
                    room.name
                );
            }
        }
    }
}
