//! The page of all options, made from the table.

/// The page, in Markdown.
#[must_use]
pub fn document() -> String {
    String::new()
}
