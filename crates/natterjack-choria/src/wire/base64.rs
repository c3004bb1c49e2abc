//! Base 64 in the forms that are met: Ruby breaks lines after sixty letters, Go does not.

use data_encoding::{BASE64, Encoding, Specification};

use super::FormatError;

const LINE_LETTERS_MAX: usize = 60;

/// In one line.
pub(crate) fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// A line break after every sixty letters and at the end.
pub(crate) fn encode_wrapped(bytes: &[u8]) -> String {
    let letters = BASE64.encode(bytes);
    let mut lines = String::with_capacity(letters.len() + letters.len() / LINE_LETTERS_MAX + 1);
    let mut rest = letters.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE_LETTERS_MAX));
        lines.push_str(line);
        lines.push('\n');
        rest = after;
    }
    lines
}

/// Takes both forms.
pub(crate) fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, FormatError> {
    let decoded = lenient().decode(text.as_bytes());
    decoded.map_err(|_| FormatError::Base64 { field })
}

fn lenient() -> &'static Encoding {
    static LENIENT: std::sync::LazyLock<Encoding> = std::sync::LazyLock::new(|| {
        let mut specification: Specification = BASE64.specification();
        specification.ignore.push_str("\r\n");
        // The specification is ours and right; the strict one is what is left otherwise.
        specification.encoding().unwrap_or(BASE64)
    });
    &LENIENT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_those_of_ruby() {
        assert_eq!(encode_wrapped(b""), "");
        assert_eq!(encode_wrapped(b"a"), "YQ==\n");
        let lines = encode_wrapped(&[0; 46]);
        assert_eq!(lines, format!("{}\nAA==\n", "A".repeat(60)));
    }

    #[test]
    fn what_is_no_base_64() {
        for text in ["YQ", "Y Q==", "YQ==\nYQ==x", "%"] {
            assert!(decode("data", text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn both_forms_are_read(bytes: Vec<u8>, is_carriage: bool) {
            prop_assert_eq!(&decode("data", &encode(&bytes)).unwrap(), &bytes);
            let mut wrapped = encode_wrapped(&bytes);
            if is_carriage {
                wrapped = wrapped.replace('\n', "\r\n");
            }
            prop_assert_eq!(&decode("data", &wrapped).unwrap(), &bytes);
        }
    }
}
