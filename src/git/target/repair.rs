//! Finishes or takes back a move whose process ended in the middle.

use std::fs;
use std::path::PathBuf;

use super::Repaired;
use super::checkout::{Checkout, Touched, metadata};
use super::journal::Journal;
use crate::files::FileError;
use crate::git::{GitError, Repository};

/// Brings one worktree to a whole state; `None` when its move had not begun or had ended.
pub(super) fn repair(repository: &Repository, journal: Journal) -> Result<Option<Repaired>, GitError> {
    let worktree = journal.worktree.clone();
    if !journal.is_locked()? {
        journal.clear(repository)?;
        return Ok(None);
    }
    let head = repository.branch_head(&journal.branch)?;
    let has_moved = match &head {
        Some(head) if *head == journal.from => false,
        Some(head) => repository.is_ancestor(&journal.to, head)?,
        None => false,
    };
    if !has_moved {
        journal.clear(repository)?;
        return Ok(Some(Repaired { worktree, is_finished: false, left_alone: Vec::new() }));
    }
    let left_alone = finish(Checkout::take_over(repository, journal))?;
    Ok(Some(Repaired { worktree, is_finished: true, left_alone }))
}

/// Brings the worktree to the new commit, whatever part of it is there already. Returns the files that somebody
/// changed since; they keep their content and count as modified.
fn finish(checkout: Checkout<'_>) -> Result<Vec<PathBuf>, GitError> {
    let touched = checkout.touched()?;
    let not_new = {
        checkout.journal().remove_private()?;
        checkout.call(["read-tree", checkout.journal().to.as_str()]).output()?;
        checkout.refresh()?;
        checkout.changed()?
    };
    checkout.journal().copy_index()?;
    checkout.refresh()?;
    let not_old = checkout.changed()?;
    let (mut settled, mut left_alone) = (Vec::new(), Vec::new());
    for file in &touched {
        let exists = metadata(&checkout.worktree().join(&file.path))?.is_some();
        let is_new = if file.is_deleted { !exists } else { exists && !not_new.contains(&file.path) };
        let is_old = if file.is_added { !exists } else { !not_old.contains(&file.path) };
        if is_new {
            settled.push(file);
        } else if is_old || !exists {
            // Git brings it along.
        } else if !file.is_deleted && is_beginning(&checkout, file)? {
            let path = checkout.worktree().join(&file.path);
            fs::remove_file(&path).map_err(FileError::on("remove the half-written file", &path))?;
        } else {
            settled.push(file);
            left_alone.push(file.path.clone());
        }
    }
    settle(&checkout, &settled)?;
    checkout.refresh()?;
    checkout.apply()?;
    Ok(left_alone)
}

/// Whether a file holds a beginning of its new content: git was ended while it wrote it.
fn is_beginning(checkout: &Checkout<'_>, file: &Touched) -> Result<bool, GitError> {
    let path = checkout.worktree().join(&file.path);
    if !metadata(&path)?.is_some_and(|meta| meta.is_file()) || file.mode == "160000" {
        return Ok(false);
    }
    let found = fs::read(&path).map_err(FileError::on("read", &path))?;
    let mut option = std::ffi::OsString::from("--path=");
    option.push(&file.path);
    let call = checkout.call(["cat-file", "--filters"]).args([option]).args([file.object.as_str()]);
    Ok(call.reading().output()?.stdout.starts_with(&found))
}

/// Writes the new state of files into the private index.
fn settle(checkout: &Checkout<'_>, files: &[&Touched]) -> Result<(), GitError> {
    use std::os::unix::ffi::OsStrExt;
    if files.is_empty() {
        return Ok(());
    }
    let mut input = Vec::new();
    for file in files {
        let mode = if file.is_deleted { "0" } else { file.mode.as_str() };
        input.extend_from_slice(format!("{mode} {}\t", file.object).as_bytes());
        input.extend_from_slice(file.path.as_os_str().as_bytes());
        input.push(0);
    }
    checkout.call(["update-index", "-z", "--index-info"]).stdin(input).output().map(drop)
}
