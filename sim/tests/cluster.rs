//! Some hundred games of several servers, in every run of the tests. `cargo run -p sim --release -- --cluster` plays as
//! many more as one likes. What fails here is printed with its seed, its last events, and how to play it again.

use sim::cluster::{Reloads, Report, Scenario, run};

/// Plays `count` seeds from `first` on.
fn play(first: u64, count: u64) -> Vec<Report> {
    let report = |seed| {
        let report = run(seed, &Scenario::of_seed(seed));
        assert!(report.failure.is_none(), "{report}");
        report
    };
    (first..first + count).map(report).collect()
}

// In parts, so that they run side by side.

#[test]
fn properties_hold_for_the_first_seeds() {
    let reports = play(0, SEEDS);
    // Games that reach no edge would prove nothing.
    let edges = |report: &Report| {
        [
            ("confirmed", report.confirmed),
            ("answers", report.answers),
            ("answers between accounts", report.crossed),
            ("breaks", report.breaks),
            ("partings", report.partings),
            ("deaths", report.deaths),
            ("reloads", report.reloads),
            ("moves without loss", report.moved),
            ("lame ducks", report.ducks),
            ("duplicates", report.duplicates),
            ("stale", report.stale),
        ]
    };
    let mut never: Vec<_> = edges(&reports[0]).iter().map(|(what, _)| *what).collect();
    for report in &reports {
        let reached = edges(report);
        never.retain(|what| {
            !reached
                .iter()
                .any(|(edge, count)| edge == what && *count > 0)
        });
    }
    assert_eq!(never, [""; 0], "edges that no game reaches");
}

#[test]
fn properties_hold_for_more_seeds() {
    play(10_000, SEEDS);
}

/// Games in which accounts go from connection to connection while these break, and interest was lost or told twice.
#[test]
fn properties_hold_where_they_did_not() {
    for seed in [36, 101, 151, 223, 477, 1981] {
        let scenario = Scenario {
            services: false,
            ..Scenario::of_seed(seed)
        };
        let report = run(seed, &scenario);
        assert!(report.failure.is_none(), "{report}");
    }
}

/// What is published while accounts go from connection to connection arrives, once and in order.
#[test]
fn accounts_move_without_loss() {
    let mut moved = 0;
    for seed in 20_000..20_000 + SEEDS / 2 {
        let scenario = Scenario {
            reloads: Reloads::Moves,
            ducks: false,
            ..Scenario::of_seed(seed).without_faults()
        };
        let report = run(seed, &scenario);
        assert!(report.failure.is_none(), "{report}");
        moved += report.moved;
    }
    assert!(moved > SEEDS, "{moved}");
}

#[test]
fn a_seed_plays_the_same_game_every_time() {
    for seed in 0..6 {
        let [once, again] = [(); 2].map(|()| run(seed, &Scenario::of_seed(seed)));
        assert_eq!(once.trace_hash, again.trace_hash, "seed {seed}");
        assert_eq!(once.steps, again.steps, "seed {seed}");
    }
}

/// About twenty seconds, for both parts side by side and without optimisation.
const SEEDS: u64 = 50;
