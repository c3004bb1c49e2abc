//! Subjects: which are valid, which pattern matches which, and an index from a subject to its subscribers.
//!
//! Owns the syntax of subjects and the subscription index. Knows no connection and no message: a subscriber is
//! whatever handle the caller puts in.
//!
//! ```
//! use natterjack_subject::Index;
//!
//! let index = Index::new();
//! index.insert(b"orders.*.created", None, "audit")?;
//! index.insert(b"orders.>", Some(b"workers"), "worker 1")?;
//! index.insert(b"orders.>", Some(b"workers"), "worker 2")?;
//!
//! let (stamp, receivers) = index.look_up(b"orders.eu.created");
//! assert!(receivers.plain().eq(&["audit"]));
//! assert_eq!(receivers.groups()[0].len(), 2);
//!
//! // The answer holds until the stamp says otherwise.
//! assert!(index.is_current(&stamp));
//! index.insert(b"orders.eu.created", None, "newcomer")?;
//! assert!(!index.is_current(&stamp));
//! # Ok::<(), natterjack_subject::InvalidPattern>(())
//! ```
//!
//! # Syntax
//!
//! A subject is tokens with `.` between them; a token is one or more bytes of any kind but `.`. In a pattern the token
//! `*` stands for any one token and `>`, only as the last, for one or more. Both are wildcards only as whole tokens. In
//! a subject that is published they are plain text, and a subject with an empty token reaches nobody (client protocol,
//! "Subjects and queues").
//!
//! # How the index works
//!
//! - **Literal patterns** are in a hash table, in 64 shards with a lock each. **Patterns with wildcards** are in tries,
//!   in 16 shards by their literal prefix of at most two tokens, which is one step of the trie; those that begin with a
//!   wildcard have a trie of their own. So a look-up asks at most four tables: the subject itself, its first token, its
//!   first two, and the last trie.
//! - **Counts by hash** say where there is nothing to find, and then a table's lock is not taken at all: an index
//!   without wildcards pays two atomic loads for them.
//! - **Lists** of subscribers are shared with the look-ups that return them and copied only when changed while shared;
//!   long ones in chunks of 128, so a change while a publisher holds one copies a chunk or two and pointers. A table of
//!   positions makes removal from a list of 100,000 no search.
//! - **Stamps** tell whether an answer still holds. Each literal subject and each prefix has, by hash, one of 512
//!   counters of change; a stamp is the sum of the (at most) three and the one for leading wildcards that concern a
//!   subject. An unrelated change makes an answer stale with a chance of 3 in 512.
//! - **Growth** is by splitting one of many small tables, never by doubling a large one, and nodes are kept in chunks, so
//!   no insertion holds a lock for longer than moving a few hundred entries takes. Removal gives memory back in the same
//!   steps, except that a trie keeps its nodes for new patterns until its shard is empty.
//!
//! # What it costs
//!
//! On a virtual machine with two cores (Intel Xeon, 2 MiB L2 each) that was busy with other work, the least of a
//! thousand batches (`cargo bench -p natterjack-subject --bench report`), as a range over several runs:
//!
//! | operation | ns |
//! | --- | --- |
//! | `is_current` | 1.3 to 1.6 |
//! | `stamp` of `dev.NNNNN` | 14 to 18 |
//! | look-up: miss | 15 to 33 |
//! | look-up: literal hit | 48 to 68 |
//! | look-up: `dev.>` hit by 100,000 subjects, with other subscriptions about | 58 to 78 |
//! | look-up: `dev.>` and `>` hit | 93 to 100 |
//! | look-up: a hit in 1 M mixed subscriptions, 100,000 subjects at random | 1400 to 1500 |
//! | look-up: a miss in them | 260 to 270 |
//!
//! Of a hit, a lock taken and released is 18 to 20 and a shared list cloned and dropped 14: four atomic additions at
//! 6 to 7 each, which no layout of the data avoids. In a million subscriptions, cache misses are all that counts.
//!
//! A million subscriptions of three to six tokens, one in five with a wildcard, take 138 bytes each (literals 126,
//! wildcards 187, muxed inboxes `_INBOX.<22 bytes>.*` 155), without the subscriber's own; an index without subscriptions
//! takes 24 bytes, with a few 15 KiB. Inserting one takes 0.8 to 2 us and removing it 0.5 to 1.5 us, and 0.1 to 0.3 us
//! each on one subject with 100,000 subscribers, or 7 to 15 us if a publisher takes the list after each of the changes.
//! How long the longest insertion holds a lock could not be measured there: the scheduler takes the processor away for
//! longer than that. The bound on what is moved is tested instead.
//!
//! What was tried, on the same machine:
//!
//! | now | before | and with it |
//! | --- | --- | --- |
//! | separators found in one pass | calls of `memchr`, one more pass for empty tokens | `dev.>` 71 ns, now 58 |
//! | counts by hash | a lock on every table not empty | `dev.>` beside an inbox and a literal 99 ns, now 76 (means, not least) |
//! | tables that split, nodes in chunks, subjects of up to 38 bytes in the entry | one `hashbrown` table and one `Vec` of nodes per shard, up to 22 bytes and the hash | 149 bytes each, now 138; 68 MB kept after a million had gone, now 14 KB; inserting was a little faster, 0.5 to 0.9 us |
//! | read-write locks | not tried beyond the lock itself: mutexes | 15 ns a lock, now 20; but publishers who walk a trie would wait for each other |
#![forbid(unsafe_code)]

mod subject;

mod index;
mod match_set;
mod stamp;

mod literals;
mod trie;

mod members;
mod slot;

mod key;
mod shape;
mod slab;
mod split_table;

#[doc(hidden)]
pub mod fuzzing;

pub use index::{Entry, Index, InvalidPattern};
pub use match_set::{MatchSet, QueueGroup};
pub use stamp::Stamp;
pub use subject::{is_literal, is_valid_pattern, is_valid_publish_subject, matches, overlaps};
