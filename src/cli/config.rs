//! `ringwork config`: checks settings, shows what is in force and where it came from, prints the documented
//! reference. It asks no node and starts none, and does not know where its output goes.

use crate::settings::{Loaded, Settings, SettingsError, Sources, keys, reference, toml_value};
use serde_json::{Map, Value, json};
use std::io::{self, Write};

/// What to do with the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum ConfigCommand {
    /// Checks the settings a node would start with, and names everything that is wrong.
    #[command(after_help = "Example: ringwork config check --config config/node.toml")]
    Check,
    /// Shows every setting that would be in force, and where its value comes from.
    #[command(
        after_help = "Example: RINGWORK__HTTP__WORKERS=4 ringwork config show --config config/node.toml"
    )]
    Show,
    /// Prints the documented reference file: every setting with its default.
    #[command(after_help = "Example: ringwork config reference > my-node.toml")]
    Reference,
}

/// Why a `config` command failed. Nothing was changed by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigCommandError {
    /// The settings are wrong; each line says what and where.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The answer could not be written, all or in part.
    #[error("the answer could not be written: {0}")]
    Output(#[from] io::Error),
}

/// Runs the command and writes its answer. With `json` the answer is one JSON object.
pub fn run(
    command: &ConfigCommand,
    sources: &Sources,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), ConfigCommandError> {
    match command {
        ConfigCommand::Check => check(sources, json, out),
        ConfigCommand::Show => show(&Settings::load(sources)?, json, out),
        ConfigCommand::Reference => print_reference(json, out),
    }
}

fn check(sources: &Sources, json: bool, out: &mut dyn Write) -> Result<(), ConfigCommandError> {
    let loaded = Settings::load(sources);
    if json {
        let problems = loaded.as_ref().err().map_or(&[][..], |error| &error.problems);
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        write_json(&json!({ "valid": loaded.is_ok(), "problems": problems }), out)?;
    } else if loaded.is_ok() {
        writeln!(out, "the configuration is valid")?;
    }
    loaded.map(|_| ()).map_err(ConfigCommandError::from)
}

fn show(loaded: &Loaded, json: bool, out: &mut dyn Write) -> Result<(), ConfigCommandError> {
    if json {
        let entries = loaded.values().map(|(key, value, origin)| {
            (key.name.to_owned(), json!({ "value": value, "origin": origin.to_string() }))
        });
        return write_json(&Value::Object(entries.collect()), out);
    }
    let lines: Vec<_> =
        loaded.values().map(|(key, value, origin)| (key.name, toml_value(&value), origin)).collect();
    // As wide as the widest, but one long path must not push every origin off the screen.
    let key_width = lines.iter().map(|(key, ..)| key.len()).max().unwrap_or(0);
    let value_width =
        lines.iter().map(|(_, value, _)| value.len()).filter(|width| *width <= 32).max().unwrap_or(0);
    for (key, value, origin) in lines {
        writeln!(out, "{key:key_width$} = {value:value_width$}   # {origin}")?;
    }
    Ok(())
}

fn print_reference(json: bool, out: &mut dyn Write) -> Result<(), ConfigCommandError> {
    if !json {
        return Ok(out.write_all(reference().as_bytes())?);
    }
    let entries: Map<_, _> = keys()
        .map(|key| {
            let doc: Vec<_> = key.doc.iter().map(|line| line.trim()).collect();
            let entry = json!({
                "default": (key.default)(),
                "takes": key.kind.to_string(),
                "variable": key.variable(),
                "doc": doc.join(" "),
            });
            (key.name.to_owned(), entry)
        })
        .collect();
    write_json(&Value::Object(entries), out)
}

fn write_json(value: &Value, out: &mut dyn Write) -> Result<(), ConfigCommandError> {
    Ok(writeln!(out, "{value:#}")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Override;
    use std::collections::BTreeSet;

    fn from_set(assignments: &[(&str, &str)]) -> Sources {
        let overrides = assignments.iter().map(|(key, value)| Override::new(key, *value, "--set")).collect();
        Sources { overrides, ..Sources::default() }
    }

    fn output(
        command: ConfigCommand,
        sources: &Sources,
        json: bool,
    ) -> (String, Result<(), ConfigCommandError>) {
        let mut out = Vec::new();
        let result = run(&command, sources, json, &mut out);
        (String::from_utf8(out).unwrap(), result)
    }

    #[test]
    fn config_check_says_valid_or_everything_that_is_wrong() {
        let (text, result) = output(ConfigCommand::Check, &Sources::default(), false);
        assert!(result.is_ok());
        assert_eq!(text, "the configuration is valid\n");
        let wrong = from_set(&[("quorum.r", "9"), ("http.worker", "1")]);
        let (text, result) = output(ConfigCommand::Check, &wrong, false);
        assert_eq!((text.as_str(), result.unwrap_err().to_string().lines().count()), ("", 2));
        let (text, result) = output(ConfigCommand::Check, &wrong, true);
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert!(result.is_err());
        assert_eq!((&answer["valid"], answer["problems"].as_array().map(Vec::len)), (&json!(false), Some(2)));
    }

    #[test]
    fn config_show_prints_aligned_lines_that_are_themselves_a_configuration() {
        let sources = from_set(&[
            ("node.data_dir", "/a \"b\" \\ # c\u{7f}"),
            ("quorum.r", "2"),
            ("http.keep_alive", "60s"),
        ]);
        let (text, result) = output(ConfigCommand::Show, &sources, false);
        assert!(result.is_ok());
        assert_eq!(text.lines().count(), keys().count());
        let columns: BTreeSet<_> = text.lines().filter_map(|line| line.find(" = ")).collect();
        assert_eq!(columns.len(), 1, "{text}");
        assert!(text.lines().any(|line| line.starts_with("quorum.r ") && line.ends_with("   # flag --set")));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let shown = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
        let again = Settings::load(&shown).unwrap();
        assert_eq!(again.settings, Settings::load(&sources).unwrap().settings);
        assert!(output(ConfigCommand::Show, &from_set(&[("x", "1")]), false).1.is_err());
    }

    #[test]
    fn config_show_and_reference_answer_in_json() {
        let (text, _) = output(ConfigCommand::Show, &from_set(&[("http.workers", "4")]), true);
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["http.workers"], json!({ "value": 4, "origin": "flag --set" }));
        assert_eq!(answer["store.durability"], json!({ "value": "interval", "origin": "default" }));
        assert_eq!(answer.as_object().unwrap().len(), keys().count());
        let (text, _) = output(ConfigCommand::Reference, &Sources::default(), true);
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["quorum.n_val"]["default"], json!(3));
        assert_eq!(answer["quorum.n_val"]["variable"], json!("RINGWORK__QUORUM__N_VAL"));
    }

    #[test]
    fn config_reference_needs_no_valid_settings_and_a_full_disk_is_told() {
        let (text, result) = output(ConfigCommand::Reference, &from_set(&[("x", "1")]), false);
        assert!(result.is_ok());
        assert_eq!(text, reference());
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let result = run(&ConfigCommand::Reference, &Sources::default(), false, &mut Full);
        assert!(matches!(result, Err(ConfigCommandError::Output(_))));
        assert_eq!(toml_value(&json!("a\"\u{7f}")), "\"a\\\"\\u007f\"");
    }
}
