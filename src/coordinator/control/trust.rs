//! `trust`: which set-up and gate commands of this repository may run on this machine.

use super::Control;
use crate::config::{TrustItem, TrustKind, TrustStore, trust_keys_of_gates, trust_keys_of_setup};
use crate::coordinator::failure::Failure;
use crate::coordinator::views::{TrustView, TrustedView, VIEW_VERSION};
use crate::model::Time;

/// The commands of a repository as they were read, so that exactly what a person was shown becomes trusted.
pub(crate) struct TrustQuestion {
    /// The commands in the order they are configured.
    items: Vec<TrustItem>,
    /// The decisions so far.
    store: TrustStore,
}

impl TrustQuestion {
    /// The commands with the present decision.
    pub(crate) fn view(&self) -> TrustView {
        let commands = self.items.iter().map(|item| TrustedView {
            kind: item.kind.as_str().to_owned(),
            run: item.run.clone(),
            repository: item.repository.display().to_string(),
            trusted: self.store.is_trusted(&item.key),
        });
        TrustView { version: VIEW_VERSION, commands: commands.collect() }
    }

    /// Whether a command has no decision yet.
    pub(crate) fn is_open(&self) -> bool {
        self.items.iter().any(|item| !self.store.is_trusted(&item.key))
    }

    /// Trusts all of them.
    pub(crate) fn accept(&mut self) -> Result<(), Failure> {
        Ok(self.store.trust(&self.items, Time::now())?)
    }
}

impl Control {
    /// What of this repository wants trust.
    pub(crate) fn trust_question(&self) -> Result<TrustQuestion, Failure> {
        let settings = self.project.settings()?;
        let common_dir = self.project.repository.common_dir();
        let mut items = trust_keys_of_setup(settings, common_dir);
        items.extend(trust_keys_of_gates(settings, common_dir));
        Ok(TrustQuestion { items, store: self.project.trust()? })
    }

    /// The commands of this repository, then all others that were ever trusted.
    pub(crate) fn trusted(&self) -> Result<TrustView, Failure> {
        let question = self.trust_question()?;
        let mut view = question.view();
        let others = question.store.list().iter().filter(|item| question.items.iter().all(|own| own.key != item.key));
        view.commands.extend(others.map(|item| trusted_view(item.kind, &item.run, &item.repository, true)));
        Ok(view)
    }

    /// Takes back the trust in all commands of this repository, present and earlier ones.
    pub(crate) fn revoke_trust(&self) -> Result<TrustView, Failure> {
        let revoked = self.project.trust()?.revoke(self.project.repository.common_dir())?;
        let commands = revoked.iter().map(|item| trusted_view(item.kind, &item.run, &item.repository, false));
        Ok(TrustView { version: VIEW_VERSION, commands: commands.collect() })
    }
}

/// One command.
fn trusted_view(kind: TrustKind, run: &str, repository: &str, trusted: bool) -> TrustedView {
    TrustedView { kind: kind.as_str().to_owned(), run: run.to_owned(), repository: repository.to_owned(), trusted }
}
