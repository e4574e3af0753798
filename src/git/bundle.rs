//! Commits in a file that git fetches from, for taking work out of a clone that goes away.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{GitError, Repository, commit_id, crash_point};
use crate::files::{Access, FileError, FileLock, make_folder, read_if_exists, write_atomically};
use crate::model::CommitId;

/// Where references are to what was taken on the way to something else, until that is here.
pub(crate) const TAKEN: &str = "refs/swarm/taken/";
/// Where references are to what is packed, while it is, and what they are called in its bundle.
const PACKING: &str = "refs/swarm/packing/";

/// A bundle that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packed {
    /// It would be empty.
    Nothing,
    /// It.
    Bundle(Vec<u8>),
    /// It has too many bytes, and was not read.
    TooLarge {
        /// How many.
        bytes: u64,
    },
}

/// Where bundles are written and read, by one process at a time; gone with the value.
struct Packing {
    /// The folder.
    folder: PathBuf,
    /// Says that nobody else does.
    _alone: FileLock,
}

impl Drop for Packing {
    fn drop(&mut self) {
        #[cfg(test)]
        if super::crash::is_dead() {
            return;
        }
        // What cannot be removed now, the next one removes.
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

impl Repository {
    /// A bundle of at most `most` bytes of everything that `commit` has and none of `without` has.
    pub(crate) fn bundle_of(&self, commit: &CommitId, without: &[CommitId], most: u64) -> Result<Packed, GitError> {
        let packing = self.packing()?;
        let name = packed(commit);
        self.set_swarm_ref(&name, commit)?;
        let path = packing.folder.join("bundle");
        let written = self.bundle(&path, std::slice::from_ref(&name), without);
        crash_point!("bundle written");
        self.forget_swarm_ref(&name, commit)?;
        if written? == 0 {
            return Ok(Packed::Nothing);
        }
        let bytes = std::fs::metadata(&path).map_err(FileError::on("look at", &path))?.len();
        if bytes > most {
            return Ok(Packed::TooLarge { bytes });
        }
        Ok(read_if_exists(&path)?.map_or(Packed::Nothing, Packed::Bundle))
    }

    /// Takes a bundle over that is of `commit`, and lets `into` point there. What it needs and is not here is answered
    /// instead, and nothing was taken over then.
    pub(crate) fn take_bundle(&self, bytes: &[u8], commit: &CommitId, into: &str) -> Result<Vec<CommitId>, GitError> {
        let (needed, missing) = self.needs_of(bytes)?;
        if !missing.is_empty() {
            return Ok(missing);
        }
        // Git goes by what a reference leads to. Nothing may lead to them, where a process was killed as it took them.
        for commit in &needed {
            self.set_swarm_ref(&format!("{TAKEN}{commit}"), commit)?;
        }
        let packing = self.packing()?;
        let path = packing.folder.join("bundle");
        write_atomically(&path, bytes, Access::Private)?;
        self.git(self.home(), ["bundle", "verify", "--quiet"]).args([path.clone()]).output()?;
        let name = named_in(bytes, commit).unwrap_or_else(|| packed(commit));
        let refspec = format!("+{name}:{into}");
        let call = self.git(self.home(), ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--"]);
        call.args([path.into_os_string(), refspec.into()]).output()?;
        match self.ref_commit(into)? {
            Some(found) if found == *commit => Ok(Vec::new()),
            found => {
                let answer = found.map(String::from).unwrap_or_default();
                Err(GitError::Unexpected { command: "git fetch".to_owned(), answer })
            }
        }
    }

    /// Waits until nobody else packs, and removes what one left that was killed.
    fn packing(&self) -> Result<Packing, GitError> {
        let state = self.state_dir();
        make_folder(&state)?;
        let alone = FileLock::wait(&state.join("packing.lock"))?;
        let folder = self.sweep_packed()?;
        make_folder(&folder)?;
        Ok(Packing { folder, _alone: alone })
    }

    /// Removes what processes left of bundles, and of references of ours, that were killed meanwhile.
    pub(crate) fn sweep_packing(&self) -> Result<(), GitError> {
        self.drop_dead_swarm_locks()?;
        let lock = self.state_dir().join("packing.lock");
        if lock.exists()
            && let Some(_alone) = FileLock::try_take(&lock)?
        {
            self.sweep_packed()?;
        }
        Ok(())
    }

    /// Removes what lies where bundles are written; the folder. Only who packs may.
    fn sweep_packed(&self) -> Result<PathBuf, GitError> {
        for name in self.references(PACKING)? {
            if let Some(commit) = self.ref_commit(&name)? {
                self.forget_swarm_ref(&name, &commit)?;
            }
        }
        let folder = self.state_dir().join("packing");
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(FileError::on("remove", &folder)(error).into()),
            _ => Ok(folder),
        }
    }

    /// The commits that a bundle builds on, those that are here and those that are not. Its head lists them, each on a line
    /// that begins with `-` (gitformat-bundle(5)).
    fn needs_of(&self, bytes: &[u8]) -> Result<(Vec<CommitId>, Vec<CommitId>), GitError> {
        let (mut here, mut missing) = (Vec::new(), Vec::new());
        for line in bytes.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty()) {
            let Some(needed) = line.strip_prefix(b"-") else { continue };
            let id = needed.split(|byte| *byte == b' ').next().unwrap_or_default();
            let commit = commit_id(&String::from_utf8_lossy(id))?;
            if self.has_whole(&commit)? { here.push(commit) } else { missing.push(commit) }
        }
        Ok((here, missing))
    }

    /// Writes a bundle of those references that have commits which none of `without` has; how many do. Nothing is
    /// written where none has. Who fetches from it needs the commits of `without`.
    ///
    /// `path` is absolute. git writes the file under another name and renames it when it is whole.
    pub(crate) fn bundle(&self, path: &Path, references: &[String], without: &[CommitId]) -> Result<usize, GitError> {
        let known: Vec<String> = without.iter().map(|commit| format!("^{commit}")).collect();
        let mut worth = Vec::new();
        for reference in references {
            let args = ["rev-list", "--max-count=1", reference].map(str::to_owned);
            let call = self.git(self.home(), args.into_iter().chain(known.iter().cloned()));
            if !call.reading().text()?.trim().is_empty() {
                worth.push(reference.clone());
            }
        }
        if !worth.is_empty() {
            let path = path.as_os_str().to_owned();
            let call = self.git(self.home(), ["bundle", "create", "--quiet"]).args([path]);
            // Names are handed over as lines: there may be more of them than fit into arguments.
            let lines = worth.iter().chain(&known).map(|line| format!("{line}\n")).collect::<String>();
            call.args(["--stdin"]).stdin(lines.into_bytes()).output()?;
        }
        Ok(worth.len())
    }
}

/// What a commit is called in its bundle.
fn packed(commit: &CommitId) -> String {
    format!("{PACKING}{commit}")
}

/// What a commit is called in a bundle, as its head says: older programs call it otherwise.
fn named_in(bytes: &[u8], commit: &CommitId) -> Option<String> {
    let lines = bytes.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let mut names = lines.filter_map(|line| std::str::from_utf8(line).ok()?.strip_prefix(commit.as_str()));
    let name = names.find_map(|rest| rest.strip_prefix(' '))?;
    name.starts_with("refs/swarm/").then(|| name.to_owned())
}
