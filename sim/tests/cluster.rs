//! Some games of several servers, in every run of the tests. `cargo run -p sim --release -- --cluster` plays as many more as
//! one likes.

use sim::cluster::{Scenario, run};

#[test]
fn properties_hold_for_the_first_seeds() {
    let [mut confirmed, mut breaks, mut deaths] = [0; 3];
    for seed in 0..30 {
        let report = run(seed, &Scenario::of_seed(seed));
        assert!(report.failure.is_none(), "{report}");
        confirmed += report.confirmed;
        breaks += report.breaks;
        deaths += report.deaths;
    }
    // Games that reach no edge would prove nothing.
    assert!(confirmed > 0 && breaks > 0 && deaths > 0);
}

#[test]
fn a_seed_plays_the_same_game_every_time() {
    for seed in 0..6 {
        let [once, again] = [(); 2].map(|()| run(seed, &Scenario::of_seed(seed)));
        assert_eq!(once.trace_hash, again.trace_hash, "seed {seed}");
        assert_eq!(once.steps, again.steps, "seed {seed}");
    }
}
