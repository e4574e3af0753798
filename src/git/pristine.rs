//! Proof without a process that a worktree holds its commit and nothing else.
//!
//! Every file there is one that the worktree's own index has, and is what the index has; the index is what the commit
//! has. No file is passed over, ignored ones neither, so no rule on what to ignore has a say; a file that only a filter
//! makes equal counts as different unless git itself found it so. Where anything is otherwise this says nothing, and
//! git is asked.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use git2::{Index, IndexEntry, IndexEntryExtendedFlag, IndexEntryFlag, IndexTime, ObjectType, Oid};

use super::state::{Operation, WorktreeState};
use super::worktree::{Head, Linked, checked_out};
use super::{GitError, Repository};

/// The bits of an entry's flags that are not zero in a conflict.
const STAGE: u16 = 0x3000;
/// The mode of a link.
const LINK: u32 = 0o120_000;
/// The mode of a file that can be run.
const PROGRAM: u32 = 0o100_755;
/// The mode of any other file.
const FILE: u32 = 0o100_644;

/// Seconds and nanoseconds as an index has them, cut to 32 bits.
type Moment = (u32, u32);

/// An index and the files it is compared with.
pub(super) struct Known {
    /// Its entries by path.
    entries: HashMap<Vec<u8>, IndexEntry>,
    /// When it was written.
    written: Moment,
}

impl Known {
    /// Reads an index; `None` where it cannot be read, or has anything but plain entries.
    pub(super) fn read(path: &Path) -> Option<(Self, Index)> {
        // Before the index: one that is written meanwhile counts as older than it is.
        let written = modified(&fs::metadata(path).ok()?);
        let index = Index::open(path).ok()?;
        let entries: HashMap<_, _> = index.iter().map(|entry| (entry.path.clone(), entry)).collect();
        let odd = IndexEntryExtendedFlag::INTENT_TO_ADD | IndexEntryExtendedFlag::SKIP_WORKTREE;
        let is_plain = |entry: &IndexEntry| {
            entry.flags & (STAGE | IndexEntryFlag::VALID.bits()) == 0 && entry.flags_extended & odd.bits() == 0
        };
        entries.values().all(is_plain).then_some((Self { entries, written }, index))
    }

    /// The paths of its entries.
    pub(super) fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.keys().map(Vec::as_slice)
    }

    /// Whether the file at a path has an entry and is what that says, with the very dates that it says.
    pub(super) fn has(&self, path: &[u8], real: &Path, found: &Metadata) -> bool {
        self.entries.get(path).is_some_and(|entry| has_dates(entry, found) && self.is_same(entry, real, found))
    }

    /// Whether a file is what its entry says: by its dates, where they tell, else by its bytes.
    fn is_same(&self, entry: &IndexEntry, path: &Path, found: &Metadata) -> bool {
        let mode = match found.file_type() {
            kind if kind.is_symlink() => LINK,
            kind if kind.is_file() && found.mode() & 0o100 != 0 => PROGRAM,
            kind if kind.is_file() => FILE,
            _ => return false,
        };
        mode == entry.mode && (self.is_untouched(entry, found) || has_bytes(entry, path, mode).unwrap_or(false))
    }

    /// Whether the dates of a file prove that nothing was written to it since git looked at it. One that was changed
    /// in the moment in which the index was written, or later, has dates that are not before that.
    fn is_untouched(&self, entry: &IndexEntry, found: &Metadata) -> bool {
        has_dates(entry, found) && changed(found) < self.written && modified(found) < self.written
    }

    /// How many files a folder holds, at any depth, all of them as this has them; `None` where one is not, or where a
    /// folder has none. `below` is the folder's path from the root, with a slash at its end.
    fn count(&self, folder: &Path, below: &mut Vec<u8>, by: By) -> Option<usize> {
        let mut count = 0;
        for entry in fs::read_dir(folder).ok()? {
            let entry = entry.ok()?;
            let name = entry.file_name();
            // It ties the worktree to its registration.
            if below.is_empty() && name == ".git" {
                continue;
            }
            let (path, length) = (entry.path(), below.len());
            below.extend_from_slice(name.as_bytes());
            if entry.file_type().ok()?.is_dir() {
                below.push(b'/');
                count += self.count(&path, below, by)?;
            } else {
                let (known, found) = (self.entries.get(below.as_slice())?, entry.metadata().ok()?);
                if by == By::Dates && !has_dates(known, &found) || !self.is_same(known, &path, &found) {
                    return None;
                }
                count += 1;
            }
            below.truncate(length);
        }
        (count > 0).then_some(count)
    }
}

/// What tells that a file is as git has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Nobody touched it since git looked at it.
    Dates,
    /// Where somebody did, its content is the same.
    Content,
}

impl Repository {
    /// The state of a worktree that holds exactly the commit it has checked out, and that commit's tree as hex; `None`
    /// where that cannot be proven.
    pub(super) fn pristine(&self, linked: &Linked, by: By) -> Result<Option<(WorktreeState, String)>, GitError> {
        let Some(repo) = self.libgit() else { return Ok(None) };
        let (head, branch) = match checked_out(linked.git_dir())? {
            Head::Branch(branch) => (self.branch_head(&branch)?, Some(branch)),
            Head::Detached(commit) => (Some(commit), None),
            Head::Unknown => (None, None),
        };
        let Some(commit) = &head else { return Ok(None) };
        let tree = self.commit_facts(commit)?.tree;
        let prove = || {
            let (known, mut index) = Known::read(&linked.index())?;
            let is_head = index.write_tree_to(&repo).ok()?.to_string() == tree;
            let count = if is_head { known.count(linked.path(), &mut Vec::new(), by)? } else { return None };
            (count == known.entries.len()).then_some(())
        };
        let operation = Operation::under_way(linked.git_dir());
        Ok(prove().map(|()| (WorktreeState { head, branch, operation, entries: Vec::new() }, tree)))
    }
}

/// Whether a file has the dates, the place and the size that its entry says.
fn has_dates(entry: &IndexEntry, found: &Metadata) -> bool {
    let moment = |time: &IndexTime| (time.seconds().cast_unsigned(), time.nanoseconds());
    (moment(&entry.ctime), moment(&entry.mtime)) == (changed(found), modified(found))
        && (entry.ino, entry.file_size) == (low(found.ino()), low(found.size()))
        && (entry.uid, entry.gid) == (found.uid(), found.gid())
}

/// Whether the bytes of a file, or the target of a link, are those of its entry.
fn has_bytes(entry: &IndexEntry, path: &Path, mode: u32) -> Option<bool> {
    let found = match mode {
        LINK => Oid::hash_object(ObjectType::Blob, fs::read_link(path).ok()?.as_os_str().as_bytes()),
        _ => Oid::hash_file(ObjectType::Blob, path),
    };
    Some(found.ok()? == entry.id)
}

/// When a file was last written.
fn modified(meta: &Metadata) -> Moment {
    (low(meta.mtime().cast_unsigned()), low(meta.mtime_nsec().cast_unsigned()))
}

/// When a file or anything about it last changed.
fn changed(meta: &Metadata) -> Moment {
    (low(meta.ctime().cast_unsigned()), low(meta.ctime_nsec().cast_unsigned()))
}

/// The lower half of a number, which is what an index has room for.
fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}
