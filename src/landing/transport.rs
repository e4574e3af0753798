//! How commits get from one node to another: as bundles through the server that keeps the queue, or through a git remote,
//! in references of ours.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::LandingError;
use crate::git::{Packed, Repository, TAKEN};
use crate::model::{CommitId, TicketId};
use crate::queue::{Link, Objects};

/// How many bundles are looked at for one commit. Those that lead to a tip are some dozens; more go round in a circle.
const MOST_LOOKS: usize = 10_000;

/// What is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parcel<'a> {
    /// A commit that the target was moved to.
    Tip(&'a CommitId),
    /// The state of the work on a ticket, which is this commit. Each has a name of its own: what an entry of the board
    /// points to is there for as long as that does.
    Carried(&'a TicketId, &'a CommitId),
}

impl Parcel<'_> {
    /// Whether a bundle of this name is one.
    pub(super) fn is_name(object: &str) -> bool {
        ["tip-", "carried-"].iter().any(|prefix| object.starts_with(prefix))
    }

    /// The reference that it is on a remote.
    fn reference(self) -> String {
        match self {
            Self::Tip(commit) => format!("refs/swarm/tips/{commit}"),
            Self::Carried(ticket, commit) => format!("refs/swarm/carried/{ticket}/{commit}"),
        }
    }

    /// What its bundle is called.
    pub(super) fn object(self) -> String {
        match self {
            Self::Tip(commit) => format!("tip-{commit}"),
            Self::Carried(ticket, commit) => format!("carried-{ticket}-{commit}"),
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
    /// The server, which carries so many bytes at once.
    Server(Box<Objects>, u64),
    /// A git remote.
    Remote(&'a str),
}

impl<'a> Transport<'a> {
    /// The way through a remote, or else through the server behind `link` in bundles of so many bytes at most.
    pub(crate) fn open(
        repository: &'a Repository,
        link: &Arc<Link>,
        (remote, most_bytes): (Option<&'a str>, u64),
    ) -> Result<Self, LandingError> {
        let way = match remote {
            Some(remote) => Way::Remote(remote),
            None => Way::Server(Box::new(Objects::open(link).map_err(crate::queue::QueueError::from)?), most_bytes),
        };
        Ok(Self { repository, way })
    }

    /// The bundles on the server; `None` where a remote carries commits.
    pub(super) fn objects(&self) -> Option<&Objects> {
        match &self.way {
            Way::Server(objects, _) => Some(objects),
            Way::Remote(_) => None,
        }
    }

    /// Hands a commit over with everything that none of `without` has: whoever takes it has those.
    pub(crate) fn send(&self, parcel: Parcel<'_>, commit: &CommitId, without: &[CommitId]) -> Result<(), LandingError> {
        match &self.way {
            Way::Remote(remote) => Ok(self.repository.push_swarm_ref(remote, &parcel.reference(), Some(commit))?),
            Way::Server(objects, limit) => match self.repository.bundle_of(commit, without, *limit)? {
                Packed::Nothing => Ok(()),
                Packed::Bundle(bundle) => {
                    Ok(objects.put(&parcel.object(), bundle).map_err(crate::queue::QueueError::from)?)
                }
                Packed::TooLarge { bytes } => {
                    Err(LandingError::TooLarge { commit: commit.clone(), bytes, limit: *limit })
                }
            },
        }
    }

    /// Takes a commit over that somebody handed over, with whatever it builds on, and lets `into` point to it.
    ///
    /// # Errors
    /// [`LandingError::NotSent`] where nobody did, or what it builds on is nowhere.
    pub(crate) fn take(&self, parcel: Parcel<'_>, commit: &CommitId, into: &str) -> Result<(), LandingError> {
        if self.repository.has_whole(commit)? {
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
            Way::Server(objects, _) => {
                let take = |wants: &CommitId| {
                    let is_it = wants == commit;
                    if !is_it && self.repository.has_whole(wants)? {
                        return Ok(Some(Vec::new()));
                    }
                    let parcel = if is_it { parcel } else { Parcel::Tip(wants) };
                    let found = objects.get(&parcel.object()).map_err(crate::queue::QueueError::from)?;
                    let Some(bundle) = found else { return Ok(None) };
                    let name = if is_it { into.to_owned() } else { format!("{TAKEN}{wants}") };
                    Ok(Some(self.repository.take_bundle(&bundle, wants, &name)?))
                };
                if let Some(missing) = gather(commit, take)? {
                    return Err(not_sent(&missing));
                }
                self.forget_taken()
            }
        }
    }

    /// Forgets the names of what was taken on the way to something else, which has it now.
    fn forget_taken(&self) -> Result<(), LandingError> {
        for name in self.repository.references(TAKEN)? {
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
            Way::Server(objects, _) => Ok(objects.delete(&parcel.object()).map_err(crate::queue::QueueError::from)?),
        }
    }
}

/// Takes a commit by `take`, and before it what it builds on: mostly tips that were handed over before it. `take` answers
/// what of that is missing, nothing where the commit is here by then, and `None` where nobody handed it over. Answers what
/// cannot be had, `None` where all is here.
fn gather(
    commit: &CommitId,
    mut take: impl FnMut(&CommitId) -> Result<Option<Vec<CommitId>>, LandingError>,
) -> Result<Option<CommitId>, LandingError> {
    let (mut wanted, mut absent) = (vec![commit.clone()], BTreeSet::new());
    for _ in 0..MOST_LOOKS {
        let Some(wants) = wanted.last().cloned() else { return Ok(absent.take(commit)) };
        let Some(missing) = take(&wants)? else {
            // Where it is no tip, it comes along with the tip that has it.
            wanted.pop();
            absent.insert(wants);
            continue;
        };
        let below: Vec<_> = missing.iter().filter(|commit| !absent.contains(*commit)).cloned().collect();
        match missing.into_iter().next() {
            None => drop(wanted.pop()),
            Some(gone) if below.is_empty() => return Ok(Some(gone)),
            // What several build on comes before all of them.
            Some(_) => {
                wanted.retain(|known| !below.contains(known));
                wanted.extend(below);
            }
        }
    }
    Ok(Some(commit.clone()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;

    /// A commit that a digit names.
    fn commit(digit: char) -> CommitId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    /// Gathers `9` from bundles, each with what it builds on; what could not be had, and what is here then.
    fn gathered(bundles: &[(char, &str)]) -> (Option<CommitId>, BTreeSet<CommitId>) {
        let bundles: BTreeMap<_, Vec<_>> =
            bundles.iter().map(|(digit, below)| (commit(*digit), below.chars().map(commit).collect())).collect();
        let here = RefCell::new(BTreeSet::new());
        let take = |wants: &CommitId| {
            let Some(below) = bundles.get(wants) else { return Ok(None) };
            let mut here = here.borrow_mut();
            let missing: Vec<_> = below.iter().filter(|below| !here.contains(*below)).cloned().collect();
            if missing.is_empty() {
                here.insert(wants.clone());
                // A commit of its own that no bundle is named after.
                here.insert(commit('5'));
            }
            Ok(Some(missing))
        };
        let missing = gather(&commit('9'), take).unwrap();
        (missing, here.into_inner())
    }

    #[test]
    fn a_commit_is_taken_after_all_that_it_builds_on_in_whatever_order_that_is_named() {
        for nine in ["876", "867", "786", "768", "687", "678"] {
            for eight in ["76", "67"] {
                let (missing, here) = gathered(&[('9', nine), ('8', eight), ('7', "6"), ('6', "")]);
                assert_eq!((missing, here.len()), (None, 5), "{nine} {eight}");
            }
        }
    }

    #[test]
    fn what_is_no_tip_comes_along_with_one_and_what_is_nowhere_is_told() {
        assert_eq!(gathered(&[('9', "85"), ('8', "")]).0, None);
        assert_eq!(gathered(&[('9', "58"), ('8', "")]).0, None);
        assert_eq!(gathered(&[('9', "84"), ('8', "")]).0, Some(commit('4')));
        assert_eq!(gathered(&[('9', "8")]).0, Some(commit('8')));
        assert_eq!(gathered(&[]).0, Some(commit('9')));
        assert_eq!(gathered(&[('9', "8"), ('8', "9")]).0, Some(commit('9')), "a circle comes to an end");
    }
}
