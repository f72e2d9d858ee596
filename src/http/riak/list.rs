//! Lists of keys and of buckets, whole or as a stream. It decides how a list is shown so that a part is never taken for
//! the whole: what cannot be listed to its end is an error, in a stream an object `{"error": …}` behind what was shown.
//! Which vnodes are asked, the runtime decides.

use super::fault::Fault;
use super::path::Bucket;
use super::query::Parameters;
use super::{Riak, count};
use crate::kv::{Buckets, Keys};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream::unfold;
use ringwork_core::quorum::Refusal;
use ringwork_kv::ObjectName;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Time for a list that does not say otherwise: some millions of keys.
const WITHIN: Duration = Duration::from_secs(600);
/// Longest time that can be asked for.
const WITHIN_MAX: Duration = Duration::from_secs(3600);
/// Bytes of a list that is answered whole: a longer one is to be streamed.
const WHOLE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A client that takes nothing for so long has its stream ended: others wait for the room.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// What is listed.
enum Source {
    Keys(Box<Keys>),
    Buckets(Box<Buckets>),
}

impl Source {
    fn field(&self) -> &'static str {
        match self {
            Self::Keys(_) => "keys",
            Self::Buckets(_) => "buckets",
        }
    }

    /// The next names; none at the end. JSON has no bytes: what is not UTF-8 in a name is shown as U+FFFD.
    async fn next(&mut self) -> Result<Option<Vec<String>>, Fault> {
        let found = match self {
            Self::Keys(keys) => keys.next().await.map_err(|failure| Fault::of_listing(&failure))?,
            Self::Buckets(buckets) => buckets.next().await.map_err(|failure| Fault::of_buckets(&failure))?,
        };
        let shown = |names: Vec<Vec<u8>>| {
            names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>()
        };
        Ok(found.map(shown))
    }
}

/// The keys of a bucket; with a document of its properties, that first.
pub(super) async fn keys(
    riak: &web::Data<Riak>,
    request: &HttpRequest,
    bucket: &Bucket,
    document: Option<Value>,
) -> Result<HttpResponse, Fault> {
    // Refused where the type is not in use, or a name cannot be.
    riak.store.bucket_props(&bucket.bucket_type, &bucket.name)?;
    ObjectName::new(&bucket.bucket_type, &bucket.name, b"k")?;
    let parameters = Parameters::of(request.query_string())?;
    let within = parameters.timeout(WITHIN, WITHIN_MAX)?;
    let begin = || {
        let listing = riak.store.keys(&bucket.bucket_type, &bucket.name, within);
        Ok(Source::Keys(Box::new(listing.map_err(|refusal| Fault::refused(&refusal))?)))
    };
    listed(riak, parameters.get("keys"), begin, document).await
}

/// The buckets of a type.
pub(super) async fn buckets(
    riak: &web::Data<Riak>,
    request: &HttpRequest,
    bucket_type: &str,
) -> Result<HttpResponse, Fault> {
    riak.store.type_props(bucket_type)?;
    let parameters = Parameters::of(request.query_string())?;
    let within = parameters.timeout(WITHIN, WITHIN_MAX)?;
    let begin = || Ok(Source::Buckets(Box::new(riak.store.buckets(bucket_type, within))));
    listed(riak, parameters.get("buckets"), begin, None).await
}

async fn listed(
    riak: &web::Data<Riak>,
    how: Option<&str>,
    begin: impl FnOnce() -> Result<Source, Fault>,
    document: Option<Value>,
) -> Result<HttpResponse, Fault> {
    match how {
        Some("stream") => {
            count(&riak.counts.lists);
            Ok(stream(riak, begin()?, document))
        }
        Some("true") => {
            count(&riak.counts.lists);
            whole(riak, begin()?, document).await
        }
        _ => Err(Fault::bad_request(
            "say keys=true or keys=stream (for buckets buckets=true or buckets=stream)",
        )),
    }
}

async fn whole(riak: &Riak, mut source: Source, document: Option<Value>) -> Result<HttpResponse, Fault> {
    let mut text = match document.as_ref().and_then(|document| document.get("props")) {
        Some(props) => format!("{{\"props\":{props},\"{}\":[", source.field()),
        None => format!("{{\"{}\":[", source.field()),
    };
    let mut is_first = true;
    // Counted as it grows, not when it is whole: many lists at once would hold much more than answers may.
    let overloaded = || Fault::refused(&Refusal::Overloaded);
    let mut room = riak.app.answers.reserve(0).ok_or_else(overloaded)?;
    while let Some(names) = source.next().await? {
        for name in names {
            if !std::mem::take(&mut is_first) {
                text.push(',');
            }
            text.push_str(&json!(name).to_string());
        }
        if text.len() > WHOLE_BYTES_MAX {
            let field = source.field();
            return Err(Fault::bad_request(format!(
                "the list is too long for one answer; ask with {field}=stream"
            )));
        }
        if !room.grow(text.len()) {
            return Err(overloaded());
        }
    }
    text.push_str("]}");
    drop(room);
    Ok(HttpResponse::Ok().content_type("application/json").body(riak.held(text.into())?))
}

/// A piece of a stream's body.
enum Piece {
    More(Bytes),
    Last(Bytes),
}

/// Whatever becomes of a list that was begun is told in the stream: clients leave a connection hanging on which one is
/// answered with another status.
fn stream(riak: &web::Data<Riak>, source: Source, document: Option<Value>) -> HttpResponse {
    let (sender, receiver) = mpsc::channel(1);
    let pump = Pump { source, closing: riak.app.closing.clone(), sender };
    // Apart from the connection: a client that does not read would else keep the listing, and its place, for ever.
    actix_web::rt::spawn(pump.run(document));
    let body = unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        Some(match receiver.recv().await {
            Some(Piece::More(bytes)) => (Ok::<_, Infallible>(bytes), Some(receiver)),
            Some(Piece::Last(bytes)) => (Ok(bytes), None),
            None => (Ok(error("the client took nothing for a minute")), None),
        })
    });
    HttpResponse::Ok().content_type("application/json").streaming(body)
}

fn error(text: &str) -> Bytes {
    json!({ "error": text }).to_string().into()
}

/// Carries a listing to a client as fast as it reads.
struct Pump {
    source: Source,
    closing: watch::Receiver<bool>,
    sender: mpsc::Sender<Piece>,
}

impl Pump {
    async fn send(&self, piece: Piece) -> bool {
        matches!(tokio::time::timeout(STALLED_AFTER, self.sender.send(piece)).await, Ok(Ok(())))
    }

    async fn run(mut self, document: Option<Value>) {
        if let Some(document) = document
            && !self.send(Piece::More(document.to_string().into())).await
        {
            return;
        }
        let (field, mut is_empty) = (self.source.field(), true);
        loop {
            let batch = tokio::select! {
                batch = self.source.next() => batch,
                () = self.sender.closed() => return,
                () = closed(&mut self.closing) => Err(Fault::refused(&Refusal::Stopping)),
            };
            let piece = match batch {
                Ok(Some(names)) if names.is_empty() => None,
                Ok(Some(names)) => {
                    is_empty = false;
                    Some(Piece::More(json!({ field: names }).to_string().into()))
                }
                // Clients expect an object, and no empty list behind others.
                Ok(None) if is_empty => Some(Piece::Last(json!({ field: [] }).to_string().into())),
                Ok(None) => Some(Piece::Last(Bytes::new())),
                Err(Fault { text, .. }) => Some(Piece::Last(error(&text))),
            };
            if let Some(piece) = piece {
                let is_last = matches!(piece, Piece::Last(_));
                if !self.send(piece).await || is_last {
                    return;
                }
            }
        }
    }
}

/// Ends when the node is to stop.
async fn closed(closing: &mut watch::Receiver<bool>) {
    while !*closing.borrow_and_update() {
        if closing.changed().await.is_err() {
            return;
        }
    }
}
