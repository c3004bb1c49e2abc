//! Names: of nodes, of collectives and agents, of those who ask.

use std::fmt;
use std::str::FromStr;

use md5::{Digest as _, Md5};

/// Longest name, in bytes: that of a machine has no more in DNS, nor that of a file on disk. Names become parts of
/// subjects, and servers end a connection over a line of 4 KiB.
pub const NAME_BYTES_MAX: usize = 255;

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing is there.
    #[error("a name must not be empty")]
    Empty,
    /// Names have letters, digits, `_`, `-` and `.` only: they become parts of subjects and of file names.
    #[error("{0:?} is no name: only letters, digits, `_`, `-` and `.` may be in it")]
    Character(String),
    /// It is longer than [`NAME_BYTES_MAX`].
    #[error("a name of {0} bytes is too long: {NAME_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Where the name would be in a subject, nothing would be between two dots.
    #[error("{0:?} cannot be in a subject: a dot may only be between letters, digits, `_` and `-`")]
    Dots(String),
    /// A caller is `kind=name`.
    #[error(
        "{0:?} is no caller id, which is a word, `=` and a name, such as choria=rip.mcollective"
    )]
    CallerId(String),
}

/// What a node calls itself, usually its fully qualified host name. Matches `^[\w.\-]+$`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(String);

impl Identity {
    /// Takes a name.
    ///
    /// # Errors
    /// If it is empty, too long or has other characters than letters, digits, `_`, `-` and `.`.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        check(&name)?;
        Ok(Self(name))
    }

    /// Stands where a name cannot be read, until that is reported.
    pub(crate) fn placeholder() -> Self {
        Self("unknown".into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Identity {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

/// Who asks: the kind of proof and a name that it proves, `choria=rip.mcollective`. With Choria's security the name is
/// that of the certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerId {
    text: String,
    equals: usize,
}

impl CallerId {
    /// The kind of proof that certificates are.
    pub const KIND_OF_CERTIFICATES: &str = "choria";

    /// The caller that a certificate of this name proves.
    ///
    /// # Errors
    /// If it is no name.
    pub fn of_certificate(certname: &str) -> Result<Self, NameError> {
        Self::from_str(&format!("{}={certname}", Self::KIND_OF_CERTIFICATES))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The kind of proof; `choria` for certificates.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.text[..self.equals]
    }

    /// The name that is proven.
    #[must_use]
    pub fn certname(&self) -> &str {
        &self.text[self.equals + 1..]
    }

    /// The part of subjects that belongs to this caller alone: the MD5 sum of the caller id in hexadecimal digits. Brokers
    /// let a caller subscribe to replies below it only, so it is not free to be anything better.
    #[must_use]
    pub fn subject_token(&self) -> String {
        data_encoding::HEXLOWER.encode(&Md5::digest(self.text.as_bytes()))
    }
}

impl fmt::Display for CallerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FromStr for CallerId {
    type Err = NameError;

    /// Reads `kind=name`: `^\w+=[\w.\-]+$`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > 2 * NAME_BYTES_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        let wrong = || NameError::CallerId(text.to_owned());
        let equals = text.find('=').ok_or_else(wrong)?;
        let (kind, name) = (&text[..equals], &text[equals + 1..]);
        if kind.is_empty() || !kind.bytes().all(is_word) || check(name).is_err() {
            return Err(wrong());
        }
        Ok(Self {
            text: text.to_owned(),
            equals,
        })
    }
}

/// Whether this may name a node, a certificate, a collective or an agent.
///
/// # Errors
/// If it is empty, longer than [`NAME_BYTES_MAX`] or has other characters than letters, digits, `_`, `-` and `.`.
pub fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(name.len()));
    }
    let fits = |byte: u8| is_word(byte) || byte == b'.' || byte == b'-';
    if name.bytes().all(fits) {
        Ok(())
    } else {
        Err(NameError::Character(name.to_owned()))
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["node1.example.net", "n", "a_b-c.D9"] {
            assert_eq!(Identity::new(name).unwrap().as_str(), name);
        }
        assert_eq!(Identity::new(""), Err(NameError::Empty));
        for name in ["a b", "a\n", "a>", "a*", "ä", "a/b", "\0"] {
            assert_eq!(
                Identity::new(name),
                Err(NameError::Character(name.to_owned()))
            );
        }
    }

    #[test]
    fn names_have_an_end() {
        let longest = "n".repeat(NAME_BYTES_MAX);
        assert!(Identity::new(&*longest).is_ok() && CallerId::of_certificate(&longest).is_ok());
        for bytes in [NAME_BYTES_MAX + 1, 5000] {
            let name = "n".repeat(bytes);
            assert_eq!(check(&name), Err(NameError::TooLong(bytes)));
            let error = CallerId::of_certificate(&name).unwrap_err();
            assert!(error.to_string().len() <= 1000, "{error}");
        }
    }

    #[test]
    fn callers() {
        let caller: CallerId = "choria=rip.mcollective".parse().unwrap();
        assert_eq!(
            (caller.kind(), caller.certname()),
            ("choria", "rip.mcollective")
        );
        for text in [
            "",
            "choria",
            "=a",
            "choria=",
            "a-b=c",
            "choria=a=b",
            "choria=a b",
            "choria=a\n",
        ] {
            assert!(text.parse::<CallerId>().is_err(), "{text:?}");
        }
        assert!(CallerId::of_certificate("../../etc/x").is_err());
    }

    /// Seen on the wire of the Ruby client.
    #[test]
    fn subject_tokens_are_those_of_choria() {
        let token = |name| CallerId::of_certificate(name).unwrap().subject_token();
        assert_eq!(token("rip"), "d92f5de06d3c84950d8040e4253f08bb");
        assert_eq!(token("rip.mcollective"), "37bdf08389145a56c13096c178802d3b");
    }
}
