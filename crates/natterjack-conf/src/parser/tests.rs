//! What the language means, and the exact words about the common slips.

use std::collections::BTreeMap;

use crate::{Parsed, parse};

fn parsed(text: &str) -> Parsed {
    parse("nats.conf", text, &BTreeMap::new())
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let parsed = parsed(text);
    let shown: Vec<_> = parsed
        .diagnostics
        .iter()
        .map(|diagnostic| parsed.sources.render(diagnostic))
        .collect();
    assert_eq!(shown.join("\n"), expected);
}

#[test]
fn a_block_without_its_closing_brace_is_told_at_the_opening_one() {
    check(
        "port: 4222\ncluster {\n  port: 6222\n",
        "\
error: the block of `cluster` is never closed
 --> nats.conf:2:9
  |
2 | cluster {
  |         ^ opened here
  = help: add a `}`
",
    );
}
