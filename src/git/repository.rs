//! Finding a repository and the basic reads of it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{ErrorCode, ObjectType, RepositoryOpenFlags};

use super::program::{Call, NEEDED, last_words, path_of, split_nul};
use super::settled::{Handle, Settled, Usage};
use super::{GitError, commit_id};
use crate::model::{BranchName, CommitId};

/// A repository, as seen from the folder where it was found.
///
/// Plain data: cheap to clone, usable from every thread. Each read opens its own libgit2 handle, or runs the
/// program where libgit2 cannot open the repository (SHA-256 objects, reftable).
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    /// The git folder of the worktree it was found from; the common folder in the main worktree.
    git_dir: PathBuf,
    /// The folder all worktrees share.
    common_dir: PathBuf,
    /// The main worktree; `None` in a bare repository.
    main_worktree: Option<PathBuf>,
    /// The worktree it was found from.
    current_worktree: Option<PathBuf>,
    /// Whether libgit2 opens it.
    libgit: bool,
    /// Set for every call of the program: the mark of a landing; in tests also what shuts the person's configuration out.
    program_env: Arc<[(OsString, OsString)]>,
    /// What holds for one landing and is asked once; `None` where it is asked each time.
    pub(super) settled: Option<Arc<Settled>>,
}

/// Who commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Name.
    pub(crate) name: String,
    /// Mail address.
    pub(crate) email: String,
}

/// The four places a repository consists of, as found.
struct Found {
    /// See [`Repository::git_dir`].
    git_dir: PathBuf,
    /// See [`Repository::common_dir`].
    common_dir: PathBuf,
    /// See [`Repository::main_worktree`].
    main_worktree: Option<PathBuf>,
    /// See [`Repository::current_worktree`].
    current_worktree: Option<PathBuf>,
}

impl Repository {
    /// Finds the repository that holds `start`, as git does: from subfolders, in linked worktrees, in bare
    /// repositories and beside them. Starts no process where libgit2 can open the repository.
    ///
    /// # Errors
    /// [`GitError::NotARepository`] when there is none; git's own words where it refuses one.
    pub(crate) fn discover(start: &Path) -> Result<Self, GitError> {
        Self::discover_with(start, Vec::new())
    }

    /// Like [`Repository::discover`], with variables set for every call of the program.
    pub(crate) fn discover_with(start: &Path, program_env: Vec<(OsString, OsString)>) -> Result<Self, GitError> {
        let nothing_above: [&OsStr; 0] = [];
        let (found, libgit) = match git2::Repository::open_ext(start, RepositoryOpenFlags::empty(), nothing_above) {
            Ok(repo) => (found_by_libgit(&repo)?, true),
            Err(error) if error.code() == ErrorCode::NotFound => {
                return Err(GitError::NotARepository { path: start.to_owned() });
            }
            Err(_) => (found_by_program(start, &program_env)?, false),
        };
        let Found { git_dir, common_dir, main_worktree, current_worktree } = found;
        let program_env = program_env.into();
        Ok(Self { git_dir, common_dir, main_worktree, current_worktree, libgit, program_env, settled: None })
    }

    /// The folder all worktrees share: objects, refs, configuration, and the state of `swarm`.
    pub(crate) fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// The main worktree; `None` in a bare repository.
    pub(crate) fn main_worktree(&self) -> Option<&Path> {
        self.main_worktree.as_deref()
    }

    /// The worktree this was found from; `None` inside a bare repository.
    pub(crate) fn current_worktree(&self) -> Option<&Path> {
        self.current_worktree.as_deref()
    }

    /// The folder that stands for the repository, which relative places start from: the main worktree; for a
    /// bare repository in a hidden folder (`project/.bare`) the folder around it; else the repository itself.
    pub(crate) fn anchor(&self) -> &Path {
        if let Some(main) = &self.main_worktree {
            return main;
        }
        let hidden = self.common_dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        self.common_dir.parent().filter(|_| hidden).unwrap_or(&self.common_dir)
    }

    /// The repository's name: that of its [`Repository::anchor`], without `.git` at the end.
    pub(crate) fn name(&self) -> String {
        let name = self.anchor().file_name().unwrap_or(OsStr::new("repository")).to_string_lossy();
        name.strip_suffix(".git").unwrap_or(&name).to_owned()
    }

    /// A handle of libgit2 for this thread; `None` where it cannot open the repository and the program must do.
    pub(crate) fn libgit(&self) -> Option<Handle> {
        self.handle(Usage::Any)
    }

    /// The same for walks through histories, and nothing that looks at a commit otherwise.
    pub(super) fn walker(&self) -> Option<Handle> {
        self.handle(Usage::Walks)
    }

    /// A handle for this use.
    fn handle(&self, usage: Usage) -> Option<Handle> {
        if !self.libgit {
            return None;
        }
        let free = self.settled.as_ref().and_then(|settled| settled.free_handle(usage));
        // The worktree this was found from may be gone by now.
        let open = || git2::Repository::open(&self.git_dir).or_else(|_| git2::Repository::open(&self.common_dir)).ok();
        Some(Handle::new(free.or_else(open)?, self.settled.clone(), usage))
    }

    /// The same repository read by the program alone, which also sees objects that only its environment names.
    pub(crate) fn without_libgit(&self) -> Self {
        Self { libgit: false, ..self.clone() }
    }

    /// The same repository with one more variable set for every call of the program, for one landing: settings are
    /// read once.
    pub(crate) fn with_variable(&self, name: &str, value: &str) -> Self {
        let more = [(OsString::from(name), OsString::from(value))];
        let program_env = self.program_env.iter().cloned().chain(more).collect();
        Self { program_env, ..self.clone() }.for_one_landing()
    }

    /// This repository for a part of the landing of `whole` in which nothing is signed.
    pub(super) fn unsigned(self, whole: &Self) -> Self {
        let settled = whole.settled.as_ref().map_or_else(Settled::default, |settled| settled.unsigned());
        Self { settled: Some(Arc::new(settled)), ..self }
    }

    /// The same repository, whose settings are read once and hold from then on.
    pub(crate) fn for_one_landing(self) -> Self {
        Self { settled: Some(Arc::default()), ..self }
    }

    /// A variable that is set for every call of the program.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        let mut found = self.program_env.iter().rev().filter(|(known, _)| known == name);
        found.next().and_then(|(_, value)| value.to_str())
    }

    /// Variables for every call of the program.
    pub(super) fn program_env(&self) -> &[(OsString, OsString)] {
        &self.program_env
    }

    /// Where calls run that need no worktree.
    pub(super) fn home(&self) -> &Path {
        if self.git_dir.is_dir() { &self.git_dir } else { &self.common_dir }
    }

    /// Checks that the installed git is new enough; one process.
    pub(crate) fn check_program(&self) -> Result<String, GitError> {
        let text = self.git(self.home(), ["version"]).text()?;
        let found = text.split_whitespace().nth(2).unwrap_or(&text).to_owned();
        let pair = |version: &str| {
            let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
            (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
        };
        if pair(&found) < pair(NEEDED) { Err(GitError::TooOld { found, needed: NEEDED }) } else { Ok(found) }
    }

    /// The commit that `spec` names by git's rules of revisions, seen from the worktree this was found from.
    pub(crate) fn resolve(&self, spec: &str) -> Result<Option<CommitId>, GitError> {
        if spec.is_empty() || spec.starts_with('-') {
            return Ok(None);
        }
        if let Some(repo) = self.libgit() {
            return match repo.revparse_single(spec).and_then(|object| object.peel_to_commit()) {
                Ok(commit) => Ok(Some(commit_id(&commit.id().to_string())?)),
                Err(error) if is_absence(&error) => Ok(None),
                Err(error) => Err(GitError::libgit("resolve a revision")(error)),
            };
        }
        let commit = format!("{spec}^{{commit}}");
        let done = self.git(self.home(), ["rev-parse", "--verify", "--quiet", commit.as_str()]).reading().run()?;
        if done.code() == 0 { commit_id(&done.text()).map(Some) } else { Ok(None) }
    }

    /// The commit a full reference name points to.
    pub(crate) fn ref_commit(&self, reference: &str) -> Result<Option<CommitId>, GitError> {
        self.ref_commit_by(self.libgit().as_deref(), reference)
    }

    /// The same with a handle that is open, where there can be one.
    fn ref_commit_by(&self, repo: Option<&git2::Repository>, reference: &str) -> Result<Option<CommitId>, GitError> {
        let Some(repo) = repo else { return self.resolve(reference) };
        match repo.find_reference(reference).and_then(|reference| reference.peel_to_commit()) {
            Ok(commit) => Ok(Some(commit_id(&commit.id().to_string())?)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(GitError::libgit("read a reference")(error)),
        }
    }

    /// The head of a local branch.
    pub(crate) fn branch_head(&self, branch: &BranchName) -> Result<Option<CommitId>, GitError> {
        self.ref_commit(&format!("refs/heads/{branch}"))
    }

    /// The branch that work lands on where nothing else is said: what `origin/HEAD` names, the configured
    /// `init.defaultBranch`, `main`, `master`, the branch that is checked out; the first that exists here.
    ///
    /// # Errors
    /// [`GitError::Unborn`] without any commit, [`GitError::NoDefaultBranch`] when none of these exists.
    pub(crate) fn default_target(&self) -> Result<BranchName, GitError> {
        // Opening a handle costs more than all the questions.
        let handle = self.libgit();
        let repo = handle.as_deref();
        let origin = self.symbolic(repo, "refs/remotes/origin/HEAD", "refs/remotes/origin/")?;
        let named = [origin, self.setting(repo, "init.defaultBranch")?];
        let head = self.symbolic(repo, "HEAD", "refs/heads/")?;
        let usual = [Some("main".to_owned()), Some("master".to_owned()), head.clone()];
        for name in named.into_iter().chain(usual).flatten() {
            if let Ok(branch) = name.parse::<BranchName>()
                && self.ref_commit_by(repo, &format!("refs/heads/{branch}"))?.is_some()
            {
                return Ok(branch);
            }
        }
        if head.is_some() && self.resolve("HEAD")?.is_none() {
            return Err(GitError::Unborn);
        }
        Err(GitError::NoDefaultBranch)
    }

    /// What a symbolic reference points to, without `prefix`, with a handle that is open, where there can be one.
    fn symbolic(
        &self,
        repo: Option<&git2::Repository>,
        reference: &str,
        prefix: &str,
    ) -> Result<Option<String>, GitError> {
        let target = if let Some(repo) = repo {
            match repo.find_reference(reference) {
                Ok(found) => found.symbolic_target().ok().flatten().map(str::to_owned),
                Err(error) if is_absence(&error) => None,
                Err(error) => return Err(GitError::libgit("read a symbolic reference")(error)),
            }
        } else {
            let done = self.git(self.home(), ["symbolic-ref", "--quiet", reference]).reading().run()?;
            (done.code() == 0).then(|| done.text().trim().to_owned())
        };
        Ok(target.and_then(|target| target.strip_prefix(prefix).map(str::to_owned)))
    }

    /// The value of a git setting, with a handle that is open, where there can be one.
    fn setting(&self, repo: Option<&git2::Repository>, name: &str) -> Result<Option<String>, GitError> {
        if let Some(repo) = repo {
            let config = repo.config().map_err(GitError::libgit("read the configuration"))?;
            return match config.get_string(name) {
                Ok(value) => Ok(Some(value)),
                Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
                Err(error) => Err(GitError::libgit("read the configuration")(error)),
            };
        }
        let done = self.git(self.home(), ["config", "--get", name]).reading().run()?;
        Ok((done.code() == 0).then(|| done.text().trim_end_matches('\n').to_owned()))
    }

    /// The content of a file in a revision; `None` when revision or file is not there.
    pub(crate) fn file_at(&self, revision: &str, path: &Path) -> Result<Option<Vec<u8>>, GitError> {
        let Some(commit) = self.resolve(revision)? else {
            return Ok(None);
        };
        if let Some(repo) = self.libgit() {
            let attempt = || GitError::libgit("read a file of a commit");
            let tree = find_tree(&repo, &commit).map_err(attempt())?;
            let entry = match tree.get_path(path) {
                Ok(entry) => entry,
                Err(error) if is_absence(&error) => return Ok(None),
                Err(error) => return Err(attempt()(error)),
            };
            // A blob that cannot be read may be one that a partial clone has yet to fetch: the program does that.
            if entry.kind() != Some(ObjectType::Blob) {
                return Ok(None);
            } else if let Ok(blob) = repo.find_blob(entry.id()) {
                return Ok(Some(blob.content().to_vec()));
            }
        }
        let listed = self.list_tree(&commit, Some(path), &[])?;
        let Some((id, _)) = listed.into_iter().find(|(_, listed)| listed == path) else {
            return Ok(None);
        };
        Ok(Some(self.git(self.home(), ["cat-file", "blob", id.as_str()]).reading().output()?.stdout))
    }

    /// Paths of the files below `folder` in a revision, from the tree's root, sorted; none when revision or
    /// folder is not there.
    pub(crate) fn list_at(&self, revision: &str, folder: &Path) -> Result<Vec<PathBuf>, GitError> {
        let Some(commit) = self.resolve(revision)? else {
            return Ok(Vec::new());
        };
        let folder_slash = folder.join("");
        let at_root = folder.as_os_str().is_empty() || folder == Path::new(".");
        let listed = self.list_tree(&commit, (!at_root).then_some(&folder_slash), &["-r"])?;
        Ok(listed.into_iter().map(|(_, path)| path).collect())
    }

    /// Blobs below a path of a commit, with their ids.
    fn list_tree(
        &self,
        commit: &CommitId,
        path: Option<&Path>,
        flags: &[&str],
    ) -> Result<Vec<(String, PathBuf)>, GitError> {
        let mut call =
            self.git(self.home(), ["ls-tree", "-z", "--full-tree"]).reading().env("GIT_LITERAL_PATHSPECS", "1");
        call = call.args(flags).args([commit.as_str()]);
        if let Some(path) = path {
            call = call.args([OsStr::new("--"), path.as_os_str()]);
        }
        let out = call.output()?.stdout;
        let entries = split_nul(&out).filter_map(|line| {
            let tab = line.iter().position(|byte| *byte == b'\t')?;
            let mut words = std::str::from_utf8(&line[..tab]).ok()?.split(' ');
            let kind = words.nth(1)?;
            let id = words.next()?;
            (kind == "blob").then(|| (id.to_owned(), path_of(&line[tab + 1..])))
        });
        Ok(entries.collect())
    }

    /// Who commits here, by git's own rules.
    ///
    /// # Errors
    /// [`GitError::NoIdentity`] when git would refuse to commit.
    pub(crate) fn identity(&self) -> Result<Identity, GitError> {
        let ask = |variable| self.git(self.home(), ["var", variable]).reading().run();
        // Git asks for both: one of them alone may be in the environment.
        let (committer, done) = (ask("GIT_COMMITTER_IDENT")?, ask("GIT_AUTHOR_IDENT")?);
        if let Some(refused) = [&committer, &done].into_iter().find(|done| done.code() != 0) {
            return Err(GitError::NoIdentity { detail: last_words(refused) });
        }
        let text = done.text();
        let parts = text.split_once(" <").and_then(|(name, rest)| Some((name, rest.split_once('>')?.0)));
        let unexpected = || GitError::Unexpected { command: "git var".to_owned(), answer: text.clone() };
        let (name, email) = parts.ok_or_else(unexpected)?;
        Ok(Identity { name: name.to_owned(), email: email.to_owned() })
    }
}

/// Whether libgit2's error means that what was named is not there.
pub(super) fn is_absence(error: &git2::Error) -> bool {
    matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidSpec | ErrorCode::UnbornBranch | ErrorCode::Peel)
}

/// The tree of a commit.
pub(super) fn find_tree<'repo>(
    repo: &'repo git2::Repository,
    commit: &CommitId,
) -> Result<git2::Tree<'repo>, git2::Error> {
    repo.find_commit(git2::Oid::from_str(commit.as_str())?)?.tree()
}

/// The places of an opened repository.
fn found_by_libgit(repo: &git2::Repository) -> Result<Found, GitError> {
    let git_dir = tidy(repo.path());
    let common_dir = tidy(repo.commondir());
    let current_worktree = repo.workdir().map(tidy);
    let main_worktree = if repo.is_worktree() {
        let main = git2::Repository::open(&common_dir).map_err(GitError::libgit("open the main repository"))?;
        main.workdir().map(tidy)
    } else {
        current_worktree.clone()
    };
    Ok(Found { git_dir, common_dir, main_worktree, current_worktree })
}

/// The places of a repository by the program.
fn found_by_program(start: &Path, env: &[(OsString, OsString)]) -> Result<Found, GitError> {
    let ask = |cwd: &Path, what: &[&str]| -> Result<String, GitError> {
        Call::new(cwd, ["rev-parse", "--path-format=absolute"], env).args(what).reading().text()
    };
    let worktree_at = |cwd: &Path| -> Result<Option<PathBuf>, GitError> {
        let inside = ask(cwd, &["--is-inside-work-tree"])? == "true";
        inside.then(|| ask(cwd, &["--show-toplevel"]).map(PathBuf::from)).transpose()
    };
    let git_dir = tidy(Path::new(&ask(start, &["--git-dir"])?));
    let common_dir = tidy(Path::new(&ask(start, &["--git-common-dir"])?));
    let current_worktree = worktree_at(start)?;
    let main_worktree = match common_dir.parent().filter(|_| common_dir.ends_with(".git")) {
        _ if git_dir == common_dir => current_worktree.clone(),
        Some(parent) => worktree_at(parent)?,
        None => None,
    };
    Ok(Found { git_dir, common_dir, main_worktree, current_worktree })
}

/// A path without a slash at its end, real where it exists.
fn tidy(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.components().collect())
}
