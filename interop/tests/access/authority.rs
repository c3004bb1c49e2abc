//! Authorities made up for tests, and certificates they give out.

use std::sync::OnceLock;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use testkit::Config;

/// Somebody who gives out certificates.
pub(crate) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The authority the servers under test trust.
pub(crate) fn trusted() -> &'static Authority {
    static TRUSTED: OnceLock<Authority> = OnceLock::new();
    TRUSTED.get_or_init(|| Authority::new("trusted authority"))
}

/// One of the same name that they do not.
pub(crate) fn impostor() -> &'static Authority {
    static IMPOSTOR: OnceLock<Authority> = OnceLock::new();
    IMPOSTOR.get_or_init(|| Authority::new("trusted authority"))
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    pub(crate) fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        change(&mut params);
        let certificate = params.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(params, key);
        Self {
            certificate,
            issuer,
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for clients and servers, without any name.
    pub(crate) fn pair(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = date_time_ymd(2024, 1, 1);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// The certificate of a server on this machine.
    pub(crate) fn server_pair(&self) -> Pair {
        self.pair(|params| {
            named("server")(params);
            params.subject_alt_names = vec![
                SanType::DnsName(text("localhost")),
                SanType::IpAddress([127, 0, 0, 1].into()),
            ];
        })
    }
}

/// A certificate that nobody else vouches for.
pub(crate) fn self_signed(name: &str) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    named(name)(&mut params);
    let certificate = params.self_signed(&key).expect("a certificate");
    Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

/// Gives a certificate this common name.
pub(crate) fn named(name: &str) -> impl FnOnce(&mut CertificateParams) {
    let name = name.to_owned();
    move |params| params.distinguished_name.push(DnType::CommonName, name)
}

/// A text in the letters of a certificate's alternative names.
pub(crate) fn text(text: &str) -> Ia5String {
    text.try_into().expect("plain letters")
}

/// A configuration file with the files that [`TLS`] and [`MUTUAL`] name beside it.
pub(crate) fn config(text: &str) -> Config {
    let server = trusted().server_pair();
    Config::file(text)
        .side_file("ca.pem", trusted().pem())
        .side_file("cert.pem", server.certificate)
        .side_file("key.pem", server.key)
}

/// The options of a block `tls` that asks nobody for a certificate.
pub(crate) const TLS: &str = "cert_file: cert.pem, key_file: key.pem";

/// And of one that knows an authority; whether it asks, and what for, is to be added.
pub(crate) const MUTUAL: &str = "cert_file: cert.pem, key_file: key.pem, ca_file: ca.pem";
