//! Files of keys and certificates, good and spoiled.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use testkit::{Authority, replace};

use super::*;
use crate::test_log::TestLog;

struct Machine {
    folder: tempfile::TempDir,
    surroundings: Surroundings,
    authority: Authority,
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_289_687)
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
            authority: Authority::new(),
        }
    }

    fn configure(&self, role: Role, text: &str) -> Configuration {
        let file = self.folder.path().join("client.conf");
        fs::write(&file, text).unwrap();
        let loaded = Configuration::load(role, Some(&file), &self.surroundings);
        loaded.unwrap().configuration
    }

    fn files(&self, text: &str) -> SslFiles {
        let configuration = self.configure(Role::Client, text);
        SslFiles::find(&configuration, &self.surroundings).unwrap()
    }

    fn load(&self, role: Role) -> Result<Ssl, SslError> {
        Ssl::load(&self.configure(role, ""), &self.surroundings, now())
    }

    /// A certificate of this name, where it belongs; `change` may spoil it.
    fn give(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> SslFiles {
        let files = self.files("");
        let key = KeyPair::generate().unwrap();
        let certificate = (self.authority).certificate(name, &[name], &key, change);
        for path in [&files.certificate, &files.key] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        replace(&files.certificate, &certificate.pem());
        replace(&files.key, &key.serialize_pem());
        replace(&files.ca, &self.authority.pem());
        files
    }

    /// What is said, without the way to the files.
    fn said(&self, role: Role) -> String {
        let error = self.load(role).unwrap_err().to_string();
        error.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

#[test]
fn users_have_their_own() {
    let mut machine = Machine::new();
    let home = machine.surroundings.home.clone().unwrap();
    let files = machine.files("");
    assert_eq!(files.certname, "rip.mcollective");
    let folder = home.join(".puppetlabs/etc/puppet/ssl");
    assert_eq!(files.certificate, folder.join("certs/rip.mcollective.pem"));
    assert_eq!(files.key, folder.join("private_keys/rip.mcollective.pem"));
    assert_eq!(files.ca, folder.join("certs/ca.pem"));
    assert_eq!(
        files.request,
        Some(folder.join("certificate_requests/rip.mcollective.pem"))
    );
    assert_eq!(files.folder, Some(folder));

    let named = machine.files("plugin.choria.ssldir = ~/ssl\n");
    assert_eq!(named.ca, home.join("ssl/certs/ca.pem"));
    let three = "plugin.security.provider = file\nplugin.security.file.certificate = /a/cert\n\
        plugin.security.file.key = ~/key\nplugin.security.file.ca = /a/ca\n";
    let three = machine.files(three);
    assert_eq!(
        (three.certificate, three.key, three.request),
        ("/a/cert".into(), home.join("key"), None)
    );

    machine.surroundings.environment.clear();
    let nobody = machine.files("identity = web1\n");
    assert_eq!(nobody.certname, "web1.mcollective");
    let environment = &mut machine.surroundings.environment;
    environment.insert("MCOLLECTIVE_CERTNAME".into(), "bob".into());
    assert_eq!(machine.files("").certname, "bob");
    environment_user(&mut machine, "a b");
    machine
        .surroundings
        .environment
        .remove("MCOLLECTIVE_CERTNAME");
    let configuration = machine.configure(Role::Client, "");
    assert!(matches!(
        SslFiles::find(&configuration, &machine.surroundings),
        Err(PlaceError::Certname(_))
    ));
}

fn environment_user(machine: &mut Machine, user: &str) {
    let environment = &mut machine.surroundings.environment;
    environment.insert("USER".into(), user.into());
}

#[test]
fn the_machine_has_puppets() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut machine = Machine::new();
    machine.surroundings.is_root = true;
    let root = machine.folder.path().to_path_buf();
    let files = machine.files("");
    assert_eq!(files.certname, "client.example.net");
    assert_eq!(files.folder, Some(root.join("etc/puppetlabs/puppet/ssl")));
    fs::create_dir_all(root.join("var/lib/puppet/ssl")).unwrap();
    let debian = machine.files("");
    assert_eq!(debian.folder, Some(root.join("var/lib/puppet/ssl")));

    let bin = root.join("opt/puppetlabs/bin");
    fs::create_dir_all(&bin).unwrap();
    let puppet = bin.join("puppet");
    fs::write(
        &puppet,
        "#!/bin/sh\n[ \"$*\" = 'config print ssldir' ] && echo /srv/ssl\n",
    )
    .unwrap();
    fs::set_permissions(&puppet, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(machine.files("").folder, Some("/srv/ssl".into()));
    fs::write(&puppet, "#!/bin/sh\nexit 1\n").unwrap();
    assert_eq!(
        machine.files("").folder,
        Some(root.join("var/lib/puppet/ssl"))
    );
}

#[test]
fn good_ones_are_taken() {
    let machine = Machine::new();
    machine.give("rip.mcollective", |_| ());
    let ssl = machine.load(Role::Client).unwrap();
    assert_eq!(ssl.caller.as_str(), "choria=rip.mcollective");
    assert!(ssl.certificate_pem().starts_with("-----BEGIN CERTIFICATE"));
    assert!(ssl.client_config().client_auth_cert_resolver.has_certs());
    assert!(!format!("{ssl:?}").contains("PRIVATE"));
    assert!(
        matches!(ssl.signing_key(), Err(KeyError::NotRsa)),
        "this one is no RSA key"
    );
}

/// Some keep both in one file, and give its name twice. Certificates go with each request, to everybody.
#[test]
fn a_key_beside_the_certificate_stays_here() {
    let machine = Machine::new();
    let files = machine.give("rip.mcollective", |_| ());
    let certificate = fs::read_to_string(&files.certificate).unwrap();
    let key = fs::read_to_string(&files.key).unwrap();
    let before = machine.load(Role::Client).unwrap().certificate_pem();
    replace(&files.certificate, &format!("# of rip\n{key}{certificate}"));
    let ssl = machine.load(Role::Client).unwrap();
    assert_eq!(ssl.certificate_pem(), before);
    assert_eq!(&*before, certificate.replace('\r', ""));
}

#[test]
fn what_is_wrong_is_told_with_a_remedy() {
    let machine = Machine::new();
    let ssl = "home/rip/.puppetlabs/etc/puppet/ssl";
    assert_eq!(
        machine.said(Role::Client),
        format!(
            "Cannot find SSL file {ssl}/certs/rip.mcollective.pem\n\
             Cannot find SSL file {ssl}/private_keys/rip.mcollective.pem\n\
             Cannot find SSL file {ssl}/certs/ca.pem\n\
             Not all required SSL files exist; request a certificate with: natterjack choria request-cert"
        )
    );

    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    machine.give("rip.mcollective", |params| params.not_after = year(2020));
    assert_eq!(
        machine.said(Role::Client),
        format!(
            "The public certificate cannot be used: {ssl}/certs/rip.mcollective.pem is not good by \
             {ssl}/certs/ca.pem: it has expired; remove it and request a new one"
        )
    );

    let files = machine.give("rip.mcollective", |_| ());
    let pem = fs::read(&files.certificate).unwrap();
    let old = testkit::of_version_1(&CertificateDer::from_pem_slice(&pem).unwrap());
    replace(&files.certificate, &crate::pem::encode("CERTIFICATE", &old));
    let said = machine.said(Role::Client);
    let expected = "it is of version 1 of X.509, and only those of version 3";
    assert!(said.contains(expected), "{said}");
    assert!(
        said.ends_with("; remove it and request a new one"),
        "{said}"
    );
    replace(&files.certificate, &machine.authority.pem());
    let said = machine.said(Role::Client);
    assert!(said.contains("it is an authority's own"), "{said}");

    machine.give("bob.mcollective", |_| ());
    // The file is called after whom it should be of.
    assert_eq!(
        machine.said(Role::Client),
        format!(
            "The certname bob.mcollective found in {ssl}/certs/rip.mcollective.pem does not match the configured certname \
             of rip.mcollective; set MCOLLECTIVE_CERTNAME to the name in it if that is meant, or request a certificate for \
             rip.mcollective"
        )
    );

    let files = machine.give("rip.mcollective", |_| ());
    replace(&files.ca, &Authority::new().pem());
    let said = machine.said(Role::Client);
    assert!(
        said.starts_with("The public certificate was not signed by the configured CA: "),
        "{said}"
    );
    assert!(
        said.ends_with("it was not signed by the configured authorities; was the authority made anew? Then remove both and request them again"),
        "{said}"
    );
    fs::write(&files.ca, "nothing").unwrap();
    assert!(
        machine
            .said(Role::Client)
            .starts_with(&format!("Cannot find or read the CA in {ssl}/certs/ca.pem"))
    );

    let files = machine.give("rip.mcollective", |_| ());
    fs::write(&files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(
        machine
            .said(Role::Client)
            .ends_with("it does not belong to the certificate; request a new one for both")
    );
    fs::write(&files.key, "nothing").unwrap();
    assert!(
        machine
            .said(Role::Client)
            .ends_with("there is no private key in PEM in it")
    );
    let short = "-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n";
    fs::write(&files.key, short).unwrap();
    let said = machine.said(Role::Client);
    assert!(
        said.contains("a kind or length that cannot be used"),
        "{said}"
    );
    for text in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIF\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMIIF\n\
         -----END RSA PRIVATE KEY-----\n",
    ] {
        fs::write(&files.key, text).unwrap();
        let said = machine.said(Role::Client);
        assert!(said.contains("it has a passphrase"), "{said}");
    }
}

/// Its certificate is called after the user, and to request that one would make no node of it.
#[test]
fn a_node_that_is_not_root_hears_what_it_needs() {
    let mut machine = Machine::new();
    let said = machine.said(Role::Server);
    assert!(said.contains("certs/rip.mcollective.pem\n"), "{said}");
    let remedy = "run it as root, or set MCOLLECTIVE_CERTNAME=client.example.net and";
    assert!(
        said.contains(remedy) && !said.contains("request-cert"),
        "{said}"
    );
    let environment = &mut machine.surroundings.environment;
    environment.insert("MCOLLECTIVE_CERTNAME".into(), "client.example.net".into());
    let said = machine.said(Role::Server);
    assert!(said.contains("certs/client.example.net.pem\n"), "{said}");
    assert!(said.contains("request-cert"), "{said}");
}

/// Who can see nothing at all does not hear of the revocation list, nor how to do without.
#[test]
fn folders_that_cannot_be_looked_into_are_named() {
    let machine = Machine::new();
    let files = machine.give("rip.mcollective", |_| ());
    let folder = files.folder.unwrap();
    // Also root cannot look into these.
    for path in [
        folder.join("private_keys"),
        folder.join("certs"),
        folder.clone(),
    ] {
        let away = machine.folder.path().join("away");
        fs::rename(&path, &away).unwrap();
        std::os::unix::fs::symlink(path.file_name().unwrap(), &path).unwrap();
        let said = machine.said(Role::Client);
        let expected = format!(
            "cannot look into the folder {}: ",
            path.strip_prefix(machine.folder.path()).unwrap().display()
        );
        assert!(said.starts_with(&expected), "{said}");
        assert!(!said.contains("crl.pem"), "{said}");
        fs::remove_file(&path).unwrap();
        fs::rename(&away, &path).unwrap();
    }
    assert!(machine.load(Role::Client).is_ok());
}

#[test]
fn keys_that_others_may_read_are_told_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let machine = Machine::new();
    let files = machine.give("rip.mcollective", |_| ());
    for (mode, is_told) in [(0o600, false), (0o640, false), (0o666, true), (0o620, true)] {
        fs::set_permissions(&files.key, fs::Permissions::from_mode(mode)).unwrap();
        let log = TestLog::start();
        assert!(machine.load(Role::Client).is_ok());
        let text = log.text();
        let told = format!("(mode {mode:04o})");
        assert_eq!(text.contains(&told), is_told, "{mode:o}: {text}");
        assert_eq!(text.contains("chmod 600"), is_told, "{mode:o}: {text}");
    }
}

#[test]
fn whose_revocation_list_is_missing_is_told() {
    let machine = Machine::new();
    let files = machine.give("rip.mcollective", |_| ());
    let other = rcgen::Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
    let list = testkit::revocation_list(&other, &[], 2019..2100);
    replace(&files.crl.unwrap(), &list);
    let said = machine.said(Role::Client);
    let expected =
        "no revocation list is its authority's (there is none of CN=Puppet CA: puppet); fetch";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn root_is_a_machine_and_no_person() {
    let mut machine = Machine::new();
    machine.surroundings.is_root = true;
    assert!(matches!(machine.load(Role::Client), Err(SslError::Root)));
    machine.give("client.example.net", |_| ());
    let ssl = machine.load(Role::Server).unwrap();
    assert_eq!(ssl.caller.as_str(), "choria=client.example.net");
}

#[test]
fn what_is_renewed_is_taken() {
    let machine = Machine::new();
    machine.give("rip.mcollective", |_| ());
    let ssl = machine.load(Role::Client).unwrap();
    let before = ssl.certificate_pem();
    assert_eq!(ssl.refresh(now()), Renewal::Unchanged);
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    machine.give("rip.mcollective", |params| params.not_after = year(2050));
    assert_eq!(ssl.refresh(now()), Renewal::Taken);
    assert_ne!(ssl.certificate_pem(), before);
    assert_eq!(ssl.ends(), SystemTime::from(year(2050)));
    assert_eq!(ssl.refresh(now()), Renewal::Unchanged);
}

#[test]
fn what_is_broken_is_told_once_and_changes_nothing() {
    let machine = Machine::new();
    let files = machine.give("rip.mcollective", |_| ());
    let ssl = machine.load(Role::Client).unwrap();
    let before = ssl.certificate_pem();
    let good = fs::read_to_string(&files.key).unwrap();
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let expired = |params: &mut CertificateParams| params.not_after = year(2020);
    let spoil: [&dyn Fn(); 5] = [
        &|| replace(&files.key, "nothing"),
        &|| replace(&files.key, &KeyPair::generate().unwrap().serialize_pem()),
        &|| drop(machine.give("rip.mcollective", expired)),
        &|| drop(machine.give("bob.mcollective", |_| ())),
        &|| fs::remove_file(&files.certificate).unwrap(),
    ];
    for spoil in spoil {
        spoil();
        assert_eq!(ssl.refresh(now()), Renewal::Refused);
        assert_eq!(ssl.refresh(now()), Renewal::Unchanged);
        assert_eq!(ssl.certificate_pem(), before);
    }
    replace(&files.certificate, &before);
    replace(&files.key, &good);
    assert_eq!(ssl.refresh(now()), Renewal::Taken);
}

/// A certificate has it.
fn serial(number: u64) -> impl Fn(&mut CertificateParams) {
    move |params| params.serial_number = Some(number.into())
}

#[test]
fn what_was_revoked_counts_if_it_is_there() {
    let machine = Machine::new();
    let files = machine.give("rip.mcollective", serial(20));
    let crl = files.crl.unwrap();
    assert!(crl.ends_with("etc/puppet/ssl/crl.pem"));
    let revoke = |serials: &[u64], until| {
        let list = fs::read_to_string(machine.authority.revoke(serials, until)).unwrap();
        replace(&crl, &list);
    };
    let ssl = machine.load(Role::Client).unwrap();
    let others = || {
        let key = KeyPair::generate().unwrap();
        let other = machine.authority.certificate("bob", &[], &key, serial(21));
        ssl.authorities.vouch_for(&[other.der().clone()], now())
    };
    assert_eq!(others(), Ok(()));
    revoke(&[21], 2100);
    assert_eq!(ssl.refresh(now()), Renewal::Taken);
    assert_eq!(others(), Err(TrustError::Revoked));
    // Nobody brings back what was revoked by removing the list, or by spoiling it.
    for spoil in [&|| fs::remove_file(&crl).unwrap(), &|| {
        replace(&crl, "nothing") as _
    }] as [&dyn Fn(); 2]
    {
        spoil();
        assert_eq!(ssl.refresh(now()), Renewal::Refused);
        assert_eq!(others(), Err(TrustError::Revoked));
    }
    // Ours is revoked, and others as well: those do not wait until there is another one of ours.
    revoke(&[20], 2100);
    assert_eq!(ssl.refresh(now()), Renewal::Refused);
    assert_eq!(others(), Ok(()));

    assert!(
        machine
            .said(Role::Client)
            .ends_with("its authority has revoked it; remove it and its key, and request new ones")
    );
    revoke(&[], 2020);
    let said = machine.said(Role::Client);
    assert!(said.contains("has expired; fetch crl.pem anew"), "{said}");
    replace(&crl, "nothing");
    let said = machine.said(Role::Client);
    assert!(said.starts_with("cannot use the revocation list"), "{said}");
    let without = "plugin.choria.security.certificate_revocation = false\n";
    let configuration = machine.configure(Role::Client, without);
    let ssl = Ssl::load(&configuration, &machine.surroundings, now()).unwrap();
    assert_eq!(ssl.refresh(now()), Renewal::Unchanged);
}

#[test]
fn an_older_list_brings_nothing_back() {
    let machine = Machine::new();
    let files = machine.give("rip.mcollective", serial(20));
    let crl = files.crl.unwrap();
    let list = |serials: &[u64], begin| {
        testkit::revocation_list(machine.authority.issuer(), serials, begin..2100)
    };
    replace(&crl, &list(&[21], 2022));
    let ssl = machine.load(Role::Client).unwrap();
    let others = |number| {
        let key = KeyPair::generate().unwrap();
        let other = (machine.authority).certificate("bob", &[], &key, serial(number));
        ssl.authorities.vouch_for(&[other.der().clone()], now())
    };
    replace(&crl, &list(&[], 2021));
    assert!(ssl.take(now()).unwrap().is_some(), "it is told");
    assert_eq!(others(21), Err(TrustError::Revoked));
    assert_eq!(ssl.refresh(now()), Renewal::Taken);
    assert_eq!(others(21), Err(TrustError::Revoked));
    assert_eq!(ssl.refresh(now()), Renewal::Unchanged, "and told once");
    replace(&crl, &list(&[22], 2023));
    assert_eq!(ssl.take(now()).unwrap(), None);
    assert_eq!(others(21), Ok(()));
    assert_eq!(others(22), Err(TrustError::Revoked));
}

#[test]
fn only_a_list_that_is_truly_absent_is_none() {
    let machine = Machine::new();
    let files = machine.give("rip.mcollective", |_| ());
    let crl = files.crl.clone().unwrap();
    assert!(files.revocations(Depth::Chain).unwrap().is_none());
    std::os::unix::fs::symlink(machine.folder.path().join("nowhere"), &crl).unwrap();
    let said = machine.said(Role::Client);
    assert!(
        said.starts_with("cannot read the revocation list"),
        "{said}"
    );
    assert!(
        said.contains("crl.pem") && said.contains("--crl-only"),
        "{said}"
    );
    // Somebody may have meant a list, who put a folder there.
    fs::remove_file(&crl).unwrap();
    fs::create_dir(&crl).unwrap();
    let said = machine.said(Role::Client);
    assert!(
        said.starts_with("cannot read the revocation list"),
        "{said}"
    );
    fs::remove_dir(&crl).unwrap();
    assert!(machine.load(Role::Client).is_ok());
}

#[test]
fn a_node_without_a_list_is_told_so() {
    let machine = Machine::new();
    let files = machine.give("rip.mcollective", |_| ());
    let told = files.lack_of_revocations();
    assert!(
        told.contains("crl.pem") && told.contains("--crl-only"),
        "{told}"
    );
    let given = SslFiles {
        folder: None,
        crl: None,
        ..files
    };
    let told = given.lack_of_revocations();
    assert!(
        told.starts_with("plugin.security.file.crl names no"),
        "{told}"
    );
}

/// Whoever looks at the files must not wait for somebody to write to what is in their place.
#[cfg(target_os = "linux")]
#[test]
fn a_pipe_in_the_place_of_a_file_changes_nothing() {
    let machine = Machine::new();
    let files = machine.give("rip.mcollective", |_| ());
    let ssl = machine.load(Role::Client).unwrap();
    let before = ssl.certificate_pem();
    for path in [&files.certificate, &files.key, &files.ca] {
        let text = fs::read_to_string(path).unwrap();
        fs::remove_file(path).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
        assert_eq!(ssl.refresh(now()), Renewal::Refused, "{}", path.display());
        let said = machine.said(Role::Client);
        assert!(said.contains("a pipe or a device"), "{said}");
        replace(path, &text);
        ssl.refresh(now());
    }
    assert_eq!(ssl.certificate_pem(), before);
}

#[test]
fn what_was_refused_is_looked_at_again() {
    let machine = Machine::new();
    machine.give("rip.mcollective", |_| ());
    let ssl = machine.load(Role::Client).unwrap();
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    machine.give("rip.mcollective", |params| {
        params.not_before = year(2050);
        params.not_after = year(2060);
    });
    assert_eq!(ssl.refresh(now()), Renewal::Refused);
    assert_eq!(ssl.refresh(now()), Renewal::Unchanged, "it has been told");
    assert_eq!(ssl.refresh(year(2051).into()), Renewal::Taken);
    assert_eq!(ssl.ends(), SystemTime::from(year(2060)));
}

/// As `cp --preserve` does.
#[test]
fn a_change_that_leaves_the_time_and_the_length_is_noticed() {
    let machine = Machine::new();
    let files = machine.give("rip.mcollective", |_| ());
    let ssl = machine.load(Role::Client).unwrap();
    let written = fs::metadata(&files.ca).unwrap().modified().unwrap();
    let mut text = fs::read(&files.ca).unwrap();
    *text.last_mut().unwrap() = b' ';
    fs::write(&files.ca, text).unwrap();
    let file = fs::File::options().write(true).open(&files.ca).unwrap();
    file.set_modified(written).unwrap();
    assert_eq!(ssl.refresh(now()), Renewal::Taken);
}

#[test]
fn ends_are_told_before() {
    let machine = Machine::new();
    let day = Duration::from_secs(24 * 60 * 60);
    let end = SystemTime::from(rcgen::date_time_ymd(2050, 1, 1));
    let files = machine.give("rip.mcollective", |params| {
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    });
    let list = fs::read_to_string(machine.authority.revoke(&[], 2050)).unwrap();
    replace(&files.crl.unwrap(), &list);
    let ssl = machine.load(Role::Client).unwrap();
    assert_eq!(ssl.notices(end - 8 * day), [""; 0]);
    let told = ssl.notices(end - 6 * day);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("crl.pem expires in 6 days, and then nobody is trusted; fetch"),
        "{told:?}"
    );
    assert_eq!(ssl.notices(end - 6 * day + day / 2), [""; 0], "not so soon");
    let told = ssl.notices(end + day);
    assert!(told[0].contains("crl.pem has expired"), "{told:?}");
    let last = SystemTime::from(rcgen::date_time_ymd(2100, 1, 1)) - 3 * day;
    assert_eq!(ssl.notices(last).len(), 2, "the certificate, too");
}
