//! The room that a folder takes.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes on the disk of a folder and everything below it: what is linked several times counts once, links are not followed,
/// other file systems are not entered, and what cannot be read or goes away meanwhile counts nothing.
pub(crate) fn disk_bytes(folder: &Path) -> u64 {
    let Ok(own) = folder.symlink_metadata() else { return 0 };
    let mut sum = own.blocks() * 512;
    let mut linked = HashSet::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            // Of the entry itself, as with `symlink_metadata`.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != own.dev() || !meta.is_dir() && meta.nlink() > 1 && !linked.insert(meta.ino()) {
                continue;
            }
            sum += meta.blocks() * 512;
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::write_new;

    #[test]
    fn hard_links_count_once_and_soft_ones_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
        write_new(&inside.join("deep/one"), &[1; 100_000]).unwrap();
        write_new(&outside.join("big"), &[1; 1_000_000]).unwrap();
        let before = disk_bytes(&inside);
        assert!((100_000..130_000).contains(&before), "{before}");
        fs::hard_link(inside.join("deep/one"), inside.join("two")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        assert!(disk_bytes(&inside) < before + 20_000);
        assert_eq!(disk_bytes(&folder.path().join("gone")), 0);
    }
}
