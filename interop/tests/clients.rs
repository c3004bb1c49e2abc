//! Client libraries: a table of scenarios, each played by async-nats, nats.py and nats.js against both servers.

use libtest_mimic::Trial;
use testkit::{Config, Kind, ServerUnderTest};

use crate::libraries::Library;
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

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = logins::trials();
    for client in Library::ALL {
        for scenario in SCENARIOS {
            for kind in Kind::ALL {
                let name = format!("clients::{}::{scenario}::{}", client.name(), kind.name());
                let needs = [client.available(), kind.program().map(drop)];
                trials.push(trial(name, needs, move || {
                    let mut server = ServerUnderTest::start(kind, &Config::default());
                    match client.command("scenarios") {
                        None => async_nats::play(scenario, &mut server),
                        Some(command) => script::play(command, scenario, &mut server),
                    }
                }));
            }
        }
    }
    trials
}
