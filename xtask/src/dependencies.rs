//! What is let in from outside, as far as cargo itself can tell it: licences, banned crates and sources by `deny.toml`.
//!
//! `cargo deny` knows more, advisories above all, but is a program that not everybody has. This needs nothing but cargo,
//! and reads the same file, so it always runs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use toml_edit::{DocumentMut, Item};

use crate::run::output;
use crate::workspace::Workspace;

/// The registry that crates come from unless a manifest says otherwise.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What `deny.toml` says.
#[derive(Debug)]
struct Rules {
    licences: BTreeSet<String>,
    banned: BTreeSet<String>,
}

/// A crate from outside.
#[derive(Debug)]
struct Crate {
    name: String,
    version: String,
    source: String,
    /// An SPDX expression, if its manifest has one.
    licence: Option<String>,
}

/// Fails with all that is not as `deny.toml` has it.
pub(crate) fn dependencies(workspace: &Workspace) -> Result<()> {
    let text = std::fs::read_to_string(workspace.root.join("deny.toml"))?;
    let rules = rules(&text).context("deny.toml")?;
    let mut metadata = workspace.cargo();
    metadata.args(["metadata", "--format-version", "1"]);
    metadata.args(["--all-features", "--locked"]);
    let metadata: Value = serde_json::from_str(&output(&mut metadata)?)?;
    let crates = crates(&metadata)?;
    let problems: Vec<String> = crates
        .iter()
        .flat_map(|one| problems(one, &rules))
        .collect();
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    let twice = several_versions(&crates);
    println!(
        "{} crates from outside, under licences of deny.toml; {} of them in several versions: {}",
        crates.len(),
        twice.len(),
        twice.join(", ")
    );
    Ok(())
}

fn rules(text: &str) -> Result<Rules> {
    let document: DocumentMut = text.parse()?;
    let at = |section: &str, key: &str| {
        let item = document.get(section).and_then(|section| section.get(key));
        let list = item.and_then(Item::as_array);
        list.with_context(|| format!("there is no list `{section}.{key}`"))
    };
    let licences = at("licenses", "allow")?.iter().map(|licence| {
        let licence = licence.as_str().context("a licence that is no text")?;
        Ok(licence.to_owned())
    });
    let banned = at("bans", "deny")?.iter().map(|banned| {
        let name = banned
            .as_inline_table()
            .and_then(|table| table.get("crate"));
        let name = name.and_then(|name| name.as_str());
        Ok(name.context("a ban without a crate")?.to_owned())
    });
    Ok(Rules {
        licences: licences.collect::<Result<_>>()?,
        banned: banned.collect::<Result<_>>()?,
    })
}

/// All packages but ours, which have no source.
fn crates(metadata: &Value) -> Result<Vec<Crate>> {
    let packages = metadata.get("packages").and_then(Value::as_array);
    let packages = packages.context("cargo metadata lacks `packages`")?;
    let text = |package: &Value, key: &str| {
        let text = package.get(key).and_then(Value::as_str);
        text.map(str::to_owned)
    };
    let mut crates = Vec::new();
    for package in packages {
        let Some(source) = text(package, "source") else {
            continue;
        };
        crates.push(Crate {
            name: text(package, "name").context("a package without a name")?,
            version: text(package, "version").context("a package without a version")?,
            source,
            licence: text(package, "license"),
        });
    }
    Ok(crates)
}

fn problems(one: &Crate, rules: &Rules) -> Vec<String> {
    let Crate {
        name,
        version,
        source,
        licence,
    } = one;
    let mut problems = Vec::new();
    if source != REGISTRY {
        problems.push(format!("{name} {version} comes from {source}"));
    }
    if rules.banned.contains(name) {
        problems.push(format!("{name} {version} is banned by deny.toml"));
    }
    match licence {
        None => problems.push(format!("{name} {version} names no licence")),
        Some(licence) if !is_allowed(licence, &rules.licences) => problems.push(format!(
            "{name} {version} is under `{licence}`, and deny.toml allows none of its licences"
        )),
        Some(_) => {}
    }
    problems
}

fn several_versions(crates: &[Crate]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in crates {
        versions.entry(&one.name).or_default().push(&one.version);
    }
    let several = versions.into_iter().filter(|(_, all)| all.len() > 1);
    several
        .map(|(name, all)| format!("{name} {}", all.join(" ")))
        .collect()
}

/// Whether somebody who takes the allowed licences alone may use what is under this SPDX expression. What cannot be read
/// is not allowed.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    // An old way to write `OR`.
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words = Words {
        words: spaced.split_whitespace().collect(),
        next: 0,
        allowed,
    };
    words.either() == Some(true) && words.next == words.words.len()
}

/// An expression while it is read. `None` from its methods: it is none.
struct Words<'a> {
    words: Vec<&'a str>,
    next: usize,
    allowed: &'a BTreeSet<String>,
}

impl Words<'_> {
    fn either(&mut self) -> Option<bool> {
        let mut is_allowed = self.all()?;
        while self.take("OR") {
            is_allowed |= self.all()?;
        }
        Some(is_allowed)
    }

    fn all(&mut self) -> Option<bool> {
        let mut is_allowed = self.one()?;
        while self.take("AND") {
            is_allowed &= self.one()?;
        }
        Some(is_allowed)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let is_allowed = self.either()?;
            return self.take(")").then_some(is_allowed);
        }
        let mut licence = (*self.words.get(self.next)?).to_owned();
        self.next += 1;
        if self.take("WITH") {
            licence = format!("{licence} WITH {}", self.words.get(self.next)?);
            self.next += 1;
        }
        Some(self.allowed.contains(&licence))
    }

    fn take(&mut self, word: &str) -> bool {
        let is_next = self.words.get(self.next) == Some(&word);
        self.next += usize::from(is_next);
        is_next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        [licenses]
        allow = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"]
        [bans]
        deny = [{ crate = "openssl", reason = "TLS is rustls" }]
    "#;

    #[test]
    fn licences_are_weighed() {
        let rules = rules(RULES).expect("they are good");
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("MIT AND Zlib", true),
            ("GPL-3.0 AND MIT OR Zlib", true),
            ("GPL-3.0 AND (MIT OR Zlib)", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("MIT MIT", false),
            ("(MIT", false),
            ("MIT OR", false),
            ("", false),
        ] {
            let told = is_allowed(expression, &rules.licences);
            assert_eq!(told, expected, "{expression}");
        }
    }

    #[test]
    fn what_is_not_let_in_is_named() {
        let rules = rules(RULES).expect("they are good");
        let metadata = serde_json::json!({"packages": [
            {"name": "ours", "version": "1.0.0", "source": null, "license": "GPL-3.0"},
            {"name": "good", "version": "1.0.0", "source": REGISTRY, "license": "MIT"},
            {"name": "good", "version": "2.0.0", "source": REGISTRY, "license": "MIT"},
            {"name": "openssl", "version": "1.0.0", "source": REGISTRY, "license": "MIT"},
            {"name": "copyleft", "version": "1.0.0", "source": REGISTRY, "license": "GPL-3.0"},
            {"name": "bare", "version": "1.0.0", "source": "git+https://example.org", "license": null},
        ]});
        let crates = crates(&metadata).expect("they are packages");
        let told: Vec<_> = crates
            .iter()
            .flat_map(|one| problems(one, &rules))
            .collect();
        assert_eq!(
            told,
            [
                "openssl 1.0.0 is banned by deny.toml",
                "copyleft 1.0.0 is under `GPL-3.0`, and deny.toml allows none of its licences",
                "bare 1.0.0 comes from git+https://example.org",
                "bare 1.0.0 names no licence",
            ]
        );
        assert_eq!(several_versions(&crates), ["good 1.0.0 2.0.0"]);
    }

    #[test]
    fn rules_that_cannot_be_read_let_nothing_in() {
        assert!(rules("[licenses]\nallow = []").is_err());
        assert!(rules("[licenses]\nallow = 1\n[bans]\ndeny = []").is_err());
    }
}
