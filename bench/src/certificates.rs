//! Certificates for one run: an authority of its own, one certificate for the servers and one for the clients,
//! as files, because that is how both servers take them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

use crate::cells::{Encryption, Routes};

/// The name both servers' certificate has.
pub(crate) const SERVER_NAME: &str = "localhost";

const AUTHORITY: &str = "authority.pem";
const SERVER: Pair = Pair {
    certificate: "server.pem",
    key: "server-key.pem",
};
const CLIENT: Pair = Pair {
    certificate: "client.pem",
    key: "client-key.pem",
};

const ROUTE: Pair = Pair {
    certificate: "route.pem",
    key: "route-key.pem",
};

struct Pair {
    certificate: &'static str,
    key: &'static str,
}

/// The certificates of a run, in a folder that goes with it.
#[derive(Debug)]
pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes an authority and has it sign the others, all with keys on the curve P-256.
    pub(crate) fn make() -> Result<Self> {
        let made = Self {
            folder: TempDir::new().context("making a folder for certificates")?,
        };
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "natterjack-bench authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        made.write(AUTHORITY, &params.self_signed(&key)?.pem())?;
        let issuer = Issuer::new(params, key);
        let (server, client) = (
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        );
        made.sign(&SERVER, vec![server.clone()], &issuer)?;
        made.sign(&CLIENT, vec![client.clone()], &issuer)?;
        made.sign(&ROUTE, vec![server, client], &issuer)?;
        Ok(made)
    }

    /// Where they are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The flags both servers are given for it.
    pub(crate) fn server_flags(&self, encryption: Encryption) -> Vec<OsString> {
        let mut flags: Vec<OsString> = Vec::new();
        if encryption == Encryption::None {
            return flags;
        }
        let path = |name| self.folder().join(name).into();
        flags.extend(["--tls".into(), "--tlscert".into(), path(SERVER.certificate)]);
        flags.extend(["--tlskey".into(), path(SERVER.key)]);
        if encryption == Encryption::MutualTls {
            flags.extend(["--tlsverify".into(), "--tlscacert".into(), path(AUTHORITY)]);
        }
        flags
    }

    /// What both servers' files say in their `cluster` block for it.
    pub(crate) fn route_settings(&self, routes: Routes) -> String {
        let path = |name| self.folder().join(name);
        match routes {
            Routes::Clear => String::new(),
            Routes::Compressed => "compression: s2_fast".to_owned(),
            Routes::Tls => format!(
                "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?} }}",
                path(ROUTE.certificate),
                path(ROUTE.key),
                path(AUTHORITY)
            ),
        }
    }

    fn sign(
        &self,
        pair: &Pair,
        purposes: Vec<ExtendedKeyUsagePurpose>,
        issuer: &Issuer<'_, KeyPair>,
    ) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([SERVER_NAME.to_owned(), "127.0.0.1".to_owned()])?;
        params
            .distinguished_name
            .push(DnType::CommonName, "natterjack-bench");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purposes;
        self.write(pair.certificate, &params.signed_by(&key, issuer)?.pem())?;
        self.write(pair.key, &key.serialize_pem())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder().join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }
}

/// The files that a client needs of a run's folder.
#[derive(Debug)]
pub(crate) struct ClientFiles {
    /// The authority that signed the server's certificate.
    pub(crate) authority: PathBuf,
    /// The client's own certificate.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

impl ClientFiles {
    /// Those in `folder`.
    pub(crate) fn inside(folder: &Path) -> Self {
        Self {
            authority: folder.join(AUTHORITY),
            certificate: folder.join(CLIENT.certificate),
            key: folder.join(CLIENT.key),
        }
    }
}
