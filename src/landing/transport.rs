//! How commits get from one node to another: as bundles through the server that keeps the queue, or through a git remote,
//! in references of ours.

use std::sync::Arc;

use super::LandingError;
use crate::git::Repository;
use crate::model::{CommitId, TicketId};
use crate::queue::{Link, Objects};

/// Bytes of a bundle that go through the server.
const MOST_BYTES: usize = 256 * 1024 * 1024;

/// What is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parcel<'a> {
    /// A commit that the target was moved to.
    Tip(&'a CommitId),
    /// The state of the work on a ticket, under this fence.
    Carried(&'a TicketId, u64),
}

impl Parcel<'_> {
    /// The reference that it is, here while it is packed and on a remote.
    fn reference(self) -> String {
        match self {
            Self::Tip(commit) => format!("refs/swarm/tips/{commit}"),
            Self::Carried(ticket, fence) => format!("refs/swarm/carried/{ticket}/{fence}"),
        }
    }

    /// What its bundle is called.
    fn object(self) -> String {
        match self {
            Self::Tip(commit) => format!("tip-{commit}"),
            Self::Carried(ticket, fence) => format!("carried-{ticket}-{fence}"),
        }
    }
}

/// The way to other nodes.
pub(crate) struct Transport<'a> {
    /// The repository.
    repository: &'a Repository,
    /// By which way.
    way: Way<'a>,
}

/// Which way it is.
enum Way<'a> {
    /// The server.
    Server(Box<Objects>),
    /// A git remote.
    Remote(&'a str),
}

impl<'a> Transport<'a> {
    /// The way through a remote, or else through the server behind `link`.
    pub(crate) fn open(
        repository: &'a Repository,
        link: &Arc<Link>,
        remote: Option<&'a str>,
    ) -> Result<Self, LandingError> {
        let way = match remote {
            Some(remote) => Way::Remote(remote),
            None => Way::Server(Box::new(Objects::open(link).map_err(crate::queue::QueueError::from)?)),
        };
        Ok(Self { repository, way })
    }

    /// Hands a commit over with everything that none of `without` has: whoever takes it has those.
    pub(crate) fn send(&self, parcel: Parcel<'_>, commit: &CommitId, without: &[CommitId]) -> Result<(), LandingError> {
        let reference = parcel.reference();
        match &self.way {
            Way::Remote(remote) => Ok(self.repository.push_swarm_ref(remote, &reference, Some(commit))?),
            Way::Server(objects) => {
                let Some(bundle) = self.repository.bundle_of(commit, &reference, without)? else { return Ok(()) };
                if bundle.len() > MOST_BYTES {
                    return Err(LandingError::TooLarge { commit: commit.clone(), bytes: bundle.len() });
                }
                Ok(objects.put(&parcel.object(), bundle).map_err(crate::queue::QueueError::from)?)
            }
        }
    }

    /// Takes a commit over that somebody handed over, with whatever it builds on, and lets `into` point to it.
    ///
    /// # Errors
    /// [`LandingError::NotSent`] where nobody did, or what it builds on is nowhere.
    pub(crate) fn take(&self, parcel: Parcel<'_>, commit: &CommitId, into: &str) -> Result<(), LandingError> {
        if self.repository.has_commit(commit)? {
            return Ok(self.repository.set_swarm_ref(into, commit)?);
        }
        let not_sent = |commit: &CommitId| LandingError::NotSent { commit: commit.clone() };
        match &self.way {
            Way::Remote(remote) => {
                let is_there = self.repository.fetch_swarm_ref(remote, &parcel.reference(), into)?;
                match self.repository.ref_commit(into)? {
                    Some(found) if is_there && found == *commit => Ok(()),
                    _ => Err(not_sent(commit)),
                }
            }
            Way::Server(objects) => {
                // What one builds on is a tip that was handed over before it; each is taken once those below it are here.
                let mut wanted: Vec<(String, String, CommitId)> =
                    vec![(parcel.object(), parcel.reference(), commit.clone())];
                while let Some((object, reference, wants)) = wanted.last().cloned() {
                    let found = objects.get(&object).map_err(crate::queue::QueueError::from)?;
                    let bundle = found.ok_or_else(|| not_sent(&wants))?;
                    let name = if wants == *commit { into.to_owned() } else { format!("refs/swarm/taken/{wants}") };
                    let missing = self.repository.take_bundle(&bundle, (&reference, &wants), &name)?;
                    if missing.is_empty() {
                        wanted.pop();
                        continue;
                    }
                    for below in missing {
                        if wanted.iter().any(|(.., known)| *known == below) {
                            return Err(not_sent(&below));
                        }
                        let tip = Parcel::Tip(&below);
                        wanted.push((tip.object(), tip.reference(), below));
                    }
                }
                self.forget_taken()
            }
        }
    }

    /// Forgets the names of what was taken on the way to something else, which has it now.
    fn forget_taken(&self) -> Result<(), LandingError> {
        for name in self.repository.references("refs/swarm/taken/")? {
            if let Some(commit) = self.repository.ref_commit(&name)? {
                self.repository.forget_swarm_ref(&name, &commit)?;
            }
        }
        Ok(())
    }

    /// Throws away what was handed over and nobody needs any more.
    pub(crate) fn forget(&self, parcel: Parcel<'_>) -> Result<(), LandingError> {
        match &self.way {
            Way::Remote(remote) => Ok(self.repository.push_swarm_ref(remote, &parcel.reference(), None)?),
            Way::Server(objects) => Ok(objects.delete(&parcel.object()).map_err(crate::queue::QueueError::from)?),
        }
    }
}
