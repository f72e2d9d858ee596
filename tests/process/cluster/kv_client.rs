//! A client of the object store over HTTP: one connection that stays open, what was answered, and the values with the
//! context that a read showed. It decides nothing about what must be there.

use super::harness::Cluster;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What a node answered. Names of headers are lower case.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Whether the node said that nothing was done and nothing will be.
    pub(super) fn is_refused(&self) -> bool {
        self.header("x-ringwork-outcome") == "refused"
    }
}

/// What a read showed.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// In ascending order.
    pub(super) values: Vec<String>,
    /// To be handed back with a write over it.
    pub(super) context: String,
    /// Something that was acknowledged may be missing.
    pub(super) degraded: bool,
}

/// A client with a connection that is made anew when it breaks.
pub(super) struct Client {
    node: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(super) fn of(node: SocketAddr) -> Self {
        Self { node, connection: None }
    }

    /// None where no whole answer came: what was asked may have been done.
    pub(super) fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<Reply> {
        let reply = self.exchange(method, path, headers, body);
        if reply.is_none() {
            self.connection = None;
        }
        reply
    }

    /// Sends a request and reads the head of its answer. What follows is the caller's to read.
    pub(super) fn begin(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<(Reply, &mut BufReader<TcpStream>)> {
        if self.connection.is_none() {
            let stream = TcpStream::connect_timeout(&self.node, ANSWER_WITHIN).ok()?;
            stream.set_read_timeout(Some(ANSWER_WITHIN)).ok()?;
            stream.set_nodelay(true).ok()?;
            self.connection = Some(BufReader::new(stream));
        }
        let connection = self.connection.as_mut()?;
        let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: node\r\n{more}content-length: {length}\r\n\r\n{body}");
        connection.get_mut().write_all(request.as_bytes()).ok()?;
        let mut line = String::new();
        connection.read_line(&mut line).ok()?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            connection.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        Some((Reply { status, headers, body: String::new() }, connection))
    }

    fn exchange(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Reply> {
        let (mut reply, connection) = self.begin(method, path, headers, body)?;
        if reply.header("transfer-encoding") == "chunked" {
            while let Some(piece) = chunk(connection)? {
                reply.body.push_str(&piece);
            }
        } else if reply.status != 204 {
            let mut bytes = vec![0; reply.header("content-length").parse().ok()?];
            connection.read_exact(&mut bytes).ok()?;
            reply.body = String::from_utf8(bytes).ok()?;
        }
        Some(reply)
    }

    /// Writes a value; under no context where none is given.
    pub(super) fn put(&mut self, path: &str, value: &str, context: &str, query: &str) -> Option<Reply> {
        let mut headers = vec![("content-type", "text/plain")];
        if !context.is_empty() {
            headers.push(("x-riak-vclock", context));
        }
        self.ask("PUT", &format!("{path}{query}"), &headers, value)
    }

    /// Reads all values; none where the node does not say what there is.
    pub(super) fn get(&mut self, path: &str, query: &str) -> Option<Found> {
        let reply =
            self.ask("GET", &format!("{path}{query}"), &[("accept", "multipart/mixed, */*;q=0.5")], "")?;
        let mut values = match reply.status {
            200 => vec![reply.body.clone()],
            300 => parts(&reply),
            404 => Vec::new(),
            _ => return None,
        };
        values.sort_unstable();
        let context = reply.header("x-riak-vclock").to_owned();
        Some(Found { values, context, degraded: reply.header("x-ringwork-degraded") == "true" })
    }
}

/// The next piece of a body that comes in pieces: `Some(None)` at its end, none where the connection broke before.
pub(super) fn chunk(connection: &mut BufReader<TcpStream>) -> Option<Option<String>> {
    let mut line = String::new();
    connection.read_line(&mut line).ok()?;
    let size = usize::from_str_radix(line.trim(), 16).ok()?;
    let mut bytes = vec![0; size + 2];
    connection.read_exact(&mut bytes).ok()?;
    bytes.truncate(size);
    Some((size > 0).then(|| String::from_utf8(bytes).unwrap()))
}

fn parts(reply: &Reply) -> Vec<String> {
    let boundary = reply.header("content-type").split("boundary=").nth(1).unwrap_or_default();
    let part = |text: &str| {
        let (_, value) = text.split_once("\r\n\r\n")?;
        Some(value.strip_suffix("\r\n").unwrap_or(value).to_owned())
    };
    reply.body.split(&format!("--{boundary}")).filter_map(part).collect()
}

/// Has a bucket keep siblings, for all to know.
pub(super) fn keep_siblings(cluster: &Cluster, bucket: &str) {
    let path = format!("/buckets/{bucket}/props");
    let set = cluster.ask(0, "PUT", &path, r#"{"props": {"allow_mult": true}}"#);
    assert_eq!(set.status, 204, "{}", set.body);
    crate::node::wait_until("all know the bucket's properties", || {
        let knows =
            |number: &usize| cluster.ask(*number, "GET", &path, "").json()["props"]["allow_mult"] == true;
        cluster.running().iter().all(knows)
    });
}
