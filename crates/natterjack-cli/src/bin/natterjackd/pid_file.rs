//! The file that tells others our process id.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Removes the file when dropped, unless another process has put its own id there since.
pub(crate) struct PidFile {
    path: PathBuf,
    text: String,
}

impl PidFile {
    /// Writes our process id, and nothing else, over whatever a crashed predecessor left.
    pub(crate) fn write(path: &Path) -> io::Result<Self> {
        let text = std::process::id().to_string();
        fs::write(path, &text)?;
        Ok(Self {
            path: path.into(),
            text,
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            // Left behind if the folder has become read-only; nothing depends on it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
