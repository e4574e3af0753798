//! What goes to tmux and comes back as text: names, arguments, versions, lines of a listing.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::model::WorkerId;
use crate::model::worker::TmuxSession;

/// One line a pane. The title is last, because it alone may hold anything.
pub(super) const LIST_FORMAT: &str = "#{session_id}\t#{session_name}\t#{session_attached}\t#{pane_id}\t#{pane_pid}\t\
    #{pane_dead}\t#{pane_dead_status}\t#{pane_dead_signal}\t#{pane_title}";

/// Longest part of a repository's name in a session's name.
const REPOSITORY_CHARS: usize = 32;

/// A session and the state of its first pane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TmuxPane {
    /// The session.
    pub(crate) session: TmuxSession,
    /// How many clients show it.
    pub(crate) clients: u32,
    /// Number of the pane; a server counts up.
    pane: u64,
    /// Its program's pid; the last one once that ended.
    pub(crate) pid: u32,
    /// Whether its program has ended.
    pub(crate) is_dead: bool,
    /// Exit code, when it ended by one; it may come a moment after `is_dead`.
    pub(crate) exit_code: Option<i32>,
    /// Whether a signal ended it; tmux before 3.3 cannot say.
    pub(crate) is_killed: bool,
    /// What the program named its terminal.
    pub(crate) title: String,
}

impl TmuxPane {
    /// Whether its program has ended in a way that tmux does not know.
    pub(super) fn is_missed(&self) -> bool {
        self.is_dead && self.exit_code.is_none() && !self.is_killed
    }

    /// Sorts panes by session and age.
    pub(super) fn order(&self) -> (u64, u64) {
        (number(&self.session.id).unwrap_or(u64::MAX), self.pane)
    }
}

/// The digits after the sign of an id such as `$3` or `%7`.
fn number(id: &str) -> Option<u64> {
    id.get(1..)?.parse().ok()
}

/// Parses a line of [`LIST_FORMAT`].
pub(super) fn parse_pane(line: &str, socket: &str) -> Option<TmuxPane> {
    let mut fields = line.splitn(9, '\t');
    let mut next = || fields.next();
    let (id, name, clients, pane, pid) = (next()?, next()?, next()?, next()?, next()?);
    let session = TmuxSession { socket: socket.to_owned(), id: id.to_owned(), name: name.to_owned() };
    Some(TmuxPane {
        session,
        clients: clients.parse().ok()?,
        pane: number(pane)?,
        pid: pid.parse().ok()?,
        is_dead: next()? == "1",
        exit_code: next()?.parse().ok(),
        is_killed: !next()?.is_empty(),
        title: next()?.to_owned(),
    })
}

/// Name of a worker's session: `<repository>-<6 hex digits of its common dir>-<worker>`. Characters that tmux gives a
/// meaning become `~`, which no worker id holds, so two workers of one repository never share a name.
pub(crate) fn session_name(repository: &str, common_dir: &Path, worker: &WorkerId) -> String {
    session_name_of(repository, common_dir, worker.as_str())
}

/// The same for what is no worker; a name that no worker can have begins with `_`.
pub(crate) fn session_name_of(repository: &str, common_dir: &Path, who: &str) -> String {
    let plain = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '+' => character,
        _ => '~',
    };
    let repository: String = repository.chars().take(REPOSITORY_CHARS).map(plain).collect();
    // A leading `-` would be a flag.
    let repository = repository.trim_start_matches('-');
    let digest = Sha256::digest(common_dir.as_os_str().as_bytes());
    let [a, b, c] = [digest[0], digest[1], digest[2]];
    let who: String = who.chars().map(plain).collect();
    format!("{repository}-{a:02x}{b:02x}{c:02x}-{who}").trim_start_matches('-').to_owned()
}

/// An argument as tmux must be given it: its parser takes a `;` at the end of any argument as the end of a command,
/// and `\;` there as a literal one.
pub(super) fn escaped(argument: &OsStr) -> OsString {
    let bytes = argument.as_bytes();
    match bytes.strip_suffix(b";") {
        Some(rest) => OsString::from_vec([rest, b"\\;"].concat()),
        None => argument.to_owned(),
    }
}

/// Version of tmux, without its letter for fixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TmuxVersion {
    /// Before the dot.
    pub(crate) major: u32,
    /// After the dot.
    pub(crate) minor: u32,
}

impl TmuxVersion {
    /// Reads `tmux -V`: `tmux 3.3a`, `tmux next-3.5`, `tmux master` (taken as newest).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let version = text.trim().strip_prefix("tmux ")?;
        if version == "master" {
            return Some(Self { major: u32::MAX, minor: 0 });
        }
        let version = version.strip_prefix("next-").unwrap_or(version);
        let (major, rest) = version.split_once('.')?;
        let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for TmuxVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let parse = |text: &str| TmuxVersion::parse(text).map(|version| version.to_string());
        assert_eq!(parse("tmux 3.3a\n").as_deref(), Some("3.3"));
        assert_eq!(parse("tmux next-3.5").as_deref(), Some("3.5"));
        assert_eq!(parse("screen 4"), None);
        assert!(TmuxVersion::parse("tmux 3.10").unwrap() > TmuxVersion::parse("tmux 3.2").unwrap());
        assert!(TmuxVersion::parse("tmux master").unwrap() > TmuxVersion::parse("tmux 9.9").unwrap());
    }

    #[test]
    fn session_names_hold_nothing_that_tmux_reads() {
        let name =
            |repository: &str, worker: &str| session_name(repository, Path::new("/r/.git"), &worker.parse().unwrap());
        let plain = name("my.repo", "v1.2+2");
        assert!(plain.starts_with("my~repo-") && plain.ends_with("-v1~2+2"), "{plain}");
        let odd = name("-#(id) $x:ü=", "w");
        assert!(odd.chars().all(|c| c.is_ascii_alphanumeric() || "~-+_".contains(c)) && !odd.starts_with('-'), "{odd}");
        assert!(!name("", "w").starts_with('-'));
        assert_ne!(name("r", "a.b"), name("r", "a-b"));
        let other = session_name("r", Path::new("/other/.git"), &"w".parse().unwrap());
        assert_ne!(name("r", "w"), other);
    }

    #[test]
    fn a_title_with_tabs_stays_in_its_field() {
        let pane = parse_pane("$12\tr-abc-w\t1\t%7\t42\t1\t3\t\ta\tb", "s").unwrap();
        assert_eq!((pane.session.id.as_str(), pane.exit_code, pane.title.as_str()), ("$12", Some(3), "a\tb"));
        assert_eq!(pane.order(), (12, 7));
        assert_eq!(parse_pane("$1\tx", "s"), None);
    }
}
