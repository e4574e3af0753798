use proptest::prelude::*;

use super::*;

const SIZE: Size = Size { columns: 20, rows: 5 };

fn answers(text: &str) -> String {
    String::from_utf8(Screen::new(SIZE).feed(text.as_bytes())).unwrap()
}

#[test]
fn queries_get_the_answers_of_a_terminal() {
    assert_eq!(answers("\x1b[c\x1b[0c\x1b[>c"), "\x1b[?1;2c\x1b[?1;2c\x1b[>84;0;0c");
    assert_eq!(answers("\x1b[5n\x1b[3;4H\x1b[6n\x1b[?6n"), "\x1b[0n\x1b[3;4R\x1b[?3;4R");
    assert!(answers("\x1b[>q").starts_with("\x1bP>|swarm "));
    assert_eq!(answers("\x1b]11;?\x07"), "\x1b]11;rgb:0000/0000/0000\x1b\\");
    assert_eq!(answers("\x1b]10;?\x1b\\"), "\x1b]10;rgb:e5e5/e5e5/e5e5\x1b\\");
    assert_eq!(
        answers("\x1b[?2004$p\x1b[?2004h\x1b[?2004$p\x1b[?2026$p"),
        "\x1b[?2004;2$y\x1b[?2004;1$y\x1b[?2026;0$y"
    );
    assert_eq!(answers("\x1b[18t"), "\x1b[8;5;20t");
    // The kitty query is followed by DA1, and only that is answered.
    assert_eq!(answers("\x1b[?u\x1b[c"), "\x1b[?1;2c");
    assert_eq!(answers("plain text \x1b[1mbold\x1b[0m"), "");
}

#[test]
fn a_cursor_behind_the_last_column_is_reported_inside() {
    assert_eq!(answers("01234567890123456789\x1b[6n"), "\x1b[1;20R");
}

#[test]
fn a_query_split_anywhere_is_answered_once() {
    let text = b"a\x1b[>q\xc3\xa4\x1b]11;?\x1b\\\x1b[?2004$p\x1b[6n";
    let whole = Screen::new(SIZE).feed(text);
    for at in 0..text.len() {
        let mut screen = Screen::new(SIZE);
        let mut parts = screen.feed(&text[..at]);
        parts.extend(screen.feed(&text[at..]));
        assert_eq!(parts, whole, "split at {at}");
    }
}

#[test]
fn title_and_modes_are_known() {
    let mut screen = Screen::new(SIZE);
    screen.feed("\x1b]0;✳ a\u{9b}b\x07\x07\x1b[?1049h\x1b[?2004h".as_bytes());
    let modes = b"\x1b[?1049$p\x1b[?2004$p";
    assert_eq!(screen.title(), "✳ ab");
    assert_eq!(screen.feed(modes), b"\x1b[?1049;1$y\x1b[?2004;1$y");
    screen.feed(b"\x1b[?1049l\x1b[?2004l\x1b]2;other\x1b\\");
    assert_eq!(screen.feed(modes), b"\x1b[?1049;2$y\x1b[?2004;2$y");
    assert_eq!(screen.title(), "other");
}

#[test]
fn last_lines_joins_what_was_wrapped_and_leaves_blanks() {
    let mut screen = Screen::new(SIZE);
    screen.feed("first\r\nsecond is longer than a row\r\n\r\n".as_bytes());
    assert_eq!(screen.last_lines(1), ["second is longer than a row"]);
    assert_eq!(screen.last_lines(9), ["first", "second is longer than a row"]);
    assert!(Screen::new(SIZE).last_lines(3).is_empty());
}

#[test]
fn a_repaint_gives_a_new_client_the_same_screen_and_modes() {
    let mut screen = Screen::new(SIZE);
    screen.feed(
        "\x1b[?1049h\x1b[31mred\x1b[0m ü\x1b[?2004h\x1b[?1002h\x1b[?1006h\x1b[?1004h\x1b[>4;2m\x1b[?25l".as_bytes(),
    );
    screen.feed(b"\x1b]2;title\x07\x1b[3;7H");
    let mut client = Screen::new(SIZE);
    client.feed(b"old rubbish\x1b[5;5H\x1b[7m");
    client.feed(&screen.repaint());
    assert_eq!(client.repaint(), screen.repaint());
    assert_eq!(client.last_lines(5), screen.last_lines(5));
    assert_eq!(client.title(), "title");
    let modes = b"\x1b[?1049$p\x1b[?2004$p\x1b[?1002$p\x1b[?1006$p\x1b[?1004$p\x1b[?25$p\x1b[6n";
    assert_eq!(client.feed(modes), screen.feed(modes));
}

#[test]
fn a_string_that_never_ends_takes_no_memory() {
    let before = resident();
    let mut screen = Screen::new(SIZE);
    screen.feed(b"\x1b]0;");
    let chunk = vec![b'x'; 1 << 20];
    (0..64).for_each(|_| drop(screen.feed(&chunk)));
    assert!(resident().saturating_sub(before) < 16 << 20);
    screen.feed(b"\x07after");
    assert_eq!(screen.last_lines(1), ["after"]);
}

#[test]
fn a_full_screen_takes_less_than_a_megabyte() {
    let text = "x".repeat(200 * 60);
    let mut screens = Vec::new();
    let mut measure = || {
        let before = resident();
        for _ in 0..40 {
            let mut screen = Screen::new(Size::UNSEEN);
            screen.feed(text.as_bytes());
            screens.push(screen);
        }
        resident().saturating_sub(before) / 40
    };
    // Other tests of the same process take memory meanwhile.
    let each = (0..5).map(|_| measure()).min().unwrap();
    println!("{each} bytes a screen");
    assert!(each < 1 << 20, "{each} bytes a screen");
}

/// Resident bytes of this process.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Pieces that make escape sequences likely.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        "\u{1b}\\[[?>$]?[0-9;:]{0,8}[@-~]".prop_map(String::into_bytes),
        "[\u{1b}a界é\u{300}🧪\r\n\t]{0,30}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn no_output_and_no_size_breaks_the_screen(
        steps in prop::collection::vec((piece(), any::<Option<(u16, u16)>>()), 0..40),
    ) {
        let mut screen = Screen::new(SIZE);
        for (bytes, size) in steps {
            screen.feed(&bytes);
            if let Some((columns, rows)) = size {
                screen.resize(Size { columns: columns % 40, rows: rows % 12 });
            }
            let mut client = Screen::new(SIZE);
            client.feed(&screen.repaint());
            screen.last_lines(3);
        }
    }
}

#[test]
fn a_screen_on_which_nothing_was_written_has_a_size_and_can_be_painted() {
    let mut screen = Screen::new(SIZE);
    assert_eq!((screen.title(), screen.last_lines(3)), ("", Vec::new()));
    let mut client = Screen::new(SIZE);
    client.feed(b"old words");
    client.feed(&screen.repaint());
    assert!(client.last_lines(3).is_empty(), "{:?}", client.last_lines(3));
    screen.resize(Size { columns: 33, rows: 7 });
    assert_eq!(screen.feed(b"\x1b[18t"), b"\x1b[8;7;33t");
}
