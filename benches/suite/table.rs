//! The table: a row for each figure, with the bar and the aim it is held against. It decides what *met* means and how a
//! figure is shown; it knows nothing of how one is found.

use crate::Outcome;
use std::path::Path;

const BEGIN: &str = "<!-- suite: begin -->";
const END: &str = "<!-- suite: end -->";

/// What a figure is held against.
#[derive(Clone, Copy)]
pub enum Bar {
    /// At most the bar, better the aim.
    Most(f64, f64),
    /// At least the bar, better the aim.
    Least(f64, f64),
    /// A cost that must be flat: the largest of several may be this many times the smallest.
    Flat(f64),
    /// Nothing: shown beside the others.
    None,
}

/// How far apart costs may lie that are called flat: beyond what two runs of the same differ by.
pub const FLAT: Bar = Bar::Flat(1.3);

struct Row {
    what: String,
    bar: Bar,
    found: f64,
    unit: &'static str,
    remark: String,
}

/// See the module's head.
#[derive(Default)]
pub struct Table(Vec<Row>);

fn shown(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1000.0 => format!("{figure:.0}"),
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 0.1 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

impl Row {
    fn cells(&self) -> [String; 5] {
        let of =
            |sign: &str, figure: f64| format!("{sign} {} {}", shown(figure), self.unit).trim().to_owned();
        let found = self.found;
        let (bar, aim, verdict) = match self.bar {
            Bar::Most(bar, aim) => (of("≤", bar), of("≤", aim), judged(found <= bar, found <= aim)),
            Bar::Least(bar, aim) => (of("≥", bar), of("≥", aim), judged(found >= bar, found >= aim)),
            Bar::Flat(bar) => {
                (format!("flat: ≤ {} ×", shown(bar)), String::new(), judged(found <= bar, false))
            }
            Bar::None => Default::default(),
        };
        let remark = if self.remark.is_empty() { String::new() } else { format!(" ({})", self.remark) };
        let found = format!("**{}**{remark}", of("", found));
        [self.what.clone(), bar, aim, found, verdict.to_owned()]
    }
}

fn judged(meets_bar: bool, meets_aim: bool) -> &'static str {
    match (meets_bar, meets_aim) {
        (_, true) => "aim met",
        (true, false) => "met",
        (false, false) => "**missed**",
    }
}

impl Table {
    /// Adds a row, and shows it on the way.
    pub fn row(&mut self, what: &str, bar: Bar, found: f64, unit: &'static str, remark: impl Into<String>) {
        let row = Row { what: what.to_owned(), bar, found, unit, remark: remark.into() };
        let line = row.cells().join(" | ");
        // Progress that cannot be shown is no reason to stop.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("    {line}\n").as_bytes());
        self.0.push(row);
    }

    /// Adds a row about figures of one cost at several sizes: how many times the smallest the largest is.
    pub fn flat(&mut self, what: &str, unit: &str, figures: &[(String, f64)]) {
        let sizes = figures.iter().map(|(size, figure)| format!("{size}: {}{unit}", shown(*figure)));
        let (least, most) = figures
            .iter()
            .fold((f64::MAX, f64::MIN), |(least, most), (_, figure)| (least.min(*figure), most.max(*figure)));
        if !figures.is_empty() && least > 0.0 {
            self.row(what, FLAT, most / least, "×", sizes.collect::<Vec<_>>().join(", "));
        }
    }

    /// All rows, with when and where they were found.
    pub fn markdown(&self, commit: &str, wall_ms: u64) -> String {
        let mut text = format!("{} at {commit}, {}.\n\n", date(wall_ms), machine());
        text.push_str("| what | at least | aim | found | |\n|---|---|---|---|---|\n");
        for row in &self.0 {
            text.push_str(&format!("| {} |\n", row.cells().join(" | ")));
        }
        text
    }
}

/// Puts `text` between the two marks that `file` has.
pub fn write_between_marks(file: &Path, text: &str) -> Outcome {
    let old = std::fs::read_to_string(file)?;
    let missing =
        || format!("{} lacks the marks {BEGIN} and {END}, between which the table goes", file.display());
    let (head, rest) = old.split_once(BEGIN).ok_or_else(missing)?;
    let (_, tail) = rest.split_once(END).ok_or_else(missing)?;
    std::fs::write(file, format!("{head}{BEGIN}\n{text}{END}{tail}"))?;
    Ok(())
}

/// The middle of some figures, or between the two middles.
pub fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let upper = *figures.get(figures.len() / 2)?;
    let lower = *figures.get((figures.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// The day of a time since 1970, as year-month-day (days to civil, Howard Hinnant).
fn date(wall_ms: u64) -> String {
    let days = (wall_ms / 86_400_000) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) =
        (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_kib: f64 = field("/proc/meminfo", "MemTotal")
        .split(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let model = field("/proc/cpuinfo", "model name");
    format!("{cores} cores of {model}, {:.0} GiB", memory_kib / f64::from(1 << 20))
}
