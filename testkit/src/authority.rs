//! An authority like Puppet's, made up for a test: certificates for servers, nodes and people in a folder, and a list of
//! those that it has revoked.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

/// An authority, and a folder for what it signs.
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// One with a key of P-256, which is made in a moment.
    ///
    /// # Panics
    /// If there is no room for its files.
    #[must_use]
    pub fn new() -> Self {
        Self::with_key(KeyPair::generate().expect("a key"))
    }

    /// One with this key; Puppet's are of RSA, which takes too long to make in a test.
    ///
    /// # Panics
    /// If there is no room for its files.
    #[must_use]
    pub fn with_key(key: KeyPair) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "Puppet CA: puppet");
        let authority = Self {
            folder: TempDir::new().expect("a folder"),
            issuer: CertifiedIssuer::self_signed(params, key).expect("an authority"),
        };
        fs::write(authority.ca(), authority.pem()).expect("written");
        authority
    }

    /// Where its files are, and where a test may put more.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file with its own certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder().join("ca.pem")
    }

    /// Its own certificate.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// What signs, for what is not made here.
    #[must_use]
    pub const fn issuer(&self) -> &CertifiedIssuer<'static, KeyPair> {
        &self.issuer
    }

    /// A certificate as Puppet makes them, for a common name and alternatives, in `<name>.pem` and `<name>-key.pem`.
    ///
    /// # Panics
    /// If a name is none.
    pub fn pair(&self, name: &str, alternatives: &[&str]) -> Pair {
        let key = KeyPair::generate().expect("a key");
        self.pair_with(name, alternatives, &key, |_| ())
    }

    /// The same for a key that is there already, changed by `change`.
    ///
    /// # Panics
    /// If a name is none.
    pub fn pair_with(
        &self,
        name: &str,
        alternatives: &[&str],
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let file = |end: &str| self.folder().join(format!("{name}{end}.pem"));
        let pair = Pair {
            certificate: file(""),
            key: file("-key"),
        };
        let certificate = self.certificate(name, alternatives, key, change);
        replace(&pair.certificate, &certificate.pem());
        replace(&pair.key, &key.serialize_pem());
        pair
    }

    /// A certificate for this name, in a folder as Puppet's agent has one: `certs/<name>.pem`, `private_keys/<name>.pem` and
    /// `certs/ca.pem`. The folders are made if they are not there.
    ///
    /// # Panics
    /// If a name is none, or the folder cannot be written.
    pub fn certify(&self, ssldir: &Path, name: &str, key: &KeyPair) -> Pair {
        let pair = Pair {
            certificate: ssldir.join(format!("certs/{name}.pem")),
            key: ssldir.join(format!("private_keys/{name}.pem")),
        };
        for folder in ["certs", "private_keys"] {
            fs::create_dir_all(ssldir.join(folder)).expect("a folder");
        }
        let certificate = self.certificate(name, &[name], key, |_| ());
        replace(&ssldir.join("certs/ca.pem"), &self.pem());
        replace(&pair.certificate, &certificate.pem());
        replace(&pair.key, &key.serialize_pem());
        pair
    }

    /// The same, in no file.
    ///
    /// # Panics
    /// If a name is none.
    pub fn certificate(
        &self,
        name: &str,
        alternatives: &[&str],
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> rcgen::Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = alternatives
            .iter()
            .map(|name| match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into().expect("a name")),
            })
            .collect();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        params.signed_by(key, &self.issuer).expect("signed")
    }

    /// Writes the list of what it has revoked, certificates of these serial numbers, to `crl.pem`. The list is good until
    /// the beginning of that year.
    ///
    /// # Panics
    /// If that is before 2020.
    pub fn revoke(&self, serials: &[u64], until_year: i32) -> PathBuf {
        let list = revocation_list(&self.issuer, serials, 2019..until_year);
        let path = self.folder().join("crl.pem");
        replace(&path, &list);
        path
    }
}

/// What an authority has revoked, certificates of these serial numbers, in PEM. The list is good from the beginning of the
/// first year to that of the last.
///
/// # Panics
/// If the authority cannot sign it.
#[must_use]
pub fn revocation_list(issuer: &Issuer<'_, KeyPair>, serials: &[u64], years: Range<i32>) -> String {
    let begin = rcgen::date_time_ymd(years.start, 1, 1);
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: begin,
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: begin,
        next_update: rcgen::date_time_ymd(years.end, 1, 1),
        crl_number: SerialNumber::from(7),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = params.signed_by(issuer).expect("signed");
    list.pem().expect("a list")
}

/// The same certificate as one of version 1 of X.509, such as `openssl x509 -req` makes where it is given no extensions. Nobody
/// has signed it: who finds out that it is of that version looks no further.
///
/// # Panics
/// If it is no certificate of version 3.
#[must_use]
pub fn of_version_1(certificate: &CertificateDer<'_>) -> CertificateDer<'static> {
    const VERSION_3: [u8; 5] = [0xa0, 3, 2, 1, 2];
    let (whole, _) = element(certificate);
    let (body, signature) = element(whole);
    let body = body.strip_prefix(&VERSION_3).expect("of version 3");
    let mut shorter = sequence(body);
    shorter.extend_from_slice(signature);
    sequence(&shorter).into()
}

/// What is in the first element, and what comes after it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let length_bytes = match der[1] {
        short @ ..0x80 => return der[2..].split_at(short.into()),
        long => usize::from(long & 0x7f),
    };
    let (length, rest) = der[2..].split_at(length_bytes);
    let length = length
        .iter()
        .fold(0, |length, byte| length << 8 | usize::from(*byte));
    rest.split_at(length)
}

fn sequence(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a certificate of a test is short");
    let mut der = vec![0x30, 0x82];
    der.extend_from_slice(&length.to_be_bytes());
    der.extend_from_slice(content);
    der
}

/// Writes a file as careful programs do: whoever looks at it sees the old text or the new one, and notices the change.
///
/// # Panics
/// If it cannot be written.
pub fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).expect("written");
    fs::rename(&draft, path).expect("renamed");
}
