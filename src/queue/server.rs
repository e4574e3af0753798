//! A server that keeps a queue, and how to get in.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::queue::TlsFiles;

/// A project's place on a server. It travels to supervisors in their private hand-over file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Server {
    /// Addresses with commas between; nothing secret.
    pub(crate) address: String,
    /// The project's name there.
    pub(crate) project: String,
    /// Who we are.
    pub(crate) login: Login,
    /// Files of an encrypted connection; absolute.
    pub(crate) tls: TlsFiles,
    /// How many servers keep what is made there.
    #[serde(default = "one")]
    pub(crate) replicas: usize,
}

impl Server {
    /// Whether the connection has to be encrypted, to every server of a cluster: an address says so, or a file for it does.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls != TlsFiles::default() || self.address.split(',').any(|address| address.trim().starts_with("tls://"))
    }
}

/// The servers that keep what is made where nothing is said about it.
fn one() -> usize {
    1
}

/// Who we are to a server. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Login {
    /// Nobody in particular.
    Nobody,
    /// Whom a credentials file names.
    Credentials(PathBuf),
    /// The owner of the NKey whose seed is in a file.
    Nkey(PathBuf),
    /// A user.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// Whoever has a token.
    Token(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("Nobody"),
            Self::Credentials(path) => f.debug_tuple("Credentials").field(path).finish(),
            Self::Nkey(path) => f.debug_tuple("Nkey").field(path).finish(),
            Self::Password { user, .. } => f.debug_struct("Password").field("user", user).finish_non_exhaustive(),
            Self::Token(_) => f.debug_tuple("Token").finish_non_exhaustive(),
        }
    }
}

/// A project's name as part of the names of streams and of subjects. Different names stay different: letters, digits,
/// `-` and `_` are themselves, every other byte is `=` and two digits.
pub(crate) fn encoded(project: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    project
        .bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("={byte:02X}") })
        .collect()
}

/// The same as part of the name of a bucket, which may have no `=`: letters, digits and `-` are themselves, every other
/// byte is `_` and two digits.
pub(crate) fn bucket(project: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    project
        .bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("_{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_projects_have_different_names_that_a_stream_may_have() {
        let names = ["a.b", "a-b", "a_b", "a b", "a=2Eb", "a/b", "ä", "A-b", "*", ">", "=", "a\tb"];
        let encoded: std::collections::BTreeSet<_> = names.map(encoded).into();
        assert_eq!(encoded.len(), names.len());
        assert_eq!((super::encoded("my-app_2"), super::encoded("a.b ü")), ("my-app_2".into(), "a=2Eb=20=C3=BC".into()));
        let buckets: std::collections::BTreeSet<_> = names.map(super::bucket).into();
        assert_eq!((buckets.len(), super::bucket("a.b_c")), (names.len(), "a_2Eb_5Fc".into()));
        assert!(buckets.iter().all(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))));
        let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=');
        assert!(encoded.iter().all(|name| name.chars().all(is_safe)), "{encoded:?}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let password = Login::Password { user: "me".to_owned(), password: "hush".to_owned() };
        let shown = format!("{password:?} {:?}", Login::Token("hush".to_owned()));
        assert!(shown.contains("me") && !shown.contains("hush"), "{shown}");
    }
}
