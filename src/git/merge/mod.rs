//! Merges in the object store: no worktree and no index of anybody is read or written.
//!
//! What git's own merge says is what counts: `git merge-tree` honours rename detection, merge drivers, attributes
//! and the configuration of the repository, so a forecast and the landing that follows it cannot disagree.

mod apart;
mod build;
mod many;
mod message;
mod parse;
#[cfg(test)]
mod past;
mod places;

use std::ffi::OsString;
use std::path::Path;

use tempfile::TempDir;

use super::{GitError, Repository};
use crate::files::{FileError, read_if_exists};
use crate::model::CommitId;

pub(crate) use build::{Built, Commit};
pub(crate) use many::Hunk;
pub(crate) use places::Place as ConflictPlace;

/// What merging two commits would give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Forecast {
    /// They merge.
    Clean {
        /// Object id of the merged tree.
        tree: String,
    },
    /// They do not.
    Conflict {
        /// Object id of the tree with conflict markers in its files.
        tree: String,
        /// The files, by path; never empty.
        files: Vec<ConflictFile>,
        /// What git says about them, one sentence each.
        messages: Vec<String>,
    },
    /// They have no common ancestor, and git refuses to merge them.
    Unrelated,
}

/// A file that two sides changed in ways that do not fit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub(crate) struct ConflictFile {
    /// Path in the repository; of a rename, the name before it.
    pub(crate) path: String,
    /// In what way they do not fit.
    pub(crate) kind: ConflictKind,
}

/// In what way two sides of a file do not fit, in git's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ConflictKind {
    /// Both changed the same lines.
    Content,
    /// Both changed a file that git cannot merge by lines.
    Binary,
    /// Both added it with different content.
    AddAdd,
    /// One changed it, one deleted it.
    ModifyDelete,
    /// Both renamed it, to different names.
    RenameRename,
    /// One renamed it, one deleted it.
    RenameDelete,
    /// A rename meets another file of that name.
    RenameAdd,
    /// Both changed its mode, differently.
    Mode,
    /// One made it another type of thing (a link, a submodule).
    Type,
    /// A file on one side is a folder on the other.
    FileDirectory,
    /// One renamed the folder into which the other put it.
    DirectoryRename,
    /// Both moved a submodule.
    Submodule,
    /// A kind that this version does not know; git's message says more.
    Other,
}

impl ConflictKind {
    /// The word used in JSON and on screen.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Binary => "binary",
            Self::AddAdd => "add_add",
            Self::ModifyDelete => "modify_delete",
            Self::RenameRename => "rename_rename",
            Self::RenameDelete => "rename_delete",
            Self::RenameAdd => "rename_add",
            Self::Mode => "mode",
            Self::Type => "type",
            Self::FileDirectory => "file_directory",
            Self::DirectoryRename => "directory_rename",
            Self::Submodule => "submodule",
            Self::Other => "other",
        }
    }

    /// How much a kind says; the higher one names a file with two messages.
    fn rank(self) -> u8 {
        match self {
            Self::Other => 0,
            Self::Content => 1,
            Self::AddAdd | Self::Mode => 2,
            _ => 3,
        }
    }
}

/// A view of a repository in which commits can be built without a trace: new objects go to a scratch folder that is
/// gone with this value, and nothing is signed.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    /// Holds the objects.
    _objects: TempDir,
    /// The view.
    repository: Repository,
}

/// Settings for commits that nobody will see (git-config(1), "ENVIRONMENT").
const PLAIN: [(&str, &str); 5] = [
    ("GIT_CONFIG_COUNT", "2"),
    ("GIT_CONFIG_KEY_0", "commit.gpgSign"),
    ("GIT_CONFIG_VALUE_0", "false"),
    ("GIT_CONFIG_KEY_1", "core.hooksPath"),
    ("GIT_CONFIG_VALUE_1", "/dev/null"),
];

impl Rehearsal {
    /// The repository; only calls of the program see the new objects.
    pub(crate) fn repository(&self) -> &Repository {
        &self.repository
    }
}

impl Repository {
    /// Opens a view for trying out what building would give.
    pub(crate) fn rehearsal(&self) -> Result<Rehearsal, GitError> {
        let objects = tempfile::tempdir().map_err(FileError::on("make a folder in", &std::env::temp_dir()))?;
        let mut env = self.program_env().to_vec();
        env.push(("GIT_OBJECT_DIRECTORY".into(), objects.path().into()));
        env.push(("GIT_ALTERNATE_OBJECT_DIRECTORIES".into(), quoted(&self.common_dir().join("objects"))));
        env.extend(PLAIN.map(|(name, value)| (name.into(), value.into())));
        let repository = Self::discover_with(self.home(), env)?;
        Ok(Rehearsal { _objects: objects, repository })
    }

    /// All that the person's configuration may say about merging, in a form of its own: every setting, and the
    /// attributes that hold for all repositories (git before 2.42 does not say where those are).
    pub(crate) fn merge_configuration(&self) -> Result<Vec<u8>, GitError> {
        let mut bytes = self.git(self.home(), ["config", "--null", "--list"]).reading().output()?.stdout;
        let named = self.git(self.home(), ["var", "GIT_ATTR_GLOBAL"]).reading().run()?;
        if named.code() == 0 {
            let path = std::path::PathBuf::from(named.text().trim_end_matches('\n'));
            bytes.extend(read_if_exists(&path)?.unwrap_or_default());
        }
        Ok(bytes)
    }

    /// The same repository for commits that nobody will ever see: nothing is signed, no hook runs.
    pub(crate) fn plain(&self) -> Result<Self, GitError> {
        let mut env = self.program_env().to_vec();
        env.extend(PLAIN.map(|(name, value)| (name.into(), value.into())));
        Ok(Self::discover_with(self.home(), env)?.unsigned(self))
    }

    /// Merges two commits, the one on the target's side first; the tree is in the repository afterwards.
    fn merge_pair(&self, ours: &CommitId, theirs: &CommitId) -> Result<Forecast, GitError> {
        match self.merge_line(&format!("{ours} {theirs}"), ours) {
            Err(GitError::Failed { .. }) if !self.have_common_ancestor(ours, theirs)? => Ok(Forecast::Unrelated),
            answer => answer,
        }
    }

    /// Feeds a line of the input format to `git merge-tree`. Attributes (merge drivers, `merge=union`) are those of
    /// `attributes`, as if it were checked out; git before 2.41 takes those of the main worktree instead.
    fn merge_line(&self, line: &str, attributes: &CommitId) -> Result<Forecast, GitError> {
        let call = self.git(self.home(), ["merge-tree", "--write-tree", "-z", "--messages", "--stdin"]);
        let call = call.env("GIT_ATTR_SOURCE", attributes.as_str());
        let command = call.name();
        let output = call.stdin(format!("{line}\n").into_bytes()).output()?.stdout;
        parse::parse_forecast(&output).ok_or_else(|| {
            let answer = String::from_utf8_lossy(&output[..output.len().min(200)]).into_owned();
            GitError::Unexpected { command, answer }
        })
    }

    /// Whether two commits have a common ancestor.
    fn have_common_ancestor(&self, ours: &CommitId, theirs: &CommitId) -> Result<bool, GitError> {
        self.git(self.home(), ["merge-base", ours.as_str(), theirs.as_str()]).reading().is_true()
    }
}

/// A folder as an entry of a list that is split at colons, in git's quoting.
fn quoted(folder: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = vec![b'"'];
    for byte in folder.as_os_str().as_bytes() {
        if matches!(byte, b'"' | b'\\') {
            bytes.push(b'\\');
        }
        bytes.push(*byte);
    }
    bytes.push(b'"');
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests;
