use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::model::settings::{Gate, SetupCommand};

/// Settings with these set-up commands and gates.
fn settings(setup: &[&str], gates: &[&str]) -> Settings {
    let setup = setup.iter().map(|run| SetupCommand { run: (*run).to_owned(), timeout: None }).collect();
    let gate = |run: &&str| Gate { name: (*run).to_owned(), run: (*run).to_owned(), timeout: None, retry: 0 };
    Settings { setup, gates: gates.iter().map(gate).collect(), ..Settings::default() }
}

#[test]
fn a_decision_covers_one_text_of_one_kind_in_one_repository() {
    let folder = tempfile::tempdir().unwrap();
    let repository = Path::new("/repo/.git");
    let wanted = settings(&["make", "make"], &["make"]);
    let setup = trust_keys_of_setup(&wanted, repository);
    assert_eq!(setup.len(), 1);
    let mut store = TrustStore::open(folder.path()).unwrap();
    assert!(!store.is_trusted(&setup[0].key));
    store.trust(&setup, Time::from_millis(5)).unwrap();
    store.trust(&setup, Time::from_millis(9)).unwrap();
    let store = TrustStore::open(folder.path()).unwrap();
    assert!(store.is_trusted(&setup[0].key));
    assert_eq!(store.list().len(), 1);
    assert_eq!(store.list()[0].trusted_at, Time::from_millis(5));
    for other in [
        &trust_keys_of_gates(&wanted, repository)[0],
        &trust_keys_of_setup(&wanted, Path::new("/repo2/.git"))[0],
        &trust_keys_of_setup(&settings(&["make "], &[]), repository)[0],
    ] {
        assert!(!store.is_trusted(&other.key), "{other:?}");
    }
    let mode = std::fs::metadata(folder.path().join("trust.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_time_limit_is_not_part_of_the_decision() {
    let mut changed = settings(&["make"], &[]);
    changed.setup[0].timeout = Some(Duration::from_secs(9));
    let keys = |settings: &Settings| trust_keys_of_setup(settings, Path::new("/r"))[0].key.clone();
    assert_eq!(keys(&changed), keys(&settings(&["make"], &[])));
}

#[test]
fn the_key_never_changes() {
    let key = &trust_keys_of_gates(&settings(&[], &["cargo test"]), Path::new("/repo/.git"))[0].key;
    // Another value would ask everybody again.
    assert_eq!(key.0, "b9f55caaae006cbf95bb871cf6cd1e97d92fa1ef208a5c5e8c43ce83c4ab2d88");
}

#[test]
fn decisions_are_taken_back_by_repository() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Path::new("/one"), Path::new("/two"));
    let wanted = settings(&["a", "b"], &["c"]);
    let mut store = TrustStore::open(folder.path()).unwrap();
    for repository in [one, two] {
        store.trust(&trust_keys_of_setup(&wanted, repository), Time::from_millis(1)).unwrap();
        store.trust(&trust_keys_of_gates(&wanted, repository), Time::from_millis(1)).unwrap();
    }
    assert_eq!(store.list().len(), 6);
    assert_eq!(store.revoke(one).unwrap().len(), 3);
    assert_eq!(store.revoke(one).unwrap().len(), 0);
    assert_eq!(TrustStore::open(folder.path()).unwrap().list().len(), 3);
}

#[test]
fn two_programs_that_decide_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let folder = folder.path().to_owned();
            std::thread::spawn(move || {
                let run = format!("make {number}");
                let items = trust_keys_of_setup(&settings(&[&run], &[]), Path::new("/r"));
                TrustStore::open(&folder).unwrap().trust(&items, Time::from_millis(1)).unwrap();
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(TrustStore::open(folder.path()).unwrap().list().len(), 8);
}

#[test]
fn a_damaged_or_newer_file_is_an_error_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trust.json");
    let mut store = TrustStore::open(folder.path()).unwrap();
    let items = trust_keys_of_setup(&settings(&["make"], &[]), Path::new("/r"));
    let shown = path.display().to_string();
    for (content, message) in [
        ("", format!("the list of trusted commands `{shown}` is damaged")),
        ("{\"version\":1,\"items\":[{\"key\":\"x\"}]}", format!("the list of trusted commands `{shown}` is damaged")),
        (
            "{\"version\":2,\"rules\":[]}",
            format!("the list of trusted commands `{shown}` has format 2, which this version cannot read"),
        ),
    ] {
        files::write_atomically(&path, content.as_bytes(), Access::Private).unwrap();
        let error = TrustStore::open(folder.path()).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(error.hint().is_some());
        assert!(store.trust(&items, Time::from_millis(1)).is_err());
        assert!(!store.is_trusted(&items[0].key));
        assert_eq!(std::fs::read(&path).unwrap(), content.as_bytes());
    }
}
