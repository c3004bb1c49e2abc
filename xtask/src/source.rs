//! Reading our own Rust sources: which files there are, and a file's text without its comments and literals.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Every `.rs` file under `folder`, in a stable order. Folders of generated or foreign files are left out.
pub(crate) fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            let (path, name) = (entry.path(), entry.file_name());
            if entry.file_type()?.is_dir() {
                let name = name.to_string_lossy();
                if name != "target" && name != "node_modules" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Rust source with comments, string and character literals replaced by blanks. Line breaks stay, so that lines keep their numbers.
pub(crate) fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = comment_or_literal(rest, code.chars().next_back());
        let taken = skipped.unwrap_or_else(|| first.len_utf8());
        let (token, after) = rest.split_at(taken);
        if skipped.is_some() {
            code.extend(
                token
                    .chars()
                    .map(|char| if char == '\n' { '\n' } else { ' ' }),
            );
        } else {
            code.push(first);
        }
        rest = after;
    }
    code
}

/// The length in bytes of the comment or literal that `text` starts with, if it starts with one.
fn comment_or_literal(text: &str, before: Option<char>) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment(text));
    }
    if text.starts_with('"') {
        return Some(quoted(text, '"'));
    }
    let inside_word = before.is_some_and(|char| char.is_alphanumeric() || char == '_');
    if !inside_word && let Some(length) = raw_string(text) {
        return Some(length);
    }
    if text.starts_with('\'') {
        // A lifetime has no closing quote after its first character; a character literal has, or starts with an escape.
        let mut chars = text.char_indices().skip(1);
        let (_, second) = chars.next()?;
        let (third_at, third) = chars.next()?;
        if second == '\\' {
            return Some(quoted(text, '\''));
        }
        return (third == '\'').then_some(third_at + 1);
    }
    None
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of a literal that opens with `quote` and knows backslash escapes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, char) in text.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if char == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `r"…"`, `r#"…"#` and their byte forms.
fn raw_string(text: &str) -> Option<usize> {
    let after_prefix = ["br", "cr", "r"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))?;
    let hashes = after_prefix.len() - after_prefix.trim_start_matches('#').len();
    let body = after_prefix[hashes..].strip_prefix('"')?;
    let closing = format!("\"{}", "#".repeat(hashes));
    let end = body
        .find(&closing)
        .map_or(body.len(), |at| at + closing.len());
    Some(text.len() - body.len() + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(code_only(source), expected);
    }

    #[test]
    fn comments_and_literals_become_blanks() {
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */ d */ e", "a                   e");
        check(r#"f("x\"y")"#, "f(      )");
        check(r##"f(r#"a"b"#)"##, "f(        )");
        check("g('\\'', 'x')", "g(    ,    )");
    }

    #[test]
    fn code_stays() {
        check("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
        check("for r in bar {}", "for r in bar {}");
    }

    #[test]
    fn an_unclosed_literal_ends_with_the_file() {
        check("\"abc", "    ");
        check("/* abc", "      ");
        check("r#\"abc\"", "       ");
    }
}
