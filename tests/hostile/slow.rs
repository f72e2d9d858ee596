//! Clients that take their time, or never come to an end: each is closed by a deadline, and nobody waits for
//! them.

use crate::client::{Connection, request};
use crate::server::{TestServer, run, settings};
use std::time::Duration;

fn rss() -> usize {
    let s = std::fs::read_to_string("/proc/self/statm").unwrap();
    s.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096 / 1024
}

#[test]
fn explore_unread() {
    run(async {
        let server = TestServer::start(settings());
        let mut c = Connection::open(server.address).await;
        for _ in 0..80 {
            assert_eq!(c.send("big", &"\u{1}".repeat(10_000)).await.status, 201);
        }
        let n = c.get("/chat/users/big/messages?limit=1000").await.body.len();
        eprintln!("page {n}, rss {} KiB", rss());
        let mut held = Vec::new();
        for i in 0..400 {
            let mut c = Connection::open(server.address).await;
            c.write(&request("GET", "/chat/users/big/messages?limit=1000", &[], b"")).await;
            held.push(c);
            if i % 100 == 99 {
                tokio::time::sleep(Duration::from_secs(3)).await;
                let s = server.status().await;
                eprintln!("{i}: rss {} KiB inside {}", rss(), s["http_requests_inside"]);
            }
        }
        // streams left behind
        let mut left = 0;
        for _ in 0..200 {
            let mut c = Connection::open(server.address).await;
            c.write(&request("GET", "/chat/users/x/stream", &[], b"")).await;
            c.head().await.unwrap();
            left += 1;
        }
        eprintln!("left {left}");
        let me = std::process::id();
        for t in 0..16 {
            let fds = std::fs::read_dir(format!("/proc/{me}/fd")).unwrap().count();
            eprintln!("{} s: fds {fds} rss {}", t * 3, rss());
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    });
}
