//! Clients that take their time, or never come to an end: each is closed by a deadline, and nobody waits for
//! them.

use crate::client::{Connection, JSON, message, request};
use crate::server::{TestServer, run, settings, within};
use ringwork::settings::{Settings, Span};
use std::time::Duration;

fn impatient() -> Settings {
    let mut settings = settings();
    settings.http.head_timeout = Span::from_millis(500);
    settings.http.request_timeout = Span::from_millis(500);
    settings
}

#[test]
fn explore() {
    run(async {
        let server = TestServer::start(impatient());
        let address = server.address;
        let chunked =
            |method, target| request(method, target, &[JSON, ("Transfer-Encoding", "chunked")], b"");
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("nothing", vec![]),
            ("head", b"GET /pi".to_vec()),
            (
                "length body",
                request("POST", "/chat/users/a/messages", &[JSON, ("Content-Length", "100")], b""),
            ),
            ("chunked body", chunked("POST", "/chat/users/a/messages")),
            ("chunked nowhere", chunked("POST", "/nowhere")),
            ("chunked get", chunked("GET", "/ping")),
            ("length nowhere", request("POST", "/nowhere", &[JSON, ("Content-Length", "100")], b"")),
            ("second head", [request("GET", "/ping", &[], b""), b"GET /pi".to_vec()].concat()),
            ("second nothing", [request("GET", "/ping", &[], b"")].concat()),
        ];
        let mut set = tokio::task::JoinSet::new();
        let start = std::time::Instant::now();
        for (name, bytes) in cases {
            set.spawn(async move {
                let mut c = Connection::open(address).await;
                c.write(&bytes).await;
                let a = tokio::time::timeout(Duration::from_secs(3), c.answer()).await;
                let a = a.map(|a| a.map(|a| (a.status, a.header("connection").map(str::to_owned))));
                let t = start.elapsed();
                let b = tokio::time::timeout(Duration::from_secs(20), c.closed()).await;
                eprintln!("{name}: {a:?} after {t:?}, closed {b:?} after {:?}", start.elapsed());
            });
        }
        // endless chunks
        set.spawn(async move {
            let mut c = Connection::open(address).await;
            c.write(&request("POST", "/nowhere", &[("Transfer-Encoding", "chunked")], b"")).await;
            let a = c.answer().await.unwrap().status;
            let mut n = 0;
            for _ in 0..200 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                c.write(b"1\r\nx\r\n").await;
                n += 1;
                if tokio::time::timeout(Duration::from_millis(1), c.closed()).await.is_ok() {
                    break;
                }
            }
            eprintln!("endless chunks {a}: {n} after {:?}", start.elapsed());
        });
        within("all", async { while set.join_next().await.is_some() {} }).await;
        let _ = message("x");
    });
}
