//! What nodes answered, for people to read. Nodes write what they like: nothing of it moves a terminal's cursor.

use std::fmt::Write as _;

use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

use crate::escape::escaped;

/// A node's answer.
pub(super) struct Row<'a> {
    pub(super) node: &'a str,
    /// What went wrong, if something did.
    pub(super) problem: Option<String>,
    pub(super) values: &'a natterjack_choria::rpc::Values,
}

/// Between columns.
const GAP: &str = "  ";

/// A table if it fits into so many columns and each value is a single one, else a paragraph for each node.
pub(super) fn render(rows: &[Row<'_>], columns_max: usize) -> String {
    table(rows, columns_max).unwrap_or_else(|| rows.iter().map(paragraph).collect())
}

fn table(rows: &[Row<'_>], columns_max: usize) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for (name, value) in rows.iter().flat_map(|row| row.values) {
        if value.is_array()
            || value.is_object()
            || value.as_str().is_some_and(|text| text.contains('\n'))
        {
            return None;
        }
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let has_problems = rows.iter().any(|row| row.problem.is_some());
    let mut lines = vec![vec!["NODE".to_owned()]];
    lines[0].extend(names.iter().map(|name| escaped(name)));
    if has_problems {
        lines[0].push("PROBLEM".into());
    }
    for row in rows {
        let mut cells = vec![escaped(row.node)];
        let cell = |name: &&str| row.values.get(*name).map_or_else(String::new, shown);
        cells.extend(names.iter().map(cell));
        if has_problems {
            cells.push(row.problem.as_deref().map_or_else(String::new, escaped));
        }
        lines.push(cells);
    }
    let width = |column: usize| lines.iter().map(|cells| cells[column].width()).max();
    let widths: Vec<_> = (0..lines[0].len()).filter_map(width).collect();
    let total = widths.iter().sum::<usize>() + GAP.len() * (widths.len() - 1);
    if total > columns_max {
        return None;
    }
    let mut text = String::new();
    for cells in &lines {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.width()));
            line.push_str(GAP);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Some(text)
}

fn paragraph(row: &Row<'_>) -> String {
    let mut text = escaped(row.node);
    text.push('\n');
    let mut line = |name: &str, value: &str| {
        // Text in memory takes everything.
        let _ = writeln!(text, "    {}: {value}", escaped(name));
    };
    if let Some(problem) = &row.problem {
        line("problem", &escaped(problem));
    }
    for (name, value) in row.values {
        line(name, &shown(value));
    }
    text.push('\n');
    text
}

/// Text as it is, everything else as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => escaped(text),
        Value::Null => String::new(),
        value => escaped(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use natterjack_choria::rpc::Values;
    use serde_json::json;

    use super::*;

    fn values(value: Value) -> Values {
        value.as_object().unwrap().clone()
    }

    fn row<'a>(node: &'a str, values: &'a Values) -> Row<'a> {
        Row {
            node,
            problem: None,
            values,
        }
    }

    #[test]
    fn single_values_make_a_table() {
        let first = values(json!({"fact": "os", "value": "Debian"}));
        let second = values(json!({"value": 12}));
        let mut rows = [row("n1.example.net", &first), row("n2", &second)];
        assert_eq!(
            render(&rows, 80),
            "NODE            fact  value\n\
             n1.example.net  os    Debian\n\
             n2                    12\n"
        );
        rows[1].problem = Some("Unknown Action: no".into());
        assert_eq!(
            render(&rows, 80),
            "NODE            fact  value   PROBLEM\n\
             n1.example.net  os    Debian\n\
             n2                    12      Unknown Action: no\n"
        );
        assert_eq!(
            render(&rows, 20),
            "n1.example.net\n    fact: os\n    value: Debian\n\n\
             n2\n    problem: Unknown Action: no\n    value: 12\n\n"
        );
    }

    #[test]
    fn lists_make_paragraphs() {
        let values = values(json!({"agents": ["a", "b"], "none": null}));
        assert_eq!(
            render(&[row("n1", &values)], 80),
            "n1\n    agents: [\"a\",\"b\"]\n    none: \n\n"
        );
    }

    #[test]
    fn nodes_do_not_write_on_the_terminal() {
        let values = values(json!({"x\u{1b}[2J": "a\u{1b}]0;b\u{7}\r\u{202e}c"}));
        let text = render(&[row("n1", &values)], 200);
        assert_eq!(
            text,
            "NODE  x\\u{1b}[2J\nn1    a\\u{1b}]0;b\\u{7}\\r\\u{202e}c\n"
        );
    }
}
