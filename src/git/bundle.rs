//! Commits in a file that git fetches from, for taking work out of a clone that goes away.

use std::path::Path;

use super::{GitError, Repository};
use crate::model::CommitId;

impl Repository {
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
