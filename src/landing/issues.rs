//! Issues of GitHub, by its own program.

use serde::Deserialize;

use super::forge::{Forge, ForgeError};

/// What is asked of an issue.
const FIELDS: &str = "number,title,body,url,author,labels";
/// Issues that one call lists at most.
const MOST: &str = "500";

/// An issue as it was written there; nothing of it is to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Issue {
    /// Its number.
    pub(crate) number: u64,
    /// Its title.
    pub(crate) title: String,
    /// Its text.
    #[serde(default)]
    pub(crate) body: Option<String>,
    /// Its address.
    pub(crate) url: String,
    /// Who wrote it; absent where the account is gone.
    #[serde(default)]
    pub(crate) author: Option<Author>,
    /// Its labels.
    #[serde(default)]
    pub(crate) labels: Vec<Label>,
}

/// Who wrote an issue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Author {
    /// Their name there.
    #[serde(default)]
    pub(crate) login: String,
}

/// A label of an issue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Label {
    /// Its name.
    pub(crate) name: String,
}

impl Forge {
    /// The open issues of a repository, of that label where one is named; newest first.
    pub(crate) fn issues(&self, repository: Option<&str>, label: Option<&str>) -> Result<Vec<Issue>, ForgeError> {
        let mut args = vec!["issue", "list", "--state", "open", "--limit", MOST, "--json", FIELDS];
        args.extend(repository.iter().flat_map(|repository| ["--repo", repository]));
        args.extend(label.iter().flat_map(|label| ["--label", label]));
        self.json(&args)
    }

    /// One issue, open or not.
    pub(crate) fn issue(&self, repository: Option<&str>, number: u64) -> Result<Issue, ForgeError> {
        let number = number.to_string();
        let mut args = vec!["issue", "view", number.as_str(), "--json", FIELDS];
        args.extend(repository.iter().flat_map(|repository| ["--repo", repository]));
        self.json(&args)
    }
}
