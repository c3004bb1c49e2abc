//! Why there is no TLS with a server, in words for whoever has to do something about it. The library's own words stay where
//! there is nothing better to say.

use std::error::Error;
use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage, OtherError};

use crate::complaints;
use crate::revocation::RevocationProblem;
use crate::trust::{is_about_algorithm, is_of_authority, is_of_old_version};

/// What went wrong in a handshake. Shown, it says what to do; its source is what the library said.
#[derive(Debug)]
pub(crate) struct HandshakeProblem(io::Error);

impl HandshakeProblem {
    /// The same as an error of the connection.
    pub(crate) fn explain(error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Self(error))
    }
}

impl fmt::Display for HandshakeProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&words_of(&self.0))
    }
}

impl Error for HandshakeProblem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// What to say of an error of a TLS stream.
pub(crate) fn words_of(error: &io::Error) -> String {
    let inner = error.get_ref();
    match inner.and_then(|inner| inner.downcast_ref()) {
        Some(error) => words(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection in the middle of it; its log may say why".to_owned()
        }
        None => error.to_string(),
    }
}

/// What to say of an error of TLS.
pub(crate) fn words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(reason) => of_certificate(reason),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what answers there does not speak TLS; is it the right port?".to_owned()
        }
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::Other(OtherError(other)) => {
            match other.downcast_ref::<RevocationProblem>() {
                Some(problem) => format!("the server's certificate is not good: {problem}"),
                None => error.to_string(),
            }
        }
        error => error.to_string(),
    }
}

fn of_certificate(reason: &CertificateError) -> String {
    match reason {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate was signed by none of the authorities that are trusted here (ca.pem); it needs one of Puppet's \
             authority. If it has one, ca.pem is of another authority, or somebody is in between"
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => return of_name(&expected.to_str(), presented),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired; it needs a new one, if the clock here is right"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; are the clocks right, there and here?"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for servers (extended key usage); it needs another one"
        }
        CertificateError::BadEncoding => "its certificate cannot be read; it needs another one",
        reason if is_of_authority(reason) => {
            "its certificate is that of an authority, or was signed by itself; it needs one that Puppet's authority has \
             signed for it"
        }
        reason if is_about_algorithm(reason) => {
            "its certificate, or one of an authority between, is signed in a way that is not trusted, such as with SHA-1; it \
             needs another one"
        }
        reason if is_of_old_version(reason) => {
            "its certificate is of version 1 of X.509, and only version 3 says which hosts a certificate is for; it needs \
             another one, such as Puppet's authority makes (openssl x509 -req makes one when it is given a file of extensions, \
             -extfile)"
        }
        reason => return rustls::Error::from(reason.clone()).to_string(),
    }
    .to_owned()
}

fn of_name(expected: &str, presented: &[String]) -> String {
    let mut names: Vec<_> = presented.iter().map(|name| plain_name(name)).collect();
    names.sort_unstable();
    names.dedup();
    let whose = if names.is_empty() {
        "for no name at all".to_owned()
    } else {
        format!("for {}", names.join(", "))
    };
    // Before anybody vouches for it, anybody can have written them.
    let whose = complaints::plain(&whose);
    format!(
        "its certificate is {whose}, and not for {expected}; use a name that it is for, or have its certificate made for \
         this one as well (Puppet's dns_alt_names)"
    )
}

/// A name without the library's decoration, such as `DnsName("puppet")`.
fn plain_name(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA => {
            "it does not take our certificate, since none of the authorities that it trusts has signed it; is its ca_file \
             that of Puppet's authority?"
                .to_owned()
        }
        AlertDescription::CertificateExpired => {
            "it does not take our certificate, since that has expired by the clock there".to_owned()
        }
        AlertDescription::CertificateRevoked => {
            "it does not take our certificate, since that was revoked".to_owned()
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRequired
        | AlertDescription::AccessDenied => {
            format!("it does not take our certificate ({alert:?}); its log may say why")
        }
        AlertDescription::ProtocolVersion => "it speaks neither TLS 1.2 nor TLS 1.3".to_owned(),
        alert => rustls::Error::AlertReceived(alert).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, IsCa, KeyPair,
    };
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;
    use crate::revocation::{Depth, Revocations};
    use crate::trust::{Authorities, TrustError};

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// What is said of a server that shows this to who calls it by this name.
    fn said(certificate: &CertificateDer<'_>, trusted: &str, name: &str) -> String {
        let authorities = Authorities::from_pem(trusted.as_bytes()).unwrap();
        said_by(&authorities, certificate, name)
    }

    fn said_by(authorities: &Authorities, certificate: &CertificateDer<'_>, name: &str) -> String {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_795_289_687));
        let verifier = authorities.server_verifier();
        let error = verifier.verify_server_cert(certificate, &[], &name, &[], now);
        let error = io::Error::new(io::ErrorKind::InvalidData, error.unwrap_err());
        let explained = HandshakeProblem::explain(error);
        assert_eq!(explained.kind(), io::ErrorKind::InvalidData);
        assert!(explained.get_ref().unwrap().source().is_some());
        explained.to_string()
    }

    #[test]
    fn of_servers_whose_certificates_are_not_good() {
        let (ours, other) = (authority(), authority());
        let names = ["puppet".to_owned(), "nats.example.net".to_owned()];
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let good = params.signed_by(&key, &ours).unwrap();
        for (certificate, trusted, name, expected) in [
            (
                good.der(),
                &other,
                "puppet",
                "signed by none of the authorities",
            ),
            // Made with `openssl req -x509`, as in many a guide.
            (
                other.der(),
                &ours,
                "puppet",
                "or was signed by itself; it needs",
            ),
            (
                good.der(),
                &ours,
                "127.0.0.1",
                "its certificate is for nats.example.net, puppet, and not for 127.0.0.1; use",
            ),
        ] {
            let said = said(certificate, &trusted.pem(), name);
            assert!(said.contains(expected), "{said}");
        }
        let sha_1 = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: vec![5],
            supported_algorithms: Vec::new(),
        };
        assert!(of_certificate(&sha_1).contains("such as with SHA-1"));
        let reason = TrustError::from(rustls::Error::from(sha_1));
        assert_eq!(reason, TrustError::Algorithm);
        let old = testkit::of_version_1(good.der());
        let said_of_old = said(&old, &ours.pem(), "puppet");
        assert!(said_of_old.contains("version 1 of X.509"), "{said_of_old}");
        assert!(said_of_old.contains("-extfile"), "{said_of_old}");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let nobody = params.signed_by(&key, &ours).unwrap();
        let said = said(nobody.der(), &ours.pem(), "puppet");
        assert!(
            said.contains("is for no name at all, and not for puppet"),
            "{said}"
        );
    }

    #[test]
    fn of_servers_that_were_revoked() {
        let ours = testkit::Authority::new();
        let key = KeyPair::generate().unwrap();
        let number = |params: &mut CertificateParams| params.serial_number = Some(20.into());
        let server = ours.certificate("puppet", &["puppet"], &key, number);
        let judged_by = |list: &str| {
            let lists = Revocations::from_pem(list.as_bytes(), Depth::Chain).unwrap();
            let lists = lists.kept_in(std::path::Path::new("/ssl/crl.pem"));
            let pem = ours.pem();
            let authorities = Authorities::with_revocations(pem.as_bytes(), &lists).unwrap();
            said_by(&authorities, server.der(), "puppet")
        };
        let list = |serials: &[u64]| testkit::revocation_list(ours.issuer(), serials, 2019..2100);
        assert_eq!(
            judged_by(&list(&[20])),
            "the server's certificate is not good: its authority has revoked it (/ssl/crl.pem says so); its owner must \
             request another"
        );
        let of_another = testkit::revocation_list(&authority(), &[], 2019..2100);
        let said = judged_by(&of_another);
        let lacking = "(there is none of CN=Puppet CA: puppet) (in /ssl/crl.pem); fetch";
        assert!(said.contains(lacking), "{said}");
    }

    #[test]
    fn of_what_answers() {
        let refusal = |alert| words(&rustls::Error::AlertReceived(alert));
        assert!(refusal(AlertDescription::UnknownCA).contains("ca_file"));
        assert!(refusal(AlertDescription::BadCertificate).contains("(BadCertificate)"));
        assert!(refusal(AlertDescription::ProtocolVersion).contains("TLS 1.2"));
        // Nothing better is known of these.
        assert!(refusal(AlertDescription::HandshakeFailure).contains("HandshakeFailure"));
        assert!(words_of(&io::ErrorKind::UnexpectedEof.into()).contains("closed the connection"));
        let other = io::Error::other("something else");
        assert_eq!(words_of(&other), "something else");
        let no_tls = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert!(words(&no_tls).contains("does not speak TLS"));
    }
}
