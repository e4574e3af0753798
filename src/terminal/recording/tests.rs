use super::*;

const SIZE: Size = Size { columns: 20, rows: 4 };

fn header() -> CastHeader {
    CastHeader::new(SIZE, "tmux-256color", "w1")
}

fn events(path: &Path) -> Vec<CastEvent> {
    let mut reader = CastReader::open(path).unwrap();
    std::iter::from_fn(|| reader.next_event().unwrap()).collect()
}

fn output(path: &Path) -> String {
    let events = events(path).into_iter();
    events.filter(|event| event.kind == EventKind::Output).map(|event| event.text).collect()
}

#[test]
fn what_is_written_comes_back_also_when_characters_are_split() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.cast");
    let mut recording = Recording::open(&path, &header()).unwrap();
    let text = "ä界🧪 \"q\" \\ \u{1b}[1m\r\n";
    for byte in text.as_bytes() {
        recording.output(&[*byte]).unwrap();
    }
    recording.resize(Size { columns: 100, rows: 30 });
    recording.output(b"a\xffb\xe2\x82").unwrap();
    drop(recording);
    assert_eq!(output(&path), format!("{text}a\u{fffd}b\u{fffd}"));
    let all = events(&path);
    assert!(all.windows(2).all(|pair| pair[0].at <= pair[1].at));
    assert!(all.iter().any(|event| event.kind == EventKind::Resize(Size { columns: 100, rows: 30 })));
    let first = std::fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned();
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(
        (first["version"].as_u64(), first["width"].as_u64(), first["height"].as_u64()),
        (Some(2), Some(20), Some(4))
    );
    assert_eq!((first["env"]["TERM"].as_str(), first["title"].as_str()), (Some("tmux-256color"), Some("w1")));
}

#[test]
fn nothing_reaches_the_disk_before_a_flush_and_everything_after() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.cast");
    let mut recording = Recording::open(&path, &header()).unwrap();
    recording.output(b"one").unwrap();
    assert!(events(&path).is_empty());
    recording.flush().unwrap();
    assert_eq!(output(&path), "one");
    let much = vec![b'x'; 8 * BUFFER_BYTES];
    recording.output(&much).unwrap();
    assert!(recording.buffer.is_empty() && output(&path).len() == much.len() + 3);
}

#[test]
fn a_long_recording_goes_aside_and_the_next_begins_with_the_screen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.1.cast");
    let mut recording = Recording::open(&path, &header()).unwrap();
    for part in ["first", "second"] {
        recording.output(part.as_bytes()).unwrap();
        recording.begin_anew(Size { columns: 30, rows: 5 }, format!("picture of {part}\r\n").as_bytes()).unwrap();
        let aside = output(&folder.path().join("t.1.earlier.cast"));
        assert!(aside.ends_with(part), "{aside}");
    }
    recording.output(b"third\xe2").unwrap();
    drop(recording);
    assert_eq!(output(&path), "picture of second\r\nthird\u{fffd}");
    assert_eq!(CastReader::open(&path).unwrap().header().size(), Size { columns: 30, rows: 5 });
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    let mut recording = Recording::open(&path, &header()).unwrap();
    assert!(!recording.is_long());
    recording.output(&vec![b'x'; usize::try_from(LONG).unwrap()]).unwrap();
    drop(recording);
    assert!(Recording::open(&path, &header()).unwrap().is_long(), "also when it was gone on with");
}

#[test]
fn a_torn_line_is_passed_over_and_the_recording_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.cast");
    let mut recording = Recording::open(&path, &header()).unwrap();
    recording.push(&(500.5, "o", "before "));
    recording.buffer.extend_from_slice(b"[501.0, \"o\", \"tor");
    drop(recording);
    assert_eq!(output(&path), "before ");
    let mut recording = Recording::open(&path, &header()).unwrap();
    recording.output(b"after").unwrap();
    drop(recording);
    assert_eq!(output(&path), "before after");
    let all = events(&path);
    assert!(all.windows(2).all(|pair| pair[0].at <= pair[1].at), "{all:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap().matches("\"version\"").count(), 1);
}

#[test]
fn a_torn_header_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.cast");
    files::open_log(&path).unwrap().write_all(b"{\"version\":2,\"wid").unwrap();
    assert!(matches!(CastReader::open(&path), Err(RecordingError::NotACast { .. })));
    let mut recording = Recording::open(&path, &header()).unwrap();
    recording.output(b"x").unwrap();
    drop(recording);
    assert_eq!(output(&path), "x");
}

#[test]
fn a_reader_follows_a_writer_over_half_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.cast");
    let mut recording = Recording::open(&path, &header()).unwrap();
    let mut reader = CastReader::open(&path).unwrap();
    assert_eq!(reader.next_event().unwrap(), None);
    recording.file.write_all(b"[1.5, \"o\", \"a").unwrap();
    assert_eq!(reader.next_event().unwrap(), None);
    recording.file.write_all(b"b\"]\n[oops\n[2,\"m\",\"marker\"]\n").unwrap();
    let event = reader.next_event().unwrap().unwrap();
    assert_eq!((event.at, event.text.as_str()), (Duration::from_millis(1500), "ab"));
    assert_eq!(reader.next_event().unwrap(), None);
}

#[test]
fn plain_text_is_what_scrolled_by_with_wrapped_lines_joined() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.cast");
    let mut recording = Recording::open(&path, &header()).unwrap();
    for line in 1..=30 {
        recording
            .output(format!("\x1b[3{}mline {line} is longer than one row\x1b[0m\r\n", line % 8).as_bytes())
            .unwrap();
    }
    recording.output(b"\x1b[?1049hfull screen\x1b[?1049l").unwrap();
    recording.output(b"\r\n\r\n\r\n\r\n").unwrap();
    recording.resize(Size { columns: 20, rows: 10 });
    recording.output(b"$ end\r\n").unwrap();
    drop(recording);
    let lines = plain_text(&path, 3).unwrap();
    assert_eq!(lines, ["", "", "$ end"]);
    let lines: Vec<String> = plain_text(&path, 7).unwrap().into_iter().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines, ["line 29 is longer than one row", "line 30 is longer than one row", "$ end"]);
    assert_eq!(plain_text(&path, 1000).unwrap().len(), 35);
    assert_eq!(plain_text(&path, 1000).unwrap()[0], "line 1 is longer than one row");
    assert!(plain_text(&path, 0).unwrap().is_empty());
}

#[test]
fn another_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    files::open_log(&path).unwrap().write_all(b"{\"version\":3}\n").unwrap();
    assert!(Recording::open(&path, &header()).is_err());
    let missing = CastReader::open(&folder.path().join("none")).unwrap_err();
    assert!(matches!(missing, RecordingError::File(_)), "{missing}");
}
