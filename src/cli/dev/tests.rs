//! What `ringwork dev` is asked for and refuses; whole clusters are in `tests/process`.

use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    dev: DevArguments,
}

fn parsed(words: &[&str]) -> Result<DevArguments, clap::Error> {
    Line::try_parse_from(["dev"].iter().chain(words)).map(|line| line.dev)
}

#[test]
fn nodes_have_names_ports_and_directories_of_their_own() {
    let nodes = layout(&parsed(&[]).unwrap());
    let shown: Vec<String> =
        nodes.iter().map(|node| format!("{} {} {}", node.name, node.http, node.cluster)).collect();
    assert_eq!(
        shown,
        [
            "n1 127.0.0.1:8110 127.0.0.1:8111",
            "n2 127.0.0.1:8120 127.0.0.1:8121",
            "n3 127.0.0.1:8130 127.0.0.1:8131"
        ]
    );
    assert_eq!(nodes[2].directory, Path::new("./dev-data/n3"));
    assert_eq!(nodes[2].log, Path::new("./dev-data/n3.log"));
    let most = layout(&parsed(&["--nodes", "16", "--base-port", "65374"]).unwrap());
    assert_eq!(most.last().unwrap().cluster.port(), 65_535);
    for wrong in [["--nodes", "0"], ["--nodes", "17"], ["--base-port", "65375"], ["--base-port", "0"]] {
        assert!(parsed(&wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_taken_port_is_named_with_its_node_and_the_way_out() {
    let mut nodes = layout(&parsed(&["--nodes", "1"]).unwrap());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    nodes[0].http = "127.0.0.1:0".parse().unwrap();
    nodes[0].cluster = taken.local_addr().unwrap();
    let error = refuse_taken_ports(&nodes).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("port {}, for the cluster of n1,", nodes[0].cluster.port())),
        "{error}"
    );
    assert!(error.contains("--base-port"), "{error}");
}

#[test]
fn the_greeting_says_where_the_nodes_are_and_what_to_try() {
    let mut output = Vec::new();
    greet(&layout(&parsed(&[]).unwrap()), &mut output).unwrap();
    let text = String::from_utf8(output).unwrap();
    assert!(
        text.starts_with("three nodes serve:\n  n1  http://127.0.0.1:8110  (log: ./dev-data/n1.log)\n"),
        "{text}"
    );
    assert!(text.contains("ringwork chat get ann --node http://127.0.0.1:8130"), "{text}");
}
