use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;
use crate::agent::own::tools::Output;
use crate::terminal::{Screen, Size};

/// A screen that a test looks at.
#[derive(Clone, Default)]
struct Glass(Arc<Mutex<Vec<u8>>>);

impl Write for Glass {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Scene {
    face: Face,
    glass: Glass,
}

fn scene(is_terminal: bool, columns: u16) -> Scene {
    let glass = Glass::default();
    let style = Style { is_coloured: is_terminal };
    let (columns, worktree) = (usize::from(columns), PathBuf::from("/w"));
    let frame = Frame { screen: Box::new(glass.clone()), is_terminal, style, columns, worktree };
    Scene { face: Face::new(frame), glass }
}

impl Scene {
    /// What a terminal shows of it.
    fn shows(&self) -> Vec<String> {
        let columns = u16::try_from(self.face.frame.columns).unwrap();
        let mut screen = Screen::new(Size { columns, rows: 30 });
        screen.feed(&self.glass.0.lock().unwrap());
        let lines = screen.last_lines(30);
        lines.into_iter().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
    }

    fn raw(&self) -> String {
        String::from_utf8(self.glass.0.lock().unwrap().clone()).unwrap()
    }
}

fn bash() -> Call {
    Call { id: "c".to_owned(), tool: "Bash".to_owned(), input: json!({"command": "git push"}) }
}

#[test]
fn text_streams_above_what_a_person_types() {
    let mut scene = scene(true, 40);
    scene.face.set_busy(true);
    scene.face.text("Hello ");
    scene.face.text("wor");
    assert_eq!(scene.shows(), ["Hello wor"]);
    assert_eq!(scene.face.typed(b"dra"), []);
    scene.face.text("ld\nNext li");
    assert_eq!(scene.shows(), ["Hello wor", "ld", "> dra"]);
    scene.face.text("ne\n");
    assert_eq!(scene.shows(), ["Hello wor", "ld", "Next line", "> dra"]);
    assert_eq!(scene.face.typed(b"ft\r"), [Act::Message("draft".to_owned())]);
    scene.face.echo("draft", true);
    scene.face.text("End");
    scene.face.set_busy(false);
    let shown = scene.shows();
    let queued = "   (queued: the model gets it with its next step)";
    assert_eq!(shown[3..], ["> draft", queued, "End", ">"]);
}

#[test]
fn a_question_takes_its_keys_and_a_message_meanwhile_is_none_of_them() {
    let mut scene = scene(true, 60);
    scene.face.set_busy(true);
    scene.face.ask(Some(bash()));
    assert_eq!(scene.shows(), ["Allow Bash git push? [y] yes  [a] always  [n] no"]);
    assert_eq!(scene.face.typed(b"x\r"), []);
    assert_eq!(scene.face.typed(b"\x15\x1b[200~yes, do\x1b[201~\r"), [Act::Message("yes, do".to_owned())]);
    for (key, choice) in [("y", Choice::Yes), ("a", Choice::Always), ("n", Choice::No), ("\x1b", Choice::No)] {
        assert_eq!(scene.face.typed(key.as_bytes()), [Act::Decide(choice)]);
    }
    scene.face.ask(None);
    assert_eq!(scene.shows(), [] as [&str; 0]);
}

#[test]
fn commands_are_typed_and_never_pasted() {
    let mut scene = scene(true, 60);
    assert_eq!(scene.face.typed(b"/status\r"), [Act::Status]);
    assert_eq!(scene.face.typed(b"/exit\r"), [Act::End]);
    assert_eq!(scene.face.typed(b"\x1b[200~/exit\x1b[201~\r"), [Act::Message("/exit".to_owned())]);
    assert_eq!(scene.face.typed(b"/etc/hosts\r"), [Act::Message("/etc/hosts".to_owned())]);
    assert_eq!(scene.face.typed(b"/help\r/nothing\r\r"), []);
    assert!(scene.raw().contains("interrupt the turn") && scene.raw().contains("no command /nothing"));
    assert_eq!(scene.face.typed(b"\x04"), [Act::End]);
}

#[test]
fn the_first_control_c_interrupts_and_the_second_ends() {
    let mut scene = scene(true, 60);
    scene.face.set_busy(true);
    assert_eq!(scene.face.typed(b"\x03"), [Act::Interrupt]);
    assert_eq!(scene.face.typed(b"\x03"), [Act::End]);
    let mut scene = super::tests::scene(true, 60);
    assert_eq!(scene.face.typed(b"abc\x03"), []);
    assert!(scene.shows().last().unwrap() == ">");
    assert_eq!(scene.face.typed(b"\x03"), [Act::End]);
}

#[test]
fn a_long_draft_stays_within_its_rows() {
    let mut scene = scene(true, 20);
    scene.face.typed("wide 漢字 and long text that goes on".as_bytes());
    assert!(scene.shows().len() == 1 && scene.shows()[0].ends_with("xt that goes on"), "{:?}", scene.shows());
    scene.face.typed(b"\x01");
    assert!(scene.shows()[0].starts_with("> wide"), "{:?}", scene.shows());
    let lines: Vec<u8> = (0..20).flat_map(|at| format!("\n{at}").into_bytes()).collect();
    scene.face.typed(&lines);
    assert_eq!(scene.shows().len(), DRAFT_LINES);
    scene.face.typed(b"\x15");
    assert_eq!(scene.shows(), [">"]);
}

#[test]
fn calls_and_results_are_lines_without_codes_of_others() {
    let mut scene = scene(false, 80);
    let edit = Call {
        id: "c".to_owned(),
        tool: "Edit".to_owned(),
        input: json!({"file_path": "/w/a.rs", "old_string": "one\ntwo", "new_string": "\x1b[31mthree"}),
    };
    scene.face.show(&Show::Call(edit));
    scene.face.show(&Show::Result(bash(), Output::error("a\nb\nExit code 3")));
    scene.face.text("Done.\x1b[2J");
    scene.face.close();
    let expected = "-> Edit a.rs\n   - one\n   - two\n   + [31mthree\n   a\n   b\n   Exit code 3\nDone.[2J\n";
    assert_eq!(scene.raw(), expected);
}

#[test]
fn without_a_terminal_lines_are_messages_and_the_end_waits_for_the_work() {
    let mut scene = scene(false, 80);
    assert_eq!(scene.face.typed(b"one\ntw"), [Act::Message("one".to_owned())]);
    assert_eq!(scene.face.typed(b"o\n/status\n"), [Act::Message("two".to_owned()), Act::Status]);
    scene.face.ask(Some(bash()));
    assert_eq!(scene.face.typed(b"n\n"), [Act::Decide(Choice::No)]);
    assert_eq!(scene.face.typed(b""), [Act::EndWhenDone]);
}
