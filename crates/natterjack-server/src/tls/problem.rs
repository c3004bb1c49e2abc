//! What can be wrong with TLS options and the files they name.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Something about TLS that cannot work, or will soon not; the text says which file, what is wrong with it,
/// and what to do.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// No certificate is configured.
    #[error("tls needs a certificate: set cert_file and key_file, or certs")]
    NoCertificate,
    /// A certificate without its key.
    #[error("cert_file {} has no key_file: name the file with its private key", .0.display())]
    KeyFileMissing(PathBuf),
    /// A key without its certificate.
    #[error("key_file {} has no cert_file: name the file with its certificate", .0.display())]
    CertFileMissing(PathBuf),
    /// `cert_file` and `certs` exclude each other.
    #[error("cert_file and certs cannot be combined: move the pair into certs")]
    CertFileAndCerts,
    /// A file cannot be read.
    #[error("{option} {}: cannot be read: {}", .path.display(), remedy(*.kind))]
    Unreadable {
        /// The option that names the file.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// A file with no certificate in it.
    #[error("{option} {}: no certificate inside; it must hold PEM, beginning with \"-----BEGIN CERTIFICATE-----\"{}",
        .path.display(), key_instead(*.holds_key, option))]
    NoCertificateInside {
        /// The option that names the file.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Whether it holds a private key.
        holds_key: bool,
    },
    /// PEM or a certificate that cannot be taken apart.
    #[error("{option} {}: damaged: certificate or key {number} in it cannot be decoded; copy the file again", .path.display())]
    Damaged {
        /// The option that names the file.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Which, counted from 1.
        number: usize,
    },
    /// A certificate that cannot say whom it is for.
    #[error("cert_file {}: the certificate is of version 1 of X.509, and only version 3 says which hosts a certificate is for; \
        make it anew, for example with `natterjack certs node`; `openssl x509 -req` makes one of version 3 when it is given a \
        file of extensions (-extfile)", .0.display())]
    OldVersion(PathBuf),
    /// A file with no private key in it.
    #[error("key_file {}: no private key inside; it must hold PEM: PKCS#8, PKCS#1 (RSA) or SEC1 (EC){}",
        .path.display(), if *.holds_certificate { ". It holds a certificate: are cert_file and key_file swapped?" } else { "" })]
    NoKeyInside {
        /// The file.
        path: PathBuf,
        /// Whether it holds a certificate.
        holds_certificate: bool,
    },
    /// A key protected by a password.
    #[error("key_file {}: the private key is encrypted; decrypt it with: openssl pkey -in {} -out plain-key.pem",
        .0.display(), .0.display())]
    EncryptedKey(PathBuf),
    /// A key of a kind or size that is not usable.
    #[error("key_file {}: this kind of key cannot be used; RSA of 2048 to 8192 bits, EC P-256 or P-384, and Ed25519 can", .0.display())]
    UnusableKey(PathBuf),
    /// Certificate and key are not a pair.
    #[error("key_file {} is not the key of cert_file {}: the certificate names another public key; if the file \
        is a chain, the server's own certificate must come first", .key_file.display(), .cert_file.display())]
    KeyMismatch {
        /// The certificate's file.
        cert_file: PathBuf,
        /// The key's file.
        key_file: PathBuf,
    },
    /// A certificate whose time is over. A warning: clients that check will refuse it.
    #[error("cert_file {}: the certificate expired {} ago; clients will refuse it, renew it", .path.display(), span(*.days))]
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// Whole days since.
        days: u64,
    },
    /// A certificate whose time is nearly over. A warning.
    #[error("cert_file {}: the certificate expires in {}; renew it", .path.display(), span(*.days))]
    ExpiresSoon {
        /// The certificate's file.
        path: PathBuf,
        /// Whole days left.
        days: u64,
    },
    /// A certificate whose time has not come. A warning.
    #[error("cert_file {}: the certificate is not valid yet; check this machine's clock", .0.display())]
    NotYetValid(PathBuf),
    /// Clients must show a certificate and there is no authority to check it with.
    #[error(
        "verify needs certificate authorities, and this system has none installed: set ca_file"
    )]
    NoAuthorities,
    /// A certificate of an authority that cannot be one.
    #[error("ca_file {}: certificate {number} cannot serve as an authority; is it a server's or client's own certificate?", .path.display())]
    NoAuthority {
        /// The file.
        path: PathBuf,
        /// Which, counted from 1.
        number: usize,
    },
    /// A certificate of an authority that is not valid now. A warning: whoever it vouches for is refused.
    #[error("ca_file {}: certificate {number} has expired or is not valid yet; clients whose certificates come from it \
        are refused", .path.display())]
    AuthorityOutOfTime {
        /// The file.
        path: PathBuf,
        /// Which, counted from 1.
        number: usize,
    },
    /// A name no TLS library knows.
    #[error("cipher suite {0:?} is unknown; there are: {list}", list = super::names::SUITES.join(", "))]
    UnknownCipherSuite(String),
    /// A cipher suite that nats-server has and this server does not. A warning as long as others remain.
    #[error("cipher suite {0} is not offered and left out; there are: {list}", list = super::names::SUITES.join(", "))]
    CipherSuiteLeftOut(String),
    /// No cipher suite remains.
    #[error("none of the cipher_suites can be used with min_version; there are: {list}", list = super::names::SUITES.join(", "))]
    NoCipherSuite,
    /// A name no TLS library knows.
    #[error("curve {0:?} is unknown; there are: {list}", list = super::names::CURVES.join(", "))]
    UnknownCurve(String),
    /// A curve that nats-server has and this server does not. A warning as long as others remain.
    #[error("curve {0} is not offered and left out; there are: {list}", list = super::names::CURVES.join(", "))]
    CurveLeftOut(String),
    /// No curve remains.
    #[error("none of the curve_preferences can be used; there are: {list}", list = super::names::CURVES.join(", "))]
    NoCurve,
    /// Not a fingerprint.
    #[error(
        "pinned_certs entry {0:?} is not the SHA-256 of a public key (SubjectPublicKeyInfo) in 64 hexadecimal digits"
    )]
    PinnedCert(String),
    /// `pinned_certs` without `verify`: nobody gets in. A warning.
    #[error(
        "pinned_certs without verify lets nobody in, since no client is asked for its certificate: set verify"
    )]
    PinnedWithoutVerify,
    /// The time for a handshake is zero.
    #[error("tls timeout must be longer than zero")]
    ZeroTimeout,
    /// The TLS library refuses the options together.
    #[error("the options of tls do not work together: {0}")]
    Refused(Box<str>),
}

/// What to do about a private key where a certificate should be.
fn key_instead(holds_key: bool, option: &str) -> &'static str {
    match (holds_key, option) {
        (false, _) => "",
        (true, "ca_file") => {
            ". It holds a private key: name the authority's certificate, and keep its key elsewhere"
        }
        (true, _) => ". It holds a private key: are cert_file and key_file swapped?",
    }
}

fn span(days: u64) -> String {
    match days {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        _ => format!("{days} days"),
    }
}

impl TlsProblem {
    /// Whether the server can work in spite of it.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::Expired { .. }
                | Self::ExpiresSoon { .. }
                | Self::NotYetValid(_)
                | Self::AuthorityOutOfTime { .. }
                | Self::CipherSuiteLeftOut(_)
                | Self::CurveLeftOut(_)
                | Self::PinnedWithoutVerify
        )
    }
}

fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotSeekable => "it is a pipe or a device, and has to be a file",
        io::ErrorKind::NotFound => "it does not exist; check the path",
        io::ErrorKind::PermissionDenied => {
            "permission denied; the user that runs the server must be able to read it"
        }
        io::ErrorKind::IsADirectory => "it is a directory; name the file inside",
        _ => "input or output error",
    }
}
