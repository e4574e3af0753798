//! Which clone the state is of. A copy of a clone's folder has its state too, and is not that clone: the workers in it are
//! the original's, and so is what they make.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::OpenFlags;

use super::{StatePaths, Store, StoreError};
use crate::files::FileError;
use crate::model::settings::Durability;

/// The fact that says where the state is at home.
const HOME: &str = "home";
/// The fact that tells this clone from every other one.
const CLONE: &str = "clone_id";

impl Store {
    /// What tells this clone from every other one.
    pub(crate) fn clone_id(&self) -> Result<String, StoreError> {
        Ok(self.meta(CLONE)?.expect("a state is settled before it is used"))
    }

    /// Notes where the state is at home when it is new or was moved.
    ///
    /// # Errors
    /// [`StoreError::Copied`] when it is a copy and its original is still where it was.
    pub(super) fn settle(&self, paths: &StatePaths) -> Result<(), StoreError> {
        if self.is_settled(paths)? {
            return Ok(());
        }
        let here = home_of(paths)?;
        self.write(|txn| {
            if txn.meta(CLONE)?.is_none() {
                txn.set_meta(CLONE, &uuid::Uuid::new_v4().to_string())?;
            }
            txn.set_meta(HOME, &here)
        })
    }

    /// Whether nothing is to be noted.
    ///
    /// # Errors
    /// As of [`Store::settle`].
    pub(super) fn is_settled(&self, paths: &StatePaths) -> Result<bool, StoreError> {
        let Some(home) = self.meta(HOME)? else { return Ok(false) };
        if home == home_of(paths)? {
            return Ok(true);
        }
        let original = StatePaths::at(PathBuf::from(home));
        if !original.db().exists() {
            return Ok(false);
        }
        // One folder may be seen under two names.
        if identity(original.root()).is_some_and(|its| identity(paths.root()) == Some(its)) {
            return Ok(true);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let its = Self::connect(&original, flags, Durability::Normal).and_then(|store| store.meta(CLONE));
        // One that cannot be looked at may be the original.
        if its.is_ok_and(|its| Some(its) != self.meta(CLONE).ok()) {
            return Ok(false);
        }
        Err(StoreError::Copied { path: paths.root().to_owned(), original: original.root().to_owned() })
    }
}

/// Where the state of these paths is, with links resolved. As text, whatever its letters are: where that is no path at all,
/// the state counts as moved there.
fn home_of(paths: &StatePaths) -> Result<String, StoreError> {
    let folder = paths.root().canonicalize().map_err(FileError::on("find", paths.root()))?;
    Ok(folder.to_string_lossy().into_owned())
}

/// What tells a folder from every other one; `None` where it cannot be looked at.
fn identity(folder: &Path) -> Option<(u64, u64)> {
    folder.metadata().ok().map(|about| (about.dev(), about.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::files::{Access, write_atomically};

    /// A folder in which states are.
    struct Disk(tempfile::TempDir);

    impl Disk {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn paths(&self, name: &str) -> StatePaths {
            StatePaths::new(&self.0.path().canonicalize().unwrap().join(name))
        }

        fn open(&self, name: &str) -> Result<Store, StoreError> {
            Store::open(&self.paths(name), Durability::Normal)
        }

        /// The name of a clone.
        fn name_of(&self, name: &str) -> String {
            self.open(name).unwrap().clone_id().unwrap()
        }

        /// Puts each file of a state into another folder.
        fn copy(&self, from: &str, to: &str, put: impl Fn(&Path, &Path)) {
            let (from, to) = (self.paths(from), self.paths(to));
            fs::create_dir_all(to.root()).unwrap();
            for entry in fs::read_dir(from.root()).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    put(&entry.path(), &to.root().join(entry.file_name()));
                }
            }
        }

        /// Checks that one is refused as a copy of another.
        #[track_caller]
        fn assert_copied(&self, copy: &str, original: &str) {
            let read = Store::open_read_only(&self.paths(copy)).map(drop);
            for opened in [self.open(copy).map(drop), read] {
                match opened.unwrap_err() {
                    StoreError::Copied { path, original: its } => {
                        assert_eq!(
                            (path.as_path(), its.as_path()),
                            (self.paths(copy).root(), self.paths(original).root())
                        );
                    }
                    error => panic!("{error:?}"),
                }
            }
        }
    }

    #[test]
    fn a_clone_keeps_its_name_and_no_other_one_has_it() {
        let disk = Disk::new();
        let name = disk.name_of("a");
        assert_eq!(disk.name_of("a"), name);
        assert_ne!(disk.name_of("b"), name);
    }

    #[test]
    fn a_copy_is_refused_while_its_original_is_there() {
        let disk = Disk::new();
        let name = disk.name_of("a");
        disk.copy("a", "b", |from, to| assert!(fs::copy(from, to).is_ok()));
        let before = fs::read(disk.paths("b").db()).unwrap();
        disk.assert_copied("b", "a");
        assert_eq!(fs::read(disk.paths("b").db()).unwrap(), before, "it is left as it is");
        assert_eq!(disk.name_of("a"), name, "the original is not affected");
        // Two names of one database in two folders are what SQLite cannot do with.
        disk.copy("a", "c", |from, to| fs::hard_link(from, to).unwrap());
        disk.assert_copied("c", "a");
        // An original that is damaged is one all the same.
        let whole = fs::read(disk.paths("a").db()).unwrap();
        write_atomically(&disk.paths("a").db(), b"no database", Access::Private).unwrap();
        disk.assert_copied("b", "a");
        write_atomically(&disk.paths("a").db(), &whole, Access::Private).unwrap();
        // Whose original is gone was moved, as far as anybody can tell.
        fs::remove_dir_all(disk.paths("a").root()).unwrap();
        assert_eq!(disk.name_of("b"), name);
        // What is in that place later is none of its business.
        assert_ne!(disk.name_of("a"), name);
        assert_eq!(disk.name_of("b"), name);
    }

    #[test]
    fn what_is_at_the_place_of_a_state_that_was_moved_is_not_its_original() {
        let disk = Disk::new();
        let name = disk.name_of("a");
        fs::rename(disk.0.path().join("a"), disk.0.path().join("b")).unwrap();
        assert_ne!(disk.name_of("a"), name);
        assert_eq!(disk.name_of("b"), name);
    }

    #[test]
    fn a_clone_that_is_moved_or_seen_under_another_name_stays_what_it_is() {
        let disk = Disk::new();
        let name = disk.name_of("a");
        let folder = disk.0.path();
        fs::rename(folder.join("a"), folder.join("b")).unwrap();
        assert_eq!(Store::open_read_only(&disk.paths("b")).unwrap().unwrap().clone_id().unwrap(), name);
        assert_eq!(disk.name_of("b"), name);
        std::os::unix::fs::symlink(folder.join("b"), folder.join("link")).unwrap();
        assert_eq!(disk.name_of("link"), name);
        // As of a folder that is mounted twice.
        let store = disk.open("b").unwrap();
        store.set_meta(HOME, disk.paths("link").root().to_str().unwrap()).unwrap();
        assert_eq!(disk.name_of("b"), name);
    }
}
