//! What it costs the engine to keep rows in order while they become more: messages of many users as three vnodes of a
//! node write them, over the store on disk and nothing else. CPU of the engine's own threads and bytes written, for
//! each tenth of the load, and at the end what the newest 20 rows of a user cost to read. It decides nothing; how
//! tables and levels are sized is decided in the runtime's `store/disk.rs`.
//!
//! Run: `cargo bench --bench levels -- [ROWS [USERS [ROWS_PER_SECOND]]]` (12 million of 1000 users at 100 000 a second:
//! two minutes and 2 GB of temporary disk).

use bytes::Bytes;
use ringwork::core::ids::{Generation, Partition};
use ringwork::core::store::{Direction, Flow, KeyRange, KeyspaceId, OpenTree, Store, Write as Row};
use ringwork::runtime::store::disk::{DiskOptions, DiskStore};
use ringwork::runtime::time::Clock;
use std::error::Error;
use std::io::Write;
use std::ops::Bound;
use std::path::Path;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: u32 = 64;
const REPLICAS: u64 = 3;
const MESSAGES_PER_COMMIT: u64 = 20;
const TEXT_BYTES: usize = 110;
const READS: u64 = 20_000;
/// Looks for whether the engine has done all its work, five a second.
const QUIET_LOOKS_MAX: usize = 600;

/// Numbers that look like chance, the same in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }
}

fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo says what it starts a bench with.
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let number = |word: String| match word.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{word} is no number above 0; wanted: [ROWS [USERS [ROWS_PER_SECOND]]]")),
    };
    let numbers: Vec<u64> = words.map(number).collect::<Result<_, _>>()?;
    let given = |at: usize, otherwise: u64| numbers.get(at).copied().unwrap_or(otherwise);
    let (rows, users, rate) = (given(0, 12_000_000), given(1, 1000), given(2, 100_000));
    let out = &mut std::io::stdout();
    let directory = tempfile::tempdir()?;
    let options = DiskOptions { directory: directory.path().join("store"), cache_bytes: 64 << 20 };
    let store = DiskStore::open(&options, false)?;
    let mut trees = Vec::new();
    for partition in 0..PARTITIONS {
        let (service, partition) = ("chat".to_owned(), Partition(partition as u16));
        trees.push(store.open(&KeyspaceId::Vnode { service, partition, generation: Generation(0) })?);
    }
    writeln!(
        out,
        "{:>12} {:>16} {:>16} {:>20}",
        "rows", "engine, a row", "others, a row", "written for a byte"
    )?;
    let mut chance = Chance(1);
    let (mut number, mut bytes) = (0, 0);
    let clock = Clock::system();
    let began = clock.moment();
    for _ in 0..10 {
        let (before, bytes_before, number_before) = (Spent::now(), bytes, number);
        while number - number_before < rows / REPLICAS / 10 {
            let mut batch = Vec::new();
            for _ in 0..MESSAGES_PER_COMMIT {
                number += 1;
                let user = chance.next() % users;
                for row in message(&trees, user, number) {
                    bytes += (row.key.len() + row.value.as_ref().map_or(0, Bytes::len)) as u64;
                    batch.push(row);
                }
            }
            store.commit(&mut batch)?;
            let due = Duration::from_secs_f64((number * REPLICAS) as f64 / rate as f64);
            if let Some(early) = due.checked_sub(clock.moment() - began) {
                pause(early);
            }
        }
        let spent = Spent::now();
        let each = |nanos: u64| {
            format!("{:.2} µs", nanos as f64 / ((number - number_before) * REPLICAS) as f64 / 1000.0)
        };
        let written = (spent.written_bytes - before.written_bytes) as f64 / (bytes - bytes_before) as f64;
        let engine = each(spent.engine_nanos - before.engine_nanos);
        let others = each(spent.others_nanos - before.others_nanos);
        writeln!(out, "{:>12} {engine:>16} {others:>16} {written:>20.2}", number * REPLICAS)?;
    }
    let mut quiet = 0;
    for _ in 0..QUIET_LOOKS_MAX {
        if quiet == 5 {
            break;
        }
        let before = Spent::now().engine_nanos;
        pause(Duration::from_millis(200));
        quiet = if Spent::now().engine_nanos - before < 2_000_000 { quiet + 1 } else { 0 };
    }
    let (files, size) = files(directory.path())?;
    writeln!(
        out,
        "{files} files, {:.2} times the rows' bytes, after {:.0?}",
        size as f64 / bytes as f64,
        clock.moment() - began
    )?;
    let (before, mut found) = (Spent::now(), 0);
    for _ in 0..READS {
        found += newest(&trees, chance.next() % users)?;
    }
    let spent = (Spent::now().others_nanos - before.others_nanos) / READS;
    writeln!(
        out,
        "a user's newest rows: {:.1} µs for {:.1}",
        spent as f64 / 1000.0,
        found as f64 / READS as f64
    )?;
    Ok(())
}

/// Nothing else is to be done meanwhile by this thread.
#[allow(clippy::disallowed_methods)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Where a user's rows are.
fn places(user: u64) -> impl Iterator<Item = usize> {
    let first = mixed(user) % u64::from(PARTITIONS);
    (0..REPLICAS).map(move |further| ((first + further) % u64::from(PARTITIONS)) as usize)
}

fn prefix(user: u64) -> Vec<u8> {
    let mut key = format!("user-{user:07}").into_bytes();
    key.extend([0, 0, 4]);
    key
}

/// A message's rows, as the chat keeps them.
fn message(trees: &[OpenTree], user: u64, number: u64) -> impl Iterator<Item = Row> {
    let mut key = prefix(user);
    key.extend(number.to_be_bytes());
    key.extend([7; 12]);
    let value: Vec<u8> = (0..TEXT_BYTES).map(|at| b'a' + (mixed(number + at as u64) % 26) as u8).collect();
    let (key, value) = (Bytes::from(key), Bytes::from(value));
    places(user).filter_map(move |place| {
        let tree = trees.get(place)?.slot;
        Some(Row { tree, key: key.clone(), value: Some(value.clone()) })
    })
}

/// How many of a user's newest rows were found, 20 at most.
fn newest(trees: &[OpenTree], user: u64) -> Result<u64, Box<dyn Error>> {
    let (start, mut end) = (prefix(user), prefix(user));
    end.push(0xff);
    let range = KeyRange { start: Bound::Included(start.into()), end: Bound::Excluded(end.into()) };
    let tree = places(user).next().and_then(|place| trees.get(place)).ok_or("no such tree")?;
    let mut found = 0;
    tree.tree.scan(&range, Direction::Descending, &mut |_, _| {
        found += 1;
        if found == 20 { Flow::Break(()) } else { Flow::Continue(()) }
    })?;
    Ok(found)
}

/// What this process has spent so far.
struct Spent {
    engine_nanos: u64,
    others_nanos: u64,
    written_bytes: u64,
}

impl Spent {
    fn now() -> Self {
        let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let mut spent = Self { engine_nanos: 0, others_nanos: 0, written_bytes: 0 };
        for thread in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let nanos = text(&thread.path().join("schedstat"));
            let nanos: u64 = nanos.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
            let is_engine = text(&thread.path().join("comm")).starts_with("fjall");
            *(if is_engine { &mut spent.engine_nanos } else { &mut spent.others_nanos }) += nanos;
        }
        let io = text(Path::new("/proc/self/io"));
        let written = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        spent.written_bytes = written.and_then(|word| word.parse().ok()).unwrap_or(0);
        spent
    }
}

/// The files below a directory, and their bytes, but for the journals.
fn files(directory: &Path) -> Result<(u64, u64), Box<dyn Error>> {
    let mut sum = (0, 0);
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.metadata()?;
        let (files, bytes) = match kind.is_dir() {
            true => self::files(&entry.path())?,
            false if entry.path().extension().is_some_and(|end| end == "jnl") => (0, 0),
            false => (1, kind.len()),
        };
        sum = (sum.0 + files, sum.1 + bytes);
    }
    Ok(sum)
}
