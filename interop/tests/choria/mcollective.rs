//! MCollective, Debian's, as a node and as a client: its daemon answers us, and its client asks our nodes, over brokers of both
//! kinds and through a federation.
//!
//! Debian has neither Choria's connector nor its security plugin. Small ones of our own are in `interop/mcollective`: with them
//! everything above the messages is MCollective's. If `NATTERJACK_MCOLLECTIVE` names a folder with Choria's own plugins, all
//! is done once more with those, and then the messages are theirs, too; `interop/README.md` says what is to be in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use testkit::programs::Missing;
use testkit::{Kind, Program, programs};

use super::authority::PATIENCE;
use super::federation::{CLUSTERS, Federation};
use super::processes::{Party, RIP, World, said, sorted, text};
use super::root::{NEEDS, User, enter};
use crate::trial;

/// Names a folder with Choria's own plugins.
const VARIABLE: &str = "NATTERJACK_MCOLLECTIVE";

/// Seconds that its client waits for whoever is there. It waits them all, so the first suffices where a machine is not busy.
const WAITS: [&str; 4] = ["2", "5", "15", "60"];

pub(super) fn trials() -> Vec<Trial> {
    let brokers = [Kind::Natterjack, Kind::NatsServer];
    let needs = || -> Vec<Result<(), Missing>> {
        let mut needs = vec![
            programs::mcollective().map(drop),
            programs::natterjack().map(drop),
        ];
        needs.extend(brokers.map(|kind| kind.program().map(drop)));
        needs
    };
    let all = |plugins: Plugins| {
        let mut trials: Vec<_> = brokers
            .into_iter()
            .map(|kind| {
                let plugins = plugins.clone();
                let name = format!("choria::mcollective::{}::{}", plugins.name(), kind.name());
                trial(name, needs(), move || both_ways(&plugins, kind))
            })
            .collect();
        let name = format!("choria::mcollective::{}::federation", plugins.name());
        trials.push(trial(name, needs(), move || federation(&plugins)));
        trials
    };
    let mut trials = all(Plugins::Ours);
    match std::env::var_os(VARIABLE) {
        Some(folder) => trials.extend(all(Plugins::Choria(folder.into()))),
        None => trials.push(left_out()),
    }
    trials
}

/// One line that says so.
fn left_out() -> Trial {
    let reason = format!(
        "LEFT OUT: {VARIABLE} names no folder with Choria's own plugins; see interop/README.md"
    );
    Trial::test("choria::mcollective::choria", || Ok(()))
        .with_kind(reason)
        .with_ignored_flag(true)
}

// ---- MCollective ----

/// What makes messages of what it says.
#[derive(Clone)]
enum Plugins {
    /// Those of `interop/mcollective`.
    Ours,
    /// Choria's, in this folder.
    Choria(PathBuf),
}

impl Plugins {
    const fn name(&self) -> &'static str {
        match self {
            Self::Ours => "debian",
            Self::Choria(_) => "choria",
        }
    }
}

/// Its programs, in a root of their own, which find the folder of a world at `/mnt`.
struct Mcollective<'a> {
    root: PathBuf,
    world: &'a World,
    settings: String,
    /// Who asks. Choria's plugins do not let root.
    asks_as: User,
}

impl<'a> Mcollective<'a> {
    fn new(world: &'a World, plugins: &Plugins) -> Self {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("mcollective");
        copy(&ours, &world.folder().join("ours/mcollective"));
        // What comes later goes first.
        let mut folders = "/usr/lib/ruby/vendor_ruby:/mnt/ours".to_owned();
        let mut asks_as = User::Root;
        if let Plugins::Choria(folder) = plugins {
            copy(folder, &world.folder().join("choria"));
            folders.push_str(":/mnt/choria");
            asks_as = User::Somebody;
        }
        Self {
            root: programs::mcollective().expect("checked before"),
            world,
            settings: format!("libdir = {folders}\ncolor = 0\n"),
            asks_as,
        }
    }

    fn ruby(&self, party: &Party, user: User, program: &str) -> Command {
        let mut command = enter(&self.root, self.world.folder(), user);
        command
            .env_clear()
            .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/mnt")])
            .envs([("LANG", "C.UTF-8"), ("MCOLLECTIVE_CERTNAME", &party.name)])
            .args(["/usr/bin/ruby", program])
            .stdin(Stdio::null());
        command
    }

    /// `mcollectived`, which has subscribed.
    fn serve(&self, party: &Party) -> Program {
        let more = format!("{}loglevel = debug\n", self.settings);
        party.configure("server.cfg", Path::new("/mnt"), &more);
        let file = format!("/mnt/{}/server.cfg", party.name);
        let mut command = self.ruby(party, User::Root, "/usr/sbin/mcollectived");
        command.args(["--no-daemonize", "--config", &file]);
        let node = Program::spawn(&mut command).expect("it can be started");
        let subject = "mcollective.broadcast.agent.rpcutil";
        // The first one is ours, the second one Choria's.
        let texts = [
            format!("Subscribed to {subject}"),
            format!("Subscribing to {subject}"),
        ];
        let texts = texts.each_ref().map(String::as_str);
        if let Err(ending) = node.wait_for_any(&texts, 0, PATIENCE) {
            panic!("it {ending}; {NEEDS}:\n{}", node.output());
        }
        node
    }

    /// `mco`.
    fn ask(&self, party: &Party, arguments: &[&str]) -> Output {
        let more = format!("{}loglevel = warn\n", self.settings);
        party.configure("client.cfg", Path::new("/mnt"), &more);
        let file = format!("/mnt/{}/client.cfg", party.name);
        self.ruby(party, self.asks_as, "/usr/bin/mco")
            .args(arguments)
            .args(["--config", &file])
            .output()
            .expect("it can be started")
    }

    /// Who answers to a ping, sorted: looked for until these do, and longer each time.
    fn ping(&self, party: &Party, expected: &[&str], flags: &[&str]) {
        let mut last = None;
        for wait in WAITS {
            let output = self.ask(party, &[&["ping", "--timeout", wait], flags].concat());
            let names: BTreeSet<_> = text(&output.stdout)
                .lines()
                .filter_map(|line| Some(line.split_once(" time=")?.0.trim_end().to_owned()))
                .collect();
            if names.iter().eq(expected) {
                return;
            }
            last = Some(output);
        }
        panic!(
            "{flags:?}: {}",
            last.map(|output| said(&output)).unwrap_or_default()
        );
    }

    /// What agents of named nodes answer, as [`Party::call`].
    fn call(&self, party: &Party, nodes: &[&str], arguments: &[&str]) -> Vec<Value> {
        let named = nodes.iter().flat_map(|node| ["-I", node]);
        let call = ["rpc", "--json", "--timeout", "60"];
        let arguments: Vec<_> = call
            .into_iter()
            .chain(arguments.iter().copied())
            .chain(named)
            .collect();
        let output = self.ask(party, &arguments);
        let found: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", said(&output)));
        sorted(&found)
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the folder can be written");
    let mut command = Command::new("cp");
    let all = from.join(".");
    let status = command.arg("-R").args([&all, to]).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "cannot copy {}",
        from.display()
    );
}

// ---- Both ways ----

/// Debian's MCollective is the first one, the second one is ours.
const THEIRS: &str = "node1.example.net";
const OURS: &str = "node2.example.net";

fn both_ways(plugins: &Plugins, kind: Kind) {
    let world = World::new();
    let broker = world.broker(kind);
    let server = broker.address();
    let mcollective = Mcollective::new(&world, plugins);
    let node = |name, role: &str, days: u32, class| {
        let facts = json!({"os": {"family": "Debian"}, "role": role, "uptime_days": days, "stadt": "Zürich \"am\" \\ See"});
        let party = world.party(name, server, "");
        party.knowing(&facts, &["common", class])
    };
    let theirs = mcollective.serve(&node(THEIRS, "web", 12, "role::web"));
    let ours = node(OURS, "db", 3, "role::db").serve();
    let rip = world.party(RIP, server, "");
    all_hear_all(&mcollective, &rip);
    they_answer_the_same_to_both(&mcollective, &rip);
    whom_conditions_mean(&mcollective, &rip);
    what_they_do_not_do(&mcollective, &rip);
    its_own_programs(&mcollective, &rip);
    // One request for all instead of one each.
    let more = "direct_addressing_threshold = 0\ndirect_addressing = 0\n";
    they_share_a_request(&mcollective, &world.party(RIP, server, more));
    let bob = world.party("bob.example.net", server, "");
    who_may_not_ask(&mcollective, &bob);
    // Nothing of all that was too much for them.
    all_hear_all(&mcollective, &rip);
    drop((theirs, ours));
}

fn all_hear_all(mcollective: &Mcollective<'_>, rip: &Party) {
    assert_eq!(rip.ping(2, &[]), [THEIRS, OURS]);
    mcollective.ping(rip, &[THEIRS, OURS], &[]);
}

/// Both clients are told the same by both nodes, and both nodes the names that the others know.
fn they_answer_the_same_to_both(mcollective: &Mcollective<'_>, rip: &Party) {
    let both = ["-I", THEIRS, "-I", OURS];
    for question in [
        &["rpcutil", "inventory"][..],
        &["rpcutil", "get_fact", "fact=stadt"],
        &["rpcutil", "get_fact", "fact=none"],
        &["rpcutil", "get_facts", "facts=os, role"],
        &["rpcutil", "collective_info"],
        &["rpcutil", "agent_inventory"],
        &["rpcutil", "get_config_item", "item=main_collective"],
        &["rpcutil", "get_config_item", "item=identity"],
        &["rpcutil", "get_config_item", "item=none"],
    ] {
        let we = rip.call(&[question, &both].concat());
        let they = mcollective.call(rip, &[THEIRS, OURS], question);
        let essence = |replies: &[Value]| -> Value {
            let fields = ["sender", "statuscode", "statusmsg", "data"];
            let essence = |reply: &Value| {
                fields
                    .map(|field| (field.to_owned(), reply[field].clone()))
                    .into_iter()
                    .collect()
            };
            Value::Array(replies.iter().map(essence).map(Value::Object).collect())
        };
        assert_eq!(essence(&we), essence(&they), "{question:?}");
        assert_eq!(we.len(), 2, "{question:?}");
        let [theirs, ours] = [&we[0], &we[1]];
        assert_eq!(theirs["statuscode"], ours["statuscode"], "{question:?}");
        assert_eq!(theirs["statusmsg"], ours["statusmsg"], "{question:?}");
        if theirs["statuscode"] == 0 {
            let names = |reply: &Value| -> BTreeSet<String> {
                reply["data"]
                    .as_object()
                    .expect("it has values")
                    .keys()
                    .cloned()
                    .collect()
            };
            let missing: Vec<_> = names(theirs).difference(&names(ours)).cloned().collect();
            assert!(
                missing.is_empty(),
                "{question:?}: ours does not tell {missing:?}"
            );
        }
    }
    for question in [&["rpcutil", "ping"][..], &["rpcutil", "daemon_stats"]] {
        let replies = [
            rip.call(&[question, &both].concat()),
            mcollective.call(rip, &[THEIRS, OURS], question),
        ];
        for replies in replies {
            let is_good = |reply: &Value| reply["statuscode"] == 0;
            assert!(
                replies.len() == 2 && replies.iter().all(is_good),
                "{question:?}: {replies:?}"
            );
        }
    }
}

/// Conditions that mean the same to Ruby and to Go, by whom we go where they differ.
fn whom_conditions_mean(mcollective: &Mcollective<'_>, rip: &Party) {
    for (flags, expected) in [
        (&["-F", "role=web"][..], &[THEIRS][..]),
        (&["-F", "role=/^d.$/"], &[OURS]),
        (&["-F", "role!=web"], &[OURS]),
        (&["-F", "uptime_days>=12"], &[THEIRS]),
        (&["-F", "uptime_days<12"], &[OURS]),
        (&["-F", "os=family", "-C", "common"], &[THEIRS, OURS]),
        (&["-C", "role::db"], &[OURS]),
        (&["-C", "/^role/"], &[THEIRS, OURS]),
        (&["-C", "/^role/", "-F", "role=web"], &[THEIRS]),
        (&["-I", "/node2/"], &[OURS]),
        (&["-I", THEIRS, "-I", OURS], &[THEIRS, OURS]),
        (&["-A", "rpcutil"], &[THEIRS, OURS]),
        (&["-A", "none"], &[]),
        (&["-W", "common role=db"], &[OURS]),
    ] {
        if expected.is_empty() {
            let output = rip.ask(&[&["ping", "--names", "--timeout", "2s"], flags].concat());
            assert_eq!(text(&output.stdout), "", "{flags:?}");
        } else {
            assert_eq!(rip.ping(expected.len(), flags), expected, "{flags:?}");
        }
        mcollective.ping(rip, expected, flags);
    }
}

fn what_they_do_not_do(mcollective: &Mcollective<'_>, rip: &Party) {
    // Its client knows from the description of the agent what there is, and asks nobody.
    let replies = rip.call(&["rpcutil", "none", "-I", THEIRS, "-I", OURS]);
    for reply in &replies {
        assert_ne!(reply["statuscode"], 0, "{reply}");
        let message = reply["statusmsg"].as_str().expect("text");
        assert!(message.contains("none"), "{reply}");
    }
    assert_eq!(replies.len(), 2);

    // Nobody waits for an answer, and none comes.
    let output = rip.ask(&["rpc", "rpcutil", "ping", "--no-results", "-I", THEIRS]);
    assert!(output.status.success(), "{}", said(&output));
    let output = mcollective.ask(rip, &["rpc", "rpcutil", "ping", "--no-results", "-I", OURS]);
    assert!(
        text(&output.stdout).contains("Request sent with id: "),
        "{}",
        said(&output)
    );
}

/// What it makes of our nodes.
fn its_own_programs(mcollective: &Mcollective<'_>, rip: &Party) {
    let output = mcollective.ask(rip, &["inventory", OURS]);
    let shown = text(&output.stdout);
    for part in [
        "Inventory for node2.example.net:",
        env!("CARGO_PKG_VERSION"),
        "Main Collective: mcollective",
        "discovery       rpcutil",
        "role::db",
        "uptime_days => 3",
    ] {
        assert!(shown.contains(part), "no {part}: {}", said(&output));
    }
}

fn they_share_a_request(mcollective: &Mcollective<'_>, rip: &Party) {
    let flags = ["-C", "common", "--expect", "2", "--discovery-timeout"];
    let get = ["rpcutil", "get_fact", "fact=role"];
    let expected = [(THEIRS, "web"), (OURS, "db")];
    let is_expected = |replies: &[Value]| {
        let found = replies
            .iter()
            .map(|reply| (reply["sender"].as_str(), reply["data"]["value"].as_str()));
        found.eq(expected.map(|(node, role)| (Some(node), Some(role))))
    };
    let replies = rip.call(&[&get[..], &flags, &["60s"]].concat());
    assert!(is_expected(&replies), "{replies:?}");
    let found = WAITS.iter().any(|wait| {
        let call = ["rpc", "--json", "--timeout", "60", "--discovery-timeout"];
        let arguments = [&call[..], &[wait], &get, &["-C", "common"]].concat();
        let output = mcollective.ask(rip, &arguments);
        serde_json::from_slice(&output.stdout)
            .is_ok_and(|replies: Value| is_expected(&sorted(&replies)))
    });
    assert!(found, "its client in vain waited for both");
}

/// Brokers let in who has a certificate; nodes do not act for everybody who has.
fn who_may_not_ask(mcollective: &Mcollective<'_>, bob: &Party) {
    let output = bob.ask(&["ping", "--timeout", "2s"]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    mcollective.ping(bob, &[], &[]);
}

// ---- A federation ----

/// Its daemon is in one cluster, our node in the other.
fn federation(plugins: &Plugins) {
    let world = World::new();
    let federation = Federation::start(&world, Kind::Natterjack);
    let mcollective = Mcollective::new(&world, plugins);
    let node = |place: usize, name| {
        let facts = json!({"town": CLUSTERS[place]});
        let party = world.party(name, federation.cluster(place), "");
        party.knowing(&facts, &["common"])
    };
    let theirs = mcollective.serve(&node(0, THEIRS));
    let ours = node(1, OURS).serve();
    let rip = federation.client(&world, "");
    mcollective.ping(&rip, &[THEIRS, OURS], &[]);
    assert_eq!(rip.ping(2, &[]), [THEIRS, OURS]);
    let get = ["rpcutil", "get_fact", "fact=town"];
    let we = rip.call(&[&get[..], &["-I", THEIRS, "-I", OURS]].concat());
    let they = mcollective.call(&rip, &[THEIRS, OURS], &get);
    for replies in [we, they] {
        let found: Vec<_> = replies
            .iter()
            .map(|reply| reply["data"]["value"].as_str())
            .collect();
        assert_eq!(found, CLUSTERS.map(Some), "{replies:?}");
    }
    mcollective.ping(&rip, &[OURS], &["-F", "town=paris"]);
    drop((theirs, ours));
    federation.end();
}
