//! Which clone the state is of. A copy of a clone's folder has its state too, and is not that clone: the workers in it
//! work elsewhere, and what was spent is somebody else's.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::OpenFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{StatePaths, Store, StoreError, Txn};
use crate::files::{FileError, read_if_exists};
use crate::model::settings::Durability;

/// The fact that says where the state is at home.
const HOME: &str = "home";
/// The fact that tells this clone from every other one.
const CLONE: &str = "clone_id";
/// Names a machine (machine-id(5)); not to be shown to anybody, so only a digest of it is stored.
const MACHINE: &str = "/etc/machine-id";
/// Goes into that digest, so that it is no other program's.
const PURPOSE: &[u8] = b"swarm: where a state is at home";

/// Where a state is at home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Home {
    /// The state folder, with links resolved.
    folder: PathBuf,
    /// The machine; `None` where it has no name.
    machine: Option<String>,
}

impl Home {
    /// Where the state of these paths is now.
    fn of(paths: &StatePaths) -> Result<Self, StoreError> {
        let folder = paths.root().canonicalize().map_err(FileError::on("find", paths.root()))?;
        // As text, whatever its letters are: where that is no path at all, the state counts as moved there.
        let folder = folder.to_string_lossy().into_owned().into();
        let name = read_if_exists(Path::new(MACHINE))?.unwrap_or_default();
        let name = name.trim_ascii();
        let digest = || Sha256::new().chain_update(PURPOSE).chain_update(name).finalize();
        let hex = || digest()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { folder, machine: (!name.is_empty()).then(hex) })
    }

    /// Whether this is certainly another machine than that.
    fn is_far_from(&self, other: &Self) -> bool {
        self.machine.is_some() && other.machine.is_some() && self.machine != other.machine
    }
}

impl Store {
    /// What tells this clone from every other one.
    pub(crate) fn clone_id(&self) -> Result<String, StoreError> {
        Ok(self.meta(CLONE)?.expect("a state is settled before it is used"))
    }

    /// Notes where the state is at home when it is new, was moved or came from another machine, where it goes on as a clone
    /// of its own.
    ///
    /// # Errors
    /// [`StoreError::Copied`] when it is a copy and its original is still where it was.
    pub(super) fn settle(&self, paths: &StatePaths) -> Result<(), StoreError> {
        self.settle_at(&Home::of(paths)?, paths)
    }

    /// The same of a state that is there.
    fn settle_at(&self, here: &Home, paths: &StatePaths) -> Result<(), StoreError> {
        if self.is_settled(here, paths)? {
            return Ok(());
        }
        self.write(|txn| {
            let known = txn.home()?;
            if txn.meta(CLONE)?.is_none() || known.is_some_and(|known| here.is_far_from(&known)) {
                txn.begin_as_new_clone()?;
            }
            txn.set_meta(HOME, &super::event::document("place", HOME, here)?)
        })
    }

    /// Whether nothing is to be noted.
    ///
    /// # Errors
    /// As of [`Store::settle`].
    pub(super) fn is_at_home(&self, paths: &StatePaths) -> Result<bool, StoreError> {
        self.is_settled(&Home::of(paths)?, paths)
    }

    /// The same of a state that is there.
    fn is_settled(&self, here: &Home, paths: &StatePaths) -> Result<bool, StoreError> {
        let Some(known) = self.read(|txn| txn.home())? else { return Ok(false) };
        if known == *here {
            return Ok(true);
        }
        if known.folder == here.folder || here.is_far_from(&known) {
            return Ok(false);
        }
        match original(&known, paths, self.meta(CLONE)?.as_deref()) {
            Original::Gone => Ok(false),
            Original::Same => Ok(true),
            Original::Another => Err(StoreError::Copied { path: here.folder.clone(), original: known.folder }),
        }
    }
}

/// What is where a state says that it is at home.
enum Original {
    /// Nothing, or the state of something else: it was moved.
    Gone,
    /// The very same folder, which is seen under two names.
    Same,
    /// The state that it is a copy of.
    Another,
}

/// Looks where a state says that it is at home.
fn original(known: &Home, paths: &StatePaths, clone: Option<&str>) -> Original {
    let there = StatePaths::at(known.folder.clone());
    let file = |path: &Path| path.metadata().ok().map(|about| (about.dev(), about.ino()));
    match file(&there.db()) {
        None => Original::Gone,
        same if same == file(&paths.db()) => Original::Same,
        Some(_) => {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let its = Store::connect(&there, flags, Durability::Normal).and_then(|store| store.meta(CLONE));
            // One that cannot be looked at may be the original.
            if its.is_ok_and(|its| its.as_deref() != clone) { Original::Gone } else { Original::Another }
        }
    }
}

impl Txn<'_> {
    /// Where the state is at home; `None` where nobody noted it.
    fn home(&self) -> Result<Option<Home>, StoreError> {
        Ok(self.meta(HOME)?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Gives the state a name of its own. What was spent under the name before is no longer its own to tell.
    fn begin_as_new_clone(&self) -> Result<(), StoreError> {
        if let Some(before) = self.meta(CLONE)? {
            self.disown_spend(&before)?;
        }
        self.set_meta(CLONE, &uuid::Uuid::new_v4().to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::RunId;
    use crate::model::budget::Spend;
    use crate::model::day::Day;
    use crate::model::day::testing::reading;
    use crate::model::spend::testing::report;
    use crate::model::spend::{Role, SpendReport};
    use crate::store::{Charge, Counted, Heard};

    /// A folder in which states are.
    struct Disk(tempfile::TempDir);

    impl Disk {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn paths(&self, name: &str) -> StatePaths {
            StatePaths::new(&self.0.path().join(name))
        }

        fn open(&self, name: &str) -> Result<Store, StoreError> {
            Store::open(&self.paths(name), Durability::Normal)
        }

        /// Copies a state as `cp -r` does.
        fn copy(&self, from: &str, to: &str) {
            let (from, to) = (self.paths(from), self.paths(to));
            fs::create_dir_all(to.root()).unwrap();
            for entry in fs::read_dir(from.root()).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    fs::copy(entry.path(), to.root().join(entry.file_name())).unwrap();
                }
            }
        }
    }

    fn refusal(opened: Result<impl std::fmt::Debug, StoreError>) -> (PathBuf, PathBuf) {
        match opened.unwrap_err() {
            StoreError::Copied { path, original } => (path, original),
            error => panic!("{error:?}"),
        }
    }

    #[test]
    fn a_clone_keeps_its_name_and_no_other_one_has_it() {
        let disk = Disk::new();
        let name = disk.open("a").unwrap().clone_id().unwrap();
        assert_eq!(disk.open("a").unwrap().clone_id().unwrap(), name);
        assert_ne!(disk.open("b").unwrap().clone_id().unwrap(), name);
    }

    #[test]
    fn a_copy_is_refused_while_its_original_is_there() {
        let disk = Disk::new();
        let name = disk.open("a").unwrap().clone_id().unwrap();
        disk.copy("a", "b");
        let before = fs::read(disk.paths("b").db()).unwrap();
        let both = |name: &str| disk.paths(name).root().canonicalize().unwrap();
        assert_eq!(refusal(disk.open("b")), (both("b"), both("a")));
        assert_eq!(refusal(Store::open_read_only(&disk.paths("b"))), (both("b"), both("a")));
        assert_eq!(fs::read(disk.paths("b").db()).unwrap(), before, "it is left as it is");
        assert_eq!(disk.open("a").unwrap().clone_id().unwrap(), name, "the original is not affected");
        // Whose original is gone was moved, as far as anybody can tell.
        fs::remove_dir_all(disk.paths("a").root()).unwrap();
        assert_eq!(disk.open("b").unwrap().clone_id().unwrap(), name);
        // What is in that place later is none of its business.
        assert_ne!(disk.open("a").unwrap().clone_id().unwrap(), name);
        assert_eq!(disk.open("b").unwrap().clone_id().unwrap(), name);
    }

    #[test]
    fn a_clone_that_is_moved_or_seen_under_another_name_stays_what_it_is() {
        let disk = Disk::new();
        let name = disk.open("a").unwrap().clone_id().unwrap();
        let folder = disk.0.path();
        fs::rename(folder.join("a"), folder.join("b")).unwrap();
        assert_eq!(Store::open_read_only(&disk.paths("b")).unwrap().unwrap().clone_id().unwrap(), name);
        assert_eq!(disk.open("b").unwrap().clone_id().unwrap(), name);
        std::os::unix::fs::symlink(folder.join("b"), folder.join("link")).unwrap();
        assert_eq!(disk.open("link").unwrap().clone_id().unwrap(), name);
        // One file under two names, as of a folder that is mounted twice.
        fs::create_dir_all(disk.paths("c").root()).unwrap();
        fs::hard_link(disk.paths("b").db(), disk.paths("c").db()).unwrap();
        assert_eq!(disk.open("c").unwrap().clone_id().unwrap(), name);
        assert_eq!(disk.open("b").unwrap().clone_id().unwrap(), name);
    }

    #[test]
    fn a_state_that_comes_from_another_machine_is_a_clone_of_its_own_and_tells_nothing_twice() {
        let disk = Disk::new();
        let (paths, store) = (disk.paths("a"), disk.open("a").unwrap());
        let on = |machine: &str| Home { machine: Some(machine.to_owned()), ..Home::of(&paths).unwrap() };
        let (run, fix) = (RunId::random(), "fix".parse().unwrap());
        let charge = |tokens| {
            let charge = Charge {
                account: "session:1",
                role: Role::Worker,
                run: &run,
                ticket: Some(&fix),
                worker: None,
                attempt: 1,
                agent: &"a".parse().unwrap(),
                model: "m",
                counted: Some(Counted { input_tokens: tokens, ..Counted::default() }),
                worked: std::time::Duration::ZERO,
            };
            store.charge(&charge, &reading("a", 1.0, 1.0)).unwrap();
        };
        let spent = || {
            let spent = store.spendings(Some(&fix), &run, &reading("a", 1.0, 1.0)).unwrap().spent;
            (Spend::tokens(&spent.ticket), Spend::tokens(&spent.day))
        };
        store.settle_at(&on("one"), &paths).unwrap();
        let name = store.clone_id().unwrap();
        charge(100);
        store.hear_spend(&[], &Heard { seq: 5, ..Heard::default() }).unwrap();
        store.settle_at(&on("one"), &paths).unwrap();
        store.settle_at(&Home { machine: None, ..on("one") }, &paths).unwrap();
        store.settle_at(&on("one"), &paths).unwrap();
        assert_eq!(store.clone_id().unwrap(), name, "a machine without a name may be the same");
        store.settle_at(&on("other"), &paths).unwrap();
        assert_ne!(store.clone_id().unwrap(), name);
        assert_eq!(spent(), (100, 100), "it knows what was spent");
        assert_eq!(store.untold_spend().unwrap(), [], "and it is not its own to tell");
        assert_eq!(store.spend_heard().unwrap(), Heard::default(), "its original is heard too");
        let shown = store.spend_since(&Day::parse("2026-11-21").unwrap()).unwrap();
        assert_eq!(shown[0].node, format!("was-{}", &name[..8]));
        // The one that it comes from goes on, and says so.
        let goes_on = SpendReport { clone: name, ..report("", Some("fix"), 130, 0.0) };
        store.hear_spend(&[goes_on], &Heard::default()).unwrap();
        assert_eq!(spent(), (130, 130));
        charge(7);
        assert_eq!(spent(), (137, 137));
        assert_eq!(store.untold_spend().unwrap()[0].entries[0].input_tokens, 7);
    }
}
