//! How every command asks a node over HTTP: which URLs it takes, how long it waits, how much it reads, and
//! how a refusal becomes one line that says what to do next. It does not know what the answers mean, nor
//! where the output goes.

use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::{Method, StatusCode, Uri};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::LocalBoxStream;
use serde_json::Value;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

#[cfg(test)]
pub(crate) mod fake_node;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use text::explanation;
pub use text::{json_line, percent_encode, printable, query_string};

/// Where a node is asked unless `--node` or `RINGWORK_NODE` says otherwise.
pub const DEFAULT_NODE_URL: &str = "http://127.0.0.1:8098";
/// The environment variable that names the node to ask.
pub const NODE_VARIABLE: &str = "RINGWORK_NODE";

/// How long a connection may take to come about. Longer than any healthy network needs, short for a person.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take. Above the node's own deadlines, so that its explanation arrives and not ours.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of one answer: a full page of 1 000 long messages fits, a node that never ends does not fill
/// memory.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a command did not succeed. Its text is one line, safe to show, and says the way out.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The node answered, and said no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable code of the problem, if the node gave one.
        code: Option<String>,
        /// What to tell the user.
        message: String,
    },
    /// No answer, or none that makes sense.
    #[error("{0}")]
    Failed(String),
    /// The command was given something that it cannot mean.
    #[error("{0}")]
    Usage(String),
    /// Nobody reads the output any more, as with `| head`: the work is done, quietly.
    #[error("the output was closed")]
    OutputClosed,
}

impl CliError {
    /// What became of writing the command's own output.
    pub fn writing(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(format!("cannot write the output: {error}; is the disk full?")),
        }
    }

    /// What the process exits with: 1 for a refused or failed request, 2 for wrong usage.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } | Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::OutputClosed => 0,
        }
    }
}

/// Says on `errors` why a command failed, and returns the exit code.
pub fn conclude(outcome: Result<(), CliError>, errors: &mut dyn io::Write) -> u8 {
    let Err(error) = outcome else { return 0 };
    if error.exit_code() != 0 {
        // With standard error gone too there is nobody left to tell; the exit code still does.
        let _ = writeln!(errors, "error: {error}");
    }
    error.exit_code()
}

/// Writes one line of a command's output.
pub fn write_line(output: &mut dyn io::Write, line: &str) -> Result<(), CliError> {
    writeln!(output, "{line}").map_err(CliError::writing)
}

/// The flags of every command that asks a node.
#[derive(Debug, Clone, clap::Args)]
pub struct NodeArguments {
    /// The node to ask.
    #[arg(long, value_name = "URL", env = NODE_VARIABLE, default_value = DEFAULT_NODE_URL)]
    pub node: String,
    /// Print JSON with stable field names, for scripts.
    #[arg(long)]
    pub json: bool,
}

impl NodeArguments {
    /// A client of the chosen node.
    pub fn client(&self) -> Result<NodeClient, CliError> {
        NodeClient::new(&self.node)
    }
}

/// Where a node listens, out of its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUrl {
    /// Host name or address, an IPv6 address without its brackets.
    pub host: String,
    /// The port, 80 when the URL has none.
    pub port: u16,
}

impl NodeUrl {
    /// Reads `http://host[:port]`. Nothing else is taken, so that no part of a URL is silently ignored.
    pub fn parse(url: &str) -> Result<Self, CliError> {
        let shown = explanation(url);
        let wrong = |what: &str| CliError::Usage(format!("`{shown}` is no node's URL: {what}"));
        let uri: Uri = url.parse().map_err(|_| wrong("write it like http://127.0.0.1:8098"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(wrong(
                    "nodes are asked over http:// only; put https in front of one with a proxy",
                ));
            }
            Some(_) => return Err(wrong("it has to begin with http://")),
            None => return Err(wrong(&format!("it has to begin with http://, as in http://{shown}"))),
        }
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if authority.contains('@') {
            return Err(wrong("a user name in it would be ignored; leave it out"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("only host and port belong into it, as in http://127.0.0.1:8098"));
        }
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // `Uri` takes a port that it cannot read for none at all, so the host's length decides whether there
        // is one.
        let has_port = uri.host().is_some_and(|host| host.len() < authority.len());
        let port = match uri.port_u16() {
            Some(port @ 1..) => port,
            None if !has_port => 80,
            _ => return Err(wrong("its port is not between 1 and 65535")),
        };
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// Whether this is surely the machine the command runs on.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Host and port as a `Host` header and a URL have them.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// What a node answered, whatever it was.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, at most 64 MiB.
    pub body: Bytes,
    headers: awc::http::header::HeaderMap,
    reading: bool,
}

impl Answer {
    /// A header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn is_of_kind(&self, kind: &str) -> bool {
        self.header("content-type").is_some_and(|found| found.starts_with(kind))
    }

    /// Whether the request was done.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The body of a streaming answer, as it arrives.
pub struct NodeStream(LocalBoxStream<'static, Result<Bytes, PayloadError>>);

impl NodeStream {
    /// The next bytes, or None when the node ended the stream. Silence of `idle_timeout` is an error.
    pub async fn next(&mut self, idle_timeout: Duration) -> Result<Option<Bytes>, CliError> {
        match tokio::time::timeout(idle_timeout, self.0.next()).await {
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(Some(Err(error))) => {
                Err(CliError::Failed(format!("the stream broke: {}", explanation(&error.to_string()))))
            }
            Ok(None) => Ok(None),
            Err(_) => {
                Err(CliError::Failed(format!("the stream was silent for {} s", idle_timeout.as_secs())))
            }
        }
    }
}

/// Asks one node. Needs to be used on an actix runtime, as `awc` does.
pub struct NodeClient {
    base: String,
    http: awc::Client,
    answer_timeout: Duration,
}

impl NodeClient {
    /// A client of the node at `url`. Connects when first asked.
    pub fn new(url: &str) -> Result<Self, CliError> {
        let address = NodeUrl::parse(url)?;
        let http = awc::Client::builder()
            .connector(awc::Connector::new().timeout(CONNECT_TIMEOUT))
            // Deadlines are kept below, per request: awc's own would also end a stream that is meant to go
            // on.
            .disable_timeout()
            .disable_redirects()
            .add_default_header(("user-agent", concat!("ringwork/", env!("CARGO_PKG_VERSION"))))
            .add_default_header(("accept", "application/json"))
            .finish();
        Ok(Self { base: format!("http://{}", address.authority()), http, answer_timeout: ANSWER_TIMEOUT })
    }

    /// The same client with another patience.
    #[must_use]
    pub fn with_answer_timeout(mut self, answer_timeout: Duration) -> Self {
        self.answer_timeout = answer_timeout;
        self
    }

    /// The node's URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// `GET path`, parsed.
    pub async fn get(&self, path: &str) -> Result<Value, CliError> {
        self.ask(Method::GET, path, &[], None).await
    }

    /// `POST path` with a JSON body, or none.
    pub async fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
        self.ask(Method::POST, path, &[], body).await
    }

    /// Any request that is to be answered with JSON or nothing. A refusal is an error; no body is `null`.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, CliError> {
        let answer = self.request(method, path, headers, body).await?;
        if !answer.is_success() {
            return Err(self.refusal(&answer));
        }
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer.body).map_err(|error| {
            let base = &self.base;
            CliError::Failed(format!(
                "{base}{path} answered what is no JSON ({error}); is this a ringwork node?"
            ))
        })
    }

    /// Any request, with whatever the node answered to it.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, CliError> {
        let Some(body) = body else { return self.request_with(method, path, headers, None).await };
        let bytes = serde_json::to_vec(body)
            .map_err(|error| CliError::Failed(format!("cannot write the request as JSON: {error}")))?;
        let headers: Vec<_> = headers.iter().copied().chain([("content-type", "application/json")]).collect();
        self.request_with(method, path, &headers, Some(bytes.into())).await
    }

    /// Any request with any body, or none.
    pub async fn request_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Answer, CliError> {
        let reading = method == Method::GET || method == Method::HEAD;
        let exchange = async {
            let mut response = self.send(method, path, headers, body).await?;
            self.read_answer(&mut response, reading).await
        };
        tokio::time::timeout(self.answer_timeout, exchange).await.unwrap_or_else(|_| {
            let seconds = self.answer_timeout.as_secs_f32();
            let what = if reading { "is the node overloaded?" } else { "the request may still take effect" };
            Err(CliError::Failed(format!("no answer from {} within {seconds} s; {what}", self.base)))
        })
    }

    /// Begins a `GET` whose answer is read as it comes. None when the node says that there is nothing to
    /// come.
    pub async fn open_stream(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Option<NodeStream>, CliError> {
        let opening = async {
            let mut response = self.send(Method::GET, path, headers, None).await?;
            if response.status() == StatusCode::NO_CONTENT {
                return Ok(None);
            }
            if !response.status().is_success() {
                return Err(self.refusal(&self.read_answer(&mut response, true).await?));
            }
            Ok(Some(NodeStream(response.boxed_local())))
        };
        tokio::time::timeout(self.answer_timeout, opening).await.unwrap_or_else(|_| {
            let seconds = self.answer_timeout.as_secs_f32();
            Err(CliError::Failed(format!("{} did not begin the stream within {seconds} s", self.base)))
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<
        awc::ClientResponse<impl futures_util::Stream<Item = Result<Bytes, PayloadError>> + Unpin + use<>>,
        CliError,
    > {
        let reading = method == Method::GET || method == Method::HEAD;
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        for header in headers {
            request = request.insert_header(*header);
        }
        let sent = match body {
            Some(body) => request.send_body(body),
            None => request.send(),
        };
        sent.await.map_err(|error| self.no_answer(&error, reading))
    }

    async fn read_answer<S>(
        &self,
        response: &mut awc::ClientResponse<S>,
        reading: bool,
    ) -> Result<Answer, CliError>
    where
        S: futures_util::Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    {
        let headers = response.headers().clone();
        let status = response.status().as_u16();
        let mut body = BytesMut::new();
        while let Some(chunk) = response.next().await {
            let chunk = chunk.map_err(|error| self.lost(&error.to_string(), reading))?;
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let mib = ANSWER_BYTES_MAX >> 20;
                return Err(CliError::Failed(format!(
                    "{} answered with more than {mib} MiB; ask for less",
                    self.base
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body: body.freeze(), headers, reading })
    }

    fn no_answer(&self, error: &SendRequestError, reading: bool) -> CliError {
        let SendRequestError::Connect(error) = error else {
            let reason = match error {
                SendRequestError::Send(error) => error.kind().to_string(),
                other => other.to_string(),
            };
            return self.lost(&reason, reading);
        };
        let base = &self.base;
        CliError::Failed(match error {
            ConnectError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => format!(
                "cannot reach {base}: connection refused; is the node running? start one with \
                 `ringwork start`, or name another with --node"
            ),
            ConnectError::Timeout => format!(
                "cannot reach {base}: no connection within {} s; is the address right, the way to it open?",
                CONNECT_TIMEOUT.as_secs()
            ),
            ConnectError::Resolver(_) | ConnectError::NoRecords | ConnectError::Unresolved => {
                format!("cannot reach {base}: nobody knows this host name; check --node or {NODE_VARIABLE}")
            }
            ConnectError::Disconnected => return self.lost("it was closed", reading),
            other => format!(
                "cannot reach {base}: {}; check --node or {NODE_VARIABLE}",
                explanation(&other.to_string())
            ),
        })
    }

    fn lost(&self, reason: &str, reading: bool) -> CliError {
        let way_out = if reading { "try again" } else { "the request may still have taken effect" };
        let reason = explanation(reason);
        CliError::Failed(format!(
            "the connection to {} was lost before the answer ({reason}); {way_out}",
            self.base
        ))
    }

    /// What a refusal means to the user. Every part of it came from outside.
    pub fn refusal(&self, answer: &Answer) -> CliError {
        let status = answer.status;
        let problem = if answer.is_of_kind("application/problem+json") {
            serde_json::from_slice(&answer.body).unwrap_or_default()
        } else {
            Value::Null
        };
        let text = |name: &str| problem.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let code = text("code").map(explanation);
        let said = match text("detail").or_else(|| text("title")) {
            Some(said) => explanation(said),
            // On Riak's routes the reason is the body.
            None if answer.is_of_kind("text/plain") && !answer.body.trim_ascii().is_empty() => {
                explanation(String::from_utf8_lossy(answer.body.trim_ascii()).as_ref())
            }
            None => {
                let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
                let doubt = if status < 500 { "; is this a ringwork node?" } else { "" };
                format!("{}, and gave no reason{doubt}", reason.unwrap_or("a status that nobody knows"))
            }
        };
        let coded = code.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
        let after = answer.header("retry-after").and_then(|after| after.parse::<u16>().ok());
        let again = after.map_or("try again later".to_owned(), |seconds| format!("try again in {seconds} s"));
        let way_out = match status {
            // Riak's status for both; this tells them apart.
            503 if answer.header("x-ringwork-outcome") == Some("unknown") => String::new(),
            429 | 503 if answer.reading || said.contains("nothing was written") => format!("; {again}"),
            429 | 503 => format!("; nothing was written, {again}"),
            504 if code.as_deref() == Some("deadline") => {
                "; it may still take effect, `ringwork cluster status` shows whether it did".to_owned()
            }
            504 if !answer.reading => {
                "; it may still take effect, repeating it with the same key is safe".to_owned()
            }
            _ => String::new(),
        };
        CliError::Refused {
            status,
            code,
            message: format!("{} refused ({status}{coded}): {said}{way_out}", self.base),
        }
    }
}
