//! What is deleted of the bundles on a real server, and what stays.

use std::time::{Duration, Instant};

use super::support::Yard;
use crate::landing::{CARRIED, Landing, Shared, TIPS};
use crate::model::node::{Carried, Made, Tip};
use crate::model::{CommitId, TicketId};
use crate::queue::{Board, NatsEngine, Objects};

/// How much older than others the bundles are that are deleted for their age.
const OLDER: Duration = Duration::from_secs(4);
/// No test waits longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// A commit that a digit names.
fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

/// The names of the bundles that are there.
fn names(objects: &Objects) -> Vec<String> {
    let mut names: Vec<_> = objects.stored().unwrap().into_iter().filter_map(|stored| stored.name).collect();
    names.sort_unstable();
    names
}

#[test]
fn old_bundles_that_nothing_points_to_are_deleted_and_all_that_is_needed_or_young_stays() {
    let (yard, engine) = (Yard::new(), NatsEngine::start());
    let queue = engine.queue();
    let landing = Landing { queue: &*queue, ..yard.landing() };
    let shared = Shared::open(&landing).unwrap().unwrap();
    let link = queue.link().unwrap();
    let (objects, board) = (Objects::open(link).unwrap(), Board::open(link).unwrap());
    let ticket: TicketId = "one".parse().unwrap();
    let tip = |digit| format!("tip-{}", commit(digit));
    let carried = |digit| format!("carried-{ticket}-{}", commit(digit));
    let needed = [tip('1'), tip('2'), tip('3'), carried('4'), format!("carried-two-{}", commit('5'))];
    let left = [tip('6'), carried('6'), carried('1')];
    let foreign = "another-kind".to_owned();
    for name in needed.iter().chain(&left).chain([&foreign]) {
        objects.put(name, name.clone().into_bytes()).unwrap();
    }
    // Two targets, one of which is at a commit without a bundle.
    let mut main = Tip::now(commit('2'), "a".to_owned(), 1, commit('0'));
    main.chain = vec![commit('1'), commit('2')];
    let mut other = Tip::now(commit('9'), "b".to_owned(), 1, commit('0'));
    other.chain = vec![commit('3')];
    for (key, tip) in [("main", &main), ("other", &other)] {
        board.put(&format!("{TIPS}.{key}"), &serde_json::to_vec(tip).unwrap(), None).unwrap().unwrap();
    }
    for (ticket, head, snapshot) in [("one", '4', None), ("two", '0', Some('5'))] {
        let made = Made {
            head: commit(head),
            snapshot: snapshot.map(commit),
            is_finished: false,
            approval: None,
            round: None,
        };
        let said = Carried::now(&ticket.parse().unwrap(), 1, "a", made);
        board.put(&format!("{CARRIED}.{ticket}"), &serde_json::to_vec(&said).unwrap(), None).unwrap().unwrap();
    }
    objects.put("deleted", b"deleted".to_vec()).unwrap();
    objects.delete("deleted").unwrap();
    let before = names(&objects);
    assert_eq!(shared.sweep(Duration::from_secs(3600)).unwrap(), 0);
    assert_eq!(names(&objects), before);
    let started = Instant::now();
    while objects.stored().unwrap().iter().any(|stored| stored.age < OLDER) {
        assert!(started.elapsed() < DEADLINE);
        std::thread::sleep(Duration::from_millis(50));
    }
    objects.put(&tip('7'), b"young".to_vec()).unwrap();
    // Three bundles, and the mark of one that was deleted.
    assert_eq!(shared.sweep(OLDER).unwrap(), left.len() + 1);
    let mut stays: Vec<_> = before.into_iter().filter(|name| !left.contains(name)).chain([tip('7')]).collect();
    stays.sort_unstable();
    assert_eq!(names(&objects), stays);
    // Nothing is deleted where it cannot be told what is needed.
    board.put(&format!("{TIPS}.strange"), b"{}", None).unwrap().unwrap();
    assert!(shared.sweep(Duration::ZERO).is_err());
    assert_eq!(names(&objects), stays);
    board.remove(&format!("{TIPS}.strange")).unwrap();
    assert_eq!(shared.sweep(Duration::ZERO).unwrap(), 1);
    assert!(!names(&objects).contains(&tip('7')) && names(&objects).len() == stays.len() - 1);
}
