//! What holds for all of one landing and is asked of git once: whether commits are signed, who makes them, and whether
//! this library sees the repository as the program does, so that small steps need no process each.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use git2::Signature;

use super::{GitError, Repository};
use crate::files::read_if_exists;

/// Settings that change how objects are written, which libgit2 does not follow: file modes and flushing.
const OBJECT_SETTINGS: [&str; 5] =
    ["core.sharedrepository", "core.fsync", "core.fsyncmethod", "core.fsyncobjectfiles", "extensions.partialclone"];
/// Seconds by which a person's date may differ from the clock's before it counts as fixed by the environment.
const FIXED: i64 = 10;

/// The answers, as far as they were asked for.
#[derive(Default)]
pub(super) struct Settled {
    /// Whether the person signs commits.
    signs_commits: OnceLock<bool>,
    /// Whether libgit2 reads and writes objects here exactly as the program does.
    is_plain: OnceLock<bool>,
    /// Who makes commits; `None` where the program has to say what is wrong with that.
    people: OnceLock<Option<People>>,
    /// Handles of libgit2 that nobody uses now: opening one costs more than most questions to it.
    handles: Mutex<Vec<git2::Repository>>,
    /// Those of them that only walk histories. What a handle was asked for as a commit its walks read from the disk again
    /// each time; what only its walks came by they remember.
    walkers: Mutex<Vec<git2::Repository>>,
}

/// A handle of libgit2, used by one thread; for one landing it is used again afterwards.
pub(crate) struct Handle {
    /// The handle; there until it is dropped.
    repository: Option<git2::Repository>,
    /// Where it goes then.
    settled: Option<Arc<Settled>>,
    /// What it is used for.
    usage: Usage,
}

/// What a handle is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// Anything.
    Any,
    /// Walks through histories alone.
    Walks,
}

impl Handle {
    /// One that was just opened.
    pub(super) fn new(repository: git2::Repository, settled: Option<Arc<Settled>>, usage: Usage) -> Self {
        Self { repository: Some(repository), settled, usage }
    }
}

impl Deref for Handle {
    type Target = git2::Repository;

    fn deref(&self) -> &git2::Repository {
        self.repository.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let (Some(settled), Some(repository)) = (&self.settled, self.repository.take()) {
            settled.pool(self.usage).lock().unwrap_or_else(PoisonError::into_inner).push(repository);
        }
    }
}

impl Settled {
    /// A handle that was opened before and is not used.
    pub(super) fn free_handle(&self, usage: Usage) -> Option<git2::Repository> {
        self.pool(usage).lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// The handles for a use.
    fn pool(&self, usage: Usage) -> &Mutex<Vec<git2::Repository>> {
        match usage {
            Usage::Any => &self.handles,
            Usage::Walks => &self.walkers,
        }
    }

    /// What holds also where nothing is signed.
    pub(super) fn unsigned(&self) -> Self {
        let (is_plain, people) = (self.is_plain.clone(), self.people.clone());
        Self { signs_commits: OnceLock::from(false), is_plain, people, ..Self::default() }
    }
}

/// Author and committer of new commits.
#[derive(Debug, Clone)]
pub(super) struct People {
    /// The author where no other is named.
    pub(super) author: Person,
    /// The committer.
    pub(super) committer: Person,
}

impl fmt::Debug for Settled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signs_commits, is_plain, people, .. } = self;
        let mut shown = formatter.debug_struct("Settled");
        shown.field("signs_commits", signs_commits).field("is_plain", is_plain).field("people", people);
        shown.finish_non_exhaustive()
    }
}

/// A person as a commit names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    /// Name.
    name: String,
    /// Mail address.
    email: String,
    /// Seconds since the epoch.
    seconds: i64,
    /// Minutes that the zone is ahead of UTC.
    offset: i32,
    /// Whether the date is the environment's, and the same for every commit.
    is_fixed: bool,
}

impl Person {
    /// A person with git's raw date, `1700000000 +0100`; `None` for one that only the program can put right.
    pub(super) fn of(name: &str, email: &str, date: &str) -> Option<Self> {
        let (seconds, zone) = date.split_once(' ')?;
        let (sign, digits) = match zone.split_at_checked(1)? {
            ("+", digits) => (1, digits),
            ("-", digits) => (-1, digits),
            _ => return None,
        };
        let is_plain = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: i32 = digits.parse().ok().filter(|_| is_plain)?;
        let offset = sign * (number / 100 * 60 + number % 100);
        let (name, email) = (name.to_owned(), email.to_owned());
        // The program writes down what it is given; the library tidies these.
        let is_tidy = |text: &str| {
            let crud = |c: char| c <= ' ' || ".,:;<>\"\\'".contains(c);
            !text.is_empty() && !text.starts_with(crud) && !text.ends_with(crud) && !text.contains(['<', '>', '\n'])
        };
        let person = Self { name, email, seconds: seconds.parse().ok()?, offset, is_fixed: true };
        (is_tidy(&person.name) && is_tidy(&person.email)).then_some(person)
    }

    /// A person as `git var` prints one: `NAME <ADDRESS> DATE`.
    fn parse(text: &str, now: i64) -> Option<Self> {
        let (name, rest) = text.trim_end().split_once(" <")?;
        let (email, date) = rest.split_once("> ")?;
        let person = Self::of(name, email, date)?;
        let is_fixed = (person.seconds - now).abs() > FIXED;
        Some(Self { is_fixed, ..person })
    }

    /// The same person at this moment, unless the date is fixed.
    pub(super) fn now(&self) -> Self {
        let seconds = if self.is_fixed { self.seconds } else { clock() };
        Self { seconds, ..self.clone() }
    }

    /// The form that libgit2 wants.
    pub(super) fn signature(&self) -> Option<Signature<'static>> {
        Signature::new(&self.name, &self.email, &git2::Time::new(self.seconds, self.offset)).ok()
    }
}

/// Seconds since the epoch.
fn clock() -> i64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(passed.as_secs()).unwrap_or(i64::MAX)
}

impl Repository {
    /// A handle of libgit2 for steps of a landing that the program would do no differently; `None` outside a landing
    /// and where something about the repository is known to the program only.
    pub(super) fn in_process(&self) -> Option<Handle> {
        let settled = self.settled.as_ref()?;
        let is_plain = match settled.is_plain.get() {
            Some(known) => *known,
            // A failure of the look is no answer, and the program tells of it.
            None => {
                let is_plain = self.looks_plain().ok()?;
                *settled.is_plain.get_or_init(|| is_plain)
            }
        };
        if is_plain { self.libgit() } else { None }
    }

    /// Whether nothing here changes what commits are (replacements, grafts) or how objects are written.
    fn looks_plain(&self) -> Result<bool, GitError> {
        if self.libgit().is_none() {
            return Ok(false);
        }
        let common = self.common_dir();
        let replaces = std::fs::read_dir(common.join("refs/replace")).is_ok_and(|mut found| found.next().is_some());
        let packed = read_if_exists(&common.join("packed-refs"))?.unwrap_or_default();
        let needle = b" refs/replace/";
        let is_odd = replaces
            || packed.windows(needle.len()).any(|window| window == needle)
            || common.join("info/grafts").exists()
            || common.join("shallow").exists();
        if is_odd {
            return Ok(false);
        }
        let settings = self.git(self.home(), ["config", "--null", "--list", "--name-only"]).reading().output()?.text();
        Ok(!settings.split('\0').any(|name| OBJECT_SETTINGS.contains(&name)))
    }

    /// Whether the person wants commits signed.
    pub(super) fn signs_commits(&self) -> Result<bool, GitError> {
        if let Some(known) = self.settled.as_ref().and_then(|settled| settled.signs_commits.get()) {
            return Ok(*known);
        }
        let call = self.git(self.home(), ["config", "--type=bool", "--default=false", "--get", "commit.gpgSign"]);
        let signs = call.reading().text()? == "true";
        Ok(self.settled.as_ref().map_or(signs, |settled| *settled.signs_commits.get_or_init(|| signs)))
    }

    /// Author and committer of new commits by git's own rules, the environment's included; `None` where the program
    /// has to see to it.
    pub(super) fn people(&self) -> Result<Option<People>, GitError> {
        if let Some(known) = self.settled.as_ref().and_then(|settled| settled.people.get()) {
            return Ok(known.clone());
        }
        let now = clock();
        let ask = |name: &str| -> Result<Option<Person>, GitError> {
            let done = self.git(self.home(), ["var", name]).reading().run()?;
            Ok(if done.code() == 0 { Person::parse(&done.text(), now) } else { None })
        };
        let people = ask("GIT_AUTHOR_IDENT")?.zip(ask("GIT_COMMITTER_IDENT")?);
        let people = people.map(|(author, committer)| People { author, committer });
        Ok(self.settled.as_ref().map_or(people.clone(), |settled| settled.people.get_or_init(|| people).clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_read_as_git_prints_one_and_odd_ones_are_left_to_the_program() {
        let person = Person::parse("A Person <a@example.com> 1700000000 -0130\n", 1_800_000_000).unwrap();
        assert_eq!((person.seconds, person.offset, person.is_fixed), (1_700_000_000, -90, true));
        assert_eq!(person.now(), person);
        let person = Person::parse("A <a@x> 1700000000 +0200", 1_700_000_003).unwrap();
        assert!(!person.is_fixed && person.now().seconds > 1_700_000_000 && person.now().offset == 120);
        for odd in ["A <> 1 +0000", " <a@x> 1 +0000", "A. <a@x> 1 +0000", "A <a@x> 1 0000", "A <a@x> one +0000"] {
            assert_eq!(Person::parse(odd, 0), None, "{odd}");
        }
    }
}
