//! Subjects of certificates compared with users' names, for `verify_and_map`.
//!
//! Two names are the same if they consist of the same relative names, in any order; a relative name is a set of
//! attributes. Kinds of attributes match in any case, values only exactly (RFC 4517, 4.2.15; auth reference, 2).

use crate::certificate_names::CertificateNames;

/// A distinguished name without an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DistinguishedName {
    /// Sorted, and so are the attributes of each.
    relative_names: Vec<Vec<Attribute>>,
}

/// Kind, in lower case, and value.
type Attribute = (String, Vec<u8>);

impl DistinguishedName {
    /// Reads the text form (RFC 4514). `None` if it is none, or has values in the binary form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut relative_names = Vec::new();
        let mut attributes = Vec::new();
        let mut rest = text.as_bytes();
        loop {
            let equals = rest.iter().position(|&byte| byte == b'=')?;
            let kind = std::str::from_utf8(&rest[..equals]).ok()?.trim_matches(' ');
            let is_kind = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
            if kind.is_empty() || !kind.bytes().all(is_kind) {
                return None;
            }
            let (value, end) = value(&rest[equals + 1..])?;
            attributes.push((kind.to_ascii_lowercase(), value));
            rest = &rest[equals + 1 + end..];
            if rest.first() != Some(&b'+') {
                relative_names.push(std::mem::take(&mut attributes));
            }
            match rest.split_first() {
                None => return Some(Self::of(relative_names)),
                Some((_, further)) => rest = further,
            }
        }
    }

    /// The subject of a certificate; `None` without one, or if it has attributes without a short name or text.
    pub(super) fn of_certificate(names: &CertificateNames) -> Option<Self> {
        let relative_names = names
            .subject_names
            .iter()
            .filter(|attributes| !attributes.is_empty())
            .map(|attributes| {
                let attribute = |attribute: &crate::certificate_names::SubjectAttribute| {
                    let value = attribute.value.as_ref()?.as_bytes().to_vec();
                    let is_named = attribute
                        .kind
                        .starts_with(|first: char| first.is_ascii_alphabetic());
                    is_named.then(|| (attribute.kind.to_ascii_lowercase(), value))
                };
                attributes.iter().map(attribute).collect()
            })
            .collect::<Option<Vec<Vec<Attribute>>>>()?;
        (!relative_names.is_empty()).then(|| Self::of(relative_names))
    }

    fn of(mut relative_names: Vec<Vec<Attribute>>) -> Self {
        for attributes in &mut relative_names {
            attributes.sort();
        }
        relative_names.sort();
        Self { relative_names }
    }
}

/// Reads a value up to an unescaped `,` or `+`; returns where that stands.
fn value(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    // Binary values are written with a `#`.
    if text.first() == Some(&b'#') {
        return None;
    }
    let mut value = Vec::new();
    // Blanks around the value are not part of it unless they are escaped.
    let mut significant_len = 0;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b',' | b'+' => break,
            b'\\' => {
                let (byte, len) = escaped(&text[at + 1..])?;
                value.push(byte);
                significant_len = value.len();
                at += 1 + len;
                continue;
            }
            b' ' if value.is_empty() => {}
            b' ' => value.push(byte),
            _ => {
                value.push(byte);
                significant_len = value.len();
            }
        }
        at += 1;
    }
    value.truncate(significant_len);
    Some((value, at))
}

/// What stands behind a backslash, and its length.
fn escaped(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        [special, ..] if b" \"#+,;<=>\\".contains(special) => Some((*special, 1)),
        [high, low, ..] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            Some(((digit(*high)? * 16 + digit(*low)?) as u8, 2))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate_names::SubjectAttribute;

    #[track_caller]
    fn same(left: &str, right: &str) -> bool {
        let parse = |text| DistinguishedName::parse(text).expect("a distinguished name");
        parse(left) == parse(right)
    }

    #[test]
    fn order_does_not_matter_but_grouping_does() {
        assert!(same("CN=client,O=Acme", "O=Acme,CN=client"));
        assert!(same("cn=client, o=Acme", "O=Acme , CN=client"));
        assert!(same("CN=a+UID=b,O=c", "O=c,UID=b+CN=a"));
        assert!(!same("CN=a+UID=b,O=c", "CN=a,UID=b,O=c"));
        assert!(!same("CN=a,O=c", "CN=a+O=c"));
        assert!(!same("CN=a", "CN=a,CN=a"));
        assert!(!same("CN=a", "CN=A") && !same("CN=a", "O=a"));
        assert!(!same("CN=a,OU=x,OU=x", "CN=a,OU=x"));
    }

    #[test]
    fn escapes() {
        assert!(same(r"CN=a\,b", r"CN=a\2cb"));
        assert!(!same(r"CN=a\,O=b", "CN=a,O=b"));
        assert!(same("CN= a b  ", "CN=a b") && !same(r"CN=a\ ", "CN=a"));
        assert!(same("CN=ä", r"CN=\c3\a4"));
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            "a",
            "=a",
            "CN=a,",
            "CN=a,,O=b",
            "CN=#04",
            r"CN=a\",
            r"CN=a\x",
            "a b=c",
            ",CN=a",
        ] {
            assert_eq!(DistinguishedName::parse(text), None, "{text}");
        }
    }

    #[test]
    fn certificates() {
        let attribute = |kind: &str, value: Option<&str>| SubjectAttribute {
            kind: kind.to_owned(),
            value: value.map(str::to_owned),
        };
        let names = |subject_names| CertificateNames {
            subject_names,
            ..CertificateNames::default()
        };
        let acme = vec![
            vec![attribute("O", Some("Acme"))],
            vec![attribute("CN", Some("client"))],
        ];
        let found = DistinguishedName::of_certificate(&names(acme));
        assert!(found.is_some());
        assert_eq!(found, DistinguishedName::parse("CN=client,O=Acme"));
        for unusable in [attribute("1.2.3", Some("x")), attribute("CN", None)] {
            let one = names(vec![vec![unusable]]);
            assert_eq!(DistinguishedName::of_certificate(&one), None);
        }
        assert_eq!(DistinguishedName::of_certificate(&names(Vec::new())), None);
    }
}
