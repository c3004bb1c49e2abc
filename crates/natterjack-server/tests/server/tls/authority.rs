//! An authority made up for a test, and files with the certificates it gives out.

use std::path::PathBuf;

use natterjack_server::KeyPairFiles;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

pub(crate) struct Authority {
    folder: TempDir,
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(params, key);
        let authority = Self {
            folder,
            certificate,
            issuer,
        };
        std::fs::write(authority.ca_file(), authority.certificate.pem()).expect("written");
        authority
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.file("ca.pem")
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    /// Files of a certificate for this machine and anything on it.
    pub(crate) fn pair(&self, name: &str) -> KeyPairFiles {
        self.pair_with(name, |_| {})
    }

    /// Writes the files anew if there are some of that name.
    pub(crate) fn pair_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> KeyPairFiles {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let files = KeyPairFiles {
            cert_file: self.file(&format!("{name}.pem")),
            key_file: self.file(&format!("{name}-key.pem")),
        };
        std::fs::write(&files.cert_file, certificate.pem()).expect("written");
        std::fs::write(&files.key_file, key.serialize_pem()).expect("written");
        files
    }

    /// A certificate that is an authority's itself, as `openssl req -x509` makes them, until some year.
    pub(crate) fn self_signed(&self, year: i32) -> KeyPairFiles {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let name = format!("self-signed until {year}");
        params.distinguished_name.push(DnType::CommonName, &name);
        let certificate = params.self_signed(&key).expect("a certificate");
        let files = KeyPairFiles {
            cert_file: self.file(&format!("{name}.pem")),
            key_file: self.file(&format!("{name}-key.pem")),
        };
        std::fs::write(&files.cert_file, certificate.pem()).expect("written");
        std::fs::write(&files.key_file, key.serialize_pem()).expect("written");
        files
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
