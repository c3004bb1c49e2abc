//! From text to settings: one `key = value` for each line, and nothing else.
//!
//! A key goes to the first `=`, a value to the end of the line, without quotes and escapes. `#` makes a comment at the
//! beginning of a line only. Lines that are neither are left out, as MCollective does, but told about.

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) content: Content<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    Setting {
        key: &'a str,
        value: &'a str,
    },
    /// Nobody will ever look at it.
    Lost(&'a str),
}

/// All lines that are not blank and no comments.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let content = match line.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
                Content::Setting {
                    key: key.trim(),
                    value: value.trim_start(),
                }
            }
            _ => Content::Lost(line),
        };
        Some(Line {
            number: index + 1,
            content,
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_all_kinds() {
        let text =
            "# a = b\n\n  key=value  \r\nother =\t a = b # c\n#\n #x = y\nplain\n= x\nempty =  \n";
        let found: Vec<_> = lines(text)
            .map(|line| (line.number, line.content))
            .collect();
        let setting = |key, value| Content::Setting { key, value };
        assert_eq!(
            found,
            [
                (3, setting("key", "value")),
                (4, setting("other", "a = b # c")),
                (6, setting("#x", "y")),
                (7, Content::Lost("plain")),
                (8, Content::Lost("= x")),
                (9, Content::Lost("empty =")),
            ]
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(text: String) {
            for line in lines(&text) {
                if let Content::Setting { key, value } = line.content {
                    prop_assert!(!key.is_empty() && !value.is_empty());
                }
            }
        }
    }
}
