//! The notation of the corpus.
//!
//! ```text
//! == a name                  begins a case
//! accepted                   both accept, and read the same values
//! refused                    both refuse
//! differs: nats-server accepts, natterjack refuses: reason
//! differs: nats-server refuses, natterjack accepts: reason
//! differs: nats-server gives no verdict, natterjack refuses: reason
//! differs: both accept, other values: reason
//! alone                      the text is the main file; otherwise it is included into a block
//! $NAME=text                 a variable of the environment
//! | text                     a line of the text, exactly so
//! : text                     a piece of the text with `\t`, `\r`, `\n`, `\0`, `\\`, `\xHH`, and no line end of its own
//! other.conf| text           a line of another file
//! ```

use std::collections::BTreeMap;

/// The file both read first.
pub(super) const MAIN: &str = "main.conf";
const TEXT: &str = "case.conf";

/// Takes all of the case's text as the value of a key that a variable uses, and the value of that variable away again.
const FRAME: &str = "v {\n include ./case.conf\n}\ndebug = $v\ndebug = false\n";

pub(super) struct Case {
    pub(super) name: String,
    pub(super) reference: Judgement,
    pub(super) ours: Judgement,
    /// Whether both read the same values, if both accept.
    pub(super) is_equal: bool,
    pub(super) environment: BTreeMap<String, String>,
    /// By their paths.
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Accepts,
    Refuses,
    GivesNone,
}

impl Case {
    /// The cases of a file, named after its theme.
    pub(super) fn parse_all(theme: &str, text: &str) -> Result<Vec<Self>, String> {
        let mut cases = Vec::new();
        let text = format!("\n{text}");
        let mut blocks = text.split("\n== ");
        let head = blocks.next().unwrap_or_default();
        if let Some(line) = head
            .lines()
            .find(|line| !line.is_empty() && !line.starts_with('#'))
        {
            return Err(format!("`{line}` belongs to no case"));
        }
        for block in blocks {
            let (name, lines) = block.split_once('\n').unwrap_or((block, ""));
            let case = Self::parse(theme, name, lines);
            cases.push(case.map_err(|error| format!("{name}: {error}"))?);
        }
        match cases.is_empty() {
            true => Err("no case".into()),
            false => Ok(cases),
        }
    }

    /// A text that both must judge equally.
    pub(super) fn of_text(text: String) -> Self {
        Self {
            name: String::new(),
            reference: Judgement::Accepts,
            ours: Judgement::Accepts,
            is_equal: true,
            environment: BTreeMap::new(),
            files: BTreeMap::from([
                (MAIN.to_owned(), FRAME.into()),
                (TEXT.to_owned(), text.into_bytes()),
            ]),
        }
    }

    fn parse(theme: &str, name: &str, lines: &str) -> Result<Self, String> {
        let mut case = Self::of_text(String::new());
        // Test names have no blanks, so that whoever reads the summary can split it.
        case.name = format!("{theme}::{}", name.replace(' ', "_"));
        let mut has_verdict = false;
        for line in lines.lines().filter(|line| !line.is_empty()) {
            if let Some((reference, ours, is_equal)) = verdict(line)? {
                if has_verdict {
                    return Err("two verdicts".into());
                }
                has_verdict = true;
                (case.reference, case.ours, case.is_equal) = (reference, ours, is_equal);
            } else if line == "alone" {
                let text = case.files.remove(TEXT).unwrap_or_default();
                case.files.insert(MAIN.to_owned(), text);
            } else if let Some(variable) = line.strip_prefix('$') {
                let (name, text) = variable.split_once('=').ok_or("a variable without `=`")?;
                let text = String::from_utf8(unescaped(text)?).map_err(|_| "not UTF-8")?;
                case.environment.insert(name.to_owned(), text);
            } else {
                case.add_line(line)?;
            }
        }
        match has_verdict {
            true => Ok(case),
            false => Err("no verdict".into()),
        }
    }

    fn add_line(&mut self, line: &str) -> Result<(), String> {
        let sign = line
            .find(['|', ':'])
            .ok_or_else(|| format!("`{line}` is nothing"))?;
        let (path, text) = (&line[..sign], &line[sign + 1..]);
        let text = text.strip_prefix(' ').unwrap_or(text);
        let mut bytes = match line.as_bytes()[sign] {
            b'|' => format!("{text}\n").into_bytes(),
            _ => unescaped(text)?,
        };
        let path = match path {
            "" if self.files.contains_key(TEXT) => TEXT,
            "" => MAIN,
            path => path,
        };
        let file = self.files.entry(path.to_owned()).or_default();
        file.append(&mut bytes);
        Ok(())
    }
}

/// Who judges how, and whether with the same values.
type Expected = (Judgement, Judgement, bool);

fn verdict(line: &str) -> Result<Option<Expected>, String> {
    use Judgement::{Accepts, GivesNone, Refuses};
    match line {
        "accepted" => return Ok(Some((Accepts, Accepts, true))),
        "refused" => return Ok(Some((Refuses, Refuses, true))),
        _ => {}
    }
    let Some(difference) = line.strip_prefix("differs: ") else {
        return Ok(None);
    };
    let (verdict, reason) = difference
        .split_once(": ")
        .ok_or("a difference without a reason")?;
    if reason.is_empty() {
        return Err("a difference without a reason".into());
    }
    match verdict {
        "nats-server accepts, natterjack refuses" => Ok(Some((Accepts, Refuses, true))),
        "nats-server refuses, natterjack accepts" => Ok(Some((Refuses, Accepts, true))),
        "nats-server gives no verdict, natterjack refuses" => Ok(Some((GivesNone, Refuses, true))),
        "both accept, other values" => Ok(Some((Accepts, Accepts, false))),
        _ => Err(format!("`{verdict}` is no verdict")),
    }
}

fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let escape = after.chars().next().ok_or("a `\\` at the end")?;
        rest = &after[escape.len_utf8()..];
        bytes.push(match escape {
            't' => b'\t',
            'r' => b'\r',
            'n' => b'\n',
            '0' => 0,
            '\\' => b'\\',
            'x' => {
                let digits = rest.get(..2).ok_or("`\\x` without two digits")?;
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?
            }
            other => return Err(format!("`\\{other}` is no escape")),
        });
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}
