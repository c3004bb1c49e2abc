//! How much a configuration may ask for. A configuration is written by a person or a program the operator trusts, but it
//! may be the wrong file, and a mistake should end in a sentence rather than in all memory used up.

/// The longest file. The largest sensible ones hold some ten thousand account tokens of about a kilobyte.
pub const FILE_BYTES_MAX: usize = 16 << 20;

/// All files together.
pub const FILES_BYTES_MAX: usize = 64 << 20;

/// How many files may be included, counting each time a file is read.
pub const INCLUDES_MAX: usize = 1000;

/// How deep files may include each other.
pub const INCLUDE_DEPTH_MAX: usize = 32;

/// How deep blocks and lists may be nested, variables and included files counted in. Whoever walks the tree may recurse.
pub const DEPTH_MAX: usize = 128;

/// How many values may come from variables: each use is a copy, and twenty lines of lists that name the line above twice
/// are a million copies.
pub const VARIABLE_VALUES_MAX: usize = 1 << 18;

/// How many bytes of keys and texts may come from variables.
pub const VARIABLE_BYTES_MAX: usize = 64 << 20;

/// How deep variables of the environment may refer to each other.
pub(crate) const ENVIRONMENT_DEPTH_MAX: usize = 32;

/// After this many errors nobody reads on.
pub const ERRORS_MAX: usize = 100;

/// As many pieces of advice are given.
pub(crate) const NOTES_MAX: usize = 50;

/// A file with more bytes than this that are not UTF-8 is no text at all.
pub(crate) const INVALID_MAX: usize = 16;

/// How many names are compared with a mistyped one.
pub(crate) const CANDIDATES_MAX: usize = 1000;
