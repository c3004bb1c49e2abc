//! What befalls a cluster while its clients come and go. Each ends with the network healed and
//! [everything in agreement](Crowd::demand_agreement), without help.

use std::time::Duration;

use fastrand::Rng;
use testkit::netns::{Fate, Weather};
use testkit::{Kind, PATIENCE, ask_until};

use super::crowd::{Crowd, Traffic};
use super::is_full;
use super::stage::Stage;

const DRIZZLE: Weather = Weather {
    loss: 0.02,
    delay: Duration::from_millis(2),
    jitter: Duration::from_millis(10),
    reordering: 0.1,
    duplication: 0.02,
};

const DOWNPOUR: Weather = Weather {
    loss: 0.15,
    delay: Duration::from_millis(20),
    jitter: Duration::from_millis(60),
    reordering: 0.3,
    duplication: 0.1,
};

fn begin(kinds: &[Kind], seed: u64) -> (Stage, Crowd) {
    let stage = Stage::start(kinds, seed);
    let crowd = Crowd::of(&stage, seed);
    (stage, crowd)
}

/// Packets are lost, late, in disorder and doubled everywhere.
pub(super) fn rain(kinds: &[Kind], seed: u64) {
    let (stage, crowd) = begin(kinds, seed);
    rain_on(&stage, crowd);
}

/// The same while queue groups and others hear the same subjects.
pub(super) fn rain_on_a_mingled_crowd(kinds: &[Kind], seed: u64) {
    let stage = Stage::start(kinds, seed);
    let crowd = Crowd::mingled(&stage, seed);
    rain_on(&stage, crowd);
}

fn rain_on(stage: &Stage, mut crowd: Crowd) {
    crowd.churn(|traffic| {
        for weather in [DRIZZLE, DOWNPOUR, DRIZZLE] {
            stage.network.set_all(weather);
            stage.network.pass(lasting(1));
            traffic.demand(0, 1);
        }
        stage.network.heal();
        stage.wait_until_whole();
    });
    for fate in [Fate::Lost, Fate::HeldBack, Fate::Doubled] {
        assert!(stage.network.count(fate) > 10, "it did not rain: {fate:?}");
    }
    crowd.demand_agreement(stage);
}

/// The weather in each direction is another one every now and then, darkness included.
pub(super) fn storm(kinds: &[Kind], seed: u64) {
    let mut chance = Rng::with_seed(seed);
    let (stage, mut crowd) = begin(kinds, seed);
    let changes = if is_full() { 60 } else { 8 };
    crowd.churn(|_| {
        for _ in 0..changes {
            for from in 0..kinds.len() {
                for to in (0..kinds.len()).filter(|to| *to != from) {
                    let weather = match chance.u8(..100) {
                        0..35 => Weather::DARK,
                        35..55 => DRIZZLE,
                        55..75 => DOWNPOUR,
                        _ => Weather::FAIR,
                    };
                    stage.network.set(from, to, weather);
                }
            }
            // Some changes are noticed by nobody, others by all.
            stage
                .network
                .pass(Duration::from_millis(chance.u64(100..1_500)));
        }
        stage.network.heal();
        stage.wait_until_whole();
    });
    crowd.demand_agreement(&stage);
}

/// Nothing goes anywhere, for so short a time that connections outlive it: nothing is lost.
pub(super) fn short_silence(kinds: &[Kind], seed: u64) {
    let (stage, mut crowd) = begin(kinds, seed);
    crowd.churn(|traffic| traffic.demand(0, 1));
    crowd.await_interest(&stage);
    stage.network.set_all(Weather::DARK);
    crowd.publish_everything();
    stage.network.pass(Duration::from_millis(300));
    stage.network.heal();
    crowd.demand_delivery();
    crowd.demand_agreement(&stage);
}

/// One server is cut off until all have noticed. The others go on, and so do its own clients.
pub(super) fn partition(kinds: &[Kind], seed: u64) {
    let (stage, mut crowd) = begin(kinds, seed);
    let (alone, [one, other]) = chosen(seed);
    crowd.churn(|traffic| {
        traffic.demand(one, alone);
        stage.network.isolate(alone);
        stage.wait_until_apart(alone, one);
        stage.wait_until_apart(alone, other);
        demand_silence(
            traffic,
            one,
            alone,
            &[(one, other), (other, one), (alone, alone)],
        );
        stage.network.pass(lasting(1));
        stage.network.heal();
        stage.wait_until_whole();
        traffic.demand(one, alone);
        traffic.demand(alone, other);
    });
    crowd.demand_agreement(&stage);
}

/// Two servers know each other only from a third. They are cut off from each other and from nobody else; nobody tells them of
/// each other anew, and when they can they find each other again.
pub(super) fn partition_of_acquaintances(kinds: &[Kind], seed: u64) {
    let stage = Stage::start_from_one(kinds, seed);
    let mut crowd = Crowd::of(&stage, seed);
    crowd.churn(|traffic| {
        traffic.demand(1, 2);
        for (from, to) in [(1, 2), (2, 1)] {
            stage.network.set(from, to, Weather::DARK);
        }
        stage.wait_until_apart(1, 2);
        demand_silence(traffic, 1, 2, &[(0, 1), (1, 0), (0, 2), (2, 0)]);
        stage.network.pass(lasting(1));
        stage.network.heal();
        stage.wait_until_whole();
        traffic.demand(1, 2);
        traffic.demand(2, 1);
    });
    crowd.demand_agreement(&stage);
}

/// The same two find each other again while the one that they have it from cannot be reached, and then that one, too.
pub(super) fn acquaintances_without_their_seed(kinds: &[Kind], seed: u64) {
    let stage = Stage::start_from_one(kinds, seed);
    let mut crowd = Crowd::of(&stage, seed);
    crowd.churn(|traffic| {
        traffic.demand(1, 2);
        stage.network.set_all(Weather::DARK);
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            stage.wait_until_apart(one, other);
        }
        for (from, to) in [(1, 2), (2, 1)] {
            stage.network.set(from, to, Weather::FAIR);
        }
        stage.wait_until_together(1, 2);
        traffic.demand(1, 2);
        traffic.demand(2, 1);
        stage.network.heal();
        stage.wait_until_whole();
        traffic.demand(0, 1);
        traffic.demand(2, 0);
    });
    crowd.demand_agreement(&stage);
}

/// What one server sends to another vanishes, and all else arrives. Both notice, and the third knows both.
pub(super) fn half_open(kinds: &[Kind], seed: u64) {
    let (stage, mut crowd) = begin(kinds, seed);
    let (third, [from, to]) = chosen(seed);
    crowd.churn(|traffic| {
        traffic.demand(from, to);
        stage.network.set(from, to, Weather::DARK);
        stage.wait_until_apart(from, to);
        for (from, to) in [(from, third), (third, from), (to, third), (third, to)] {
            traffic.demand(from, to);
        }
        stage.network.pass(lasting(2));
        stage.network.heal();
        stage.wait_until_whole();
        traffic.demand(from, to);
        traffic.demand(to, from);
    });
    crowd.demand_agreement(&stage);
}

/// A server dies while it is cut off, so that nobody hears of it, and is back before it is missed: the others hold connections
/// to nobody when one with the same name and address comes.
pub(super) fn restart_behind_a_cut(kinds: &[Kind], seed: u64) {
    let (mut stage, mut crowd) = begin(kinds, seed);
    let (dead, [one, other]) = chosen(seed);
    crowd.churn(|traffic| traffic.demand(dead, one));
    crowd.churn_without(Some(dead), |traffic| {
        stage.network.isolate(dead);
        stage.restart(dead);
        stage.network.heal();
        stage.wait_until_whole();
        traffic.demand(one, other);
    });
    crowd.reconnect(&stage, dead);
    crowd.churn(|traffic| {
        traffic.demand(one, dead);
        traffic.demand(dead, other);
    });
    crowd.demand_agreement(&stage);
}

/// Nothing goes from one server to another, while something goes between these. What had been on its way may still be heard.
fn demand_silence(traffic: &Traffic, from: usize, to: usize, others: &[(usize, usize)]) {
    let silence = ask_until(PATIENCE, || {
        let before = traffic.count(from, to);
        for &(from, to) in others {
            traffic.demand(from, to);
        }
        (traffic.count(from, to) == before).then_some(())
    });
    assert!(silence.is_some(), "{from} is heard at {to}");
}

/// One of three, and the two others.
fn chosen(seed: u64) -> (usize, [usize; 2]) {
    let mut chance = Rng::with_seed(seed);
    let mut nodes = [0, 1, 2];
    chance.shuffle(&mut nodes);
    (nodes[0], [nodes[1], nodes[2]])
}

/// So many seconds, or ten times as many in a full run.
fn lasting(seconds: u64) -> Duration {
    Duration::from_secs(if is_full() { 10 * seconds } else { seconds })
}
