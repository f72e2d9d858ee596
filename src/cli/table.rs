//! Tables on a terminal: aligned columns, every cell on one line and harmless to show. It does not know what is
//! in them.

use crate::cli::client::{CliError, explanation, write_line};
use std::io::Write;

/// Where a column's cells stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Figures.
    Right,
}

/// Rows under a head.
#[derive(Debug)]
pub(crate) struct Table {
    aligns: Vec<Align>,
    /// The head is the first.
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        let head = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        Self { aligns: columns.iter().map(|(_, align)| *align).collect(), rows: vec![head] }
    }

    /// Adds a row; an empty cell is shown as a dash. Cells beyond the columns are left out.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        let shown = |cell: &String| if cell.is_empty() { "-".to_owned() } else { explanation(cell) };
        self.rows.push(cells.iter().map(shown).collect());
    }

    /// Writes it, columns two spaces apart.
    pub(crate) fn write(&self, output: &mut dyn Write) -> Result<(), CliError> {
        let mut widths = vec![0; self.aligns.len()];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), align) in row.iter().zip(&widths).zip(&self.aligns) {
                match align {
                    Align::Left => line.push_str(&format!("{cell:<width$}  ")),
                    Align::Right => line.push_str(&format!("{cell:>width$}  ")),
                }
            }
            write_line(output, line.trim_end())?;
        }
        Ok(())
    }
}

/// A share of the ring.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A number of bytes for people: three or four figures and a unit.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in UNITS {
        // What would be rounded to 1024 is one of the next unit.
        if value < 1023.95 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    format!("{value:.1} {unit}")
}

/// A number of things, the word in the plural where that is due.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// Small numbers in words.
pub(crate) fn in_words(number: usize) -> String {
    const WORDS: [&str; 13] = [
        "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
        "twelve",
    ];
    WORDS.get(number).map_or_else(|| number.to_string(), |word| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_in_them_moves_a_cursor() {
        let mut table = Table::new(&[("node", Align::Left), ("share", Align::Right), ("at", Align::Left)]);
        table.row(["n1".to_owned(), percent(1.0 / 3.0), "Zürich".to_owned()]);
        table.row(["n\u{1b}[2J".to_owned(), percent(0.05), String::new()]);
        let mut output = Vec::new();
        table.write(&mut output).unwrap();
        assert_eq!(
            String::from_utf8(output).unwrap(),
            "node         share  at\nn1          33.3 %  Zürich\nn\\u{1b}[2J   5.0 %  -\n"
        );
        for (number, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_500, "1023.9 KiB"),
            (1_048_575, "1.0 MiB"),
            (50_000_000, "47.7 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), shown);
        }
        assert_eq!((in_words(3), in_words(40)), ("three".to_owned(), "40".to_owned()));
        assert_eq!(
            (counted(1, "move", "moves"), counted(0, "move", "moves")),
            ("1 move".into(), "0 moves".into())
        );
    }
}
