//! The page of all options, made from the table.

use std::fmt::Write as _;

use super::flags::{FlagGroup, dashed};
use super::row::{OptionFacts, Reload};
use super::table;

/// The page, in Markdown.
#[must_use]
pub fn document() -> String {
    let options = table::options();
    let mut page = String::from(INTRODUCTION);
    let mut group = "";
    let outside = |option: &&OptionFacts| !option.path.contains(['.', '[']);
    for option in listed(&options).filter(outside) {
        if option.group != group {
            group = option.group;
            write_heading(&mut page, "##", group);
        }
        write_row(&mut page, option);
    }
    for (paths, rows) in blocks(&options) {
        let titles: Vec<String> = paths.iter().map(|path| title(path)).collect();
        page.push('\n');
        page.push_str("## ");
        page.push_str(&titles[0]);
        page.push('\n');
        if titles.len() > 1 {
            // Writing to a String cannot fail.
            let _ = writeln!(page, "\nThe same in {}.", titles[1..].join(", "));
        }
        page.push_str(TABLE_HEAD);
        for option in rows {
            write_row(&mut page, option);
        }
    }
    write_flags(&mut page, &options);
    write_unsupported(&mut page, &options);
    page
}

const INTRODUCTION: &str = "\
# Options

<!-- Made from the table of options: UPDATE_EXPECT=1 cargo test -p natterjack-server the_page_of_options_is_current -->

What a configuration file of `natterjackd` may say. Names, aliases and defaults are those of nats-server 2.15.1, and
names are read in any case. `natterjack check FILE` says what is wrong with a file, `natterjack check FILE --explain`
what is in force and where each value comes from.

- A *duration* is a text in quotes such as `\"2m\"`, `\"1h30m\"` or `\"500ms\"`. Beware of `2m` without quotes: that is the
  number 2,000,000.
- A *size* is a number of bytes without quotes: `64MB` is 64 x 1024 x 1024, `64m` is 64 x 1000 x 1000.
- *Reload* tells whether a running server takes a new value; if one changed option needs a restart, a reload changes
  nothing.
- Flags go before what the file says, also on reload.
- Options marked with * are ours; nats-server refuses them. Former names are accepted with a note, and nats-server
  refuses those, too.
";

const TABLE_HEAD: &str = "
| option | type | default | reload | meaning |
| --- | --- | --- | --- | --- |
";

/// What is there, without what only a flag is about.
fn listed(options: &[OptionFacts]) -> impl Iterator<Item = &OptionFacts> {
    options
        .iter()
        .filter(|option| !option.is_flag_only && !option.is_unsupported)
}

fn write_heading(page: &mut String, level: &str, title: &str) {
    let _ = write!(page, "\n{level} {title}\n{TABLE_HEAD}");
}

fn write_row(page: &mut String, option: &OptionFacts) {
    let mut name = format!("`{}`", option.key);
    if option.is_ours {
        name.push('*');
    }
    for (word, names) in [("also", option.aliases), ("formerly", option.legacy)] {
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let _ = write!(name, ", {word} {}", names.join(", "));
        }
    }
    let default = match &option.default {
        Some(default) if !option.is_block => format!("`{default}`"),
        _ => String::new(),
    };
    let reload = match option.reload {
        // What is in it says so itself.
        _ if option.is_block => "",
        Reload::Live => "live",
        Reload::Restart => "restart",
    };
    let kind = &option.kind;
    let mut doc = option.doc.to_owned();
    if !option.inert.is_empty() {
        let _ = write!(doc, " Has no effect: {}.", option.inert);
    }
    let _ = writeln!(page, "| {name} | {kind} | {default} | {reload} | {doc} |");
}

/// Blocks with their options, each once, with all the paths it is at.
fn blocks(options: &[OptionFacts]) -> Vec<(Vec<&str>, Vec<&OptionFacts>)> {
    let mut blocks: Vec<(Vec<&str>, Vec<&OptionFacts>)> = Vec::new();
    for block in listed(options).filter(|option| option.is_block) {
        let path = block.path.as_str();
        let children: Vec<&OptionFacts> = listed(options)
            .filter(|option| {
                let parent = option
                    .path
                    .rsplit_once('.')
                    .map_or("", |(parent, _)| parent);
                parent.strip_suffix("[]").unwrap_or(parent) == path
            })
            .collect();
        let is_same = |rows: &[&OptionFacts]| {
            rows.iter()
                .map(|row| (row.key, row.doc))
                .eq(children.iter().map(|row| (row.key, row.doc)))
        };
        match blocks.iter_mut().find(|(_, rows)| is_same(rows)) {
            Some((paths, _)) => paths.push(path),
            None => blocks.push((vec![path], children)),
        }
    }
    blocks
}

/// `cluster.tls` to `cluster { tls { … } }`.
fn title(path: &str) -> String {
    let names: Vec<&str> = path
        .split('.')
        .map(|name| name.trim_end_matches("[]"))
        .collect();
    format!(
        "`{} {{ … }}{}`",
        names.join(" { "),
        " }".repeat(names.len() - 1)
    )
}

fn write_flags(page: &mut String, options: &[OptionFacts]) {
    page.push_str("\n## Flags\n\n| flag | option | meaning |\n| --- | --- | --- |\n");
    for option in options {
        if let Some(flag) = option.flag
            && flag.group != FlagGroup::Unsupported
        {
            let names: Vec<String> = flag
                .names
                .iter()
                .map(|name| format!("`{}`", dashed(name)))
                .collect();
            let argument = if flag.argument.is_empty() {
                String::new()
            } else {
                format!(" `{}`", flag.argument)
            };
            let _ = writeln!(
                page,
                "| {}{argument} | `{}` | {} |",
                names.join(", "),
                option.path,
                flag.help
            );
        }
    }
}

fn write_unsupported(page: &mut String, options: &[OptionFacts]) {
    page.push_str(
        "\n## Not supported yet\n\nAn error, unless empty or off: a configuration that needs one of these must not start \
         as if it had been obeyed.\n\n",
    );
    for option in options.iter().filter(|option| option.is_unsupported) {
        let _ = writeln!(page, "- `{}`: {}", option.path, option.doc);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_of_options_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/options.md");
        let page = document();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &page).expect("the page can be written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page,
            "docs/options.md is out of date; write it anew with \
             UPDATE_EXPECT=1 cargo test -p natterjack-server the_page_of_options_is_current"
        );
    }

    #[test]
    fn every_option_is_described() {
        for option in listed(&table::options()) {
            assert!(
                option.doc.ends_with('.'),
                "{}: {:?}",
                option.path,
                option.doc
            );
            assert!(!option.kind.is_empty(), "{}", option.path);
            let argument = option.flag.map_or("", |flag| flag.argument);
            assert!(
                ![option.doc, &option.kind, argument].concat().contains('|'),
                "{}: would break the table",
                option.path
            );
        }
    }
}
