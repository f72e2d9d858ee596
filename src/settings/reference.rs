//! Writes settings as TOML: the reference file, which documents every key, and single values. It does not
//! know where the text goes.

use super::keys::{Key, Section};
use super::table::sections;

const HEAD: &str = "\
# Every setting of a ringwork node, with what it takes, its default and why.
#
# Generated: change src/settings/schema.rs, then `cargo run -- config reference > config/reference.toml`.
#
# A node takes its settings from the defaults shown here, then from the file named with --config, then from
# the environment, then from flags (--set store.durability=sync sets any of them); the later counts. Unknown
# keys are errors. A file needs only what differs from here. `ringwork config check` checks one, and `ringwork
# config show` shows what is in force and where each value came from.
#
# Durations are written 500ms, 1s, 5m, 1h, 30d; sizes 512B, 64KiB, 1MiB, 1GiB: a whole number and one unit.
";

/// The documented reference file: every section and key with its documentation, set to its default.
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    for section in sections() {
        write_section(section, &mut text);
    }
    text
}

fn write_section(section: &Section, text: &mut String) {
    text.push('\n');
    write_comments(section.doc, text);
    text.push_str(&format!("[{}]\n", section.name));
    for key in section.keys {
        write_key(key, text);
    }
}

fn write_key(key: &Key, text: &mut String) {
    text.push('\n');
    write_comments(key.doc, text);
    text.push_str(&format!("# Takes {}.\n", key.kind));
    text.push_str(&format!("# Environment: {}\n", key.variable()));
    text.push_str(&format!("{} = {}\n", key.leaf(), toml_value(&(key.default)())));
}

fn write_comments(lines: &[&str], text: &mut String) {
    for line in lines {
        text.push_str(format!("# {}", line.trim()).trim_end());
        text.push('\n');
    }
}

/// A number, a string or a list of strings as TOML writes it.
pub fn toml_value(value: &serde_json::Value) -> String {
    // JSON's strings are TOML's, but for one character that TOML wants escaped.
    value.to_string().replace('\u{7f}', "\\u007f")
}
