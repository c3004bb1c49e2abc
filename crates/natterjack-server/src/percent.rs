//! Percent-encoding, as addresses and their queries have it.

/// The bytes a text stands for, with `%41` and the like replaced by the byte meant; `None` if an escape is malformed.
pub(crate) fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (escape, behind) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(escape[0])? * 16 + digit(escape[1])?) as u8);
        rest = behind;
    }
    Some(bytes)
}
