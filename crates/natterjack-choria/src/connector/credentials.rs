//! What a server may want to know beside the certificate: user and password, or a file of NATS credentials.

use std::fmt;
use std::io;
use std::path::PathBuf;

use data_encoding::BASE64URL_NOPAD;
use natterjack_wire::client::{ConnectOptions, ServerInfo};
use nkeys::KeyPair;
use zeroize::Zeroizing;

use crate::configuration::{Configuration, Login};

/// What is shown to servers. Most of Choria's want nothing but the certificate.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Credentials {
    /// Nothing.
    #[default]
    None,
    /// User and password; either one suffices.
    Login(Login),
    /// A file with a token and a key, which is read anew for every attempt.
    File(PathBuf),
}

impl Credentials {
    /// What to do where a server does not take them, of somebody with this certificate; to be put behind what it said.
    pub(super) fn advice(&self, certname: &str) -> String {
        match self {
            Self::None => format!(
                "; it may want a user: set plugin.nats.user and plugin.nats.pass, or plugin.nats.credentials; or it goes by \
                 certificates (verify_and_map), and {certname} is none of its users"
            ),
            Self::Login(_) => {
                "; correct plugin.nats.user and plugin.nats.pass (MCOLLECTIVE_NATS_USERNAME and \
                MCOLLECTIVE_NATS_PASSWORD go before them), or its users"
                    .to_owned()
            }
            Self::File(path) => format!(
                "; it does not take the credentials in {}: they may be of another server, or taken back",
                path.display()
            ),
        }
    }
}

/// Tells no password.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("None"),
            Self::Login(login) => login.fmt(formatter),
            Self::File(path) => path.fmt(formatter),
        }
    }
}

/// Why a file of credentials cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// It cannot be read.
    #[error("cannot read the credentials {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It has not two parts between lines of dashes.
    #[error(
        "{} is no file of NATS credentials: it must have a user's token and key, each between lines with dashes",
        path.display()
    )]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// The key is none.
    #[error("the key in the credentials {} cannot be used", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
}

impl Credentials {
    /// What the settings say. A file comes before user and password.
    #[must_use]
    pub fn of(configuration: &Configuration) -> Self {
        let login = &configuration.login;
        if let Some(path) = &configuration.credentials {
            return Self::File(path.clone());
        }
        if login.user.is_none() && login.password.is_none() {
            return Self::None;
        }
        Self::Login(login.clone())
    }

    /// Puts them into what is said to this server.
    pub(super) fn show(
        &self,
        server: &ServerInfo,
        connect: &mut ConnectOptions,
    ) -> Result<(), CredentialsError> {
        match self {
            Self::None => {}
            Self::Login(login) => {
                connect.user = login.user.clone().unwrap_or_default();
                connect.pass = login.password.clone().unwrap_or_default();
            }
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map(Zeroizing::new);
                let text = text.map_err(|source| CredentialsError::Unreadable {
                    path: path.clone(),
                    source,
                })?;
                let parts = parts(&text);
                let [token, seed, ..] = parts.as_slice() else {
                    return Err(CredentialsError::Form { path: path.clone() });
                };
                let key = |_| CredentialsError::Key { path: path.clone() };
                let pair = KeyPair::from_seed(seed).map_err(key)?;
                let signature = pair.sign(server.nonce.as_bytes()).map_err(key)?;
                connect.jwt = (*token).to_owned();
                connect.sig = BASE64URL_NOPAD.encode(&signature);
            }
        }
        Ok(())
    }
}

/// What stands between a line of dashes that begins a part and the one that ends it.
fn parts(text: &str) -> Vec<&str> {
    let is_dashes = |line: &str| line.starts_with("---") && line.ends_with("---");
    let mut parts = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if is_dashes(line) && line.contains("BEGIN") {
            let content = lines.next().unwrap_or_default();
            if !content.is_empty() && lines.next().is_some_and(is_dashes) {
                parts.push(content);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ServerInfo {
        ServerInfo {
            nonce: "abc".into(),
            ..ServerInfo::default()
        }
    }

    fn file(folder: &tempfile::TempDir, text: &str) -> Credentials {
        let path = folder.path().join("user.creds");
        std::fs::write(&path, text).unwrap();
        Credentials::File(path)
    }

    #[test]
    fn what_to_do_depends_on_what_was_shown() {
        let advice = |credentials: &Credentials| credentials.advice("rip.mcollective");
        let none = advice(&Credentials::None);
        assert!(
            none.starts_with("; it may want a user: set plugin.nats.user"),
            "{none}"
        );
        assert!(
            none.contains("(verify_and_map), and rip.mcollective is none"),
            "{none}"
        );
        let login = Credentials::Login(Login {
            user: Some("rip".into()),
            password: Some("s3cret".into()),
        });
        let login = advice(&login);
        assert!(login.starts_with("; correct plugin.nats.user"), "{login}");
        assert!(!login.contains("s3cret"), "{login}");
        let file = advice(&Credentials::File("/a.creds".into()));
        assert!(file.contains("credentials in /a.creds"), "{file}");
    }

    #[test]
    fn files_have_a_token_and_a_key() {
        let pair = KeyPair::new_user();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\r\ntoken.x.y\r\n------END NATS USER JWT------\r\n\n\
             ****** IMPORTANT ******\nkeep it\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            pair.seed().unwrap()
        );
        let folder = tempfile::tempdir().unwrap();
        let mut connect = ConnectOptions::default();
        file(&folder, &text).show(&server(), &mut connect).unwrap();
        assert_eq!(connect.jwt, "token.x.y");
        let signature = BASE64URL_NOPAD.decode(connect.sig.as_bytes()).unwrap();
        assert!(pair.verify(b"abc", &signature).is_ok());
    }

    #[test]
    fn files_that_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let error = |text: &str| {
            let mut connect = ConnectOptions::default();
            let shown = file(&folder, text).show(&server(), &mut connect);
            shown.unwrap_err()
        };
        assert!(matches!(error(""), CredentialsError::Form { .. }));
        assert!(matches!(
            error("---BEGIN A---\nx\n---END A---\n---BEGIN B---"),
            CredentialsError::Form { .. }
        ));
        assert!(matches!(
            error("---BEGIN A---\nx\n---END A---\n---BEGIN B---\ny\n---END B---"),
            CredentialsError::Key { .. }
        ));
        let absent = Credentials::File(folder.path().join("absent"));
        let shown = absent.show(&server(), &mut ConnectOptions::default());
        assert!(matches!(shown, Err(CredentialsError::Unreadable { .. })));
    }

    #[test]
    fn either_of_user_and_password_suffices() {
        let mut connect = ConnectOptions::default();
        let login = Credentials::Login(Login {
            user: Some("me".into()),
            password: None,
        });
        login.show(&server(), &mut connect).unwrap();
        assert_eq!((connect.user.as_str(), connect.pass.as_str()), ("me", ""));
        let secret = Credentials::Login(Login {
            user: None,
            password: Some("secret".into()),
        });
        assert!(!format!("{secret:?}").contains("secret"));
    }
}
