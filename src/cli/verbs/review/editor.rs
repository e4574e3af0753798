//! `swarm review --editor`: the review is written over the difference, in a file that is kept until it was taken.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::draft::{self, Draft};
use crate::cli::Context;
use crate::coordinator::{Control, Failure, FailureKind, ReviewRequest};
use crate::files::{self, Access};
use crate::model::CommitId;
use crate::process;

/// Lets the person write a review and answers what it says.
pub(super) fn write(control: &Control, worker: &str, context: &Context) -> Result<(ReviewRequest, PathBuf), Failure> {
    let view = control.review(worker, false, None)?;
    let commit: CommitId = view.commit.clone().unwrap_or_default().parse()?;
    let patch = control.patch_at(worker, &commit)?;
    let composed = draft::compose(&view, commit.as_str(), &patch);
    let path = place(control, worker, &commit)?;
    match read_text(&path)? {
        Some(_) => context.output.narrate(&format!("going on with the review in {}", path.display())),
        None => files::write_atomically(&path, composed.as_bytes(), Access::Private)?,
    }
    edit(&control.editor()?, &path).inspect_err(|_| forget_unchanged(&path, &composed))?;
    let after = read_text(&path)?.unwrap_or_default();
    if after.trim().is_empty() || after == composed {
        files::remove_if_exists(&path)?;
        return Err(Failure::new(FailureKind::Failed, "the review is empty, so nothing was changed"));
    }
    let request = understand(control, worker, &after).map_err(|failure| keep(failure, worker, &path))?;
    Ok((request, path))
}

/// Takes a review that was written before.
pub(super) fn take(control: &Control, worker: &str, file: &Path, context: &Context) -> Result<ReviewRequest, Failure> {
    let failed = |error: std::io::Error| files::FileError::on("read", file)(error);
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map_err(failed)?;
        text
    } else {
        let path = context.call()?.directory.join(file);
        std::fs::read_to_string(&path).map_err(files::FileError::on("read", &path))?
    };
    understand(control, worker, &text)
}

/// What a text says.
fn understand(control: &Control, worker: &str, text: &str) -> Result<ReviewRequest, Failure> {
    let usage = |text: String| Failure::new(FailureKind::Usage, text);
    let commit = draft::commit_of(text).filter(|commit| !commit.is_empty());
    let commit = commit.ok_or_else(|| usage("there is no line that begins with `commit:`".to_owned()))?;
    let commit: CommitId = commit.parse()?;
    let patch = control.patch_at(worker, &commit)?;
    let draft = draft::read(text, &patch).map_err(usage)?;
    let view = control.review(worker, false, None)?;
    let is_ticked = |number: &usize| view.checklist.iter().any(|item| item.number == *number && item.is_ticked);
    let Draft { verdict, message, comments, mut check, mut uncheck } = draft;
    check.retain(|number| !is_ticked(number));
    uncheck.retain(is_ticked);
    if verdict.is_none() && message.is_some() {
        return Err(usage("a message needs a verdict".to_owned()).hint("write approve or reject behind `verdict:`"));
    }
    if verdict.is_none() && comments.is_empty() && check.is_empty() && uncheck.is_empty() {
        return Err(Failure::new(FailureKind::Failed, "the review is empty, so nothing was changed"));
    }
    let commit = Some(commit);
    let worker = worker.to_owned();
    Ok(ReviewRequest { worker, commit, check, uncheck, comments, verdict, message, ..ReviewRequest::default() })
}

/// A failure that names the file in which the text still is.
pub(super) fn keep(failure: Failure, worker: &str, path: &Path) -> Failure {
    failure.hint(format!("what you wrote is in {0}; mend it, then: swarm review {worker} --file {0}", path.display()))
}

/// Where the review is written: the file of one of the same commit that was not taken, else a new one.
fn place(control: &Control, worker: &str, commit: &CommitId) -> Result<PathBuf, Failure> {
    let folder = control.worker_folder(worker)?;
    let mut number = 1;
    loop {
        let path = folder.join(format!("review.{number}.diff"));
        match read_text(&path)? {
            Some(text) if draft::commit_of(&text) != Some(commit.as_str()) => number += 1,
            _ => return Ok(path),
        }
    }
}

/// A file as text, where it is there.
fn read_text(path: &Path) -> Result<Option<String>, Failure> {
    let bytes = files::read_if_exists(path)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Removes a text in which nothing was written.
fn forget_unchanged(path: &Path, composed: &str) {
    if files::read_if_exists(path).ok().flatten().as_deref() == Some(composed.as_bytes()) {
        files::remove_if_exists(path).ok();
    }
}

/// Runs the person's editor on a file and waits for its end.
fn edit(editor: &str, path: &Path) -> Result<(), Failure> {
    let mut shell = process::command("sh");
    shell.args(["-c", &format!("{editor} \"$@\""), editor]).arg(path);
    let mut child = process::spawn(&mut shell)?;
    let status = child.wait();
    process::forget(child.id());
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(FailureKind::Failed, format!("the editor `{editor}` ended with {status}"))
            .hint("nothing was changed")),
        Err(error) => Err(Failure::from_error(FailureKind::Failed, &error)),
    }
}
