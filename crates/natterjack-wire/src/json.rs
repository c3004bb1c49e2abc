//! Owns how an `INFO` or `CONNECT` is read leniently, as Go reads it, and what its types share when written.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Reads an object whose keys match in any case; `null` says nothing, neither as a value nor in place of the
/// object. The last of several equal keys wins.
pub(crate) fn lenient<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    let object: Option<Map<String, Value>> = serde_json::from_slice(json)?;
    let told = object
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null());
    let told = told
        .map(|(key, value)| (key.to_ascii_lowercase(), value))
        .collect();
    serde_json::from_value(Value::Object(told))
}

/// Whether a value is the one that goes without saying.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
