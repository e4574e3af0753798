use std::path::PathBuf;

use super::*;
use crate::config::Environment;
use crate::coordinator::project::Call;
use crate::git::fixture::Fixture;
use crate::model::CommitId;
use crate::model::ticket::Ticket;
use crate::queue::{NatsEngine, Objects};

#[test]
fn what_is_handed_over_of_a_ticket_that_was_published_again_is_not_thrown_away() {
    let (git, engine) = (Fixture::new(), NatsEngine::start());
    let control = Control::open(
        Call {
            directory: git.root.clone(),
            overrides: [("queue.url", engine.url()), ("queue.project", "tests")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .to_vec(),
            environment: Environment::default(),
            program: PathBuf::from("/swarm"),
        },
        false,
    )
    .unwrap();
    let (queue, ticket): (_, TicketId) = (control.project.queue().unwrap(), "one".parse().unwrap());
    let (objects, register) =
        (Objects::open(queue.link().unwrap()).unwrap(), Register::open(&*queue).unwrap().unwrap());
    control.publish(&*queue, Ticket::plain(ticket.clone())).unwrap();
    let head: CommitId = git.head("main");
    let name = format!("carried-{ticket}-{head}");
    let made = Made { head, snapshot: None, is_finished: false, approval: None, round: None };
    assert!(register.say_carried(&Carried::now(&ticket, 1, "other", made), None).unwrap());
    objects.put(&name, b"bundle".to_vec()).unwrap();
    // Whoever asks saw the ticket at its end, a while ago.
    let over = std::slice::from_ref(&ticket);
    assert!(control.carry(&[], over).unwrap().is_empty());
    assert!(register.carried(&ticket).unwrap().is_some() && objects.get(&name).unwrap().is_some());
    queue.cancel(&ticket).unwrap();
    assert!(control.carry(&[], over).unwrap().is_empty());
    assert!(register.carried(&ticket).unwrap().is_none() && objects.get(&name).unwrap().is_none());
}
