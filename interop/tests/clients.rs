//! Client libraries: a table of scenarios, each played by async-nats, nats.py and nats.js against both servers.

use std::process::Command;

use libtest_mimic::Trial;
use testkit::programs::{self, Missing};
use testkit::{Config, Kind, ServerUnderTest};

use crate::trial;

mod async_nats;
mod logins;
mod script;

/// What is played. A script knows each by this name; for async-nats it is a function.
const SCENARIOS: [&str; 13] = [
    "connect",
    "publish_subscribe",
    "wildcards",
    "queue_groups",
    "request_reply",
    "no_responders",
    "headers",
    "payload_limit",
    "auto_unsubscribe",
    "drain",
    "reconnect",
    "thousand_subscriptions",
    "binary_payload",
];

/// A client library, and how it is started.
#[derive(Debug, Clone, Copy)]
enum Client {
    AsyncNats,
    NatsPy,
    NatsJs,
}

impl Client {
    const ALL: [Self; 3] = [Self::AsyncNats, Self::NatsPy, Self::NatsJs];

    fn name(self) -> &'static str {
        match self {
            Self::AsyncNats => "async-nats",
            Self::NatsPy => "nats.py",
            Self::NatsJs => "nats.js",
        }
    }

    fn available(self) -> Result<(), Missing> {
        match self {
            Self::AsyncNats => Ok(()),
            Self::NatsPy => programs::python().map(drop),
            Self::NatsJs => programs::javascript().map(drop),
        }
    }

    fn play(self, scenario: &str, server: &mut ServerUnderTest) {
        match self {
            Self::AsyncNats => async_nats::play(scenario, server),
            Self::NatsPy => {
                let python = programs::python().expect("checked before");
                let mut command = Command::new(python);
                command.arg(folder("python").join("scenarios.py"));
                script::play(command, scenario, server);
            }
            Self::NatsJs => {
                let packages = programs::javascript().expect("checked before");
                let mut command = Command::new("node");
                // The script resolves its packages from where they were prepared.
                command
                    .arg(folder("js").join("scenarios.cjs"))
                    .current_dir(packages);
                script::play(command, scenario, server);
            }
        }
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = logins::trials();
    for client in Client::ALL {
        for scenario in SCENARIOS {
            for kind in Kind::ALL {
                let name = format!("clients::{}::{scenario}::{}", client.name(), kind.name());
                let needs = [client.available(), kind.program().map(drop)];
                trials.push(trial(name, needs, move || {
                    let mut server = ServerUnderTest::start(kind, &Config::default());
                    client.play(scenario, &mut server);
                }));
            }
        }
    }
    trials
}

fn folder(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
