//! Reads a configuration file: bounded, as text, as TOML, and then as one flat list of values with the line
//! of each. It trusts nothing about the file, and does not know the other layers.

use super::kind::Given;
use super::layer::Layer;
use super::problem::{Origin, Problem, Problems, Stated, shown};
use super::table::{Named, look_up, nearest, section_expected};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Bytes of a configuration file. The whole reference is about 16 KiB; this keeps a device or a data file
/// that was named by mistake out of memory.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The values of a file. What is wrong with the file or in it is added to the problems.
pub(super) fn read(path: &Path, problems: &mut Problems) -> Layer {
    let mut layer = Layer::default();
    let Some(text) = read_text(path, problems) else { return layer };
    let lines = Lines::of(&text);
    match DeTable::parse(&text) {
        Ok(table) => {
            let table = table.into_inner();
            Walk { path, lines, trail: Vec::new(), layer: &mut layer, problems }.table(&table);
        }
        Err(error) => problems.add(|| Problem::FileNotToml {
            path: path.to_owned(),
            line: lines.line_at(error.span().map_or(0, |span| span.start)),
            reason: error.message().to_owned(),
        }),
    }
    layer
}

fn read_text(path: &Path, problems: &mut Problems) -> Option<String> {
    match read_bounded(path) {
        Err(error) => {
            let reason = if error.kind() == io::ErrorKind::NotFound {
                "there is no such file".to_owned()
            } else {
                error.to_string()
            };
            problems.add(|| Problem::FileUnreadable { path: path.to_owned(), reason });
            None
        }
        // One byte more than allowed was asked for, so this tells a file at the bound from one beyond it.
        Ok(bytes) if bytes.len() as u64 > CONFIG_FILE_BYTES_MAX => {
            let bytes_max = CONFIG_FILE_BYTES_MAX;
            problems.add(|| Problem::FileTooLong { path: path.to_owned(), bytes_max });
            None
        }
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) => {
                let byte = error.utf8_error().valid_up_to();
                let before = error.as_bytes().iter().take(byte);
                let line = before.filter(|byte| **byte == b'\n').count() + 1;
                problems.add(|| Problem::FileNotText { path: path.to_owned(), line, byte });
                None
            }
        },
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // Not the size the file system tells: pipes and devices have none.
    let mut bytes = Vec::new();
    File::open(path)?.take(CONFIG_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where the lines of a text begin, to find the line of a place without reading the text again for each.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// The line, from 1, of the byte at this place.
    fn line_at(&self, place: usize) -> usize {
        self.starts.partition_point(|start| *start <= place)
    }
}

/// A way through the tables of a file. How deep they lie in each other is bounded by the parser.
struct Walk<'a> {
    path: &'a Path,
    lines: Lines,
    trail: Vec<&'a str>,
    layer: &'a mut Layer,
    problems: &'a mut Problems,
}

impl<'a> Walk<'a> {
    fn table(&mut self, table: &'a DeTable<'a>) {
        // In the order of the file, so that problems are told from top to bottom.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            self.trail.push(key.get_ref());
            self.value(key.span().start, value);
            self.trail.pop();
        }
    }

    fn value(&mut self, place: usize, value: &'a Spanned<DeValue<'a>>) {
        let origin = Origin::File { path: self.path.to_owned(), line: self.lines.line_at(place) };
        match (look_up(&self.trail), value.get_ref()) {
            (Named::Key(key), value) => self.layer.offer(key, &given(value), origin, self.problems),
            (Named::Section(_), DeValue::Table(table)) => self.table(table),
            (Named::Section(section), value) => self.problems.add(|| Problem::WrongValue {
                stated: Stated { key: section.name.to_owned(), value: given(value).to_string(), origin },
                expected: section_expected(section),
            }),
            // The names inside an unknown table say better what was meant than the table's own.
            (Named::Nothing, DeValue::Table(table)) if !table.is_empty() => self.table(table),
            (Named::Nothing, _) => {
                let trail = &self.trail;
                self.problems.add(|| unknown(trail, origin));
            }
        }
    }
}

fn unknown(trail: &[&str], origin: Origin) -> Problem {
    let key = trail.join(".");
    let nearest = nearest(&key).map(|key| key.name.to_owned());
    Problem::UnknownKey { key: shown(&key), origin, nearest }
}

fn given(value: &DeValue<'_>) -> Given {
    match value {
        DeValue::String(text) => Given::Text(text.clone().into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Given::Other("a number beyond 64 bits"), Given::Integer),
        DeValue::Float(_) => Given::Other("a number with a fraction"),
        DeValue::Boolean(true) => Given::Other("true"),
        DeValue::Boolean(false) => Given::Other("false"),
        DeValue::Datetime(_) => Given::Other("a date or time"),
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => Some(text.clone().into_owned()),
                _ => None,
            });
            texts
                .collect::<Option<_>>()
                .map_or(Given::Other("a list of other things than strings"), Given::List)
        }
        DeValue::Table(_) => Given::Other("a table"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{PROBLEMS_MAX, Settings, Sources};
    use std::io::Write;
    use tempfile::NamedTempFile;

    fn written(text: impl AsRef<[u8]>) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_ref()).unwrap();
        file
    }

    fn problems(path: &Path) -> Vec<Problem> {
        let sources = Sources { file: Some(path.to_owned()), ..Sources::default() };
        Settings::load(&sources).map_or_else(|error| error.problems, |_| Vec::new())
    }

    /// The problems as they are shown, with the name of the temporary file made readable.
    fn told(text: impl AsRef<[u8]>) -> Vec<String> {
        let file = written(text);
        let name = file.path().display().to_string();
        problems(file.path()).iter().map(|problem| problem.to_string().replace(&name, "F")).collect()
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_the_reason() {
        let missing = Path::new("/nowhere/node.toml");
        assert_eq!(
            problems(missing)[0].to_string(),
            "configuration file /nowhere/node.toml: there is no such file"
        );
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(&problems(directory.path())[..], [Problem::FileUnreadable { .. }]));
    }

    #[test]
    fn a_file_at_the_bound_is_read_and_one_beyond_is_not() {
        let bound = usize::try_from(CONFIG_FILE_BYTES_MAX).unwrap();
        assert_eq!(problems(written("#".repeat(bound)).path()), []);
        let beyond = written("#".repeat(bound + 1));
        assert!(matches!(&problems(beyond.path())[..], [Problem::FileTooLong { .. }]));
    }

    #[cfg(unix)]
    #[test]
    fn an_endless_device_is_not_read_to_its_end() {
        let problems = problems(Path::new("/dev/zero"));
        assert!(matches!(&problems[..], [Problem::FileTooLong { .. }]), "{problems:?}");
    }

    #[test]
    fn a_file_that_is_not_text_or_not_toml_is_told_with_the_line() {
        assert_eq!(
            told(b"[node]\nname = \"n\xff1\"\n"),
            ["configuration file F:2: is not UTF-8 text from byte 16 on"]
        );
        let lines = told("[node]\nname = \n");
        assert!(lines[0].starts_with("configuration file F:2: is not TOML: "), "{lines:?}");
        assert!(
            told("[node]\nname = \"a\"\nname = \"b\"\n")[0]
                .starts_with("configuration file F:3: is not TOML")
        );
    }

    #[test]
    fn a_file_of_nonsense_is_answered_briefly() {
        let many = (0..60_000).map(|i| format!("k{i} = 1\n")).collect::<String>();
        let lines = told(&many);
        assert_eq!(lines.len(), PROBLEMS_MAX + 1);
        assert_eq!(lines.last().unwrap(), &format!("and {} more", 60_000 - PROBLEMS_MAX));
        let long_table = format!("[{}]\n{}", "a".repeat(500_000), many);
        let deep_header = format!("[{}]\n", vec!["a"; 200_000].join("."));
        let deep_value = format!("a = {}", "[".repeat(500_000));
        let deep_table = format!("a = {}", "{a=".repeat(300_000));
        let long_value = format!("[node]\nname = \"{}\"", "a".repeat(1_000_000));
        for hostile in [long_table, deep_header, deep_value, deep_table, long_value] {
            let bytes: usize = told(&hostile).iter().map(String::len).sum();
            assert!((1..50_000).contains(&bytes), "{bytes} bytes for {}", &hostile[..20]);
        }
    }

    #[test]
    fn a_byte_order_mark_and_the_line_ends_of_windows_are_read_over() {
        assert_eq!(told("\u{feff}[node]\r\nname = \"n1\"\r\n"), Vec::<String>::new());
        assert!(told("[node]\r\n\r\nnome = 1\r\n")[0].starts_with("node.nome (file F:3)"));
    }
}
