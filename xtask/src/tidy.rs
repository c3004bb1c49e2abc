//! The house rules that no linter knows: every file says what it owns, no product file grows without end, and the pages
//! a newcomer reads first name every crate.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::source::rust_files;
use crate::workspace::Workspace;

/// A product file longer than this holds more than one idea.
const FILE_LINES_MAX: usize = 1_200;

/// The pages that name every product crate.
const PAGES: [&str; 2] = ["README.md", "ARCHITECTURE.md"];

/// Checks every rule and reports all offences, not the first.
pub(crate) fn tidy(workspace: &Workspace) -> Result<()> {
    let mut offences = Vec::new();
    let crates = workspace.root.join("crates");
    let files = rust_files(&workspace.root)?;
    for path in &files {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", workspace.shown(path)))?;
        let length_matters = path.starts_with(&crates);
        offences.extend(
            file_offences(&text, length_matters)
                .into_iter()
                .map(|offence| format!("{}: {offence}", workspace.shown(path))),
        );
    }
    let names: Vec<&str> = workspace
        .product()
        .map(|package| package.name.as_str())
        .collect();
    for page in PAGES {
        match fs::read_to_string(workspace.root.join(page)) {
            Ok(text) => offences.extend(page_offences(page, &text, &names)),
            Err(error) => offences.push(format!("{page}: cannot be read: {error}")),
        }
    }

    if offences.is_empty() {
        println!(
            "{} Rust files and {} pages are tidy",
            files.len(),
            PAGES.len()
        );
        return Ok(());
    }
    for offence in &offences {
        eprintln!("{offence}");
    }
    bail!("{} house rules are broken (see above)", offences.len());
}

fn file_offences(text: &str, length_matters: bool) -> Vec<String> {
    let mut offences = Vec::new();
    if !text.starts_with("//!") {
        offences.push("does not open with `//!` and what it owns".to_owned());
    }
    let lines = text.lines().count();
    if length_matters && lines > FILE_LINES_MAX {
        offences.push(format!(
            "has {lines} lines, more than {FILE_LINES_MAX}: one idea each?"
        ));
    }
    offences
}

fn page_offences(page: &str, text: &str, names: &[&str]) -> Vec<String> {
    let absent = names.iter().filter(|name| !text.contains(**name));
    absent
        .map(|name| format!("{page}: does not mention {name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_must_say_what_it_owns() {
        assert!(file_offences("//! The clock.\n", true).is_empty());
        assert_eq!(file_offences("use std::io;\n//! late\n", true).len(), 1);
        assert_eq!(file_offences("", true).len(), 1);
    }

    #[test]
    fn a_product_file_must_not_grow_without_end() {
        let text = |lines: usize| "//! x\n".repeat(lines);
        assert!(file_offences(&text(FILE_LINES_MAX), true).is_empty());
        assert_eq!(file_offences(&text(FILE_LINES_MAX + 1), true).len(), 1);
        assert!(file_offences(&text(FILE_LINES_MAX + 1), false).is_empty());
    }

    #[test]
    fn a_page_must_name_every_crate() {
        let offences = page_offences(
            "README.md",
            "we have natterjack-a",
            &["natterjack-a", "natterjack-b"],
        );
        assert_eq!(offences, ["README.md: does not mention natterjack-b"]);
    }
}
