//! The protocol between servers, line by line: the files of `conversations/`, in which the other server is scripted.

use std::fs;
use std::path::Path;

use libtest_mimic::Trial;
use testkit::conversation::{Conversation, Pieces};
use testkit::{Kind, ServerUnderTest};

use super::{OURS, REAL};
use crate::trial;

/// The servers that the script talks to. What is expected is what nats-server 2.15.1 does, not what 2.9 did.
const KINDS: &[Kind] = &[REAL, OURS];

pub(super) fn trials() -> Vec<Trial> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/conversations");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the conversations are beside this test")
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect();
    files.sort();

    let mut trials = Vec::new();
    for file in files {
        let theme = file.file_stem().expect("listed files have names");
        let theme = theme.to_string_lossy();
        let text = fs::read_to_string(&file).expect("a listed file can be read");
        let conversations = Conversation::parse_all(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(!conversations.is_empty(), "{} is empty", file.display());
        for conversation in conversations {
            for &kind in KINDS {
                trials.push(one(&theme, &conversation, kind, Pieces::Whole));
                if kind == OURS {
                    trials.push(one(&theme, &conversation, kind, Pieces::Of(1)));
                }
            }
        }
    }
    trials
}

fn one(theme: &str, conversation: &Conversation, kind: Kind, pieces: Pieces) -> Trial {
    let how = match pieces {
        Pieces::Whole => "",
        Pieces::Of(_) => "::in_pieces",
    };
    let title = conversation.name.replace(' ', "_");
    let name = format!(
        "cluster::conversations::{theme}::{title}::{}{how}",
        kind.name()
    );
    let conversation = conversation.clone();
    trial(name, [kind.program().map(drop)], move || {
        let doors = conversation.doors();
        let mut server = ServerUnderTest::start(kind, &conversation.config_at(&doors));
        if let Err(departure) = conversation.play_at(&doors, &mut server, pieces) {
            panic!("{departure}--- the server's log:\n{}", server.log());
        }
    })
}
