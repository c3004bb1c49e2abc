//! What is said at the end of a request: who was missing, who answered without being asked, and the exit code.

use natterjack_choria::client::Outcome;
use natterjack_choria::identity::Identity;

/// Names that are listed; a program that wants all of them takes JSON.
const NAMES_MAX: usize = 50;

/// What people should know beside the answers.
pub(super) fn remarks(outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    if !outcome.missing.is_empty() {
        lines.push(format!("No response from:{}", list(&outcome.missing)));
    }
    if !outcome.unexpected.is_empty() {
        lines.push(format!(
            "Unexpected response from:{}",
            list(&outcome.unexpected)
        ));
    }
    if outcome.unexpected_answers > outcome.unexpected.len() as u64 {
        lines.push(format!(
            "{} answers came from nodes that were not asked",
            outcome.unexpected_answers
        ));
    }
    if outcome.repeated > 0 {
        lines.push(format!(
            "{} more answers of nodes that had answered were left out",
            outcome.repeated
        ));
    }
    if outcome.damaged > 0 {
        lines.push(format!("{} damaged answers were left out", outcome.damaged));
    }
    lines
}

fn list(nodes: &[Identity]) -> String {
    let mut text: String = nodes
        .iter()
        .take(NAMES_MAX)
        .map(|node| format!("\n    {node}"))
        .collect();
    if nodes.len() > NAMES_MAX {
        text.push_str(&format!("\n    and {} more", nodes.len() - NAMES_MAX));
    }
    text
}

/// MCollective's exit codes, but that nodes which do not answer count as failed: who is to answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All that were asked have done it.
    Done = 0,
    /// No node is meant.
    NobodyThere = 1,
    /// Some could not do it, or did not answer.
    SomeFailed = 2,
    /// Nodes were found, and none of them answered.
    NobodyAnswered = 3,
    /// The same, but they were named and not found.
    NobodyNamedAnswered = 4,
}

/// What to end with. `failed` are answers that are no success.
pub(super) fn verdict(outcome: &Outcome, failed: usize, was_discovered: bool) -> Verdict {
    match outcome.answered {
        0 if was_discovered => Verdict::NobodyAnswered,
        0 => Verdict::NobodyNamedAnswered,
        _ if failed > 0 || !outcome.missing.is_empty() => Verdict::SomeFailed,
        _ => Verdict::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize) -> Vec<Identity> {
        let node = |number| Identity::new(format!("n{number}")).unwrap();
        (0..count).map(node).collect()
    }

    #[test]
    fn remarks_are_few() {
        assert!(remarks(&Outcome::default()).is_empty());
        let outcome = Outcome {
            missing: nodes(52),
            unexpected: nodes(1),
            unexpected_answers: 2,
            repeated: 3,
            damaged: 1,
            ..Outcome::default()
        };
        let lines = remarks(&outcome);
        assert_eq!(lines.len(), 5);
        assert!(lines[0].ends_with("n49\n    and 2 more"), "{}", lines[0]);
        assert_eq!(lines[1], "Unexpected response from:\n    n0");
        assert_eq!(lines[2], "2 answers came from nodes that were not asked");
    }

    #[test]
    fn verdicts() {
        let outcome = |answered, missing| Outcome {
            answered,
            missing: nodes(missing),
            ..Outcome::default()
        };
        assert_eq!(verdict(&outcome(2, 0), 0, true), Verdict::Done);
        assert_eq!(verdict(&outcome(2, 0), 1, true), Verdict::SomeFailed);
        assert_eq!(verdict(&outcome(1, 1), 0, true), Verdict::SomeFailed);
        assert_eq!(verdict(&outcome(0, 2), 0, true), Verdict::NobodyAnswered);
        assert_eq!(
            verdict(&outcome(0, 2), 0, false),
            Verdict::NobodyNamedAnswered
        );
    }
}
