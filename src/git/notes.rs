//! Evidence of landings, kept as git notes in `refs/notes/swarm`: one JSON object a line, one line a landing.

use git2::{ErrorCode, Oid};

use super::{GitError, Repository};
use crate::files::FileLock;
use crate::model::CommitId;

/// Where the notes are; `git log --notes=swarm` shows them.
const REFERENCE: &str = "refs/notes/swarm";
/// The same for the program.
const NOTES: &str = "--ref=refs/notes/swarm";
/// Attempts to write while another git program holds the notes.
const ATTEMPTS: u32 = 5;

impl Repository {
    /// Adds a line to the note of a commit; a line that is there already is not added again.
    ///
    /// `git notes` itself overwrites what another process added meanwhile, so writers of ours take turns.
    pub(crate) fn add_note(&self, commit: &CommitId, line: &str) -> Result<(), GitError> {
        let _turn = FileLock::wait(&self.common_dir().join("swarm/locks/notes"))?;
        let old = self.note(commit)?.unwrap_or_default();
        if old.lines().any(|known| known == line) {
            return Ok(());
        }
        self.drop_dead_reference_lock(REFERENCE, &[])?;
        let text = format!("{old}{line}\n");
        if self.libgit().is_some_and(|repo| write_by_libgit(&repo, commit, &text).is_ok()) {
            return Ok(());
        }
        let write = || {
            let call = self.git(self.home(), ["notes", NOTES, "add", "--force", "--file=-", commit.as_str()]);
            call.stdin(text.clone().into_bytes()).output()
        };
        let mut answer = write();
        for _ in 1..ATTEMPTS {
            if answer.is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
            answer = write();
        }
        answer.map(drop)
    }

    /// The commits that have a note.
    pub(crate) fn noted(&self) -> Result<Vec<CommitId>, GitError> {
        let done = self.git(self.home(), ["notes", NOTES, "list"]).reading().run()?;
        let commits = done.text().lines().filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect();
        Ok(commits)
    }

    /// The note of a commit with a newline at its end; `None` when it has none.
    pub(crate) fn note(&self, commit: &CommitId) -> Result<Option<String>, GitError> {
        if let Some(repo) = self.libgit() {
            match Oid::from_str(commit.as_str()).and_then(|commit| repo.find_note(Some(REFERENCE), commit)) {
                Ok(note) => return Ok(Some(format!("{}\n", String::from_utf8_lossy(note.message_bytes()).trim_end()))),
                Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
                // The program may understand what this library does not.
                Err(_) => {}
            }
        }
        let done = self.git(self.home(), ["notes", NOTES, "show", commit.as_str()]).reading().run()?;
        Ok((done.code() == 0).then(|| format!("{}\n", done.text().trim_end())))
    }
}

/// Writes a note without a process. It fails, changing nothing, when somebody else wrote meanwhile.
fn write_by_libgit(repo: &git2::Repository, commit: &CommitId, text: &str) -> Result<(), git2::Error> {
    let person = repo.signature()?;
    repo.note(&person, &person, Some(REFERENCE), Oid::from_str(commit.as_str())?, text, true)?;
    Ok(())
}
