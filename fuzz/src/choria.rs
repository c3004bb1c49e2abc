//! Owns messages of Choria's protocol for the targets of the connector's crate, and those of its properties that need
//! certificates or files: who is let in, and what a configuration may say.

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use natterjack_choria::admission::{Admission, Refusal};
use natterjack_choria::configuration::{Configuration, Role, Surroundings};
use natterjack_choria::facter::Facter;
use natterjack_choria::filter::Filter;
use natterjack_choria::identity::{CallerId, Identity};
use natterjack_choria::pattern::NamePatterns;
use natterjack_choria::subject::Collectives;
use natterjack_choria::trust::Authorities;
use natterjack_choria::wire::{
    Federation, Headers, Reply, Request, SecureReply, SecureRequest, SigningKey, Transport,
    Wrapping,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

/// The key of all who ask here. It is that of the crate's tests.
const KEY: &str = include_str!("../../crates/natterjack-choria/tests/data/rip.mcollective.key.pem");
const RIP: &str = "rip.mcollective";
const NODE: &str = "node1.example.net";
const SECRET: &str = "h1dden-w0rd";

/// Who asks, of whom, and what has been signed.
struct World {
    authorities: Authorities,
    key: SigningKey,
    /// Of the caller, of a node, who may not ask, and of a caller whom nobody vouches for.
    certificates: [String; 3],
    /// Requests that the caller has signed, as they travel.
    signed: Vec<Vec<u8>>,
    requests: Vec<Request>,
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_289_687)
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

impl World {
    fn new() -> Self {
        let ours = authority();
        let certificates = [
            certificate(&ours, RIP),
            certificate(&ours, NODE),
            certificate(&authority(), RIP),
        ];
        let key = SigningKey::from_pem(KEY.as_bytes()).expect("a key");
        let requests: Vec<_> = (0..4).map(request).collect();
        let signed = requests.iter().map(|request| {
            let secure = SecureRequest::sign(request.to_text(), &key, &certificates[0]);
            secure.to_bytes(Wrapping::Lines)
        });
        Self {
            authorities: Authorities::from_pem(ours.pem().as_bytes()).expect("an authority"),
            signed: signed.collect(),
            requests,
            key,
            certificates,
        }
    }

    fn admission(&self) -> Admission {
        let patterns = |text: &str| NamePatterns::new(&[text.to_owned()]).expect("a pattern");
        Admission::new(
            self.authorities.clone(),
            patterns(r"/\.mcollective$/"),
            patterns(r"/\.privileged\.mcollective$/"),
            Collectives::default(),
            None,
        )
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("an authority")
}

fn certificate(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> String {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::from_pem(KEY).expect("a key");
    params
        .signed_by(&key, authority)
        .expect("a certificate")
        .pem()
}

fn caller(name: &str) -> CallerId {
    CallerId::of_certificate(name).expect("a name")
}

fn request(number: u64) -> Request {
    Request {
        body: r#"{"agent":"rpcutil","action":"ping","data":{"process_results":true}}"#.into(),
        id: format!("{number:032x}"),
        sender: Identity::new("client.example.net").expect("a name"),
        caller: caller(RIP),
        collective: "mcollective".into(),
        agent: "rpcutil".into(),
        lifetime: Duration::from_secs(60),
        // The last one is too old.
        time: now() - Duration::from_secs(if number == 3 { 61 } else { 0 }),
        filter: Filter::default(),
    }
}

fn own_subject() -> String {
    let subject = Collectives::default().reply("mcollective", &caller(RIP), 1, 1);
    subject.expect("a subject")
}

/// A request in its envelope; sometimes with another certificate, another signer's words, or other headers than it should
/// have.
pub(crate) fn admission_input(rng: &mut Rng) -> Vec<u8> {
    let world = world();
    let content = match rng.u8(..8) {
        0 => {
            // Signed by the key, but proven by another certificate.
            let text = request(rng.u64(..4)).to_text();
            let certificate = rng.choice(&world.certificates).expect("there are some");
            SecureRequest::sign(text, &world.key, certificate).to_bytes(Wrapping::None)
        }
        1 => {
            // Words that were never signed.
            let content = rng.choice(&world.signed).expect("there are some").clone();
            String::from_utf8(content)
                .expect("it is JSON")
                .replace("rpcutil", "package")
                .into_bytes()
        }
        _ => rng.choice(&world.signed).expect("there are some").clone(),
    };
    let mut transport = Transport {
        content,
        headers: headers(rng),
    };
    if rng.u8(..4) == 0 {
        crate::mutate::mutate(&mut transport.content, rng);
    }
    transport.to_bytes(Wrapping::None)
}

fn headers(rng: &mut Rng) -> Headers {
    let own = own_subject();
    let subjects = [
        own.clone(),
        "mcollective.reply.37bdf08389145a56c13096c178802d3c.1".into(),
        "mcollective.node.node1".into(),
        own + ".>",
        "choria.federation.london.collective".into(),
        String::new(),
    ];
    let subject = |rng: &mut Rng| rng.choice(&subjects).cloned();
    let first = if rng.bool() { 0 } else { rng.usize(..6) };
    Headers {
        sender: Some("client".into()),
        reply_to: subjects.get(first).cloned(),
        federation: (rng.u8(..3) == 0).then(|| Federation {
            request: Some("1".into()),
            targets: Vec::new(),
            reply_to: subject(rng),
        }),
        seen_by: None,
    }
}

/// Only what the caller signed is let in, unchanged, in its time, once, and answered to nobody else.
pub(crate) fn admission(data: &[u8]) {
    let Ok(transport) = Transport::from_bytes(data) else {
        return;
    };
    let (world, headers) = (world(), &transport.headers);
    let admission = world.admission();
    let later = now() + Duration::from_secs(61);
    let much_later = admission.admit(&transport.content, headers, later);
    assert!(much_later.is_err(), "a request is good for a minute");
    let Ok(admitted) = admission.admit(&transport.content, headers, now()) else {
        return;
    };
    assert!(
        world.requests.contains(&admitted.request),
        "nobody signed {:?}",
        admitted.request
    );
    assert!(!admitted.request.is_out_of_date(now()));
    assert_eq!(admitted.signed_by, RIP);
    let collectives = Collectives::default();
    let through = headers
        .federation
        .as_ref()
        .and_then(|federation| federation.reply_to.as_ref());
    let ends_at = match through {
        Some(subject) if natterjack_choria::subject::is_federation_reply(&admitted.reply_to) => {
            subject
        }
        _ => &admitted.reply_to,
    };
    assert!(
        collectives.is_reply_to(ends_at, &admitted.request.caller),
        "answers would go to {ends_at}"
    );
    let again = admission.admit(&transport.content, headers, now());
    assert!(
        matches!(again, Err(Refusal::Repeated { .. })),
        "taken twice: {again:?}"
    );
}

/// A transport message with something in it.
pub(crate) fn transport(rng: &mut Rng) -> Vec<u8> {
    let transport = Transport {
        content: if rng.bool() {
            reply(rng)
        } else {
            secure_request(rng)
        },
        headers: headers(rng),
    };
    let wrapping = if rng.bool() {
        Wrapping::Lines
    } else {
        Wrapping::None
    };
    transport.to_bytes(wrapping)
}

/// A secure request with its certificate.
pub(crate) fn secure_request(rng: &mut Rng) -> Vec<u8> {
    rng.choice(&world().signed).expect("there are some").clone()
}

/// A secure reply.
pub(crate) fn reply(rng: &mut Rng) -> Vec<u8> {
    let reply = Reply {
        body: r#"{"statuscode":0,"statusmsg":"OK","data":{"pong":1795289687}}"#.into(),
        request_id: format!("{:032x}", rng.u128(..)),
        sender: Identity::new(NODE).expect("a name"),
        agent: "rpcutil".into(),
        time: now(),
    };
    SecureReply::new(reply.to_text()).to_bytes()
}

/// A request's text, with conditions.
pub(crate) fn request_input(rng: &mut Rng) -> Vec<u8> {
    let filters = [
        r#"{"fact":[{"fact":"os","operator":"==","value":"x"}],"cf_class":["/a/"],"agent":["rpcutil"],"identity":["n1"],"compound":[]}"#,
        r#"{"fact":[],"cf_class":[],"identity":["/^n[0-9]+/","/(/"],"compound":[[{"statement":"a"},{"and":"and"}]]}"#,
        r#"{"fact":[{"fact":"","operator":"=~","value":"(a*)*"}]}"#,
        "{}",
    ];
    let text = request(rng.u64(..4)).to_text();
    let none = r#"{"fact":[],"cf_class":[],"agent":[],"identity":[],"compound":[]}"#;
    let filter = rng.choice(filters).expect("there are some");
    text.replace(none, filter).into_bytes()
}

const KEYS: [&str; 12] = [
    "identity",
    "collectives",
    "main_collective",
    "ttl",
    "connector",
    "plugin.choria.middleware_hosts",
    "plugin.choria.use_srv",
    "plugin.choria.federation.collectives",
    "plugin.choria.security.certname_whitelist",
    "plugin.security.provider",
    "plugin.nats.user",
    "direct_addressing",
];
const VALUES: [&str; 14] = [
    "nats",
    "mcollective, eu",
    "a b",
    "60",
    "-1",
    "99999999999999999999",
    "puppet:4222, [::1]:4222",
    "puppet",
    "true",
    "maybe",
    r"/\.mcollective$/, bob",
    "/(/",
    "file",
    "",
];

/// A configuration file, right or nearly, with a password in it.
pub(crate) fn configuration_input(rng: &mut Rng) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..rng.usize(..8) {
        let key = rng.choice(KEYS).expect("there are some");
        let value = rng.choice(VALUES).expect("there are some");
        let line = match rng.u8(..8) {
            0 => format!("# {key} = {value}\n"),
            1 => format!("{key}{value}\r\n"),
            2 => format!("{key}={value}=\n\n"),
            _ => format!("{key} = {value}\n"),
        };
        text.push_str(&line);
    }
    text.push_str(&format!("plugin.nats.pass = {SECRET}\n"));
    text.into_bytes()
}

/// Whatever a file says, it is taken or refused, and neither tells the password.
pub(crate) fn configuration(data: &[u8]) {
    let folder = std::env::temp_dir().join(format!("natterjack-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("server.cfg");
    fs::write(&file, data).expect("written");
    let surroundings = Surroundings {
        environment: BTreeMap::new(),
        home: None,
        directory: None,
        is_root: false,
        host_name: NODE.into(),
        facter: Facter::none(),
        root: folder.join("root"),
    };
    for role in [Role::Client, Role::Server] {
        let told = match Configuration::load(role, Some(&file), &surroundings) {
            Ok(loaded) => format!("{loaded:?} {:?}", loaded.configuration.show()),
            Err(problems) => {
                assert!(!problems.0.is_empty(), "refused without a reason");
                format!("{problems} {problems:?}")
            }
        };
        let is_password = |line: &[u8]| line == format!("plugin.nats.pass = {SECRET}").as_bytes();
        // A line that has been damaged may be no password any more.
        let lines: Vec<_> = data
            .split(|byte| *byte == b'\n')
            .filter(|line| {
                line.windows(SECRET.len())
                    .any(|part| part == SECRET.as_bytes())
            })
            .collect();
        if lines.iter().all(|line| is_password(line)) {
            assert!(!told.contains(SECRET), "{told}");
        }
    }
    // Others of the process do not need it; who comes last leaves nothing.
    let _ = fs::remove_dir_all(&folder);
}
