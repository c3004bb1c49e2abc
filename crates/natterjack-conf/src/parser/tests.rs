//! The exact words about the common slips (`diagnostics.txt`), what the tree tells about where values came from, files, and
//! bounds. What the language means is tested against nats-server, in `interop/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::limits::{
    DEPTH_MAX, ERRORS_MAX, FILE_BYTES_MAX, INCLUDE_DEPTH_MAX, INCLUDES_MAX, VARIABLE_VALUES_MAX,
};
use crate::{Data, EmptyEnvironment, Entry, Origin, Parsed, Severity, VariableSource, load, parse};

fn parsed(text: &str) -> Parsed {
    parse("nats.conf", text, &EmptyEnvironment)
}

fn shown(parsed: &Parsed) -> String {
    let diagnostics = parsed.diagnostics.iter();
    let shown: Vec<_> = diagnostics
        .map(|diagnostic| parsed.sources.render(diagnostic))
        .collect();
    shown.join("\n")
}

#[track_caller]
fn check(parsed: &Parsed, expected: &str) {
    assert_eq!(shown(parsed), expected);
}

/// Files in a folder of their own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn of(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn load(&self, environment: &[(&str, &str)]) -> Parsed {
        let environment = environment.iter();
        let environment: BTreeMap<String, String> = environment
            .map(|&(name, text)| (name.to_owned(), text.to_owned()))
            .collect();
        load(&self.0.path().join("nats.conf"), &environment)
    }

    /// What is said, without the folder's name.
    fn shown(&self, parsed: &Parsed) -> String {
        shown(parsed).replace(&format!("{}/", self.0.path().display()), "")
    }
}

#[test]
fn slips_are_told_in_these_words() {
    let cases = include_str!("diagnostics.txt").split("\n== ").skip(1);
    let mut count = 0;
    for case in cases {
        let (name, case) = case.split_once('\n').unwrap();
        let is_input = |line: &&str| line.starts_with("| ");
        let input: Vec<_> = case
            .lines()
            .take_while(is_input)
            .map(|line| &line[2..])
            .collect();
        let expected: Vec<_> = case.lines().skip_while(is_input).collect();
        let parsed = parsed(&format!("{}\n", input.join("\n")));
        assert_eq!(
            shown(&parsed).trim_end(),
            expected.join("\n").trim_end(),
            "{name}"
        );
        count += 1;
    }
    assert!(count > 40, "{count} cases");
}

#[test]
fn a_diagnostic_fits_on_one_line() {
    let parsed = parsed("a = 1\nb: x y\n");
    assert_eq!(
        parsed.sources.render_short(&parsed.diagnostics[0]),
        "nats.conf:2:6: expected the end of the line after the value of `b`, found `y`"
    );
}

#[test]
fn what_is_shown_does_no_harm() {
    check(
        &parsed(
            "\ta = \"\x1b[2J\u{202e}世\u{0}\" x\n"
                .replace('\0', "")
                .as_str(),
        ),
        "\
error: expected the end of the line after the value of `a`, found `x`
 --> nats.conf:1:15
  |
1 |     a = \"\\u{1b}[2J\\u{202e}世\" x
  |                               ^
",
    );
}

#[test]
fn a_long_line_is_cut_around_the_caret() {
    let text = format!(
        "{{{}\"bad\": .5, {}}}\n",
        "\"k\": 1, ".repeat(5000),
        "\"l\": 1, ".repeat(5000)
    );
    let parsed = parsed(&text);
    let error = parsed
        .diagnostics
        .iter()
        .find(|diagnostic| diagnostic.severity == Severity::Error)
        .unwrap();
    assert_eq!(
        parsed.sources.render(error),
        "\
error: a value cannot begin with a dot
 --> nats.conf:1:40009
  |
1 | …1, \"k\": 1, \"k\": 1, \"k\": 1, \"k\": 1, \"k\": 1, \"bad\": .5, \"l\": 1, \"l\": 1, \"l\": 1, \"l\": 1, \"l\": 1, \"l\": 1, \"l\": 1, \"l\": 1, \"…
  |                                                    ^^
  = help: write `0.5`, or put a text between quotes
"
    );
}

#[test]
fn bytes_that_are_no_text_are_named() {
    let shown = |bytes: &[u8]| {
        let parsed = super::parse("nats.conf", bytes, &EmptyEnvironment);
        parsed.sources.render_short(&parsed.diagnostics[0])
    };
    assert_eq!(
        shown(b"a = 1\nb = M\xfcller\n"),
        "nats.conf:2:6: byte 11 (0xfc) is not UTF-8"
    );
    assert_eq!(
        shown(b"a = 1\n\0"),
        "nats.conf:2:1: this is not a text file: byte 6 is zero"
    );
    assert_eq!(
        shown(b"\xff\xfea\0"),
        "nats.conf:1:1: this is not a text file: it is encoded as UTF-16"
    );
    assert_eq!(
        shown(&[0x80; 100]),
        "nats.conf:1:1: this is not a text file: byte 0 (0x80) is not UTF-8"
    );
}

#[test]
fn a_byte_that_is_not_utf8_does_no_harm_in_a_comment() {
    let parsed = super::parse("nats.conf", b"a = 1 # M\xfcller\n# \xff", &EmptyEnvironment);
    check(&parsed, "");
}

#[test]
fn the_digest_is_what_nats_server_prints() {
    assert_eq!(
        parsed("server_name: x\n").digest(),
        "sha256:1f9cba7347f3988e04c5ac81b44ce5178851ccd14628cae21ce49efb05f78cb9"
    );
}

#[test]
fn entries_tell_where_they_stand_and_what_used_them() {
    let text = "\"my port\" = 4222\nunused: [1, 'two']\nport = $my port\n";
    let parsed = parsed(&text.replace("my port", "my_port"));
    let keys: Vec<_> = parsed
        .root
        .iter()
        .map(|entry| entry.key.text.as_str())
        .collect();
    assert_eq!(keys, ["my_port", "unused", "port"]);

    let entry = |name: &str| parsed.root.get(name).unwrap();
    let text_of = |entry: &Entry| {
        let sources = &parsed.sources;
        (sources.text(entry.key.span), sources.text(entry.value.span))
    };
    assert_eq!(text_of(entry("my_port")), ("\"my_port\"", "4222"));
    assert_eq!(text_of(entry("unused")), ("unused", "[1, 'two']"));
    assert_eq!(text_of(entry("port")), ("port", "$my_port"));
    assert!(entry("my_port").is_referenced);
    assert!(!entry("unused").is_referenced);

    let variable = entry("port").value.variable.as_ref().unwrap();
    assert_eq!(variable.name, "my_port");
    let definition = VariableSource::Definition(entry("my_port").value.span);
    assert_eq!(variable.from, definition);
    assert_eq!(entry("port").value.data, Data::Integer(4222));
    assert!(parsed.root.get("Port").is_none());
}

#[test]
fn an_earlier_entry_of_the_same_name_is_kept_aside() {
    let parsed = parsed("a = 1\nb = $a\na = 2\n");
    let counting: Vec<_> = parsed.root.iter().map(|entry| &entry.value.data).collect();
    assert_eq!(counting, [&Data::Integer(1), &Data::Integer(2)]);
    let shadowed: Vec<_> = parsed.root.shadowed().collect();
    assert_eq!(shadowed.len(), 1);
    assert!(shadowed[0].is_referenced);
    assert!(!parsed.root.get("a").unwrap().is_referenced);
}

#[test]
fn values_of_the_environment_and_of_included_files_tell_so() {
    let folder = Folder::of(&[
        ("nats.conf", "include ./sub/auth.conf\nport = $PORT\n"),
        ("sub/auth.conf", "authorization { token: x }\n"),
    ]);
    let parsed = folder.load(&[("PORT", "4222")]);
    check(&parsed, "");
    let port = parsed.root.get("port").unwrap();
    let variable = port.value.variable.as_ref().unwrap();
    assert_eq!(variable.from, VariableSource::Environment);
    assert_eq!(parsed.sources.text(port.value.span), "$PORT");

    let included = parsed.root.get("authorization").unwrap().key.span.source;
    assert!(parsed.sources.path(included).ends_with("sub/auth.conf"));
    let Origin::Included(place) = *parsed.sources.origin(included) else {
        panic!("it is included");
    };
    assert_eq!(parsed.sources.text(place), "include ./sub/auth.conf");
    assert_eq!(parsed.sources.files().count(), 2);
}

#[test]
fn partial_results_survive_mistakes() {
    let parsed = parsed("port = 4222\nhost = a b\ncluster {\n  name: c1\n  port: .1\n");
    assert!(parsed.has_errors());
    assert_eq!(
        parsed.root.get("port").unwrap().value.data,
        Data::Integer(4222)
    );
    assert!(parsed.root.get("host").is_none());
    let cluster = parsed.root.get("cluster").unwrap().value.as_map().unwrap();
    assert_eq!(cluster.get("name").unwrap().value.as_text(), Some("c1"));
}

#[test]
fn a_file_that_cannot_be_read_is_a_diagnostic_without_a_place() {
    let parsed = load(Path::new("/nowhere/nats.conf"), &EmptyEnvironment);
    check(
        &parsed,
        "error: cannot read `/nowhere/nats.conf`: no such file\n",
    );
    let folder = Folder::of(&[("nats.conf/x", "")]);
    let parsed = folder.load(&[]);
    assert_eq!(
        folder.shown(&parsed),
        "error: cannot read `nats.conf`: it is a folder\n"
    );
}

#[test]
fn mistakes_in_included_files_tell_the_way_there() {
    let folder = Folder::of(&[
        ("nats.conf", "port: 4222\ninclude sub/a.conf\n"),
        ("sub/a.conf", "include b.conf\n"),
        ("sub/b.conf", "x = .5\n"),
    ]);
    assert_eq!(
        folder.shown(&folder.load(&[])),
        "\
error: a value cannot begin with a dot
 --> sub/b.conf:1:5
  |
1 | x = .5
  |     ^^
  = help: write `0.5`, or put a text between quotes
  = note: included at sub/a.conf:1:1
  = note: included at nats.conf:2:1
"
    );
}

#[test]
fn an_included_file_does_not_see_the_variables_of_the_one_that_includes_it_and_is_told_so() {
    let folder = Folder::of(&[
        ("nats.conf", "PORT = 4333\ninclude sub/a.conf\n"),
        ("sub/a.conf", "port: $PORT\n"),
    ]);
    assert_eq!(
        folder.shown(&folder.load(&[])),
        "\
error: the variable `PORT` is not defined
 --> sub/a.conf:1:7
  |
1 | port: $PORT
  |       ^^^^^ not found
  = help: define `PORT` above in this file, which does not see the variables of the file that includes it, or set the \
environment variable of that name
  = note: included at nats.conf:2:1
"
    );
}

#[test]
fn an_include_that_fails_tells_where_it_looked() {
    let folder = Folder::of(&[
        (
            "nats.conf",
            "include sub/a.conf\ninclude sub\na = $defined_there\n",
        ),
        ("sub/a.conf", "include ../b.conf"),
    ]);
    assert_eq!(
        folder.shown(&folder.load(&[])),
        "\
error: cannot include `../b.conf`: no such file
 --> sub/a.conf:1:9
  |
1 | include ../b.conf
  |         ^^^^^^^^^ looked for `b.conf`
  = note: included at nats.conf:1:1

error: cannot include `sub`: it is a folder
 --> nats.conf:2:9
  |
2 | include sub
  |         ^^^ looked for `sub`
"
    );
}

#[test]
fn files_that_include_each_other_are_named() {
    let folder = Folder::of(&[
        ("nats.conf", "include a.conf"),
        ("a.conf", "include b.conf"),
        ("b.conf", "include ./a.conf"),
    ]);
    assert_eq!(
        folder.shown(&folder.load(&[])),
        "\
error: cannot include `./a.conf`: it includes itself
 --> b.conf:1:9
  |
1 | include ./a.conf
  |         ^^^^^^^^
  = help: `nats.conf` includes `a.conf` includes `b.conf` includes `a.conf`
  = note: included at a.conf:1:1
  = note: included at nats.conf:1:1
"
    );
}

#[test]
fn the_text_of_the_environment_is_not_shown() {
    let folder = Folder::of(&[("nats.conf", "password: $PASSWORD\nx: $LOOP\n")]);
    let environment = [
        ("PASSWORD", "it's secret"),
        ("LOOP", "[$AGAIN]"),
        ("AGAIN", "$LOOP"),
    ];
    let shown = folder.shown(&folder.load(&environment));
    assert_eq!(
        shown,
        "\
error: the environment variable `PASSWORD` is not a value
 --> nats.conf:1:11
  |
1 | password: $PASSWORD
  |           ^^^^^^^^^ used here
  = help: its text is read like a value in a file, and character 4 of it makes no sense; a text with blanks or marks needs quotes inside: PASSWORD='\"…\"'

error: the environment variables refer to each other: $LOOP -> $AGAIN -> $LOOP
 --> nats.conf:2:4
  |
2 | x: $LOOP
  |    ^^^^^
"
    );
}

// ---- bounds ----

/// The message of the last error.
fn last_error(parsed: &Parsed) -> &str {
    let errors = parsed.diagnostics.iter().rev();
    let mut errors = errors.filter(|diagnostic| diagnostic.severity == Severity::Error);
    errors.next().map_or("no error", |error| &error.message)
}

#[test]
fn nesting_has_a_bound() {
    let nested = |depth: usize| format!("{}{}", "a {".repeat(depth), "}".repeat(depth));
    assert!(!parsed(&nested(DEPTH_MAX)).has_errors());
    for depth in [DEPTH_MAX + 1, 1000, 100_000] {
        let parsed = parsed(&nested(depth));
        assert_eq!(
            last_error(&parsed),
            "blocks and lists are nested more than 128 deep"
        );
        assert_eq!(parsed.diagnostics.len(), 1);
    }
    assert!(parsed(&format!("a = {}", "[".repeat(100_000))).has_errors());
    assert!(parsed(&"{".repeat(100_000)).has_errors());
}

#[test]
fn variables_do_not_nest_deeper_than_brackets() {
    let mut text = String::from("a0 = []\n");
    for level in 0..DEPTH_MAX {
        text.push_str(&format!("a{} = [$a{level}]\n", level + 1));
    }
    assert_eq!(
        last_error(&parsed(&text)),
        "with this variable, blocks and lists are nested more than 128 deep"
    );
}

#[test]
fn copies_of_variables_have_a_bound() {
    let mut text = String::from("a0 = x\n");
    for level in 0..60 {
        text.push_str(&format!("a{} = [$a{level}, $a{level}]\n", level + 1));
    }
    let expected = format!("variables stand for more than {VARIABLE_VALUES_MAX} values in all");
    assert_eq!(last_error(&parsed(&text)), expected);

    let text = format!(
        "a = \"{}\"\n{}",
        "x".repeat(1 << 20),
        "b = $a\n".repeat(100)
    );
    assert_eq!(
        last_error(&parsed(&text)),
        "variables stand for more than 64 MiB of text in all"
    );
}

#[test]
fn variables_of_the_environment_do_not_recurse_without_end() {
    let environment: BTreeMap<_, _> = (0..1000)
        .map(|level| (format!("E{level}"), format!("$E{}", level + 1)))
        .collect();
    let parsed = parse("nats.conf", "a = $E0\n", &environment);
    assert!(last_error(&parsed).starts_with("the environment variables refer to each other"));
}

#[test]
fn nobody_reads_more_than_a_hundred_errors() {
    let parsed = parsed(&"a = .5\n".repeat(1000));
    assert_eq!(parsed.diagnostics.len(), ERRORS_MAX + 1);
    assert_eq!(
        last_error(&parsed),
        "there are more than 100 errors; the rest is not read"
    );
}

#[test]
fn includes_have_bounds() {
    let mut files: Vec<_> = (0..=INCLUDE_DEPTH_MAX)
        .map(|level| {
            (
                format!("{level}.conf"),
                format!("include \"{}.conf\"\n", level + 1),
            )
        })
        .collect();
    files.push(("nats.conf".to_owned(), "include \"0.conf\"\n".to_owned()));
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let parsed = Folder::of(&files).load(&[]);
    assert_eq!(
        last_error(&parsed),
        "cannot include `32.conf`: files include each other more than 32 deep"
    );

    let many = "include a.conf\n".repeat(INCLUDES_MAX + 1);
    let parsed = Folder::of(&[("nats.conf", &many), ("a.conf", "a = 1\n")]).load(&[]);
    assert_eq!(last_error(&parsed), "more than 1000 files are included");
}

#[test]
fn a_file_of_a_hundred_mebibytes_is_refused() {
    let folder = Folder::of(&[("nats.conf", "include a.conf\n"), ("a.conf", "")]);
    let file = fs::File::create(folder.0.path().join("a.conf")).unwrap();
    file.set_len(100 << 20).unwrap();
    assert_eq!(
        last_error(&folder.load(&[])),
        "cannot include `a.conf`: it is longer than 16 MiB, which no configuration is"
    );
}

#[test]
fn all_files_together_have_a_bound() {
    let large = format!("a = 1\n#{}", "x".repeat(FILE_BYTES_MAX - 100));
    let files = [
        ("nats.conf", "include a.conf\n".repeat(5)),
        ("a.conf", large),
    ];
    let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
    assert_eq!(
        last_error(&Folder::of(&files).load(&[])),
        "this configuration is longer than 64 MiB"
    );
}

/// Each takes less than a second. Read in quadratic time, it would take minutes, and nobody waits for that.
#[test]
fn reading_is_linear() {
    let many = 100_000;
    for text in [
        format!("{{{}}}", "\"k\":1,".repeat(many)),
        format!("a = [{}]", "x,".repeat(many)),
        format!("a = [{}", "\n".repeat(many)),
        format!("a = \"{}\"", "\\x41".repeat(many)),
        format!("{}a = 1", " ".repeat(many)),
        format!("a {{{}", " ".repeat(many).repeat(4) + &"k 1,".repeat(many)),
        "a\n".repeat(many),
        "a = \"\n".repeat(many + 1),
        "a = {\n".repeat(100) + &"b = c d\n".repeat(many),
        "a = (\n)x\n".repeat(many),
        "k = $x\n".repeat(many),
        "x = 1\n".to_owned() + &"k = $x\n".repeat(many),
        "/".repeat(many),
        "a = 1 ".to_owned() + &"/ ".repeat(many),
        "}".repeat(many),
        "a = 1".to_owned() + &" }".repeat(many),
        "'".repeat(many),
        format!("a = {}", "1".repeat(many)),
        format!("a = 1.{}", "1".repeat(many)),
        format!("a = 1{}", "b".repeat(many)),
        (0..many).map(|number| format!("k{number} = 1\n")).collect(),
    ] {
        let parsed = parsed(&text);
        for diagnostic in &parsed.diagnostics {
            let shown = parsed.sources.render(diagnostic);
            assert!(shown.len() < 2000, "{shown}");
        }
    }
}
