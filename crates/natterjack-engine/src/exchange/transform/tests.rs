//! A table observed on nats-server 2.15.1, and properties.

use proptest::prelude::*;

use super::*;

/// Source, destination, subject, and what subscribers of `>` were sent.
const OBSERVED: &[(&str, &str, &str, &str)] = &[
    ("a", "b", "a", "b"),
    ("a.*", "b.{{wildcard(1)}}", "a.x", "b.x"),
    ("a.*", "b.$1", "a.x", "b.x"),
    ("a.*.*", "$2.$1", "a.x.y", "y.x"),
    ("a.*.*", "b.{{ Wildcard( 2 ) }}", "a.x.y", "b.y"),
    ("a.>", "b.>", "a.x", "b.x"),
    ("a.>", "b.>", "a.x.y", "b.x.y"),
    ("a.*.>", "b.$1.>", "a.x.y", "b.x.y"),
    ("a.*.>", "b.$1.>", "a.x.y.z", "b.x.y.z"),
    (">", "p.>", "a", "p.a"),
    (">", "p.>", "a.b", "p.a.b"),
    ("a.*", "b", "a.x", "b"),
    ("a.*", "b.c.$1.d", "a.x", "b.c.x.d"),
    ("a.*", "b.$0", "a.x", "b.a"),
    ("a.*", "b.$x", "a.x", "b.$x"),
    ("a.*", "b.$", "a.x", "b.$"),
    ("a", "b.$x", "a", "b.$x"),
    ("a.*", "b.x$1", "a.x", "b.x$1"),
    ("a.*", "p.{{partition(3,1)}}", "a.x", "p.0"),
    ("a.*", "p.{{partition(3,1)}}", "a.y", "p.1"),
    ("a.*", "p.{{partition(3,1)}}", "a.zz", "p.0"),
    ("a.*", "p.{{partition(3,1)}}", "a.order-17", "p.1"),
    ("a.*.*", "p.{{partition(10,1,2)}}", "a.x.y", "p.2"),
    ("a.*.*", "p.{{partition(10,1,2)}}", "a.xy.z", "p.8"),
    ("a.*.*", "p.{{partition(10,1,2)}}", "a.x.yz", "p.8"),
    ("a.*.*", "p.{{partition(10)}}", "a.x.y", "p.1"),
    ("a.*.*", "p.{{partition(10)}}", "a.xy.z", "p.5"),
    ("a.*", "p.{{partition(0,1)}}", "a.x", "p.0"),
    ("a.*", "p.{{Partition( 5 , 1 )}}", "a.x", "p.0"),
    ("a.*", "p.{{partition(-3,1)}}", "a.x", "p.4245442695"),
    ("a.*", "b.{{split(1,-)}}", "a.x-y-z", "b.x.y.z"),
    ("a.*", "b.{{split(1,-)}}", "a.-x-y", "b.x.y"),
    ("a.*", "b.{{split(1,-)}}", "a.x-", "b.x"),
    ("a.*", "b.{{split(1,-)}}", "a.x--y", "b.x.y"),
    ("a.*", "b.{{split(1,-)}}", "a.xy", "b.xy"),
    ("a.*", "b.{{split(1, -)}}", "a.x-y", "b.x.y"),
    ("a.*", "b.{{split(1,ab)}}", "a.xabyabz", "b.x.y.z"),
    ("a.*", "b.{{split(1,)}}", "a.xyz", "b.x.y.z"),
    ("a.*", "b.{{splitFromLeft(1,2)}}", "a.abcde", "b.ab.cde"),
    ("a.*", "b.{{splitFromLeft(1,2)}}", "a.ab", "b.ab"),
    ("a.*", "b.{{splitFromLeft(1,2)}}", "a.a", "b.a"),
    ("a.*", "b.{{splitFromLeft(1,2)}}", "a.abc", "b.ab.c"),
    ("a.*", "b.{{SplitFromRight(1,2)}}", "a.abcde", "b.abc.de"),
    ("a.*", "b.{{SplitFromRight(1,2)}}", "a.ab", "b.ab"),
    ("a.*", "b.{{SplitFromRight(1,2)}}", "a.abc", "b.a.bc"),
    ("a.*", "b.{{splitfromleft(1,0)}}", "a.abcde", "b.abcde"),
    ("a.*", "b.{{splitfromleft(1,-1)}}", "a.abcde", "b.abcde"),
    ("a.*", "b.{{sliceFromLeft(1,2)}}", "a.abcde", "b.ab.cd.e"),
    ("a.*", "b.{{sliceFromLeft(1,2)}}", "a.abcd", "b.ab.cd"),
    ("a.*", "b.{{sliceFromLeft(1,2)}}", "a.ab", "b.ab"),
    ("a.*", "b.{{sliceFromLeft(1,2)}}", "a.abc", "b.ab.c"),
    ("a.*", "b.{{SliceFromRight(1,2)}}", "a.abcde", "b.a.bc.de"),
    ("a.*", "b.{{SliceFromRight(1,2)}}", "a.abcd", "b.ab.cd"),
    ("a.*", "b.{{SliceFromRight(1,2)}}", "a.ab", "b.ab"),
    ("a.*", "b.{{SliceFromRight(1,2)}}", "a.abc", "b.a.bc"),
    ("a.*", "b.{{left(1,2)}}", "a.abcde", "b.ab"),
    ("a.*", "b.{{left(1,2)}}", "a.ab", "b.ab"),
    ("a.*", "b.{{left(1,2)}}", "a.a", "b.a"),
    ("a.*", "b.{{Right(1,2)}}", "a.abcde", "b.de"),
    ("a.*", "b.{{Right(1,2)}}", "a.ab", "b.ab"),
    ("a.*", "b.{{Right(1,2)}}", "a.a", "b.a"),
    ("a.*", "b.{{left(1,0)}}", "a.abcde", "b.abcde"),
    ("a.*", "b.{{random(1)}}", "a.x", "b.0"),
    ("a", "b.{{random(1)}}", "a", "b.0"),
    ("a", "b.{{random(0)}}", "a", "b.0"),
    ("a.*", "b.{{wildcard(1)}}c", "a.x", "b.{{wildcard(1)}}c"),
    ("a.*", "b.c{{wildcard(1)}}", "a.x", "b.c{{wildcard(1)}}"),
    ("a.*", "b.{{}}", "a.x", "b.{{}}"),
    ("a.*", "b.{{wildcard(-1)}}", "a.x", "b.a"),
    ("a.*", "b.{{wildcard(0)}}", "a.x", "b.a"),
    ("a.*", "a.$1", "a.x", "a.x"),
    ("a.*", "b.{{wildcard(+1)}}", "a.x", "b.x"),
    ("a.*", "b.$+1", "a.x", "b.x"),
    ("a.*", "b.$01", "a.x", "b.x"),
    (
        "a.*",
        "b.{{wildcard( 1)}}.{{ left ( 1 , 1 ) }}",
        "a.xy",
        "b.xy.x",
    ),
    ("a.*", "b.{{random(-2)}}", "a.x", "b.0"),
];

/// Source, destination, and what nats-server says of them.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "a.*",
        "b.{{x}}",
        "invalid mapping destination: unknown function in {{x}}",
    ),
    (
        "a.*",
        "b.{{wildcard(2)}}",
        "invalid mapping destination: wildcard index out of range in {{wildcard(2)}}: [2]",
    ),
    (
        "a.*",
        "b.{{wildcard()}}",
        "invalid mapping destination: not enough arguments passed to the function in {{wildcard()}}",
    ),
    (
        "a.*",
        "b.{{wildcard(1,2)}}",
        "invalid mapping destination: too many arguments passed to the function in {{wildcard(1,2)}}",
    ),
    (
        "a.*",
        "b.{{wildcard(x)}}",
        "invalid mapping destination: function argument is invalid or in the wrong format in {{wildcard(x)}}",
    ),
    (
        "a.*",
        "b.{{foo(1)}}",
        "invalid mapping destination: unknown function in {{foo(1)}}",
    ),
    (
        "a.*",
        "b.{{wildcard}}",
        "invalid mapping destination: unknown function in {{wildcard}}",
    ),
    (
        "a.*",
        "b.$2",
        "invalid mapping destination: wildcard index out of range in $2: [2]",
    ),
    (
        "a",
        "b.$1",
        "invalid mapping destination: wildcard index out of range in $1",
    ),
    (
        "a",
        "b.{{wildcard(1)}}",
        "invalid mapping destination: wildcard index out of range in {{wildcard(1)}}",
    ),
    (
        "a",
        "b.{{left(1,2)}}",
        "invalid mapping destination: wildcard index out of range in {{left(1,2)}}",
    ),
    (
        "a.*",
        "b.{{partition()}}",
        "invalid mapping destination: function argument is invalid or in the wrong format in {{partition()}}",
    ),
    (
        "a.*",
        "b.{{partition(x)}}",
        "invalid mapping destination: function argument is invalid or in the wrong format in {{partition(x)}}",
    ),
    (
        "a.*",
        "b.{{partition(3,x)}}",
        "invalid mapping destination: function argument is invalid or in the wrong format in {{partition(3,x)}}",
    ),
    (
        "a.*",
        "b.{{partition(3,2)}}",
        "invalid mapping destination: wildcard index out of range in {{partition(3,2)}}: [2]",
    ),
    (
        "a.*",
        "b.{{partition(9999999999,1)}}",
        "invalid mapping destination: function argument is invalid or in the wrong format in {{partition(9999999999,1)}}",
    ),
    (
        "a.*",
        "b.{{split(1)}}",
        "invalid mapping destination: not enough arguments passed to the function in {{split(1)}}",
    ),
    (
        "a.*",
        "b.{{split(1,a,b)}}",
        "invalid mapping destination: too many arguments passed to the function in {{split(1,a,b)}}",
    ),
    (
        "a.*",
        "b.{{split(x,a)}}",
        "invalid mapping destination: function argument is invalid or in the wrong format in {{split(x,a)}}",
    ),
    (
        "a.*",
        "b.{{split(1,a )}}",
        "invalid mapping destination: function argument is invalid or in the wrong format in {{split(1,a )}}",
    ),
    (
        "a.*",
        "b.{{left(1)}}",
        "invalid mapping destination: not enough arguments passed to the function in {{left(1)}}",
    ),
    (
        "a.*",
        "b.{{left(1,x)}}",
        "invalid mapping destination: function argument is invalid or in the wrong format in {{left(1,x)}}",
    ),
    (
        "a.*",
        "b.{{left(1,2,3)}}",
        "invalid mapping destination: too many arguments passed to the function in {{left(1,2,3)}}",
    ),
    (
        "a.*",
        "b.{{left(2,2)}}",
        "invalid mapping destination: wildcard index out of range in {{left(2,2)}}: [2]",
    ),
    (
        "a.*",
        "b.{{random()}}",
        "invalid mapping destination: function argument is invalid or in the wrong format in {{random()}}",
    ),
    (
        "a.*",
        "b.{{random(1,2)}}",
        "invalid mapping destination: not enough arguments passed to the function in {{random(1,2)}}",
    ),
    (
        "a.*",
        "b.{{random(x)}}",
        "invalid mapping destination: function argument is invalid or in the wrong format in {{random(x)}}",
    ),
    ("a.*", "b.*", "invalid subject"),
    ("a", "b.*", "invalid subject"),
    ("a.>", "b", "invalid subject"),
    ("a", "b.>", "invalid subject"),
    (
        "a.*",
        "b..c",
        "invalid mapping destination: invalid transform",
    ),
    (
        "a.*",
        "b.",
        "invalid mapping destination: invalid transform",
    ),
    (
        "a.*",
        "b c",
        "invalid mapping destination: invalid transform",
    ),
    (
        "a.*",
        "b.>.c",
        "invalid mapping destination: invalid transform in c",
    ),
    (
        "a.*",
        "b.{{left(1,9999999999)}}",
        "invalid mapping destination: function argument is invalid or in the wrong format in {{left(1,9999999999)}}",
    ),
];

fn transformed(source: &str, destination: &str, subject: &str) -> String {
    let transform = Transform::new(source, destination)
        .unwrap_or_else(|problem| panic!("{source} to {destination}: {problem}"));
    let mut out = Vec::new();
    transform.apply(
        subject.as_bytes(),
        &mut fastrand::Rng::with_seed(1),
        &mut out,
    );
    String::from_utf8(out).expect("made of text")
}

#[test]
fn subjects_become_what_they_become_on_nats_server() {
    for &(source, destination, subject, expected) in OBSERVED {
        let found = transformed(source, destination, subject);
        // There it is below 2, too, but always another one.
        if destination == "b.{{random(-2)}}" {
            assert!(["b.0", "b.1"].contains(&found.as_str()), "{found}");
            continue;
        }
        assert_eq!(found, expected, "{source} to {destination}: {subject}");
    }
}

#[test]
fn what_nats_server_refuses_is_refused_with_its_words() {
    for &(source, destination, expected) in REFUSED {
        let problem = Transform::new(source, destination).expect_err(destination);
        let found = problem.to_string();
        // Of what follows `>`, nats-server says what it is.
        let expected = expected.strip_suffix(" in c").unwrap_or(expected);
        assert_eq!(found, expected, "{source} to {destination}");
    }
}

/// nats-server hashes nothing at all for a source without wildcards, unless a mapping with wildcards was looked at first.
#[test]
fn without_wildcards_the_whole_subject_decides_the_partition() {
    let with = transformed(">", "p.{{partition(7)}}.>", "a");
    let without = transformed("a", "p.{{partition(7,1)}}", "a");
    assert_eq!(with, format!("{without}.a"));
}

#[test]
fn tokens_that_end_up_empty_reach_nobody() {
    let subject = transformed("a.*", "b.{{split(1,-)}}", "a.--");
    assert!(!natterjack_subject::is_valid_publish_subject(
        subject.as_bytes()
    ));
}

#[test]
fn chance_stays_below_its_bound_and_uses_all_of_it() {
    let transform = Transform::new("a", "{{random(3)}}").expect("a valid one");
    let mut chance = fastrand::Rng::with_seed(1);
    let mut seen = [0; 3];
    for _ in 0..300 {
        let mut out = Vec::new();
        transform.apply(b"a", &mut chance, &mut out);
        seen[usize::from(out[0] - b'0')] += 1;
    }
    assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
    assert!(!transform.is_deterministic());
}

/// The slow and obvious way.
mod slow {
    pub(super) fn slices(token: &str, bytes: usize, from_right: bool) -> String {
        let mut letters: Vec<char> = token.chars().collect();
        if from_right {
            letters.reverse();
        }
        let mut text = String::new();
        for (index, letter) in letters.iter().enumerate() {
            if index > 0 && index % bytes == 0 {
                text.push('.');
            }
            text.push(*letter);
        }
        if from_right {
            text.chars().rev().collect()
        } else {
            text
        }
    }
}

proptest! {
    #[test]
    fn slices_are_those_of_the_slow_way(token in "[a-z]{1,12}", bytes in 1_usize..14) {
        for (name, from_right) in [("sliceFromLeft", false), ("sliceFromRight", true)] {
            let destination = format!("{{{{{name}(1,{bytes})}}}}");
            prop_assert_eq!(
                transformed("*", &destination, &token),
                slow::slices(&token, bytes, from_right)
            );
        }
    }

    #[test]
    fn splits_are_those_of_the_standard_library(token in "[ab-]{1,12}", delimiter in "[-ab]{1,2}") {
        let pieces: Vec<&str> = token.split(&delimiter).filter(|piece| !piece.is_empty()).collect();
        let destination = format!("x.{{{{split(1,{delimiter})}}}}");
        prop_assert_eq!(
            transformed("*", &destination, &token),
            format!("x.{}", pieces.join("."))
        );
    }

    #[test]
    fn wildcards_can_be_put_back(tokens in prop::collection::vec("[a-z$]{1,4}", 1..6), rest in "[a-z]{1,3}(\\.[a-z]{1,3}){0,2}") {
        let count = tokens.len();
        let source = format!("{}.>", vec!["*"; count].join("."));
        let reversed: Vec<String> = (1..=count).rev().map(|index| format!("${index}")).collect();
        let destination = format!("{}.>", reversed.join("."));
        let subject = format!("{}.{rest}", tokens.join("."));
        let there = transformed(&source, &destination, &subject);
        prop_assert_eq!(transformed(&source, &destination, &there), subject);
    }

    #[test]
    fn no_destination_panics(source in "[a*>.]{1,6}", destination in "([a$1{}(),.>*]|\\{\\{(split|left|partition|random|wildcard|sliceFromRight)\\([0-9-]{0,2}(,[0-9a-]{0,2}){0,2}\\)\\}\\}){1,6}", subject in "[a.-]{0,8}") {
        if let Ok(transform) = Transform::new(&source, &destination) {
            transform.apply(subject.as_bytes(), &mut fastrand::Rng::with_seed(1), &mut Vec::new());
        }
    }
}
