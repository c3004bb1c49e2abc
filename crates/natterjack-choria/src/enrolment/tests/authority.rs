//! An authority like Puppet's, played in this process: what it answers is what Puppet Server 7.9 answers.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
    SignatureAlgorithm,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use testkit::revocation_list;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use x509_cert::der::Decode as _;
use x509_cert::request::CertReq;

use crate::server::ServerAddress;

pub(in super::super) type Issuer = CertifiedIssuer<'static, KeyPair>;

fn params_of_authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

pub(in super::super) fn root(name: &str) -> Issuer {
    CertifiedIssuer::self_signed(params_of_authority(name), KeyPair::generate().unwrap()).unwrap()
}

pub(in super::super) fn under(name: &str, root: &Issuer) -> Issuer {
    let key = KeyPair::generate().unwrap();
    CertifiedIssuer::signed_by(params_of_authority(name), key, root).unwrap()
}

/// A certificate as Puppet makes it: one name, alternative name included, for both purposes.
pub(super) fn certificate(issuer: &Issuer, name: &str, key: &impl PublicKeyData) -> String {
    certificate_with(issuer, name, key, None)
}

/// That of the authority's own server.
pub(super) const SERVER_SERIAL: u64 = 4_711;

fn certificate_with(
    issuer: &Issuer,
    name: &str,
    key: &impl PublicKeyData,
    serial: Option<u64>,
) -> String {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = serial.map(SerialNumber::from);
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.signed_by(key, issuer).unwrap().pem()
}

/// The key of a request.
pub(super) struct Requested(Vec<u8>);

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

impl Requested {
    pub(super) fn of(request_pem: &str) -> Self {
        let (_, key) = read(request_pem).unwrap();
        Self(key)
    }
}

/// The common name and the key in a request.
fn read(request_pem: &str) -> Option<(String, Vec<u8>)> {
    let der = CertificateSigningRequestDer::from_pem_slice(request_pem.as_bytes()).ok()?;
    let request = CertReq::from_der(&der).ok()?;
    let subject = request.info.subject.to_string();
    let name = subject
        .split(',')
        .find_map(|part| part.strip_prefix("CN="))?;
    let key = request.info.public_key.subject_public_key.as_bytes()?;
    Some((name.to_owned(), key.to_vec()))
}

/// What it knows, and how it is to behave.
#[derive(Default)]
pub(super) struct State {
    /// What it has revoked; none: it knows of no list.
    pub(super) revocations: Option<String>,
    pub(super) pending: BTreeMap<String, String>,
    pub(super) signed: BTreeMap<String, String>,
    /// Every question so far.
    pub(super) asked: Vec<String>,
    /// After how many more questions for a certificate that waits it is signed; `None`: nobody signs.
    pub(super) signs_after: Option<usize>,
    /// Questions that begin with this are answered with that instead; the text of a status from 300 to 399 is where to go.
    pub(super) instead: Option<(String, u16, String)>,
    /// The question, counted from 0, that is never answered.
    pub(super) hangs_at: Option<usize>,
}

pub(super) struct Authority {
    pub(super) address: ServerAddress,
    /// The text of its authorities: the intermediate one and the root.
    pub(super) bundle: String,
    pub(super) issuer: Arc<Issuer>,
    state: Arc<Mutex<State>>,
    /// That a question is not answered.
    pub(super) hangs: Arc<Notify>,
    accepting: JoinHandle<()>,
}

impl Authority {
    /// One that is what it says.
    pub(super) async fn start() -> Self {
        let root = root("Puppet Root CA");
        let issuer = under("Puppet CA: puppet", &root);
        let bundle = format!("{}{}", issuer.pem(), root.pem());
        let lists = [&issuer, &root].map(|each| revocation_list(each, &[7], 2019..2100));
        let authority = Self::start_with(issuer, bundle, "localhost").await;
        authority.state(|state| state.revocations = Some(lists.concat()));
        authority
    }

    /// One that shows these authorities, and a certificate of this name by that issuer.
    pub(super) async fn start_with(issuer: Issuer, bundle: String, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = certificate_with(&issuer, name, &key, Some(SERVER_SERIAL));
        let certificate =
            rustls_pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            signs_after: Some(1),
            ..State::default()
        }));
        let (issuer, hangs) = (Arc::new(issuer), Arc::new(Notify::new()));
        let served = Served {
            bundle: bundle.clone(),
            issuer: Arc::clone(&issuer),
            state: Arc::clone(&state),
            hangs: Arc::clone(&hangs),
        };
        let served = Arc::new(served);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, acceptor.clone(), Arc::clone(&served)));
            }
        });
        Self {
            address: ServerAddress::new("localhost", port),
            bundle,
            issuer,
            state,
            hangs,
            accepting,
        }
    }

    pub(super) fn state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap())
    }

    /// What it was asked, in short, since the last time.
    pub(super) fn asked(&self) -> Vec<String> {
        self.state(|state| std::mem::take(&mut state.asked))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Served {
    bundle: String,
    issuer: Arc<Issuer>,
    state: Arc<Mutex<State>>,
    hangs: Arc<Notify>,
}

async fn serve(socket: TcpStream, acceptor: TlsAcceptor, served: Arc<Served>) -> Option<()> {
    let mut stream = acceptor.accept(socket).await.ok()?;
    let mut text = String::new();
    let (head, length) = loop {
        let mut bytes = [0; 4096];
        let count = stream
            .read(&mut bytes)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        text.push_str(std::str::from_utf8(&bytes[..count]).ok()?);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.parse().unwrap())
            });
            let length: usize = length.unwrap_or(0);
            if body.len() >= length {
                break (head.to_owned(), length);
            }
        }
    };
    assert!(
        head.contains("accept: text/plain") && head.contains("host: localhost:"),
        "{head}"
    );
    let body = &text[text.len() - length..];
    let line = head.lines().next()?.strip_suffix(" HTTP/1.1")?;
    let question = line
        .strip_suffix("?environment=production")?
        .replace("/puppet-ca/v1/", "");
    let Some((status, answer)) = served.answer(&question, body) else {
        served.hangs.notify_one();
        return pending().await;
    };
    let more = if (300..=399).contains(&status) {
        format!("Location: {answer}\r\n")
    } else {
        String::new()
    };
    let answer = format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Type: text/plain\r\n{more}Content-Length: {}\r\n\r\n{answer}",
        answer.len()
    );
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

impl Served {
    /// `None`: never.
    fn answer(&self, question: &str, body: &str) -> Option<(u16, String)> {
        let mut state = self.state.lock().unwrap();
        let count = state.asked.len();
        state.asked.push(question.to_owned());
        if state.hangs_at == Some(count) {
            return None;
        }
        if let Some((beginning, status, text)) = &state.instead
            && question.starts_with(beginning)
        {
            return Some((*status, text.clone()));
        }
        if question == "GET certificate_revocation_list/ca" {
            return Some(match &state.revocations {
                Some(lists) => (200, lists.clone()),
                None => (
                    404,
                    "Could not find certificate_revocation_list ca".to_owned(),
                ),
            });
        }
        if question == "GET certificate/ca" {
            return Some((200, self.bundle.clone()));
        }
        let (kind, name) = question.split_once('/')?;
        Some(match kind {
            "GET certificate" => {
                if let Some(request) = state.pending.get(name).cloned() {
                    match &mut state.signs_after {
                        Some(0) => {
                            let key = Requested::of(&request);
                            let signed = certificate(&self.issuer, name, &key);
                            state.pending.remove(name);
                            state.signed.insert(name.to_owned(), signed);
                        }
                        Some(left) => *left -= 1,
                        None => {}
                    }
                }
                match state.signed.get(name) {
                    Some(pem) => (200, pem.clone()),
                    None => (404, format!("Could not find certificate {name}")),
                }
            }
            "GET certificate_request" => match state.pending.get(name) {
                Some(pem) => (200, pem.clone()),
                None => (404, format!("Could not find certificate_request {name}")),
            },
            "PUT certificate_request" => match read(body) {
                None => (500, "Internal Server Error".to_owned()),
                Some((found, _)) if found != name => {
                    let text = format!(
                        "Instance name \"{found}\" does not match requested key \"{name}\""
                    );
                    (400, text)
                }
                Some(_) if state.signed.contains_key(name) => {
                    let text = format!(
                        "{name} already has a signed certificate; ignoring certificate request"
                    );
                    (400, text)
                }
                Some(_) if state.pending.contains_key(name) => {
                    let text = format!(
                        "{name} already has a requested certificate; ignoring certificate request"
                    );
                    (400, text)
                }
                Some(_) => {
                    state.pending.insert(name.to_owned(), body.to_owned());
                    (200, String::new())
                }
            },
            _ => (404, "Not Found".to_owned()),
        })
    }
}
