//! The file queue against a bare SQLite loop, in one run: publish, claim and complete by eight processes.
//!
//! The floor is what the three transactions cost when nothing but SQLite does them: one table of tickets with a
//! unique key and the two partial indexes a queue needs, one table of events with a growing number, the same
//! settings of the database, a document of the same size. It has no dependencies, rounds, capabilities or checks.
//! The bar is a throughput of at least 0.75 of the floor (design section 10).
//!
//! Run it with `cargo bench --bench queue --features bench-internals`.

#![expect(clippy::print_stdout, reason = "a bench answers on standard output")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use swarm::bench_internals::QueueBench;

/// Processes at once.
const PROCESSES: usize = 8;
/// Tickets each of them publishes, claims and completes: enough that the last processes asleep, waiting for a lock
/// that nobody holds any more, do not decide the time.
const ROUNDS: usize = 4_000;
/// How often floor and engine take turns.
const REPEATS: usize = 5;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    // A child is `queue floor|engine FOLDER NUMBER`; cargo itself passes `--bench`.
    match args.get(1..4) {
        Some([kind, folder, number]) if kind == "floor" => floor_process(folder.as_ref(), number),
        Some([kind, folder, number]) if kind == "engine" => engine_process(folder.as_ref(), number),
        _ => compare(),
    }
}

/// Measures both in turns and prints the middle pair.
fn compare() {
    let mut pairs: Vec<(f64, f64)> = (0..REPEATS).map(|_| (throughput("floor"), throughput("engine"))).collect();
    pairs.sort_by(|one, other| (one.1 / one.0).total_cmp(&(other.1 / other.0)));
    let (floor, engine) = pairs[REPEATS / 2];
    println!("publish + claim + complete, {PROCESSES} processes, the middle of {REPEATS} pairs of runs:");
    println!("  bare SQLite  {floor:8.0} tickets/s");
    println!("  file queue   {engine:8.0} tickets/s");
    println!("  ratio        {:8.2}  (bar: at least 0.75)", engine / floor);
    open_cost();
}

/// Prints what a short command pays for looking at the queue.
fn open_cost() {
    let folder = tempfile::tempdir().expect("a temp folder");
    let queue = QueueBench::open(folder.path());
    for number in 0..5_000 {
        queue.publish(&format!("t{number}"));
    }
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        assert_eq!(QueueBench::count_afresh(folder.path()), 5_000);
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    println!("open for reading + states of 5,000 tickets: {:.2} ms", median(&mut times));
}

/// Tickets a second of one kind.
fn throughput(kind: &str) -> f64 {
    let folder = tempfile::tempdir().expect("a temp folder");
    // The database exists before the clock starts.
    match kind {
        "floor" => drop(floor_database(folder.path())),
        _ => drop(QueueBench::open(folder.path())),
    }
    let started = Instant::now();
    let children: Vec<Child> = (0..PROCESSES).map(|number| start(kind, folder.path(), number)).collect();
    for mut child in children {
        assert!(child.wait().expect("a child ends").success());
    }
    (PROCESSES * ROUNDS) as f64 / started.elapsed().as_secs_f64()
}

/// Starts one process of a kind.
fn start(kind: &str, folder: &Path, number: usize) -> Child {
    #[expect(clippy::disallowed_methods, reason = "a bench is outside the program's own door")]
    let mut command = Command::new(std::env::current_exe().expect("the bench's own path"));
    command.arg(kind).arg(folder).arg(number.to_string()).stdin(Stdio::null());
    command.spawn().expect("the bench starts itself")
}

/// The work of one engine process.
fn engine_process(folder: &Path, number: &str) {
    let queue = QueueBench::open(folder);
    for round in 0..ROUNDS {
        queue.publish(&format!("t{number}-{round}"));
        let (name, fence) = queue.claim().expect("everybody publishes before they claim");
        queue.complete(&name, fence);
    }
}

/// Opens or makes the floor's database.
fn floor_database(folder: &Path) -> Connection {
    let connection = Connection::open(folder.join("floor.db")).expect("the database opens");
    connection.busy_timeout(Duration::from_secs(60)).expect("a setting");
    let sql = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
        CREATE TABLE IF NOT EXISTS tickets(id INTEGER PRIMARY KEY, key TEXT UNIQUE, state TEXT NOT NULL,
            priority INTEGER NOT NULL, attempts INTEGER NOT NULL, node TEXT, lease_until INTEGER,
            document TEXT NOT NULL, changed_at INTEGER NOT NULL) STRICT;
        CREATE INDEX IF NOT EXISTS queued ON tickets(priority DESC, id) WHERE state = 'queued';
        CREATE INDEX IF NOT EXISTS leased ON tickets(lease_until) WHERE state = 'running';
        CREATE TABLE IF NOT EXISTS events(seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL,
            ticket INTEGER NOT NULL, data TEXT NOT NULL) STRICT;";
    connection.execute_batch(sql).expect("the schema is good");
    connection
}

/// The work of one floor process.
fn floor_process(folder: &Path, number: &str) {
    let database = floor_database(folder);
    let document = "x".repeat(340);
    let event = "x".repeat(140);
    for round in 0..ROUNDS {
        let key = format!("t{number}-{round}");
        step(&database, |database| {
            let sql = "INSERT INTO tickets(key, state, priority, attempts, document, changed_at)
                VALUES(?1, 'queued', 5, 0, ?2, 1)";
            database.prepare_cached(sql)?.execute(params![key, document])?;
            append(database, database.last_insert_rowid(), &event)
        });
        let mut claimed = 0;
        step(&database, |database| {
            let sql = "UPDATE tickets SET state = 'running', attempts = attempts + 1, node = 'bench', lease_until = 9,
                changed_at = 2 WHERE id = (SELECT id FROM tickets WHERE state = 'queued' ORDER BY priority DESC, id
                LIMIT 1) RETURNING id, document";
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
            let (id, claimed_document) = database.prepare_cached(sql)?.query_row([], read)?;
            assert_eq!(claimed_document.len(), document.len());
            claimed = id;
            append(database, id, &event)
        });
        step(&database, |database| {
            let sql = "UPDATE tickets SET state = 'review', lease_until = NULL, changed_at = 3 WHERE id = ?1
                AND state = 'running' AND attempts = 1";
            assert_eq!(database.prepare_cached(sql)?.execute([claimed])?, 1);
            append(database, claimed, &event)
        });
    }
}

/// Appends an event of the floor.
fn append(database: &Connection, ticket: i64, event: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO events(at, ticket, data) VALUES(1, ?1, ?2)";
    database.prepare_cached(sql)?.execute(params![ticket, event]).map(drop)
}

/// One transaction of the floor.
fn step(database: &Connection, body: impl FnOnce(&Connection) -> rusqlite::Result<()>) {
    let run = |sql| database.prepare_cached(sql)?.execute([]);
    let all = || {
        run("BEGIN IMMEDIATE")?;
        body(database)?;
        run("COMMIT")
    };
    all().expect("the floor's transaction succeeds");
}

/// The middle value.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
