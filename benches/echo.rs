//! A bare echo server: what any HTTP command costs at the very least on this machine, to be loaded beside a
//! node by `ringwork bench --reference`. It decides nothing; it parses and answers as the chat's send does,
//! with the same libraries and allocator, and stores nothing.

use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;
use clap::Parser;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::Write;
use std::net::SocketAddr;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves POST /echo with one worker.
#[derive(Parser)]
#[command(after_help = "Example:\n  cargo bench --bench echo -- --address 127.0.0.1:8090")]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8090")]
    address: SocketAddr,
    /// Given by cargo, means nothing.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(borrow, default)]
    from: Option<Cow<'a, str>>,
}

/// As large as what a node answers to a send.
#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    user: &'a str,
    acks: usize,
    nodes: [&'a str; 2],
}

async fn echo(body: Bytes) -> HttpResponse {
    let Ok(message) = serde_json::from_slice::<Message<'_>>(&body) else {
        return HttpResponse::BadRequest().finish();
    };
    // Of the text, so that the compiler cannot find out that nobody reads it.
    let acks = message.text.len().min(2) + message.from.map_or(0, |from| from.len().min(1));
    let answer = Answer {
        id: "0198c2f07b1e-0000-9f3b6c1d2e4a5b60-01-0001",
        user: "bench-0000000",
        acks,
        nodes: ["node1", "node2"],
    };
    match serde_json::to_vec(&answer) {
        Ok(bytes) => HttpResponse::Created()
            .insert_header(("location", "/chat/users/bench-0000000/messages"))
            .content_type("application/json")
            .body(bytes),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

async fn status() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(format!("{{\"pid\":{}}}", std::process::id()))
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let _ = arguments.bench;
    actix_rt::System::new().block_on(async {
        let server = HttpServer::new(|| {
            App::new().route("/echo", web::post().to(echo)).route("/admin/status", web::get().to(status))
        })
        .workers(1)
        .bind(arguments.address)?;
        for address in server.addrs() {
            writeln!(std::io::stdout(), "echo listens on http://{address}")?;
        }
        server.run().await
    })
}
