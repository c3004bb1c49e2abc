//! Requests of people who may ask, and of others.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

use super::*;
use crate::filter::Filter;
use crate::identity::Identity;
use crate::wire::{Federation, SigningKey, Wrapping};

const KEY: &str = include_str!("../../tests/data/rip.mcollective.key.pem");

struct World {
    authority: CertifiedIssuer<'static, KeyPair>,
    admission: Admission,
    folder: tempfile::TempDir,
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn patterns(text: &str) -> NamePatterns {
    NamePatterns::new(&[text.to_owned()]).unwrap()
}

fn caller(name: &str) -> CallerId {
    CallerId::of_certificate(name).unwrap()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_289_687)
}

fn request(name: &str) -> Request {
    Request {
        body: "ping".into(),
        id: "a1b2c3d4e5f60718293a4b5c6d7e8f90".into(),
        sender: Identity::new("client.example.net").unwrap(),
        caller: caller(name),
        collective: "mcollective".into(),
        agent: "discovery".into(),
        lifetime: Duration::from_secs(60),
        time: now(),
        filter: Filter::default(),
    }
}

fn headers(name: &str) -> Headers {
    let collectives = Collectives::default();
    let subject = collectives.reply("mcollective", &caller(name), 1, 1);
    Headers {
        reply_to: Some(subject.unwrap()),
        ..Headers::default()
    }
}

impl World {
    fn new() -> Self {
        let authority = authority();
        let folder = tempfile::tempdir().unwrap();
        let admission = Admission::new(
            Authorities::from_pem(authority.pem().as_bytes()).unwrap(),
            patterns(r"/\.mcollective$/"),
            patterns(r"/\.privileged\.mcollective$/"),
            Collectives::default(),
            Some(Pins::below(folder.path())),
        );
        Self {
            authority,
            admission,
            folder,
        }
    }

    /// A certificate of the test's key for a name.
    fn certificate(&self, name: &str) -> String {
        Self::certificate_of(&self.authority, name, 2100)
    }

    fn certificate_of(
        authority: &CertifiedIssuer<'static, KeyPair>,
        name: &str,
        end: i32,
    ) -> String {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(end, 1, 1);
        let key = KeyPair::from_pem(KEY).unwrap();
        params.signed_by(&key, authority).unwrap().pem()
    }

    fn admit(&self, certificate: &str, request: &Request) -> Result<Admitted, Refusal> {
        let headers = headers(request.caller.certname());
        self.admit_with(certificate, request, &headers)
    }

    fn admit_with(
        &self,
        certificate: &str,
        request: &Request,
        headers: &Headers,
    ) -> Result<Admitted, Refusal> {
        let key = SigningKey::from_pem(KEY.as_bytes()).unwrap();
        let secure = SecureRequest::sign(request.to_text(), &key, certificate);
        let content = secure.to_bytes(Wrapping::Lines);
        self.admission.admit(&content, headers, now())
    }
}

const RIP: &str = "rip.mcollective";

#[test]
fn who_may_ask_is_taken_once() {
    let world = World::new();
    let certificate = world.certificate(RIP);
    let admitted = world.admit(&certificate, &request(RIP)).unwrap();
    assert_eq!(admitted.request, request(RIP));
    assert_eq!(admitted.signed_by, RIP);
    let again = world.admit(&certificate, &request(RIP)).unwrap_err();
    assert!(matches!(again, Refusal::Repeated { .. }), "{again}");
    let other = Request {
        id: "00000000000000000000000000000001".into(),
        ..request(RIP)
    };
    assert!(world.admit(&certificate, &other).is_ok());
}

/// Each of these authorities might have signed each, so that there are more orders of them than can be tried.
#[test]
fn a_chain_that_would_take_long_to_search_is_not_searched() {
    let world = World::new();
    let mut certificates = world.certificate(RIP);
    certificates.extend((0..3).map(|_| authority().pem()));
    assert!(world.admit(&certificates, &request(RIP)).is_ok());
    certificates.extend((3..15).map(|_| authority().pem()));
    let refusal = world.admit(&certificates, &request(RIP)).unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Signature(SignatureError::Certificate)),
        "{refusal}"
    );
}

#[test]
fn who_may_not_ask() {
    let world = World::new();
    let node = world.certificate("node1.example.net");
    let refusal = world
        .admit(&node, &request("node1.example.net"))
        .unwrap_err();
    assert!(matches!(refusal, Refusal::NotAllowed { .. }), "{refusal}");
    let impostor = world.admit(&world.certificate("bob.mcollective"), &request(RIP));
    let refusal = impostor.unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "choria=rip.mcollective did not sign: the certificate is that of bob.mcollective"
    );
    let stranger = World::certificate_of(&authority(), RIP, 2100);
    let refusal = world.admit(&stranger, &request(RIP)).unwrap_err();
    assert!(
        matches!(
            &refusal,
            Refusal::Untrusted {
                reason: TrustError::UnknownAuthority,
                ..
            }
        ),
        "{refusal}"
    );
    let expired = World::certificate_of(&world.authority, RIP, 2020);
    let refusal = world.admit(&expired, &request(RIP)).unwrap_err();
    assert!(
        matches!(
            &refusal,
            Refusal::Untrusted {
                reason: TrustError::Expired,
                ..
            }
        ),
        "{refusal}"
    );
}

#[test]
fn a_caller_is_spelt_in_one_way() {
    let world = World::new();
    let certificate = world.certificate(RIP);
    let refusal = world
        .admit(&certificate, &request("Rip.mcollective"))
        .unwrap_err();
    assert!(matches!(refusal, Refusal::Impostor { .. }), "{refusal}");
    assert!(world.admit(&certificate, &request(RIP)).is_ok());
}

#[test]
fn nobody_uses_up_identifiers_of_others() {
    let world = World::new();
    let bob = "bob.mcollective";
    assert!(world.admit(&world.certificate(bob), &request(bob)).is_ok());
    assert!(world.admit(&world.certificate(RIP), &request(RIP)).is_ok());
}

#[test]
fn the_privileged_ask_for_others() {
    let world = World::new();
    let certificate = world.certificate("web.privileged.mcollective");
    let admitted = world.admit(&certificate, &request("anybody")).unwrap();
    assert_eq!(admitted.request.caller, caller("anybody"));
    assert_eq!(admitted.signed_by, "web.privileged.mcollective");
}

#[test]
fn what_is_out_of_date_is_dropped() {
    let world = World::new();
    let certificate = world.certificate(RIP);
    let at = |time| Request {
        time,
        ..request(RIP)
    };
    for time in [
        now() - Duration::from_secs(61),
        now() + Duration::from_secs(61),
    ] {
        let refusal = world.admit(&certificate, &at(time)).unwrap_err();
        assert!(matches!(refusal, Refusal::OutOfDate { .. }), "{refusal}");
    }
    let forever = Request {
        lifetime: Duration::from_secs(u64::MAX),
        ..request(RIP)
    };
    let refusal = world.admit(&certificate, &forever).unwrap_err();
    assert!(matches!(refusal, Refusal::OutOfDate { .. }), "{refusal}");
}

#[test]
fn answers_go_to_who_asked() {
    let world = World::new();
    let certificate = world.certificate(RIP);
    let admit = |headers: &Headers| world.admit_with(&certificate, &request(RIP), headers);
    let refusal = admit(&Headers::default()).unwrap_err();
    assert!(
        matches!(refusal, Refusal::NoReplySubject { .. }),
        "{refusal}"
    );
    let refusal = admit(&headers("bob.mcollective")).unwrap_err();
    assert!(
        matches!(refusal, Refusal::ForeignReplySubject { .. }),
        "{refusal}"
    );

    // Through a federation, the subject in the federation counts.
    let federated = |subject: &str, name: &str| Headers {
        reply_to: Some(subject.into()),
        federation: Some(Federation {
            reply_to: headers(name).reply_to,
            ..Federation::default()
        }),
        ..Headers::default()
    };
    let broker = "choria.federation.london.collective";
    let refusal = admit(&federated(broker, "bob.mcollective")).unwrap_err();
    assert!(
        matches!(refusal, Refusal::ForeignReplySubject { .. }),
        "{refusal}"
    );
    let refusal = admit(&federated("mcollective.node.n1", RIP)).unwrap_err();
    assert!(
        matches!(refusal, Refusal::ForeignReplySubject { .. }),
        "{refusal}"
    );
    assert_eq!(admit(&federated(broker, RIP)).unwrap().reply_to, broker);
}

#[test]
fn other_collectives_are_not_ours() {
    let world = World::new();
    let request = Request {
        collective: "eu".into(),
        ..request(RIP)
    };
    let refusal = world.admit(&world.certificate(RIP), &request).unwrap_err();
    assert!(
        matches!(refusal, Refusal::OtherCollective { .. }),
        "{refusal}"
    );
}

#[test]
fn the_first_certificate_counts_until_its_end() {
    let world = World::new();
    let path = world
        .folder
        .path()
        .join("choria_security/public_certs/rip.mcollective.pem");
    let expired = World::certificate_of(&world.authority, RIP, 2020);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, &expired).unwrap();
    let first = world.certificate(RIP);
    assert!(
        world.admit(&first, &request(RIP)).is_ok(),
        "the one there has expired"
    );
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        kept.split_whitespace().collect::<String>(),
        first.split_whitespace().collect::<String>()
    );
    // Made anew: another serial number.
    let second = world.certificate(RIP);
    let other = Request {
        id: "00000000000000000000000000000001".into(),
        ..request(RIP)
    };
    let refusal = world.admit(&second, &other).unwrap_err();
    assert!(
        matches!(refusal, Refusal::Pinned(PinError::Other { .. })),
        "{refusal}"
    );
    std::fs::remove_file(&path).unwrap();
    assert!(world.admit(&second, &other).is_ok());
}

#[test]
fn what_was_taken_is_forgotten_in_the_end() {
    let mut taken = Taken::default();
    let later = now() + Duration::from_secs(60);
    assert!(taken.add("a", later, now()));
    assert!(!taken.add("a", later, now()));
    assert!(taken.add("a", later, later + Duration::from_secs(1)));
    for number in 0..REMEMBERED_MAX + 10 {
        assert!(taken.add(&number.to_string(), later, now()));
    }
    assert_eq!(taken.ids.len(), REMEMBERED_MAX);
    assert_eq!(taken.order.len(), REMEMBERED_MAX);
}
