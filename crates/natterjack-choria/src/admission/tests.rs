//! Requests of people who may ask, and of others.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

use super::*;
use crate::filter::Filter;
use crate::revocation::{Depth, Revocations};
use crate::wire::{Federation, SigningKey, Wrapping};

const KEY: &str = include_str!("../../tests/data/rip.mcollective.key.pem");
const OTHER_KEY: &str = include_str!("../../tests/data/other.pkcs8.key.pem");

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
        Self::signed(authority, name, end, &KeyPair::from_pem(KEY).unwrap())
    }

    fn signed(
        authority: &CertifiedIssuer<'static, KeyPair>,
        name: &str,
        end: i32,
        key: &KeyPair,
    ) -> String {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = rcgen::date_time_ymd(end, 1, 1);
        params.signed_by(key, authority).unwrap().pem()
    }

    fn with(mut self, change: impl FnOnce(&mut Admission)) -> Self {
        change(&mut self.admission);
        self
    }

    /// Another one with the same files, after the end of this one.
    fn restarted(self, has_folder: bool, node: &Identity) -> Self {
        let admission = Admission::new(
            self.admission.authorities.clone(),
            patterns(r"/\.mcollective$/"),
            NamePatterns::default(),
            Collectives::default(),
            None,
        );
        drop(self.admission);
        let folder = has_folder.then_some(self.folder.path());
        Self {
            admission: admission.since(folder, node, now()),
            authority: self.authority,
            folder: self.folder,
        }
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
        self.admit_signed(KEY, certificate, request, headers)
    }

    fn admit_signed(
        &self,
        key: &str,
        certificate: &str,
        request: &Request,
        headers: &Headers,
    ) -> Result<Admitted, Refusal> {
        let key = SigningKey::from_pem(key.as_bytes()).unwrap();
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
    for (time, made) in [
        (now() - Duration::from_secs(61), "made 61 s ago"),
        (now() + Duration::from_secs(61), "made 61 s from now"),
    ] {
        let refusal = world.admit(&certificate, &at(time)).unwrap_err();
        assert!(matches!(refusal, Refusal::OutOfDate { .. }), "{refusal}");
        assert!(refusal.to_string().contains(made), "{refusal}");
    }
    let forever = Request {
        lifetime: Duration::from_secs(u64::MAX),
        ..request(RIP)
    };
    let refusal = world.admit(&certificate, &forever).unwrap_err();
    assert!(matches!(refusal, Refusal::LivesTooLong { .. }), "{refusal}");
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
    let seen = std::fs::read_to_string(path.with_extension("json")).unwrap();
    assert!(
        seen.contains(r#""senderid":"client.example.net""#),
        "{seen}"
    );
    let other = |number: u8| Request {
        id: format!("{number:032x}"),
        ..request(RIP)
    };
    // Renewed: another serial number for the same key.
    let second = world.certificate(RIP);
    assert!(world.admit(&second, &other(1)).is_ok());
    let foreign = World::signed(&world.authority, RIP, 2100, &KeyPair::generate().unwrap());
    std::fs::write(&path, foreign).unwrap();
    let refusal = world.admit(&second, &other(2)).unwrap_err();
    assert!(
        matches!(refusal, Refusal::Pinned(PinError::Other { .. })),
        "{refusal}"
    );
    std::fs::remove_file(&path).unwrap();
    assert!(world.admit(&second, &other(2)).is_ok());
}

/// Its authority is known by what comes along with it alone.
#[test]
fn a_pinned_certificate_is_judged_by_its_own_chain() {
    let world = World::new();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "between");
    let key = KeyPair::generate().unwrap();
    let between = CertifiedIssuer::signed_by(params, key, &world.authority).unwrap();
    let first = World::certificate_of(&between, RIP, 2100) + &between.pem();
    assert!(world.admit(&first, &request(RIP)).is_ok());

    let other = |number: u8| Request {
        id: format!("{number:032x}"),
        ..request(RIP)
    };
    let key = KeyPair::from_pem(OTHER_KEY).unwrap();
    let second = World::signed(&world.authority, RIP, 2100, &key);
    let stranger = authority().pem();
    for (number, chain) in [(1, second.clone()), (2, second + &stranger)] {
        let admitted = world.admit_signed(OTHER_KEY, &chain, &other(number), &headers(RIP));
        let refusal = admitted.unwrap_err();
        assert!(
            matches!(refusal, Refusal::Pinned(PinError::Other { .. })),
            "{refusal}"
        );
    }
    assert!(world.admit(&first, &other(3)).is_ok());
}

#[test]
fn what_was_taken_before_a_restart_is_not_taken_again() {
    let mut world = World::new();
    let certificate = world.certificate(RIP);
    let node = Identity::new("node1").unwrap();
    let early = Request {
        time: now() - Duration::from_secs(10),
        id: "00000000000000000000000000000001".into(),
        ..request(RIP)
    };
    world = world.restarted(true, &node);
    assert!(world.admit(&certificate, &request(RIP)).is_ok());
    world = world.restarted(true, &node);
    let again = world.admit(&certificate, &request(RIP)).unwrap_err();
    assert!(matches!(again, Refusal::Repeated { .. }), "{again}");
    assert!(
        world.admit(&certificate, &early).is_ok(),
        "it was not taken"
    );

    // Where nothing is kept, nobody knows.
    world = world.restarted(false, &node);
    let early = world.admit(&certificate, &early).unwrap_err();
    assert!(matches!(early, Refusal::BeforeStart { .. }), "{early}");
    assert!(world.admit(&certificate, &request(RIP)).is_ok());
}

#[test]
fn certificates_prove_callers_of_one_kind() {
    let world = World::new();
    let other = Request {
        caller: "up=rip.mcollective".parse().unwrap(),
        ..request(RIP)
    };
    let refusal = world.admit(&world.certificate(RIP), &other).unwrap_err();
    assert!(matches!(refusal, Refusal::CallerKind { .. }), "{refusal}");
}

#[test]
fn who_was_revoked_may_not_ask() {
    let authority = testkit::Authority::new();
    let list = std::fs::read(authority.revoke(&[21], 2100)).unwrap();
    let revocations = Revocations::from_pem(&list, Depth::Chain).unwrap();
    let revocations = revocations.kept_in(Path::new("/etc/crl.pem"));
    let authorities = Authorities::with_revocations(authority.pem().as_bytes(), &revocations);
    let world = World::with(World::new(), |admission| {
        admission.authorities = authorities.unwrap();
    });
    let certificate = |serial: u64| {
        let key = KeyPair::from_pem(KEY).unwrap();
        let certificate = authority.certificate(RIP, &[RIP], &key, |params| {
            params.serial_number = Some(serial.into());
        });
        certificate.pem()
    };
    let refusal = world.admit(&certificate(21), &request(RIP)).unwrap_err();
    let reason = "the certificate of rip.mcollective is not trusted: its authority has revoked it (/etc/crl.pem says so); \
                  its owner must request another";
    assert_eq!(refusal.to_string(), reason);
    assert!(world.admit(&certificate(20), &request(RIP)).is_ok());
}
