//! Lists of references.

use super::{GitError, Repository};

impl Repository {
    /// Full names of the references whose names begin with `prefix`, which ends in `/`.
    pub(crate) fn references(&self, prefix: &str) -> Result<Vec<String>, GitError> {
        if let Some(repo) = self.libgit() {
            let attempt = || GitError::libgit("list references");
            let mut found = repo.references_glob(&format!("{prefix}*")).map_err(attempt())?;
            return found.names().map(|name| name.map(str::to_owned)).collect::<Result<_, _>>().map_err(attempt());
        }
        let call = self.git(self.home(), ["for-each-ref", "--format=%(refname)", prefix]);
        Ok(call.reading().text()?.lines().map(str::to_owned).collect())
    }
}
