//! Whole enrolments with a played authority: everything it may answer, and everything that may be broken off.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::configuration::Role;
use authority::{Authority, Requested, certificate, root};

pub(super) mod authority;

/// RSA keys of 2,048 bits; making those of 4,096 takes its time.
pub(super) const KEY: &str = include_str!("../../tests/data/rip.mcollective.key.pem");
pub(super) const OTHER_KEY: &str = include_str!("../../tests/data/other.key.pem");

const NAME: &str = "rip.mcollective";

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_289_687)
}

struct Machine {
    folder: tempfile::TempDir,
    surroundings: Surroundings,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_path_buf();
        let surroundings = Surroundings {
            environment: BTreeMap::from([("USER".to_owned(), "rip".to_owned())]),
            home: Some(root.join("home/rip")),
            ..Surroundings::bare("client.example.net", root)
        };
        Self {
            folder,
            surroundings,
        }
    }

    /// One whose user has a key already.
    fn with_key(pem: &str) -> Self {
        let machine = Self::new();
        let files = machine.prepare("").unwrap().files;
        fs::create_dir_all(files.key.parent().unwrap()).unwrap();
        fs::write(&files.key, pem).unwrap();
        machine
    }

    fn prepare(&self, settings: &str) -> Result<Enrolment, EnrolmentError> {
        let file = self.folder.path().join("client.conf");
        fs::write(&file, settings).unwrap();
        let loaded = Configuration::load(Role::Client, Some(&file), &self.surroundings).unwrap();
        Enrolment::prepare(&loaded.configuration, &self.surroundings)
    }

    fn ssl(&self) -> PathBuf {
        self.folder
            .path()
            .join("home/rip/.puppetlabs/etc/puppet/ssl")
    }

    async fn run(&self, authority: &Authority) -> (Vec<Step>, Result<(), EnrolmentError>) {
        self.run_with(std::slice::from_ref(&authority.address), &quick())
            .await
    }

    async fn run_with(
        &self,
        addresses: &[ServerAddress],
        options: &EnrolmentOptions,
    ) -> (Vec<Step>, Result<(), EnrolmentError>) {
        let enrolment = match self.prepare("") {
            Ok(enrolment) => enrolment,
            Err(error) => return (Vec::new(), Err(error)),
        };
        let mut steps = Vec::new();
        let mut report = |step| steps.push(step);
        let result = enrolment.run(addresses, options, now(), &mut report).await;
        (steps, result)
    }

    /// What is said, without the way to the files.
    fn said(&self, result: Result<(), EnrolmentError>) -> String {
        let error = result.unwrap_err().to_string();
        error.replace(&format!("{}/", self.folder.path().display()), "")
    }

    /// What is there, below the folder.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.ssl(), &self.ssl(), &mut found);
        found.sort();
        found
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.ssl().join(name)).unwrap()
    }
}

fn collect(base: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(base, &path, found);
        } else {
            found.push(path.strip_prefix(base).unwrap().display().to_string());
        }
    }
}

fn quick() -> EnrolmentOptions {
    EnrolmentOptions {
        poll_interval: Duration::from_millis(5),
        wait_max: Duration::from_secs(60),
        ..EnrolmentOptions::default()
    }
}

const ALL: [&str; 5] = [
    "certificate_requests/rip.mcollective.pem",
    "certs/ca.pem",
    "certs/rip.mcollective.pem",
    "crl.pem",
    "private_keys/rip.mcollective.pem",
];

#[tokio::test]
async fn a_certificate_is_requested_and_comes() {
    let authority = Authority::start().await;
    let machine = Machine::new();
    let (steps, result) = machine.run(&authority).await;
    result.unwrap();
    assert_eq!(
        authority.asked(),
        [
            "GET certificate/ca",
            "GET certificate/rip.mcollective",
            "PUT certificate_request/rip.mcollective",
            "GET certificate/rip.mcollective",
            "GET certificate/rip.mcollective",
            "GET certificate_revocation_list/ca",
        ]
    );
    let [
        Step::Authorities {
            certificates,
            known_by: KnownBy::Nothing,
            ..
        },
        Step::Key { is_new: true, path },
        Step::Request { fingerprint, .. },
        Step::Submitted,
        Step::Waiting { .. },
        Step::Revocations { revoked: 2, .. },
        Step::Stored { .. },
    ] = &steps[..]
    else {
        panic!("{steps:?}")
    };
    let names: Vec<_> = certificates.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["Puppet CA: puppet", "Puppet Root CA"]);
    assert_eq!(machine.files(), ALL);
    assert_eq!(machine.read("certs/ca.pem"), authority.bundle);
    let request = machine.read(ALL[0]);
    let der = CertificateSigningRequestDer::from_pem_slice(request.as_bytes()).unwrap();
    assert_eq!(Fingerprint::of(&der), *fingerprint);
    assert_eq!(
        fs::metadata(path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    for folder in ["public_keys", "private"] {
        assert!(machine.ssl().join(folder).is_dir());
    }
    // All together they are what the connector needs.
    let file = machine.folder.path().join("client.conf");
    let loaded = Configuration::load(Role::Client, Some(&file), &machine.surroundings).unwrap();
    let ssl = crate::ssl::Ssl::load(&loaded.configuration, &machine.surroundings, now()).unwrap();
    ssl.signing_key().unwrap();

    let (steps, result) = machine.run(&authority).await;
    assert_eq!(steps, []);
    assert_eq!(
        machine.said(result),
        "Already have a certificate 'home/rip/.puppetlabs/etc/puppet/ssl/certs/rip.mcollective.pem', cannot request a new \
         one; remove it first if it is of no use any more"
    );
}

#[test]
fn what_cannot_be_requested() {
    let three = "plugin.security.provider = file\nplugin.security.file.certificate = /a/cert\n\
        plugin.security.file.key = /a/key\nplugin.security.file.ca = /a/ca\n";
    let error = Machine::new().prepare(three).unwrap_err();
    assert!(matches!(error, EnrolmentError::Provider), "{error}");

    let mut machine = Machine::new();
    let environment = &mut machine.surroundings.environment;
    environment.insert("USER".into(), "Rip".into());
    let error = machine.prepare("").unwrap_err();
    assert!(matches!(error, EnrolmentError::Capitals(_)), "{error}");
    assert!(error.to_string().contains("with --certname or"), "{error}");
}

/// Each question is left without an answer once, and the program ended there; each time the next run goes on.
#[tokio::test]
async fn what_is_broken_off_goes_on() {
    for (hangs_at, files) in [
        (0, &[][..]),
        (1, &["certs/ca.pem"][..]),
        (2, &[ALL[0], ALL[1], ALL[4]][..]),
        (3, &[ALL[0], ALL[1], ALL[4]][..]),
        (4, &[ALL[0], ALL[1], ALL[4]][..]),
        (5, &[ALL[0], ALL[1], ALL[4]][..]),
    ] {
        let authority = Authority::start().await;
        authority.state(|state| state.hangs_at = Some(hangs_at));
        let machine = Machine::new();
        // A key that is given takes the place of the one that would be made in between.
        let enrolment = machine.prepare("").unwrap();
        if hangs_at > 1 {
            folder::create(&machine.ssl()).unwrap();
            fs::write(&enrolment.files.key, KEY).unwrap();
        }
        let addresses = [authority.address.clone()];
        let (options, mut report) = (quick(), |_| ());
        tokio::select! {
            result = enrolment.run(&addresses, &options, now(), &mut report) => {
                panic!("{hangs_at}: {result:?}")
            }
            () = authority.hangs.notified() => {}
        }
        assert_eq!(machine.files(), files, "{hangs_at}");
        authority.state(|state| state.hangs_at = None);
        if hangs_at <= 1 {
            folder::create(&machine.ssl()).unwrap();
            fs::write(&enrolment.files.key, KEY).unwrap();
        }
        let (steps, result) = machine.run(&authority).await;
        result.unwrap_or_else(|error| panic!("{hangs_at}: {error}"));
        let is_kept = steps
            .iter()
            .any(|step| matches!(step, Step::Key { is_new: false, .. }));
        assert!(is_kept, "{steps:?}");
        assert_eq!(machine.read(ALL[4]), KEY, "{hangs_at}");
        assert_eq!(machine.files(), ALL, "{hangs_at}");
    }
}

#[tokio::test]
async fn nobody_signs_in_time() {
    let authority = Authority::start().await;
    authority.state(|state| state.signs_after = None);
    let machine = Machine::with_key(KEY);
    let short = EnrolmentOptions {
        wait_max: Duration::ZERO,
        ..quick()
    };
    let addresses = [authority.address.clone()];
    let (steps, result) = machine.run_with(&addresses, &short).await;
    let Some(Step::Request { fingerprint, .. }) = steps.get(2) else {
        panic!("{steps:?}")
    };
    assert_eq!(
        machine.said(result),
        format!(
            "not signed within 0 seconds. On the authority: puppetserver ca sign --certname {NAME}, after comparing the \
             fingerprint {fingerprint}. Then run this again: it goes on from here"
        )
    );
    // The request waits there, and is ours.
    let (steps, result) = machine.run_with(&addresses, &short).await;
    assert!(steps.contains(&Step::AlreadySubmitted), "{steps:?}");
    assert!(matches!(result, Err(EnrolmentError::NotSigned { .. })));
    assert_eq!(
        authority.asked().split_off(4),
        [
            "GET certificate/rip.mcollective",
            "PUT certificate_request/rip.mcollective",
            "GET certificate_request/rip.mcollective",
            "GET certificate/rip.mcollective",
        ]
    );
    // It is signed while nobody asks.
    authority.state(|state| state.signs_after = Some(0));
    let (steps, result) = machine.run_with(&addresses, &short).await;
    result.unwrap();
    assert!(!steps.contains(&Step::AlreadySubmitted), "{steps:?}");
    assert_eq!(
        authority.asked(),
        [
            "GET certificate/rip.mcollective",
            "GET certificate_revocation_list/ca"
        ]
    );
}

#[tokio::test]
async fn nobody_waits_longer_than_was_wanted() {
    let authority = Authority::start().await;
    authority.state(|state| state.signs_after = None);
    let machine = Machine::with_key(KEY);
    let seldom = EnrolmentOptions {
        poll_interval: Duration::from_secs(24 * 60 * 60),
        wait_max: Duration::from_millis(50),
        ..quick()
    };
    let addresses = [authority.address.clone()];
    let run = machine.run_with(&addresses, &seldom);
    let (_, result) = tokio::time::timeout(Duration::from_secs(60), run)
        .await
        .expect("it ends when the wait does");
    assert!(
        matches!(result, Err(EnrolmentError::NotSigned { waited, .. }) if waited == seldom.wait_max)
    );
    let asked = authority.asked();
    assert_eq!(
        asked[asked.len() - 2..],
        ["GET certificate/rip.mcollective"; 2],
        "at the beginning and at the end"
    );
}

#[tokio::test]
async fn an_authority_that_is_away_for_a_while() {
    let authority = Authority::start().await;
    let machine = Machine::with_key(KEY);
    authority.state(|state| state.signs_after = None);
    let enrolment = machine.prepare("").unwrap();
    let mut troubles = 0;
    let mut report = |step| match step {
        Step::Submitted => authority.state(|state| {
            state.signs_after = Some(0);
            state.instead = Some(("GET".into(), 500, "busy\u{1b}[2J".into()));
        }),
        Step::Trouble { reason } => {
            assert_eq!(reason, "it answers 500: busy [2J");
            troubles += 1;
            if troubles == 3 {
                authority.state(|state| state.instead = None);
            }
        }
        _ => {}
    };
    let addresses = [authority.address.clone()];
    let result = enrolment
        .run(&addresses, &quick(), now(), &mut report)
        .await;
    result.unwrap();
    assert_eq!(troubles, 3);
}

#[tokio::test]
async fn authorities_are_known_by_their_fingerprint() {
    let authority = Authority::start().await;
    let bundle = Bundle::from_pem(authority.bundle.clone().into_bytes()).unwrap();
    let known = [
        bundle.show()[0].fingerprint,
        bundle.show()[1].fingerprint,
        Fingerprint::of(authority.bundle.as_bytes()),
    ];
    let addresses = [authority.address.clone()];
    for fingerprint in known {
        let options = EnrolmentOptions {
            ca_fingerprint: Some(fingerprint),
            ..quick()
        };
        authority.state(|state| {
            state.signed.clear();
            state.signs_after = Some(0);
        });
        let machine = Machine::with_key(KEY);
        let (steps, result) = machine.run_with(&addresses, &options).await;
        result.unwrap();
        let is_known = |step: &Step| {
            let known_by = KnownBy::Fingerprint;
            matches!(step, Step::Authorities { known_by: found, .. } if *found == known_by)
        };
        assert!(is_known(&steps[0]), "{steps:?}");
    }

    let wrong = EnrolmentOptions {
        ca_fingerprint: Some(Fingerprint::of(b"")),
        ..quick()
    };
    let machine = Machine::new();
    authority.asked();
    let (steps, result) = machine.run_with(&addresses, &wrong).await;
    assert_eq!(steps, []);
    assert!(!machine.ssl().exists(), "nothing is kept");
    assert_eq!(authority.asked(), ["GET certificate/ca"]);
    let said = machine.said(result);
    assert!(said.contains("were not trusted:\n  (SHA256) "), "{said}");
    assert!(said.ends_with(" Puppet Root CA"), "{said}");

    // Those in the folder are compared as well, and stay.
    folder::create(&machine.ssl()).unwrap();
    fs::write(machine.ssl().join("certs/ca.pem"), &authority.bundle).unwrap();
    let (_, result) = machine.run_with(&addresses, &wrong).await;
    assert!(matches!(result, Err(EnrolmentError::Fingerprint { .. })));
    assert_eq!(machine.files(), ["certs/ca.pem"]);
    assert_eq!(authority.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn who_does_not_fit_to_what_it_shows() {
    // Somebody in between passes on the authorities of another.
    let real = root("Puppet CA");
    let between = Authority::start_with(root("Puppet CA"), real.pem(), "localhost").await;
    let machine = Machine::new();
    let (_, result) = machine.run(&between).await;
    let said = machine.said(result);
    assert!(
        said.contains("authorities that do not vouch for it as localhost"),
        "{said}"
    );
    assert!(!machine.ssl().exists());

    let issuer = root("Puppet CA");
    let bundle = issuer.pem();
    let renamed = Authority::start_with(issuer, bundle, "puppet").await;
    let (_, result) = machine.run(&renamed).await;
    let said = machine.said(result);
    assert!(
        said.contains("is for puppet, and not for localhost; use a name that it is for"),
        "{said}"
    );
    assert!(!machine.ssl().exists());

    // Once the authorities are known, nobody else is asked for anything.
    let authority = Authority::start().await;
    folder::create(&machine.ssl()).unwrap();
    fs::write(machine.ssl().join("certs/ca.pem"), &authority.bundle).unwrap();
    let (steps, result) = machine.run(&between).await;
    assert!(matches!(
        steps[..],
        [Step::Authorities {
            known_by: KnownBy::Folder,
            ..
        }]
    ));
    let said = machine.said(result);
    assert!(
        said.contains("its certificate is not of the authorities in home/rip/.puppetlabs/")
            && said.contains("certs/ca.pem; if Puppet's authority was made anew, remove that file"),
        "{said}"
    );
    assert_eq!(
        between.asked(),
        ["GET certificate/ca"],
        "and that was before"
    );
    assert_eq!(machine.files(), ["certs/ca.pem"], "no key for nobody");
}

#[tokio::test]
async fn a_name_that_is_taken() {
    let authority = Authority::start().await;
    let other = SigningKey::from_pem(OTHER_KEY.as_bytes()).unwrap();
    let other = SigningRequest::new(NAME, &other).unwrap();

    let machine = Machine::with_key(KEY);
    authority.state(|state| state.pending.insert(NAME.into(), other.pem()));
    authority.state(|state| state.signs_after = None);
    let (_, result) = machine.run(&authority).await;
    let Err(EnrolmentError::OtherPending { pending, ours, .. }) = &result else {
        panic!("{result:?}")
    };
    assert_eq!(*pending, other.fingerprint());
    assert_ne!(pending, ours);
    let said = machine.said(result);
    assert!(
        said.contains("puppetserver ca clean --certname rip.mcollective"),
        "{said}"
    );

    let signed = certificate(&authority.issuer, NAME, &Requested::of(&other.pem()));
    authority.state(|state| {
        state.pending.clear();
        state.signed.insert(NAME.into(), signed);
    });
    for machine in [machine, Machine::new()] {
        let (_, result) = machine.run(&authority).await;
        let said = machine.said(result);
        assert!(said.starts_with("the authority has signed a certificate of rip.mcollective for another key than home/rip/"));
        assert!(
            said.contains("puppetserver ca clean --certname rip.mcollective"),
            "{said}"
        );
        assert!(!machine.ssl().join(ALL[2]).exists());
    }
    // The owner of that key goes on.
    let machine = Machine::with_key(OTHER_KEY);
    let (_, result) = machine.run(&authority).await;
    result.unwrap();

    // Signed for another key between our questions.
    let machine = Machine::with_key(KEY);
    authority.state(|state| {
        let signed = state.signed.get(NAME).cloned().unwrap();
        state.signed.clear();
        state.signed.insert("gone".into(), signed);
        let text = format!("{NAME} already has a signed certificate; ignoring certificate request");
        state.instead = Some(("PUT".into(), 400, text));
    });
    let short = EnrolmentOptions {
        wait_max: Duration::ZERO,
        ..quick()
    };
    let addresses = [authority.address.clone()];
    let (_, result) = machine.run_with(&addresses, &short).await;
    assert!(
        matches!(result, Err(EnrolmentError::NotSigned { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn answers_that_are_of_no_use() {
    let long = "x".repeat(300_000);
    for (question, status, text, expected) in [
        ("GET certificate/ca", 404, "", "is it Puppet's server"),
        (
            "GET certificate/ca",
            500,
            "<html>\noops",
            "it answers 500: <html> oops",
        ),
        (
            "GET certificate/ca",
            200,
            "<html>",
            "authorities that it shows cannot be used",
        ),
        ("GET certificate/ca", 200, &long, "longer than 262144 bytes"),
        (
            "GET certificate/ca",
            301,
            "https://other.example.net:8140/",
            "it answers 301 and points to https://other.example.net:8140/, where nobody goes unasked",
        ),
        (
            "GET certificate/rip",
            403,
            "Forbidden",
            "it answers 403: Forbidden",
        ),
        (
            "GET certificate/rip",
            200,
            "no PEM",
            "no certificate in it that can be read",
        ),
        (
            "PUT",
            400,
            "Instance name \"a\" does not match requested key \"b\"",
            "it answers 400: Instance name \"a\" does not match",
        ),
        ("PUT", 500, "Internal Server Error", "it answers 500"),
    ] {
        let authority = Authority::start().await;
        authority.state(|state| state.instead = Some((question.into(), status, text.into())));
        let machine = Machine::with_key(KEY);
        let (_, result) = machine.run(&authority).await;
        let said = machine.said(result);
        assert!(said.contains(expected), "{question} {status}: {said}");
        assert!(!machine.ssl().join(ALL[2]).exists());
        // And nothing of it hinders the next time.
        authority.state(|state| state.instead = None);
        let (_, result) = machine.run(&authority).await;
        result.unwrap();
    }
}

#[tokio::test]
async fn certificates_that_are_not_good() {
    let ours = SigningKey::from_pem(KEY.as_bytes()).unwrap();
    let request = SigningRequest::new(NAME, &ours).unwrap().pem();
    let stranger = root("Stranger");
    let authority = Authority::start().await;
    for (pem, expected) in [
        (
            certificate(
                &authority.issuer,
                "bob.mcollective",
                &Requested::of(&request),
            ),
            "the authority gave a certificate of bob.mcollective instead of rip.mcollective; it was not kept",
        ),
        (
            certificate(&stranger, NAME, &Requested::of(&request)),
            "the certificate from the authority is of no use and was not kept: it was not signed by the configured \
             authorities",
        ),
    ] {
        authority.state(|state| state.signed.insert(NAME.into(), pem));
        let machine = Machine::with_key(KEY);
        let (_, result) = machine.run(&authority).await;
        assert_eq!(machine.said(result), expected);
        assert!(!machine.ssl().join(ALL[2]).exists());
    }
}

#[tokio::test]
async fn nobody_is_there() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        ServerAddress::new("localhost", listener.local_addr().unwrap().port())
    };
    let machine = Machine::with_key(KEY);
    let (_, result) = machine
        .run_with(std::slice::from_ref(&closed), &quick())
        .await;
    let said = machine.said(result);
    assert!(
        said.starts_with(&format!("Puppet's authority at {closed}: cannot connect: ")),
        "{said}"
    );
    assert!(
        said.ends_with("; name another one with --ca, or plugin.choria.puppetca_host"),
        "{said}"
    );
    let (_, result) = machine.run_with(&[], &quick()).await;
    assert!(matches!(result, Err(EnrolmentError::NoAddress)));

    let authority = Authority::start().await;
    let both = [closed, authority.address.clone()];
    let (_, result) = machine.run_with(&both, &quick()).await;
    result.unwrap();
}

#[tokio::test]
async fn files_that_cannot_be_used() {
    let authority = Authority::start().await;
    let machine = Machine::with_key(&rcgen::KeyPair::generate().unwrap().serialize_pem());
    let (_, result) = machine.run(&authority).await;
    let said = machine.said(result);
    assert!(
        said.contains("move it away to have a new one made"),
        "{said}"
    );
    fs::write(machine.ssl().join("certs/ca.pem"), "spoiled").unwrap();
    let (_, result) = machine.run(&authority).await;
    let said = machine.said(result);
    assert!(
        said.contains("remove that file to have them fetched again"),
        "{said}"
    );

    let machine = Machine::new();
    fs::create_dir_all(machine.ssl().parent().unwrap()).unwrap();
    fs::write(machine.ssl(), "a file").unwrap();
    let (_, result) = machine.run(&authority).await;
    assert!(machine.said(result).starts_with("cannot "), "it says where");
}

/// A list by which nobody could be judged would be worse than none.
#[tokio::test]
async fn a_list_that_is_of_no_use_is_not_kept() {
    let root = root("Puppet Root CA");
    let of_root = testkit::revocation_list(&root, &[], 2019..2100);
    for (revocations, told) in [
        (None, "has no revocation list"),
        (
            Some("nothing".to_owned()),
            "no revocation list that can be read",
        ),
        (Some(of_root), "was not kept"),
    ] {
        let authority = Authority::start().await;
        authority.state(|state| state.revocations = revocations.clone());
        let machine = Machine::new();
        let (steps, result) = machine.run(&authority).await;
        result.unwrap();
        let reason = steps.iter().find_map(|step| match step {
            Step::NoRevocations { reason } => Some(reason),
            _ => None,
        });
        assert!(
            reason.is_some_and(|reason| reason.contains(told)),
            "{steps:?}"
        );
        assert!(!machine.files().contains(&"crl.pem".to_owned()));
    }
}

/// When an authority was made anew, and its certificates were removed here, but not its list.
#[tokio::test]
async fn a_list_of_former_authorities_gives_way() {
    let root = root("Puppet Root CA");
    let issuer = authority::under("Puppet CA: puppet", &root);
    let bundle = format!("{}{}", issuer.pem(), root.pem());
    let authority = Authority::start_with(issuer, bundle, "localhost").await;
    let lists = |issuer, years: std::ops::Range<i32>| {
        let of_root = testkit::revocation_list(&root, &[], years.clone());
        of_root + &testkit::revocation_list(issuer, &[7], years)
    };
    let good = lists(&authority.issuer, 2024..2100);
    authority.state(|state| state.revocations = Some(good.clone()));
    let former = authority::under("Former CA", &root);
    let namesake = authority::under("Puppet CA: puppet", &root);
    let over = lists(&authority.issuer, 2025..2026);
    let present = lists(&authority.issuer, 2023..2099);
    for (there, left) in [
        (lists(&former, 2023..2100), &good),
        (lists(&namesake, 2023..2100), &good),
        (lists(&authority.issuer, 2019..2020), &good),
        // It is over, but newer than that of who answers.
        (over.clone(), &over),
        ("nothing".to_owned(), &good),
        // This one is good, and to have the next is another matter.
        (present.clone(), &present),
    ] {
        let machine = Machine::with_key(KEY);
        folder::create(&machine.ssl()).unwrap();
        fs::write(machine.ssl().join("crl.pem"), &there).unwrap();
        let (steps, result) = machine.run(&authority).await;
        result.unwrap();
        assert_eq!(machine.read("crl.pem"), *left, "{steps:?}");
    }
}

#[tokio::test]
async fn a_list_is_fetched_anew() {
    let root = root("Puppet Root CA");
    let issuer = authority::under("Puppet CA: puppet", &root);
    let bundle = format!("{}{}", issuer.pem(), root.pem());
    let authority = Authority::start_with(issuer, bundle, "localhost").await;
    let lists = |serials: &[u64], begin| {
        let own = testkit::revocation_list(&authority.issuer, serials, begin..2100);
        own + &testkit::revocation_list(&root, &[], begin..2100)
    };
    authority.state(|state| state.revocations = Some(lists(&[7], 2019)));
    let machine = Machine::new();
    let (_, result) = machine.run(&authority).await;
    result.unwrap();
    let enrolled = machine.read("crl.pem");
    let file = machine.folder.path().join("client.conf");
    let loaded = Configuration::load(Role::Client, Some(&file), &machine.surroundings).unwrap();
    let files = SslFiles::find(&loaded.configuration, &machine.surroundings).unwrap();
    let addresses = [authority.address.clone()];
    let fetch = || fetch_revocations(&files, Depth::Leaf, &addresses, now());
    let lists = lists(&[7, 8, 9], 2020);
    authority.state(|state| state.revocations = Some(lists.clone()));
    assert_eq!(fetch().await.unwrap().revoked, 3);
    assert_eq!(machine.read("crl.pem"), lists);

    let expired = testkit::revocation_list(&authority.issuer, &[], 2019..2020);
    for instead in [Some(expired), Some("nothing".to_owned()), None] {
        authority.state(|state| state.revocations = instead);
        fetch().await.unwrap_err();
        assert_eq!(machine.read("crl.pem"), lists, "the old one stays");
    }
    assert_ne!(enrolled, lists);
    // Others of the same name do not vouch for it.
    let stranger = Authority::start().await;
    let error = fetch_revocations(
        &files,
        Depth::Leaf,
        std::slice::from_ref(&stranger.address),
        now(),
    )
    .await;
    let said = error.unwrap_err().to_string();
    assert!(
        said.contains("its certificate is not of the authorities in") && said.contains("ca.pem"),
        "{said}"
    );
}

/// An authority, and a machine without a certificate that knows it and has this list of it.
async fn known_authority() -> (Authority, authority::Issuer, Machine, SslFiles) {
    let root = root("Puppet Root CA");
    let issuer = authority::under("Puppet CA: puppet", &root);
    let bundle = format!("{}{}", issuer.pem(), root.pem());
    let authority = Authority::start_with(issuer, bundle, "localhost").await;
    let machine = Machine::new();
    let file = machine.folder.path().join("client.conf");
    fs::write(&file, "").unwrap();
    let loaded = Configuration::load(Role::Client, Some(&file), &machine.surroundings).unwrap();
    let files = SslFiles::find(&loaded.configuration, &machine.surroundings).unwrap();
    fs::create_dir_all(files.ca.parent().unwrap()).unwrap();
    fs::write(&files.ca, &authority.bundle).unwrap();
    (authority, root, machine, files)
}

#[tokio::test]
async fn without_a_certificate_of_our_own_a_list_is_checked_as_well() {
    let (authority, _root, machine, files) = known_authority().await;
    let addresses = [authority.address.clone()];
    let fetch = || fetch_revocations(&files, Depth::Leaf, &addresses, now());
    let list = |issuer, years| testkit::revocation_list(issuer, &[7], years);
    let namesake = Authority::start().await;
    let stranger = root("Stranger");
    let stranger = list(&stranger, 2024..2100);
    let good = list(&authority.issuer, 2024..2100);
    for bad in [
        list(&authority.issuer, 2024..2025),
        list(&namesake.issuer, 2024..2100),
        good.clone() + &stranger,
    ] {
        authority.state(|state| state.revocations = Some(bad));
        let error = fetch().await;
        assert!(matches!(error, Err(FetchError::Unusable(_))), "{error:?}");
        assert!(!machine.files().contains(&"crl.pem".to_owned()));
    }
    authority.state(|state| state.revocations = Some(good.clone()));
    fetch().await.unwrap();
    assert_eq!(machine.read("crl.pem"), good);
    fs::remove_file(&files.ca).unwrap();
    let said = fetch().await.unwrap_err().to_string();
    assert!(
        said.contains("request a certificate first with natterjack choria request-cert"),
        "{said}"
    );
}

#[tokio::test]
async fn a_list_is_not_replaced_by_an_older_one() {
    let (authority, root, machine, files) = known_authority().await;
    let addresses = [authority.address.clone()];
    let crl = files.crl.as_ref().unwrap();
    let fetch = || fetch_revocations(&files, Depth::Leaf, &addresses, now());
    let give = |lists: &str| authority.state(|state| state.revocations = Some(lists.to_owned()));
    let list =
        |serials: &[u64], begin| testkit::revocation_list(&authority.issuer, serials, begin..2100);
    let both = testkit::revocation_list(&root, &[], 2021..2100) + &list(&[7, 8], 2021);
    give(&both);
    assert_eq!(fetch().await.unwrap().revoked, 2);
    // One is older, and one is missing.
    let older = testkit::revocation_list(&root, &[], 2021..2100) + &list(&[7], 2020);
    for behind in [older, list(&[7, 8, 9], 2022)] {
        give(&behind);
        let error = fetch().await;
        assert!(matches!(error, Err(FetchError::Older { .. })), "{error:?}");
        assert_eq!(machine.read("crl.pem"), both);
    }
    // That of somebody who is no authority any more is not missed.
    let next = list(&[7, 8, 9], 2022);
    give(&next);
    let stranger = testkit::revocation_list(&authority::root("Stranger"), &[], 2024..2100);
    fs::write(crl, stranger).unwrap();
    fetch().await.unwrap();
    assert_eq!(machine.read("crl.pem"), next);
}

#[tokio::test]
async fn the_list_that_is_there_tells_of_the_authoritys_server() {
    let (authority, _root, machine, files) = known_authority().await;
    let addresses = [authority.address.clone()];
    let crl = files.crl.as_ref().unwrap();
    let fetch = || fetch_revocations(&files, Depth::Leaf, &addresses, now());
    let server = authority::SERVER_SERIAL;
    let list = |serials: &[u64], years| testkit::revocation_list(&authority.issuer, serials, years);
    let next = list(&[], 2024..2100);
    authority.state(|state| state.revocations = Some(next.clone()));
    let there = list(&[server], 2023..2100);
    fs::write(crl, &there).unwrap();
    let error = fetch().await;
    assert!(
        matches!(error, Err(FetchError::Authority { .. })),
        "{error:?}"
    );
    assert_eq!(machine.read("crl.pem"), there);
    // Once that is over, nothing but the next one helps.
    fs::write(crl, list(&[server], 2019..2020)).unwrap();
    fetch().await.unwrap();
    assert_eq!(machine.read("crl.pem"), next);
}
