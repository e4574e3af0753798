//! `queue migrate`: the tickets of a project go from its store to a server, or back.

use super::{Control, is_released};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::queue_place;
use crate::coordinator::views::{MigrateView, MovedTicketView, VIEW_VERSION};
use crate::model::Time;
use crate::model::coordination::COORDINATOR;
use crate::model::queue::{AUTO, FILE, QueueSettings};
use crate::model::worker::Liveness;
use crate::queue::{self, Engine, Place, Server};

impl Control {
    /// Moves all tickets, or says what would move.
    ///
    /// # Errors
    /// While a worker or a coordinator runs; nothing was moved then, as after every error.
    pub(crate) fn queue_migrate(&self, to: &str, dry_run: bool) -> Result<MigrateView, Failure> {
        let project = &self.project;
        let store = project.store()?;
        let place = store.read(queue::place)?;
        let target = match to {
            FILE => None,
            AUTO => {
                let text = "`auto` is no place: name `file` or the address of a server";
                return Err(Failure::new(FailureKind::Usage, text));
            }
            url => Some(self.server_at(url, None)?),
        };
        self.refuse_while_at_work()?;
        let source = place.as_ref().map(|place| self.server_at(&place.address, Some(place))).transpose()?;
        let tickets = store.read(queue::load)?;
        let here = || "this repository".to_owned();
        let view = MigrateView {
            version: VIEW_VERSION,
            from: place.as_ref().map_or_else(here, |place| place.address.clone()),
            to: target.as_ref().map_or_else(here, |server| server.address.clone()),
            moved: !dry_run,
            tickets: tickets
                .into_iter()
                .map(|(ticket, state)| MovedTicketView { ticket: ticket.to_string(), state })
                .collect(),
        };
        match (&source, &target) {
            (Some(_), Some(_)) => {
                let text = "the tickets are on a server; from there they go into the repository first";
                return Err(Failure::new(FailureKind::Usage, text).hint("swarm queue migrate --to file"));
            }
            (None, None) => return Err(queue::QueueError::from(queue::MoveError::There).into()),
            _ if dry_run => {}
            (None, Some(server)) => {
                let repository = &project.repository;
                let repository = queue::Repository {
                    founder: &|| repository.first_commit().ok().flatten().map(String::from),
                    has: &|commit| repository.begins_with(commit).unwrap_or(false),
                };
                queue::to_server(store, server, &repository)?;
            }
            (Some(server), None) => queue::to_file(store, server)?,
        }
        Ok(view)
    }

    /// Whether the settings name the place where tickets were moved.
    pub(crate) fn names_queue(&self, to: &str) -> bool {
        self.project.settings().is_ok_and(|settings| settings.queue.url == to || settings.queue.url == AUTO)
    }

    /// Refuses settings by which there can be no queue.
    pub(super) fn check_queue_settings(&self) -> Result<(), Failure> {
        let settings = &self.project.settings()?.queue;
        queue_place::engine(settings, &self.project.repository, &self.project.call.environment).map(drop)
    }

    /// The server at an address, with the rest as the settings say.
    fn server_at(&self, url: &str, place: Option<&Place>) -> Result<Server, Failure> {
        let settings = &self.project.settings()?.queue;
        let project = place.map(|place| place.project.clone()).or_else(|| settings.project.clone());
        let settings = QueueSettings { url: url.to_owned(), project, ..settings.clone() };
        match queue_place::engine(&settings, &self.project.repository, &self.project.call.environment)? {
            Engine::Server { server, .. } => Ok(server),
            Engine::File => Err(Failure::new(FailureKind::Usage, "`file` is no server")),
        }
    }

    /// Refuses while somebody works by the queue as it is.
    fn refuse_while_at_work(&self) -> Result<(), Failure> {
        let store = self.project.store()?;
        let roles = store.read(|txn| txn.leaderships())?;
        let now = Time::now();
        let mut leads = roles.into_iter().filter(|(role, who)| role.starts_with(COORDINATOR) && who.lease_until > now);
        if let Some((_, leader)) = leads.next() {
            let text = format!("{} coordinates by the queue as it is", leader.holder);
            return Err(Failure::new(FailureKind::Failed, text).hint("swarm down, or wait for the end of swarm run"));
        }
        let mut workers = store.workers()?.into_iter().filter(|worker| !is_released(worker));
        match workers.find(|worker| self.liveness(worker) == Liveness::Alive) {
            None => Ok(()),
            Some(worker) => {
                let text = format!("worker `{}` runs by the queue as it is", worker.id);
                Err(Failure::new(FailureKind::Failed, text).hint("wait for it, or end it: swarm stop"))
            }
        }
    }
}
