//! Folders of files that a person writes.

use std::path::{Path, PathBuf};

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
