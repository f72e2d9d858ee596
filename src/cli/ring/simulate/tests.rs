//! What `ringwork ring simulate` reads and shows.

use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    arguments: SimulateArguments,
}

fn parsed(words: &[&str]) -> Result<SimulateArguments, String> {
    Line::try_parse_from([&["simulate"], words].concat())
        .map(|line| line.arguments)
        .map_err(|error| error.to_string())
}

fn shown(words: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    run(parsed(words).unwrap(), &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn every_step_is_a_line_with_moves_beside_their_bound() {
    let lines = shown(&["--ring-size", "64", "--nodes", "1,3,4,8"]);
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(words(&lines[0])[..5], ["Q", "nodes", "owned", "moved", "bound"]);
    assert_eq!(words(&lines[1]), ["64", "1→3", "21–22", "42", "42", "0,2,64", "-"]);
    assert_eq!(words(&lines[3]), ["64", "4→8", "8–8", "32", "32", "0,0,0", "-"]);
}

#[test]
fn each_goes_one_node_at_a_time_and_json_is_one_object_per_step() {
    let lines = shown(&["--ring-size", "16", "--nodes", "1,4,3", "--each", "--json"]);
    let rows: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<(u64, u64)> =
        rows.iter().map(|row| (row["from"].as_u64().unwrap(), row["to"].as_u64().unwrap())).collect();
    assert_eq!(steps, [(1, 2), (2, 3), (3, 4), (4, 3)]);
    assert_eq!(rows[0]["moved"], 8);
    assert_eq!(rows[2]["node_windows"], json!([0, 0, 0]));
}

#[test]
fn locations_have_a_column() {
    let lines = shown(&["--ring-size", "16", "--nodes", "1,4", "--locations", "2", "--location-n", "2"]);
    assert_eq!(words(&lines[1]), ["16", "1→4", "4–4", "12", "12", "0,0,0", "0"]);
    assert_eq!(windows(&[0, 18], &[0, 17]), "0,18 / 0,17");
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    for (wrong, says) in [
        (&["--ring-size", "63"][..], "power of two"),
        (&["--nodes", "0"], "1..8"),
        (&["--nodes", "1..99999"], "no number of nodes"),
        (&["--target-n", "17"], "1 to 16"),
        (&["--location-n", "0"], "1 to 16"),
    ] {
        let error = parsed(wrong).unwrap_err();
        assert!(error.contains(says), "{wrong:?}: {error}");
    }
}

#[test]
fn a_closed_output_ends_the_walk() {
    struct Closed(usize);
    impl Write for Closed {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 > 2 { Err(std::io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut out = Closed(0);
    let result = run(parsed(&["--ring-size", "65536", "--nodes", "1..4096"]).unwrap(), &mut out);
    assert!(matches!(result, Err(CliError::OutputClosed)), "{result:?}");
}
