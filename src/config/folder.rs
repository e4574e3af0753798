//! Folders of files that a person writes.

use std::path::{Path, PathBuf};

use super::error::{ConfigError, Problem};
use crate::files::{self, FileError};

/// The files of a folder with one of these extensions, by name; nothing when the folder does not exist.
pub(super) fn read_folder(folder: &Path, extensions: &[&str]) -> Result<Vec<(PathBuf, Vec<u8>)>, FileError> {
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::on("list", folder)(error)),
    };
    let mut paths = Vec::new();
    for entry in listed {
        let path = entry.map_err(FileError::on("list", folder))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let wanted = path.extension().is_some_and(|found| extensions.iter().any(|extension| found == *extension));
        if wanted && !hidden && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: PathBuf| files::read_if_exists(&path).map(|bytes| bytes.map(|bytes| (path, bytes)));
    paths.into_iter().filter_map(|path| read(path).transpose()).collect()
}

/// Like [`read_folder`], as text.
///
/// # Errors
/// Also when one of the files is not UTF-8.
pub(crate) fn read_texts(folder: &Path, extensions: &[&str]) -> Result<Vec<(PathBuf, String)>, ConfigError> {
    let text = |(path, bytes): (PathBuf, Vec<u8>)| match String::from_utf8(bytes) {
        Ok(text) => Ok((path, text)),
        Err(_) => Err(Problem::in_file(path.display().to_string(), "not UTF-8 text").into()),
    };
    read_folder(folder, extensions)?.into_iter().map(text).collect()
}
