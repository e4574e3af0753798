use std::path::PathBuf;

use super::*;
use crate::config::Environment;
use crate::coordinator::project::Call;
use crate::git::fixture::Fixture;
use crate::model::ticket::Ticket;
use crate::queue::{NatsEngine, Objects};

#[test]
fn what_was_judged_to_be_finished_is_so_until_a_commit_is_added_whatever_the_snapshot() {
    let commit = |letter: &str| letter.repeat(40).parse::<CommitId>().unwrap();
    let made = |head: &str, snapshot: Option<&str>| Made {
        head: commit(head),
        snapshot: snapshot.map(commit),
        is_finished: false,
        approval: None,
        round: None,
    };
    let (said, judged) = (Made { is_finished: true, ..made("a", None) }, commit("a"));
    assert!(counts_as_finished(&made("a", Some("b")), None, Some(&judged)));
    assert!(counts_as_finished(&made("a", Some("c")), Some(&said), None), "a coordinator looks in between");
    assert!(!counts_as_finished(&made("d", None), Some(&said), None), "its agent went on");
    assert!(!counts_as_finished(&made("d", None), Some(&said), Some(&judged)), "whoever judged it is late");
    assert!(!counts_as_finished(&made("a", None), None, None));
    assert!(!counts_as_finished(&made("a", None), Some(&made("a", None)), None));
    // What is said is taken back before anything else is sent.
    let finished = |head| Made { is_finished: true, ..made(head, None) };
    assert!(is_outdated(&said, &made("d", None)) && is_outdated(&said, &finished("d")));
    assert!(!is_outdated(&said, &finished("a")) && !is_outdated(&made("a", None), &made("d", None)));
}

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
