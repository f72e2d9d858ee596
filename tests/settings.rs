//! Settings as an operator meets them: files, environment and flags, right and wrong.
//! It goes through the public interface only, and knows nothing of how layers are read.

#![expect(clippy::expect_used, reason = "helpers of tests, which may fail like tests")]

use proptest::prelude::*;
use ringwork::settings::{
    Durability, Engine, Kind, LogFormat, Origin, Override, Problem, QuorumSetting, RetentionAge, Settings,
    Size, Sources, Span, environment, keys, reference, sections,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use tempfile::NamedTempFile;

fn written(text: impl AsRef<[u8]>) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_ref()).expect("room on the disk");
    file
}

fn from_file(path: &Path) -> Sources {
    Sources { file: Some(path.to_owned()), ..Sources::default() }
}

fn from_environment(variables: &[(&str, &str)]) -> Sources {
    let environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { environment, ..Sources::default() }
}

fn from_set(assignments: &[(&str, &str)]) -> Sources {
    let overrides = assignments.iter().map(|(key, value)| Override::new(key, *value, "--set")).collect();
    Sources { overrides, ..Sources::default() }
}

fn problems(sources: &Sources) -> Vec<Problem> {
    Settings::load(sources).map_or_else(|error| error.problems, |_| Vec::new())
}

/// The problems as they are shown, with the name of a temporary file made readable.
fn told(sources: &Sources) -> Vec<String> {
    let file = sources.file.as_ref().map(|path| path.display().to_string()).unwrap_or("no file".to_owned());
    problems(sources).iter().map(|problem| problem.to_string().replace(&file, "F")).collect()
}

fn told_of_file(text: &str) -> Vec<String> {
    let file = written(text);
    told(&from_file(file.path()))
}

fn in_repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn leaves(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) => {
            for (name, inner) in table {
                let dot = if prefix.is_empty() { "" } else { "." };
                leaves(&format!("{prefix}{dot}{name}"), inner, into);
            }
        }
        leaf => assert!(into.insert(prefix.to_owned(), leaf.clone()).is_none()),
    }
}

// The table, and the files made from it.

#[test]
fn the_table_of_keys_and_the_settings_agree_on_names_and_defaults() {
    let mut of_settings = BTreeMap::new();
    leaves("", &serde_json::to_value(Settings::default()).unwrap(), &mut of_settings);
    let of_table: BTreeMap<_, _> = keys().map(|key| (key.name.to_owned(), (key.default)())).collect();
    assert_eq!(of_settings, of_table);
    assert_eq!(keys().count(), of_table.len(), "a key stands in the table twice");
    assert_eq!(Settings::load(&Sources::default()).unwrap().settings, Settings::default());
}

#[test]
fn every_key_and_section_is_documented_and_has_a_variable_of_its_own() {
    for key in keys() {
        assert!(key.doc.join(" ").len() > 40, "{} says too little", key.name);
        assert!(!key.name.contains("__"), "{} could not be set by the environment", key.name);
    }
    assert!(sections().iter().all(|section| !section.doc.is_empty()));
    let variables: BTreeSet<_> = keys().map(|key| key.variable()).collect();
    assert_eq!(variables.len(), keys().count());
}

#[test]
fn the_reference_file_is_what_the_table_says() {
    let path = in_repository("config/reference.toml");
    let in_tree = std::fs::read_to_string(path).unwrap_or_default();
    assert!(in_tree == reference(), "stale; run: cargo run -- config reference > config/reference.toml");
}

#[test]
fn the_reference_file_names_every_key_and_changes_nothing() {
    let loaded = Settings::load(&from_file(&in_repository("config/reference.toml"))).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    for key in keys() {
        assert!(matches!(loaded.origins[key.name], Origin::File { .. }), "{} is missing", key.name);
    }
}

#[test]
fn the_sample_files_are_valid_and_the_three_nodes_do_not_get_in_each_others_way() {
    Settings::load(&from_file(&in_repository("config/node.toml"))).unwrap();
    let nodes: Vec<_> = (1..=3)
        .map(|i| {
            Settings::load(&from_file(&in_repository(&format!("config/dev/n{i}.toml")))).unwrap().settings
        })
        .collect();
    assert_eq!(nodes[0].http.address.to_string(), "127.0.0.1:8110");
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        assert_ne!(nodes[a].node.name, nodes[b].node.name);
        assert_ne!(nodes[a].node.data_dir, nodes[b].node.data_dir);
        assert_ne!(nodes[a].http.address, nodes[b].http.address);
    }
}

// The layers.

#[test]
fn a_later_layer_wins_and_each_value_tells_where_it_came_from() {
    let file =
        written("[http]\nworkers = 1\nconnections_max = 11\n[log]\nlevel = \"warn\"\n[quorum]\nn_val = 5\n");
    let mut sources =
        from_environment(&[("RINGWORK__HTTP__WORKERS", "2"), ("RINGWORK__LOG__LEVEL", "debug")]);
    sources.file = Some(file.path().to_owned());
    sources.overrides = vec![
        Override::new("http.workers", "3", "--set"),
        Override::new("http.address", "127.0.0.1:1", "--set"),
        Override::new("http.address", "127.0.0.1:2", "--http"),
    ];
    let loaded = Settings::load(&sources).unwrap();
    let (settings, origins) = (loaded.settings, loaded.origins);
    let flag = |flag: &str| Origin::Flag { flag: flag.to_owned() };
    let line = |line| Origin::File { path: file.path().to_owned(), line };
    assert_eq!((settings.http.workers, &origins["http.workers"]), (3, &flag("--set")));
    assert_eq!((settings.http.address.port(), &origins["http.address"]), (2, &flag("--http")));
    assert_eq!((settings.http.connections_max, &origins["http.connections_max"]), (11, &line(3)));
    assert_eq!((settings.quorum.n_val, &origins["quorum.n_val"]), (5, &line(7)));
    let variable = Origin::Environment { variable: "RINGWORK__LOG__LEVEL".to_owned() };
    assert_eq!((settings.log.level.as_str(), &origins["log.level"]), ("debug", &variable));
    assert_eq!((settings.node.name.as_str(), &origins["node.name"]), ("node1", &Origin::Default));
    assert_eq!(origins.len(), keys().count());
}

#[test]
fn every_key_can_be_set_by_its_variable_and_by_a_flag() {
    for key in keys() {
        let value = match (key.default)() {
            Value::String(text) => text,
            Value::Array(_) => String::new(),
            number => number.to_string(),
        };
        let by_variable = Settings::load(&from_environment(&[(&key.variable(), &value)])).unwrap();
        assert!(matches!(by_variable.origins[key.name], Origin::Environment { .. }), "{}", key.name);
        let by_flag = Settings::load(&from_set(&[(key.name, &value)])).unwrap();
        assert!(matches!(by_flag.origins[key.name], Origin::Flag { .. }), "{}", key.name);
        assert_eq!((by_variable.settings, by_flag.settings), (Settings::default(), Settings::default()));
    }
}

#[test]
fn variables_of_others_are_ignored() {
    let sources = from_environment(&[
        ("RINGWORK_NODE", "http://127.0.0.1:8110"),
        ("RINGWORK_HTTP__ADDRESS", "nonsense"),
        ("ringwork__http__address", "nonsense"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(Settings::load(&sources).unwrap().settings, Settings::default());
}

#[cfg(unix)]
#[test]
fn an_environment_that_is_not_text_is_refused_and_not_fatal() {
    use std::os::unix::ffi::OsStringExt;
    let hostile = OsString::from_vec(b"\xff\xfe".to_vec());
    let variables = [
        (OsString::from("RINGWORK__NODE__NAME"), hostile.clone()),
        (OsString::from("OTHER"), hostile.clone()),
        (hostile, OsString::from("x")),
    ];
    let sources = Sources { environment: environment(variables), ..Sources::default() };
    assert_eq!(sources.environment.len(), 1);
    assert!(
        matches!(&problems(&sources)[..], [Problem::WrongValue { stated, .. }] if stated.key == "node.name")
    );
}

#[test]
fn an_assignment_is_cut_at_the_first_equals_sign() {
    assert_eq!(
        Override::from_assignment("log.level=info,a[b=1]=debug"),
        Ok(Override::new("log.level", "info,a[b=1]=debug", "--set"))
    );
    assert_eq!(Override::from_assignment("node.name="), Ok(Override::new("node.name", "", "--set")));
    assert!(Override::from_assignment("node.name").is_err());
    assert!(Override::from_assignment("=n1").is_err());
}

#[test]
fn settings_arrive_in_their_own_types() {
    let settings = Settings::load(&from_set(&[
        ("store.engine", "memory"),
        ("store.durability", "os"),
        ("log.format", "json"),
        ("chat.retention.age", "30d"),
        ("chat.retention.count", "100"),
        ("quorum.r", "1"),
        ("handoff.limit", "8"),
        ("handoff.bytes_per_second", "64MiB"),
    ]))
    .unwrap()
    .settings;
    assert_eq!(
        (settings.handoff.limit, settings.handoff.bytes_per_second.bytes_per_second()),
        (8, Some(64 << 20))
    );
    assert_eq!(Settings::default().handoff.bytes_per_second.bytes_per_second(), None);
    assert_eq!((settings.store.engine, settings.store.durability), (Engine::Memory, Durability::Os));
    assert_eq!(settings.log.format, LogFormat::Json);
    assert_eq!(settings.chat.retention.age, RetentionAge::For(Span::from_secs(30 * 86_400)));
    assert_eq!((settings.chat.retention.count, settings.quorum.r), (100, QuorumSetting::Count(1)));
}

#[test]
fn workers_left_open_leave_a_core_to_the_storage() {
    let mut http = Settings::default().http;
    assert_eq!([0, 1, 2, 8].map(|cores| http.workers_on(cores)), [1, 1, 1, 7]);
    http.workers = 3;
    assert_eq!(http.workers_on(8), 3);
}

// Unknown keys.

#[test]
fn an_unknown_key_is_named_with_its_layer_and_the_nearest_known_one() {
    assert_eq!(
        told_of_file("[node]\nname = \"n1\"\n\n[http]\nadress = \"127.0.0.1:1\"\n"),
        ["http.adress (file F:5): there is no such setting; did you mean http.address?"]
    );
    assert_eq!(
        told(&from_environment(&[("RINGWORK__STORE__DURABILTY", "sync")])),
        ["store.durabilty (environment RINGWORK__STORE__DURABILTY): there is no such setting; did you mean \
          RINGWORK__STORE__DURABILITY?"]
    );
    assert_eq!(
        told(&from_set(&[("quorum.nval", "3")])),
        ["quorum.nval (flag --set): there is no such setting; did you mean quorum.n_val?"]
    );
}

#[test]
fn an_unknown_key_at_any_level_is_told_with_its_full_name() {
    assert_eq!(
        told_of_file(
            "workers = 4\n[chat.retention]\nages = \"1d\"\n[sotre]\nengine = \"disk\"\n[empty]\n[a.b]\n\
             c.d = 1\n"
        ),
        [
            "workers (file F:1): there is no such setting; did you mean http.workers?",
            "chat.retention.ages (file F:3): there is no such setting; did you mean chat.retention.age?",
            "sotre.engine (file F:5): there is no such setting; did you mean store.engine?",
            "empty (file F:6): there is no such setting; `ringwork config reference` lists all there are",
            "a.b.c.d (file F:8): there is no such setting; `ringwork config reference` lists all there are",
        ]
    );
}

#[test]
fn a_key_that_resembles_none_gets_no_suggestion() {
    for key in ["cluster.colour", "metadata.fanout", "http.port", "node.zone"] {
        match &problems(&from_set(&[(key, "x")]))[..] {
            [Problem::UnknownKey { key: told, nearest: None, .. }] => assert_eq!(told, key),
            other => panic!("{key}: {other:?}"),
        }
    }
}

#[test]
fn a_variable_in_the_wrong_case_is_told_the_right_one() {
    assert_eq!(
        told(&from_environment(&[("RINGWORK__http__WORKERS", "1")])),
        ["http.workers (environment RINGWORK__http__WORKERS): there is no such setting; did you mean \
          RINGWORK__HTTP__WORKERS?"]
    );
}

#[test]
fn a_quoted_name_with_a_dot_is_not_the_key_it_looks_like() {
    assert!(matches!(
        &problems(&from_file(written("\"node.name\" = \"n1\"").path()))[..],
        [Problem::UnknownKey { .. }]
    ));
}

#[test]
fn a_section_has_no_value_and_a_value_no_section() {
    let expected = "a section, with chat.retention.age, chat.retention.count";
    assert_eq!(
        told_of_file("[chat]\nretention = \"1d\"\n"),
        [format!("chat.retention = \"1d\" (file F:2): must be {expected}")]
    );
    assert_eq!(
        told(&from_environment(&[("RINGWORK__CHAT__RETENTION", "1d")])),
        [format!("chat.retention = \"1d\" (environment RINGWORK__CHAT__RETENTION): must be {expected}")]
    );
    assert_eq!(
        told_of_file("[http.workers]\nx = 1\n"),
        ["http.workers = a table (file F:1): must be a whole number from 0 to 1024"]
    );
    assert_eq!(told_of_file("[[log]]\nlevel = \"info\"\n").len(), 1);
}

// Wrong values.

#[test]
fn a_wrong_value_is_told_with_what_was_given_and_what_would_be_right() {
    assert_eq!(
        told_of_file(
            "[http]\nworkers = \"4\"\nkeep_alive = 75\nbody_bytes_max = \"64KB\"\n\
             address = \"localhost:80\"\n"
        ),
        [
            "http.workers = \"4\" (file F:2): must be a whole number from 0 to 1024",
            "http.keep_alive = 75 (file F:3): must be a duration from 1s to 1h, written like 500ms or 1s",
            "http.body_bytes_max = \"64KB\" (file F:4): must be a size from 32KiB to 16MiB, written like \
             64KiB or 1MiB",
            "http.address = \"localhost:80\" (file F:5): must be an IP address and a port, such as \
             127.0.0.1:8098 or [::1]:8098",
        ]
    );
    assert_eq!(
        told(&from_environment(&[("RINGWORK__HTTP__WORKERS", "many")])),
        ["http.workers = \"many\" (environment RINGWORK__HTTP__WORKERS): must be a whole number from 0 \
             to 1024"]
    );
    assert_eq!(
        told(&from_set(&[("store.engine", "Disk"), ("cluster.ring_size", "100"), ("quorum.w", "some")])),
        [
            "store.engine = \"Disk\" (flag --set): must be disk or memory",
            "cluster.ring_size = 100 (flag --set): must be a power of two from 8 to 65536",
            "quorum.w = \"some\" (flag --set): must be a whole number from 1 to 16, or one, quorum or all",
        ]
    );
}

#[test]
fn values_of_a_type_that_no_setting_takes_are_refused_for_every_key() {
    for key in keys() {
        for wrong in
            ["true", "1.5", "[]", "{ a = 1 }", "1979-05-27", "-1", "99999999999999999999", "\"\"", "nan"]
        {
            let empty_is_right = match key.kind {
                Kind::Location | Kind::Endpoint => wrong == "\"\"",
                Kind::Endpoints { .. } => wrong == "[]",
                _ => false,
            };
            if empty_is_right {
                continue;
            }
            let file = written(format!("{} = {wrong}", key.name));
            match &problems(&from_file(file.path()))[..] {
                [Problem::WrongValue { stated, .. }] => assert_eq!(stated.key, key.name),
                other => panic!("{} = {wrong}: {other:?}", key.name),
            }
        }
    }
}

/// Values that a kind just takes, and values that it just does not.
fn ends(kind: Kind) -> (Vec<String>, Vec<String>) {
    let milliseconds = |span: Span| u64::try_from(span.duration().as_millis()).unwrap_or(u64::MAX);
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    match kind {
        Kind::Count { min, max } | Kind::PowerOfTwo { min, max } => (
            vec![min.to_string(), max.to_string()],
            vec![(i128::from(min) - 1).to_string(), (max + 1).to_string(), (max * 2).to_string()],
        ),
        Kind::Quorum { max } => (
            [texts(&["1", "one", "quorum", "all"]), vec![max.to_string()]].concat(),
            [texts(&["0", "-1", "QUORUM"]), vec![(max + 1).to_string()]].concat(),
        ),
        Kind::Span { min, max } | Kind::Age { min, max } => (
            vec![min.to_string(), max.to_string()],
            [milliseconds(min) - 1, milliseconds(max) + 1].map(|n| Span::from_millis(n).to_string()).to_vec(),
        ),
        Kind::Size { min, max } => (
            vec![min.to_string(), max.to_string()],
            [min.bytes() - 1, max.bytes() + 1].map(|n| Size::from_bytes(n).to_string()).to_vec(),
        ),
        Kind::Rate { min, max } => (
            vec!["none".to_owned(), min.to_string(), max.to_string()],
            [
                texts(&["0", "0B", "None", "64MB"]),
                [min.bytes() - 1, max.bytes() + 1].map(|n| format!("{n}B")).to_vec(),
            ]
            .concat(),
        ),
        Kind::Choice(words) => (texts(words), words.iter().map(|word| word.to_ascii_uppercase()).collect()),
        Kind::Name => (
            [texts(&["0", "A.b_c-9"]), vec!["a".repeat(64)]].concat(),
            [texts(&["-a", "..", "a b", "ä", "a/b"]), vec!["a".repeat(65)]].concat(),
        ),
        Kind::Location => (
            [texts(&["", "rack 1", "Zürich/2"]), vec!["ä".repeat(64)]].concat(),
            [texts(&[" ", "a ", "a\tb", "a\nb"]), vec!["a".repeat(65)]].concat(),
        ),
        Kind::Endpoint => (
            texts(&["", "10.0.0.1:8099", "[::1]:65535", "n1.example:1"]),
            texts(&["10.0.0.1", "0.0.0.0:8099", "n1:0", "http://n1:1", "n1:1,n2:1"]),
        ),
        Kind::Endpoints { max } => {
            let many = |count| (0..count).map(|i| format!("n{i}:1")).collect::<Vec<_>>().join(",");
            (
                vec![String::new(), "n1:1,[::1]:2".to_owned(), many(max)],
                [texts(&["n1:1,", ",", "n1", "n1:1, n2:1", "n1:1,n1:1", "0.0.0.0:1"]), vec![many(max + 1)]]
                    .concat(),
            )
        }
        Kind::Path => (texts(&["/", "ö/ä"]), texts(&[" ", "a\0b"])),
        Kind::Address => {
            (texts(&["0.0.0.0:0", "[::1]:65535"]), texts(&["127.0.0.1", "127.0.0.1:65536", ":80"]))
        }
        Kind::LogFilter => (
            texts(&["trace", "info,ringwork=debug"]),
            [texts(&["info,ringwork=loud", "a[", " info", "info, a=debug", " ä="]), vec!["a".repeat(2000)]]
                .concat(),
        ),
    }
}

#[test]
fn every_range_includes_its_ends_and_nothing_beyond() {
    for key in keys() {
        let refused = |value: &str| {
            let problems = problems(&from_set(&[(key.name, value)]));
            // An end of a range may contradict another key's default; that is for another test.
            assert!(!problems.iter().any(|problem| matches!(problem, Problem::NotAssembled { .. })));
            problems.iter().any(|problem| matches!(problem, Problem::WrongValue { .. }))
        };
        let (right, wrong) = ends(key.kind);
        for value in right {
            assert!(!refused(&value), "{} = {value} is refused", key.name);
        }
        for value in wrong {
            assert!(refused(&value), "{} = {value} is taken", key.name);
        }
    }
}

#[test]
fn values_that_contradict_each_other_are_told_together_with_their_origins() {
    let file =
        written("[quorum]\nn_val = 3\nr = 4\n[chat]\ntext_bytes_max = \"64KiB\"\n[cluster]\nring_size = 8\n");
    assert_eq!(
        told(&from_file(file.path())),
        [
            "quorum.r = 4 (file F:3): must be at most quorum.n_val = 3 (file F:2)",
            "chat.text_bytes_max = \"64KiB\" (file F:5): must be less than http.body_bytes_max = \"64KiB\" \
             (default)",
        ]
    );
    assert_eq!(
        told(&from_set(&[("quorum.w", "4")])),
        ["quorum.w = 4 (flag --set): must be at most quorum.n_val = 3 (default)"]
    );
    assert_eq!(
        told(&from_set(&[("quorum.n_val", "16"), ("cluster.ring_size", "8")])),
        ["quorum.n_val = 16 (flag --set): must be at most cluster.ring_size = 8 (flag --set)"]
    );
    assert_eq!(problems(&from_set(&[("quorum.r", "5"), ("quorum.n_val", "5")])), []);
}

#[test]
fn nothing_is_concluded_from_a_value_that_was_refused() {
    assert_eq!(told(&from_set(&[("quorum.n_val", "50"), ("quorum.r", "5")])).len(), 1);
}

#[test]
fn all_problems_of_all_layers_are_told_at_once_one_line_each() {
    let file = written("[http]\nworkers = -1\ntypo = 1\n");
    let mut sources = from_environment(&[("RINGWORK__HTTP__WORKERS", "4"), ("RINGWORK__LOG__FORMAT", "xml")]);
    sources.file = Some(file.path().to_owned());
    sources.overrides =
        vec![Override::new("quorum.r", "9", "--set"), Override::new("nonsense", "1", "--set")];
    let error = Settings::load(&sources).unwrap_err();
    let keys: Vec<_> =
        error.to_string().lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(keys, ["http.workers", "http.typo", "log.format", "nonsense", "quorum.r"]);
}

// Hostile input.

#[test]
fn nothing_in_a_problem_can_forge_a_line_or_move_a_cursor() {
    let mut sources = from_set(&[("node\n.name\u{202e}", "x"), ("node.name", "a\nERROR b\u{1b}[2J")]);
    sources.environment.insert("RINGWORK__\r\nX".to_owned(), "\u{9b}".to_owned());
    sources.file = Some("no\nsuch".into());
    let error = Settings::load(&sources).unwrap_err();
    assert_eq!(error.to_string().lines().count(), error.problems.len());
    assert!(error.to_string().chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'));
}

#[test]
fn seeds_are_a_list_in_a_file_and_have_commas_elsewhere() {
    let file = written("[cluster]\nseeds = [\"10.0.0.1:8099\", \"n2:8099\"]\n");
    let mut sources = from_file(file.path());
    assert_eq!(Settings::load(&sources).unwrap().settings.cluster.seeds, ["10.0.0.1:8099", "n2:8099"]);
    sources.environment.insert("RINGWORK__CLUSTER__SEEDS".to_owned(), "n3:1,n4:1".to_owned());
    assert_eq!(Settings::load(&sources).unwrap().settings.cluster.seeds, ["n3:1", "n4:1"]);
    sources.overrides.push(Override::new("cluster.seeds", "", "--set"));
    assert_eq!(Settings::load(&sources).unwrap().settings.cluster.seeds, [""; 0]);
    assert_eq!(
        told_of_file("[cluster]\nseeds = [\"n1\", \"a\", \"b\", \"c\"]\n"),
        [
            "cluster.seeds = [\"n1\", \"a\", \"b\", …] (file F:2): must be up to 32 different hosts with ports, such \
             as 10.0.0.1:8099: a list of strings in a file, with commas between elsewhere"
        ]
    );
    assert_eq!(told_of_file("[cluster]\nseeds = [1]\n").len(), 1);
    assert_eq!(told_of_file("[cluster]\nseeds = \"n1:1\"\n").len(), 1, "a string is no list of strings");
}

#[test]
fn where_others_find_a_node_must_be_sayable() {
    assert_eq!(
        told(&from_set(&[("cluster.address", "0.0.0.0:8099"), ("cluster.seeds", "n1:1")])),
        [
            "cluster.address = \"0.0.0.0:8099\" (flag --set): listens on all addresses, and other nodes cannot be told \
          which to use; name one in cluster.advertise, such as 10.0.0.1:8099"
        ]
    );
    assert_eq!(told(&from_set(&[("cluster.address", "[::]:8099")])).len(), 1);
    let told_where = [("cluster.address", "[::]:8099"), ("cluster.advertise", "n1.example:8099")];
    let cluster = Settings::load(&from_set(&told_where)).unwrap().settings.cluster;
    assert_eq!(cluster.advertised(cluster.address), "n1.example:8099");
    let cluster = Settings::default().cluster;
    assert_eq!(cluster.advertised("127.0.0.1:4711".parse().unwrap()), "127.0.0.1:4711");
    assert_eq!(
        told(&from_set(&[("cluster.address", "127.0.0.1:8098")])),
        [
            "cluster.address = \"127.0.0.1:8098\" (flag --set): must be another address or port than http.address = \
          \"127.0.0.1:8098\" (default)"
        ]
    );
    assert_eq!(
        problems(&from_set(&[("cluster.address", "127.0.0.1:0"), ("http.address", "127.0.0.1:0")])),
        []
    );
    assert_eq!(
        Settings::load(&from_set(&[("node.location", "rack 1")])).unwrap().settings.node.location(),
        Some("rack 1")
    );
    assert_eq!(Settings::default().node.location(), None);
}

proptest! {
    // No file of failures beside this one: what was found once is a test of its own above.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_stands_in_a_file_the_environment_or_a_flag_is_answered_and_not_fatal(
        text in "(\\[?(node|http|quorum|a)[.\\]= \n]{0,3}(name|r|\"é\"|'x'|1|-|\\{|\\[|\u{0})\n?){0,12}|\
                 \\PC{0,40}",
        key in "[a-z._]{0,20}|\\PC{0,20}",
        value in "\\PC{0,30}|[a-z=,:/\\[\\]{}\"*+?(|^.0-9 N-]{0,25}|[0-9]{0,22}(ms|s|m|h|d|B|KiB|TiB|y| )?",
    ) {
        let file = written(&text);
        let mut sources = from_file(file.path());
        sources.environment.insert(format!("RINGWORK__{key}"), value.clone());
        for known in keys() {
            sources.environment.insert(known.variable(), value.clone());
        }
        sources.overrides.push(Override { key, value, origin: "--set".to_owned() });
        for problem in problems(&sources) {
            prop_assert!(problem.to_string().lines().count() == 1);
            prop_assert!(!matches!(problem, Problem::NotAssembled { .. }), "{}", problem);
        }
    }
}
