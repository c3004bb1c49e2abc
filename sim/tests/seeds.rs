//! Some hundred seeds, in every run of the tests. `cargo run -p sim --release` plays as many more as one likes.

use sim::{Scenario, run};

/// Plays `count` seeds from `first` on.
fn play(first: u64, count: u64) {
    for seed in first..first + count {
        let report = run(seed, &Scenario::of_seed(seed));
        assert!(report.failure.is_none(), "{report}");
        assert!(report.steps > 0 && report.publications > 0);
    }
}

// In parts, so that they run side by side.

#[test]
fn properties_hold_for_the_first_seeds() {
    play(0, 100);
}

#[test]
fn properties_hold_for_more_seeds() {
    play(1000, 100);
}

#[test]
fn a_seed_plays_the_same_game_every_time() {
    for seed in 0..8 {
        let [once, again] = [(); 2].map(|()| run(seed, &Scenario::of_seed(seed)));
        assert_eq!(once.trace_hash, again.trace_hash, "seed {seed}");
        assert_eq!(once.steps, again.steps, "seed {seed}");
    }
    let other = run(1, &Scenario::calm());
    assert_ne!(run(2, &Scenario::calm()).trace_hash, other.trace_hash);
}

/// Runs that reach no edge would prove nothing.
#[test]
fn edges_are_reached() {
    let mut tight = [0, 0, 0];
    for seed in 0..10 {
        let report = run(seed, &Scenario::tight());
        let seen = [report.slow_consumers, report.stalls, report.interleavings];
        tight = std::array::from_fn(|index| tight[index] + seen[index]);
        let calm = run(seed, &Scenario::calm());
        assert_eq!(calm.slow_consumers, 0);
        assert!(calm.deliveries > 0);
    }
    assert!(tight.iter().all(|&count| count > 0), "{tight:?}");
}
