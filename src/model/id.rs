//! Names as types: each is checked once, where it enters, and is safe to use everywhere after.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a text is not a valid id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: {rule}")]
pub(crate) struct IdError {
    /// What the text was meant to be, as a person calls it.
    kind: &'static str,
    /// The text as given.
    text: String,
    /// The rule it breaks.
    rule: &'static str,
}

/// Declares a checked string newtype with the conversions all of ours share.
macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub(crate) struct $name(String);

        impl $name {
            /// The text of the name.
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(rule) => Err(IdError { kind: $kind, text: text.to_owned(), rule }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

checked_name! {
    /// Names a ticket: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`, no `..`, not ending in `.` or `.lock`.
    ///
    /// Ids that differ only in case are refused by the queue, because some file systems fold them.
    TicketId, "ticket id", check_ticket
}
checked_name! {
    /// Names a worker: its ticket's id, or `TICKET+N` with N from 2 for parallel variants.
    WorkerId, "worker id", check_worker
}
checked_name! {
    /// Names an agent definition; same letters as a ticket id.
    AgentName, "name for an agent", check_ticket
}
checked_name! {
    /// A branch by its short name, such as `main` or `swarm/fix-parser`, by the rules of git-check-ref-format(1).
    BranchName, "branch name", check_branch
}
checked_name! {
    /// A full object id of a commit in lower-case hex: 40 digits (SHA-1) or 64 (SHA-256).
    CommitId, "commit id", check_commit
}

checked_name! {
    /// Names a node: `[A-Za-z0-9][A-Za-z0-9_-]{0,63}`. It is part of a role and of keys.
    NodeName, "name for a node", check_node
}

impl NodeName {
    /// The name nearest to a text, such as that of a machine.
    pub(crate) fn near(text: &str) -> Self {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let plain: String = text.chars().map(|c| if is_plain(c) { c } else { '-' }).take(64).collect();
        let plain = plain.trim_start_matches(['-', '_']);
        Self(if plain.is_empty() { "node".to_owned() } else { plain.to_owned() })
    }
}

impl WorkerId {
    /// The worker of `ticket` with variant `number`; 1 is the plain ticket id.
    pub(crate) fn of(ticket: &TicketId, number: u32) -> Self {
        if number <= 1 { Self(ticket.0.clone()) } else { Self(format!("{}+{number}", ticket.0)) }
    }
}

impl CommitId {
    /// The first eight digits, for a person's eyes only.
    pub(crate) fn short(&self) -> &str {
        &self.0[..8]
    }
}

/// Identifies one command or coordinator run that started something; a UUID in text form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct RunId(String);

impl RunId {
    /// A new random id.
    pub(crate) fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }

    /// The text of the id.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks the letters shared by tickets and agents.
fn check_ticket(text: &str) -> Result<(), &'static str> {
    let rest_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > 64 {
        Err("it must have 1 to 64 characters")
    } else if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Err("it must start with a letter or digit")
    } else if !text.chars().all(rest_ok) {
        Err("only letters, digits, `.`, `_` and `-` are allowed")
    } else if text.contains("..") || text.ends_with('.') || text.ends_with(".lock") {
        Err("it must not contain `..` or end in `.` or `.lock`")
    } else {
        Ok(())
    }
}

/// Checks the letters of a node's name.
fn check_node(text: &str) -> Result<(), &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if text.is_empty() || text.len() > 64 {
        Err("it must have 1 to 64 characters")
    } else if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Err("it must start with a letter or digit")
    } else if !text.chars().all(is_plain) {
        Err("only letters, digits, `_` and `-` are allowed")
    } else {
        Ok(())
    }
}

/// Checks a ticket id with an optional `+N`.
fn check_worker(text: &str) -> Result<(), &'static str> {
    let Some((ticket, variant)) = text.split_once('+') else {
        return check_ticket(text);
    };
    check_ticket(ticket)?;
    match variant.parse::<u32>() {
        Ok(number) if number >= 2 && !variant.starts_with(['0', '+']) => Ok(()),
        _ => Err("after `+` comes a number from 2"),
    }
}

/// Checks the rules of git-check-ref-format(1) that apply to a branch's short name.
fn check_branch(text: &str) -> Result<(), &'static str> {
    let bad_char = |c: char| c.is_ascii_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    if text.is_empty() || text == "@" || text.starts_with('-') || text.ends_with('.') {
        Err("it must not be empty or `@`, start with `-` or end in `.`")
    } else if text.contains("..") || text.contains("@{") || text.chars().any(bad_char) {
        Err("it must not contain spaces, control characters, `..`, `@{` or any of `~^:?*[\\`")
    } else if text.split('/').any(bad_part) {
        Err("no part between slashes may be empty, start with `.` or end in `.lock`")
    } else {
        Ok(())
    }
}

/// Checks for a full lower-case hex object id.
fn check_commit(text: &str) -> Result<(), &'static str> {
    let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if hex && matches!(text.len(), 40 | 64) { Ok(()) } else { Err("it must be 40 or 64 lower-case hex digits") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticket_ids_follow_the_rule() {
        for good in ["a", "fix-parser", "T-1", "a.b_c", "9", &"x".repeat(64)] {
            assert!(good.parse::<TicketId>().is_ok(), "{good}");
        }
        let too_long = "x".repeat(65);
        for bad in ["", ".a", "-a", "a..b", "a.", "a.lock", "a/b", "a b", "ä", "a+2", &too_long, "a\n"] {
            assert!(bad.parse::<TicketId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn variants_belong_to_their_ticket() {
        let ticket: TicketId = "fix".parse().unwrap();
        assert_eq!(WorkerId::of(&ticket, 1).as_str(), "fix");
        assert_eq!(WorkerId::of(&ticket, 3).as_str(), "fix+3");
        for bad in ["fix+1", "fix+02", "fix+", "fix++2", "+2"] {
            assert!(bad.parse::<WorkerId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn branch_names_follow_git() {
        for good in ["main", "swarm/fix", "feature/a-b.c"] {
            assert!(good.parse::<BranchName>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "-x", "a..b", "a//b", "/a", "a/", "a.lock", "x/.y", "a~1", "@", "a@{1}", "a."] {
            assert!(bad.parse::<BranchName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn any_text_has_a_node_name_near_it() {
        for (text, near) in [("box", "box"), ("box.local", "box-local"), ("..", "node"), ("", "node"), ("ä1", "1")] {
            assert_eq!(NodeName::near(text).as_str(), near);
            assert!(NodeName::near(text).as_str().parse::<NodeName>().is_ok(), "{text}");
        }
        for bad in ["", "a.b", "-a", "a/b", "a b", "ä"] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_error_names_text_and_rule() {
        let error = "a b".parse::<TicketId>().unwrap_err();
        assert_eq!(error.to_string(), "`a b` is not a ticket id: only letters, digits, `.`, `_` and `-` are allowed");
    }
}
