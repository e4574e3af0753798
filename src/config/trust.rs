//! What a person allowed a repository to run on this machine.
//!
//! Set-up commands and gates come with a repository, so a clone must not run them unasked. A decision covers
//! one exact command text in one repository on this machine, and is kept in the user's folder, out of reach of
//! what is checked in. Whatever cannot be read as a decision is an error and never counts as one.
//!
//! A time limit is not part of what is trusted: it changes how long a command may run, not what it does, and a
//! person who raises it should not be asked about a command they know. Neither is what the command in turn
//! reads from the repository: who trusts `make test` trusts the Makefile.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::ConfigError;
use crate::files::{self, Access, FileLock};
use crate::model::Time;
use crate::model::settings::Settings;

/// Format of the file.
const VERSION: u64 = 1;

/// What a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TrustKind {
    /// Prepares a worktree.
    Setup,
    /// Judges a merge.
    Gate,
}

impl TrustKind {
    /// The word in files, messages and the key.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Gate => "gate",
        }
    }
}

/// Identifies one command of one repository: SHA-256 in lower-case hex over its kind, the repository's common
/// folder and its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TrustKey(String);

impl TrustKey {
    /// The key of a command.
    fn of(kind: TrustKind, common_dir: &Path, run: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [b"swarm trust 1", kind.as_str().as_bytes(), common_dir.as_os_str().as_bytes(), run.as_bytes()] {
            // With its length first, no two lists of parts give the same bytes.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A command that needs trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrustItem {
    /// What it is for.
    pub(crate) kind: TrustKind,
    /// Its text.
    pub(crate) run: String,
    /// The common folder of the repository it comes from.
    pub(crate) repository: PathBuf,
    /// Its key.
    pub(crate) key: TrustKey,
}

impl TrustItem {
    /// The item of a command.
    fn new(kind: TrustKind, common_dir: &Path, run: &str) -> Self {
        let key = TrustKey::of(kind, common_dir, run);
        Self { kind, run: run.to_owned(), repository: common_dir.to_owned(), key }
    }
}

/// The set-up commands of a repository, each text once. `common_dir` must be given in one form always, best
/// with symbolic links resolved: another spelling is another repository.
pub(crate) fn trust_keys_of_setup(settings: &Settings, common_dir: &Path) -> Vec<TrustItem> {
    items(TrustKind::Setup, common_dir, settings.setup.iter().map(|setup| setup.run.as_str()))
}

/// The gates of a repository, likewise.
pub(crate) fn trust_keys_of_gates(settings: &Settings, common_dir: &Path) -> Vec<TrustItem> {
    items(TrustKind::Gate, common_dir, settings.gates.iter().map(|gate| gate.run.as_str()))
}

/// Items of texts, each once, in the order written.
fn items<'a>(kind: TrustKind, common_dir: &Path, runs: impl Iterator<Item = &'a str>) -> Vec<TrustItem> {
    let mut items: Vec<TrustItem> = Vec::new();
    for run in runs {
        if items.iter().all(|item| item.run != run) {
            items.push(TrustItem::new(kind, common_dir, run));
        }
    }
    items
}

/// A decision as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trusted {
    /// What the command is for.
    pub(crate) kind: TrustKind,
    /// Its text, for people.
    pub(crate) run: String,
    /// The repository's common folder, for people.
    pub(crate) repository: String,
    /// What counts.
    pub(crate) key: TrustKey,
    /// When it was decided.
    pub(crate) trusted_at: Time,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct TrustFile {
    /// Its format.
    version: u64,
    /// The decisions.
    items: Vec<Trusted>,
}

/// The version alone, readable in every format.
#[derive(Debug, Deserialize)]
struct TrustVersion {
    /// See [`TrustFile`].
    version: u64,
}

/// The decisions of this user, as they were when read or last changed through this value.
#[derive(Debug)]
pub(crate) struct TrustStore {
    /// The file.
    path: PathBuf,
    /// Its content.
    items: Vec<Trusted>,
}

impl TrustStore {
    /// Reads `trust.json` in the user's configuration folder; without it nothing is trusted.
    ///
    /// # Errors
    /// When the file is there but cannot be read or understood.
    pub(crate) fn open(user_folder: &Path) -> Result<Self, ConfigError> {
        let path = user_folder.join("trust.json");
        let items = read(&path)?;
        Ok(Self { path, items })
    }

    /// Whether a command may run.
    pub(crate) fn is_trusted(&self, key: &TrustKey) -> bool {
        self.items.iter().any(|item| item.key == *key)
    }

    /// All decisions, oldest first.
    pub(crate) fn list(&self) -> &[Trusted] {
        &self.items
    }

    /// Adds decisions; what is trusted already stays as it is. On the device when it returns.
    pub(crate) fn trust(&mut self, items: &[TrustItem], now: Time) -> Result<(), ConfigError> {
        self.change(|kept| {
            for item in items {
                if kept.iter().all(|trusted| trusted.key != item.key) {
                    kept.push(Trusted {
                        kind: item.kind,
                        run: item.run.clone(),
                        repository: item.repository.display().to_string(),
                        key: item.key.clone(),
                        trusted_at: now,
                    });
                }
            }
        })
    }

    /// Takes back all decisions on the repository with this common folder and returns them.
    pub(crate) fn revoke(&mut self, common_dir: &Path) -> Result<Vec<Trusted>, ConfigError> {
        let mut revoked = Vec::new();
        self.change(|kept| {
            let fits = |item: &Trusted| item.key == TrustKey::of(item.kind, common_dir, &item.run);
            revoked = kept.extract_if(.., |item| fits(item)).collect();
        })?;
        Ok(revoked)
    }

    /// Changes the file as it is now, alone.
    fn change(&mut self, change: impl FnOnce(&mut Vec<Trusted>)) -> Result<(), ConfigError> {
        let lock = FileLock::wait(&self.path.with_extension("lock"))?;
        let before = read(&self.path)?;
        let mut items = before.clone();
        change(&mut items);
        if items != before {
            let file = TrustFile { version: VERSION, items };
            let mut text = serde_json::to_vec_pretty(&file).expect("decisions hold only text and numbers");
            text.push(b'\n');
            files::write_durably(&self.path, &text, Access::Private)?;
            items = file.items;
        }
        self.items = items;
        drop(lock);
        Ok(())
    }
}

/// Reads the decisions in a file; none when it does not exist.
fn read(path: &Path) -> Result<Vec<Trusted>, ConfigError> {
    let Some(bytes) = files::read_if_exists(path)? else {
        return Ok(Vec::new());
    };
    let file = path.display().to_string();
    let damaged = |source| ConfigError::Trust { file: file.clone(), source };
    let TrustVersion { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if version != VERSION {
        return Err(ConfigError::TrustVersion { file, version });
    }
    let content: TrustFile = serde_json::from_slice(&bytes).map_err(damaged)?;
    Ok(content.items)
}

#[cfg(test)]
mod tests;
