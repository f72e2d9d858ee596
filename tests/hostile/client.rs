//! HTTP/1.1 by hand: requests are bytes, so that any of them can be wrong; answers are read strictly.

use crate::server::within;
use serde_json::{Value, json};
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// What a node answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A text member of the JSON body.
    pub(crate) fn text(&self, member: &str) -> String {
        self.json()[member].as_str().unwrap_or_default().to_owned()
    }

    /// The texts of the messages of a page.
    pub(crate) fn texts(&self) -> Vec<String> {
        let page = self.json();
        let messages = page["messages"].as_array().cloned().unwrap_or_default();
        messages.iter().map(|message| message["text"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// One connection to a node.
pub(crate) struct Connection {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    /// Bytes that came and are not read yet.
    came: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::try_open(address).await.expect("a connection")
    }

    pub(crate) async fn try_open(address: SocketAddr) -> Result<Self> {
        let (reader, writer) = TcpStream::connect(address).await?.into_split();
        Ok(Self { reader, writer, came: Vec::new() })
    }

    /// Sends bytes. That the node may have closed already is no failure here: its answer tells.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.writer.write_all(bytes).await;
    }

    /// Ends our direction: the node reads an end, and we still read its answer.
    pub(crate) async fn end(&mut self) {
        let _ = self.writer.shutdown().await;
    }

    /// Sends bytes and reads one answer, at the same time: the node may answer before it has read everything.
    pub(crate) async fn exchange(&mut self, bytes: &[u8], then_end: bool) -> Result<Answer> {
        let bodiless = bytes.starts_with(b"HEAD ");
        let Self { reader, writer, came } = self;
        let write = async {
            let _ = writer.write_all(bytes).await;
            if then_end {
                let _ = writer.shutdown().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = within("an answer", read_answer(reader, came, bodiless)) => answer,
            () = write => Err(ErrorKind::Other.into()),
        }
    }

    pub(crate) async fn get(&mut self, target: &str) -> Answer {
        self.exchange(&request("GET", target, &[], b""), false).await.expect("an answer to a GET")
    }

    /// Sends a message without frills.
    pub(crate) async fn send(&mut self, user: &str, text: &str) -> Answer {
        self.exchange(&send(user, text), false).await.expect("an answer to a send")
    }

    /// Reads the next answer to what was written before.
    pub(crate) async fn answer(&mut self) -> Result<Answer> {
        let head = self.head().await?;
        self.body(head).await
    }

    /// Reads the head of an answer and leaves its body.
    pub(crate) async fn head(&mut self) -> Result<Answer> {
        read_head(&mut self.reader, &mut self.came).await
    }

    /// Reads the body to a head.
    pub(crate) async fn body(&mut self, head: Answer) -> Result<Answer> {
        read_body(&mut self.reader, &mut self.came, head).await
    }

    /// Reads the next chunk of a chunked body; none at its proper end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        read_chunk(&mut self.reader, &mut self.came).await
    }

    /// Sends these bytes again and again, one of them now and then, until the node has closed the connection, in
    /// whichever way. No bytes are sent when there are none. Returns the status of the node's answer, if any.
    pub(crate) async fn trickle(&mut self, bytes: &[u8], every: Duration) -> Option<u16> {
        let Self { reader, writer, came } = self;
        let write = async {
            for byte in bytes.iter().cycle() {
                let _ = writer.write_all(&[*byte]).await;
                tokio::time::sleep(every).await;
            }
            std::future::pending::<()>().await;
        };
        let read = async { while more(reader, came).await.is_ok() {} };
        tokio::select! {
            () = write => {}
            () = read => {}
        }
        self.head().await.ok().map(|answer| answer.status)
    }
}

/// Reads some more; an end is an error.
async fn more(reader: &mut OwnedReadHalf, came: &mut Vec<u8>) -> Result<()> {
    match reader.read_buf(came).await? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}

/// Takes what stands before `end`, and `end`.
async fn read_through(reader: &mut OwnedReadHalf, came: &mut Vec<u8>, end: &[u8]) -> Result<Vec<u8>> {
    loop {
        if let Some(at) = came.windows(end.len()).position(|window| window == end) {
            let mut taken: Vec<u8> = came.drain(..at + end.len()).collect();
            taken.truncate(at);
            return Ok(taken);
        }
        more(reader, came).await?;
    }
}

async fn read_exactly(reader: &mut OwnedReadHalf, came: &mut Vec<u8>, bytes: usize) -> Result<Vec<u8>> {
    while came.len() < bytes {
        more(reader, came).await?;
    }
    Ok(came.drain(..bytes).collect())
}

async fn read_head(reader: &mut OwnedReadHalf, came: &mut Vec<u8>) -> Result<Answer> {
    loop {
        let head = read_through(reader, came, b"\r\n\r\n").await?;
        let head = String::from_utf8(head).map_err(|_| wrong("the head is not UTF-8"))?;
        let mut lines = head.split("\r\n");
        let first = lines.next().and_then(|line| line.strip_prefix("HTTP/1."));
        let status = first.and_then(|line| line.get(2..5)).and_then(|status| status.parse().ok());
        let status: u16 = status.ok_or_else(|| wrong("no status line"))?;
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').ok_or_else(|| wrong("a header without a colon"))?;
            Ok((name.to_owned(), value.trim().to_owned()))
        });
        let headers = headers.collect::<Result<_>>()?;
        if status >= 200 {
            return Ok(Answer { status, headers, body: Vec::new() });
        }
    }
}

async fn read_chunk(reader: &mut OwnedReadHalf, came: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    let size = read_through(reader, came, b"\r\n").await?;
    let size = String::from_utf8(size).ok().and_then(|size| usize::from_str_radix(&size, 16).ok());
    let chunk = read_exactly(reader, came, size.ok_or_else(|| wrong("no chunk size"))?).await?;
    match read_through(reader, came, b"\r\n").await? {
        rest if rest.is_empty() => Ok((!chunk.is_empty()).then_some(chunk)),
        _ => Err(wrong("a chunk longer than its size")),
    }
}

async fn read_answer(reader: &mut OwnedReadHalf, came: &mut Vec<u8>, bodiless: bool) -> Result<Answer> {
    let head = read_head(reader, came).await?;
    if bodiless { Ok(head) } else { read_body(reader, came, head).await }
}

async fn read_body(reader: &mut OwnedReadHalf, came: &mut Vec<u8>, mut answer: Answer) -> Result<Answer> {
    if answer.status == 204 {
        return Ok(answer);
    }
    if answer.header("transfer-encoding").is_some() {
        while let Some(chunk) = read_chunk(reader, came).await? {
            answer.body.extend(chunk);
        }
    } else {
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        answer.body = read_exactly(reader, came, length.ok_or_else(|| wrong("no length"))?).await?;
    }
    Ok(answer)
}

/// A request with these headers, and a body where there is one.
pub(crate) fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: node\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// A body in chunks of some bytes, with its end.
pub(crate) fn chunked(body: &[u8], bytes: usize) -> Vec<u8> {
    let mut chunks = Vec::new();
    for chunk in body.chunks(bytes) {
        chunks.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        chunks.extend([chunk, b"\r\n"].concat());
    }
    chunks.extend(b"0\r\n\r\n");
    chunks
}

pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");

/// The body of a message.
pub(crate) fn message(text: &str) -> Vec<u8> {
    json!({ "text": text }).to_string().into_bytes()
}

/// A send without frills.
pub(crate) fn send(user: &str, text: &str) -> Vec<u8> {
    request("POST", &format!("/chat/users/{user}/messages"), &[JSON], &message(text))
}
