//! The verdict on a client's credentials: a pure function of what it sent and what is configured.

use std::fmt;

use natterjack_wire::client::ConnectOptions;
use serde::{Deserialize, Serialize};

/// What a client must show to be let in.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Authorization {
    /// Nothing.
    #[default]
    Open,
    /// The token.
    Token(String),
    /// The one user's name and password.
    User {
        /// Its name.
        name: String,
        /// Its password, in clear text.
        password: String,
    },
}

impl Authorization {
    /// Whether a client must send CONNECT before anything else.
    #[must_use]
    pub fn is_required(&self) -> bool {
        *self != Self::Open
    }

    /// Puts the right credentials into a CONNECT; for clients inside the server's process.
    pub fn present(&self, options: &mut ConnectOptions) {
        match self {
            Self::Open => {}
            Self::Token(token) => options.auth_token.clone_from(token),
            Self::User { name, password } => {
                options.user.clone_from(name);
                options.pass.clone_from(password);
            }
        }
    }

    /// Whether these credentials are the right ones. Takes the same time wherever they differ.
    #[must_use]
    pub fn accepts(&self, options: &ConnectOptions) -> bool {
        match self {
            Self::Open => true,
            Self::Token(token) => same(token, &options.auth_token),
            // Both are compared in any case, so that a wrong name takes as long as a wrong password.
            Self::User { name, password } => {
                same(name, &options.user) & same(password, &options.pass)
            }
        }
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Open => "Open",
            Self::Token(_) => "Token(***)",
            Self::User { .. } => "User(***)",
        })
    }
}

/// Compares without stopping at the first difference. The length of the expected text is not hidden.
fn same(expected: &str, given: &str) -> bool {
    let (expected, given) = (expected.as_bytes(), given.as_bytes());
    let mut difference = usize::from(expected.len() != given.len());
    for (index, byte) in expected.iter().enumerate() {
        let other = given.get(index).copied().unwrap_or(!byte);
        difference |= usize::from(byte ^ other);
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut ConnectOptions)) -> ConnectOptions {
        let mut options = ConnectOptions::default();
        change(&mut options);
        options
    }

    #[test]
    fn only_the_exact_credentials_are_accepted() {
        let token = Authorization::Token("s3cret".into());
        assert!(token.accepts(&with(|options| options.auth_token = "s3cret".into())));
        for wrong in ["", "s3cre", "s3cret!", "S3cret"] {
            assert!(
                !token.accepts(&with(|options| options.auth_token = wrong.into())),
                "{wrong}"
            );
        }
        let user = Authorization::User {
            name: "ann".into(),
            password: "pw".into(),
        };
        let login = |name: &str, password: &str| {
            user.accepts(&with(|options| {
                options.user = name.into();
                options.pass = password.into();
            }))
        };
        assert!(login("ann", "pw"));
        assert!(!login("ann", "") && !login("", "pw") && !login("bob", "pw"));
    }

    #[test]
    fn debug_output_hides_secrets() {
        let text = format!("{:?}", Authorization::Token("s3cret".into()));
        assert!(!text.contains("s3cret"));
    }
}
