//! The protocol itself: the files of `conversations/`, played over bare sockets against both servers, and against ours a second
//! time with every byte in a write of its own.

use std::fs;
use std::path::Path;

use libtest_mimic::Trial;
use testkit::conversation::{Conversation, Pieces};
use testkit::{Kind, ServerUnderTest};

use crate::trial;

/// What a small write carries in the runs that test the reading of split lines. Conversations with payloads of a megabyte
/// are not sent byte by byte.
const SMALL_PIECE_BYTES: usize = 1;
const LARGE_CONVERSATION_PIECE_BYTES: usize = 1_009;
const LARGE_CONVERSATION_BYTES: usize = 64 * 1024;

pub(crate) fn trials() -> Vec<Trial> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conversations");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the conversations are beside this test")
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect();
    files.sort();

    let mut trials = Vec::new();
    for file in files {
        let theme = file
            .file_stem()
            .expect("listed files have names")
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&file).expect("a listed file can be read");
        let conversations = Conversation::parse_all(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(
            !conversations.is_empty(),
            "{} holds no conversation",
            file.display()
        );
        for conversation in conversations {
            for kind in Kind::ALL {
                trials.push(one(&theme, &conversation, kind, Pieces::Whole));
            }
            let piece_bytes = if conversation.bytes_sent() > LARGE_CONVERSATION_BYTES {
                LARGE_CONVERSATION_PIECE_BYTES
            } else {
                SMALL_PIECE_BYTES
            };
            trials.push(one(
                &theme,
                &conversation,
                Kind::Natterjack,
                Pieces::Of(piece_bytes),
            ));
        }
    }
    trials
}

fn one(theme: &str, conversation: &Conversation, kind: Kind, pieces: Pieces) -> Trial {
    let how = match pieces {
        Pieces::Whole => "",
        Pieces::Of(_) => "::in_pieces",
    };
    // Test names have no blanks, so that whoever reads the summary can split it.
    let title = conversation.name.replace(' ', "_");
    let name = format!("conversations::{theme}::{title}::{}{how}", kind.name());
    let conversation = conversation.clone();
    trial(name, [kind.program().map(drop)], move || {
        let mut server = ServerUnderTest::start(kind, &conversation.config());
        if let Err(departure) = conversation.play(&mut server, pieces) {
            panic!("{departure}--- the server's log:\n{}", server.log());
        }
    })
}
