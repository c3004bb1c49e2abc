//! The documentation's table of options, made from the table in the code.

use std::fmt::Write as _;

use super::sources::{PREFIX, options};

/// The table of all options, in Markdown.
#[must_use]
pub fn document() -> String {
    let mut page = String::from(
        "| option | flag, variable | type | default | meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    for option in options() {
        let also = option
            .also
            .map_or_else(String::new, |path| format!(", also `{path}`"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| `{}`{also} | `--{}` `{PREFIX}_{}` | {} | {} | {} |",
            option.path, option.flag, option.variable, option.kind, option.default, option.help
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BEGIN: &str = "<!-- Made from the table of options: UPDATE_EXPECT=1 cargo test -p natterjack-bus \
                         the_table_of_options_is_current -->\n\n";
    const END: &str = "\n<!-- End of the table of options -->";

    #[test]
    fn the_table_of_options_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/event-bus.md");
        let page = std::fs::read_to_string(&path).expect("the page is there");
        let (before, rest) = page.split_once(BEGIN).expect("where the table begins");
        let (written, after) = rest.split_once(END).expect("where it ends");
        let table = document();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            let page = [before, BEGIN, &table, END, after].concat();
            std::fs::write(&path, page).expect("the page can be written");
            return;
        }
        assert!(
            written == table,
            "docs/event-bus.md is out of date; write it anew with \
             UPDATE_EXPECT=1 cargo test -p natterjack-bus the_table_of_options_is_current"
        );
    }

    #[test]
    fn nothing_breaks_the_table() {
        for option in options() {
            let cells = [option.kind, &option.default, option.help];
            assert!(!cells.concat().contains(['|', '\n']), "{}", option.path);
        }
    }
}
