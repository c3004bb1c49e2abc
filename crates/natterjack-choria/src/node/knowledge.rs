//! What a node knows of itself: facts and classes, as the configuration management wrote them into files.
//!
//! Files are looked at again when they have changed, at most once a second. One that cannot be read any more is told in the
//! log, and what it said last counts: a file that is just being written, or whose writer has failed, does not make another
//! node of this one. One that never could be read is empty: a node that does not know a fact is not meant by a condition on
//! it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::facts;

/// Longest file of facts or classes, in bytes. Facter's are a tenth of a MiB.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// So often files are looked at, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Facts and classes at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Knowledge {
    /// A JSON object.
    pub facts: Value,
    /// Names, in the file's order.
    pub classes: Vec<String>,
}

impl Default for Knowledge {
    fn default() -> Self {
        Self {
            facts: Value::Object(Map::new()),
            classes: Vec::new(),
        }
    }
}

/// Why a file tells nothing.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("it is not text in UTF-8")]
    NotText,
    #[error("it is not YAML: {0}")]
    Yaml(#[from] serde_saphyr::Error),
    #[error("it is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it has no names with values")]
    NoFacts,
}

/// Where it comes from.
#[derive(Debug)]
pub(super) enum Source {
    Given(Arc<Knowledge>),
    Files(Files),
}

impl Source {
    pub(super) fn look(&self, now: SystemTime) -> Arc<Knowledge> {
        match self {
            Self::Given(knowledge) => Arc::clone(knowledge),
            Self::Files(files) => files.look(now),
        }
    }
}

/// Files of facts, each going before those ahead of it, and one of classes.
#[derive(Debug)]
pub(super) struct Files {
    facts: Vec<PathBuf>,
    classes: PathBuf,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    looked: SystemTime,
    stamps: Vec<Stamp>,
    /// What each file of facts said last.
    facts: Vec<Map<String, Value>>,
    knowledge: Arc<Knowledge>,
}

/// By which a change is noticed: when a file was written, and how long it is. `None`: it is not there.
type Stamp = Option<(SystemTime, u64)>;

impl Files {
    pub(super) const fn new(facts: Vec<PathBuf>, classes: PathBuf) -> Self {
        Self {
            facts,
            classes,
            seen: Mutex::new(None),
        }
    }

    fn look(&self, now: SystemTime) -> Arc<Knowledge> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = &mut *seen {
            // A clock that was set back is as good a reason to look as any.
            let age = now.duration_since(seen.looked).unwrap_or(LOOK_INTERVAL);
            if age < LOOK_INTERVAL {
                return Arc::clone(&seen.knowledge);
            }
            seen.looked = now;
            if seen.stamps == self.stamps() {
                return Arc::clone(&seen.knowledge);
            }
        }
        // Before the reading: what changes meanwhile is noticed the next time.
        let stamps = self.stamps();
        let facts = self.read_facts(seen.as_ref(), &stamps);
        let classes = self.read_classes(seen.as_ref(), &stamps);
        // Later files go before earlier ones.
        let merged = facts.iter().flatten();
        let merged = merged.map(|(name, value)| (name.clone(), value.clone()));
        let knowledge = Arc::new(Knowledge {
            facts: Value::Object(merged.collect()),
            classes,
        });
        *seen = Some(Seen {
            looked: now,
            stamps,
            facts,
            knowledge: Arc::clone(&knowledge),
        });
        knowledge
    }

    fn stamps(&self) -> Vec<Stamp> {
        let paths = self.facts.iter().chain([&self.classes]);
        let stamp = |path: &PathBuf| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        paths.map(stamp).collect()
    }

    fn read_facts(&self, seen: Option<&Seen>, stamps: &[Stamp]) -> Vec<Map<String, Value>> {
        let read = |(index, path): (usize, &PathBuf)| {
            let before = seen.map(|seen| &seen.facts[index]);
            if let Some(seen) = seen
                && seen.stamps[index] == stamps[index]
            {
                return seen.facts[index].clone();
            }
            read_facts(path).unwrap_or_else(|error| {
                let instead = match before {
                    Some(facts) if !facts.is_empty() => "those that were in it last count",
                    _ => "there are none",
                };
                tracing::warn!(
                    "cannot read facts from {}, so {instead}: {error}",
                    path.display()
                );
                before.cloned().unwrap_or_default()
            })
        };
        self.facts.iter().enumerate().map(read).collect()
    }

    fn read_classes(&self, seen: Option<&Seen>, stamps: &[Stamp]) -> Vec<String> {
        if let Some(seen) = seen
            && seen.stamps.last() == stamps.last()
        {
            return seen.knowledge.classes.clone();
        }
        let before = seen.map(|seen| &seen.knowledge.classes);
        let before = before.filter(|classes| !classes.is_empty());
        match read(&self.classes) {
            Ok(classes) => {
                let classes = classes.lines().map(str::trim);
                let classes = classes.filter(|class| !class.is_empty());
                classes.map(str::to_owned).collect()
            }
            Err(error) => {
                let path = self.classes.display();
                match before {
                    Some(_) => tracing::warn!(
                        "cannot read classes from {path}, so those that were in it last count: {error}"
                    ),
                    // Without Puppet there is none.
                    None => tracing::debug!("cannot read classes from {path}: {error}"),
                }
                before.cloned().unwrap_or_default()
            }
        }
    }
}

fn read(path: &Path) -> Result<String, FileError> {
    let bytes =
        crate::files::read_up_to(path, FILE_BYTES_MAX).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => FileError::TooLarge,
            _ => FileError::Io(error),
        })?;
    String::from_utf8(bytes).map_err(|_| FileError::NotText)
}

fn read_facts(path: &Path) -> Result<Map<String, Value>, FileError> {
    let text = read(path)?;
    let is_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let facts = if is_json {
        serde_json::from_str(&text)?
    } else {
        facts::of_yaml(&text)?
    };
    match facts {
        Value::Object(facts) => Ok(facts),
        _ => Err(FileError::NoFacts),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_289_687)
    }

    #[test]
    fn files_are_merged_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(
            path("facts.yaml"),
            "---\nos:\n  family: Debian\n  release: {major: '12'}\nprocessors: 2\nis_virtual: true\nrole: web\n",
        )
        .unwrap();
        fs::write(path("more.json"), r#"{"role":"mail","list":[1,"a"]}"#).unwrap();
        fs::write(path("classes.txt"), "apache\n\n  profile::base \n").unwrap();
        let facts = vec![path("facts.yaml"), path("more.json"), path("none.yaml")];
        let files = Files::new(facts, path("classes.txt"));
        let knowledge = files.look(now());
        assert_eq!(
            knowledge.facts,
            json!({
                "os": {"family": "Debian", "release": {"major": "12"}},
                "processors": 2, "is_virtual": true, "role": "mail", "list": [1, "a"],
            })
        );
        assert_eq!(knowledge.classes, ["apache", "profile::base"]);

        fs::write(path("none.yaml"), "late: 1").unwrap();
        let soon = now() + Duration::from_millis(500);
        assert!(Arc::ptr_eq(&files.look(soon), &knowledge));
        let later = files.look(now() + LOOK_INTERVAL);
        assert_eq!(later.facts["late"], 1);
        let unchanged = files.look(now() + 2 * LOOK_INTERVAL);
        assert!(Arc::ptr_eq(&unchanged, &later));
    }

    #[test]
    fn what_cannot_be_read_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list.yaml");
        fs::write(&list, "- a\n- b\n").unwrap();
        let broken = folder.path().join("broken.json");
        fs::write(&broken, "{").unwrap();
        let files = Files::new(vec![list, broken], folder.path().join("none"));
        assert_eq!(*files.look(now()), Knowledge::default());
    }

    /// Whoever asks is not kept waiting by it, and neither is anybody else.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_tells_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
        let files = Files::new(vec![pipe.clone()], pipe);
        assert_eq!(*files.look(now()), Knowledge::default());
    }

    #[test]
    fn what_cannot_be_read_any_more_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (facts, more, classes) = (path("facts.yaml"), path("more.json"), path("classes.txt"));
        fs::write(&facts, "role: web\n").unwrap();
        fs::write(&more, r#"{"number":1}"#).unwrap();
        fs::write(&classes, "apache\n").unwrap();
        let files = Files::new(vec![facts.clone(), more.clone()], classes.clone());
        let known = files.look(now());
        assert_eq!(known.facts, json!({"role": "web", "number": 1}));

        fs::write(&facts, "role: [unfinished").unwrap();
        fs::remove_file(&classes).unwrap();
        assert_eq!(files.look(now() + LOOK_INTERVAL), known);
        // The others go on, and it does once it is whole again.
        fs::write(&more, r#"{"number":22}"#).unwrap();
        let others = files.look(now() + 2 * LOOK_INTERVAL);
        assert_eq!(others.facts, json!({"role": "web", "number": 22}));
        fs::write(&facts, "role: mail server\n").unwrap();
        let whole = files.look(now() + 3 * LOOK_INTERVAL);
        assert_eq!(whole.facts["role"], "mail server");
        assert_eq!(whole.classes, ["apache"]);
    }
}
