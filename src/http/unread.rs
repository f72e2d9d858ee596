//! What becomes of a body that nobody reads to its end: the connection is closed after the answer. It does not
//! know why the body was left.
//!
//! For a body of a known length actix does so by itself. One in chunks it reads and throws away for as long as
//! the client goes on, under no deadline, unless somebody still holds it when the answer has been sent.

use actix_web::HttpMessage;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::web::Bytes;
use futures_core::Stream;
use futures_util::stream::poll_fn;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A body that comes in chunks.
pub(super) struct Unread(Rc<RefCell<Payload>>);

impl Unread {
    /// Takes hold of the request's body, if it comes in chunks. Handlers read it as they would have.
    pub(super) fn hold(request: &mut ServiceRequest) -> Option<Self> {
        if !request.headers().contains_key(TRANSFER_ENCODING) {
            return None;
        }
        let held = Rc::new(RefCell::new(request.take_payload()));
        let read = held.clone();
        let payload = Box::pin(poll_fn(move |cx| Pin::new(&mut *read.borrow_mut()).poll_next(cx)));
        request.set_payload(Payload::Stream { payload });
        Some(Self(held))
    }

    /// Lets go when the answer has been sent.
    pub(super) fn until_sent(self, answer: BoxBody) -> BoxBody {
        BoxBody::new(Sending { answer, _unread: self.0 })
    }
}

struct Sending {
    answer: BoxBody,
    _unread: Rc<RefCell<Payload>>,
}

impl MessageBody for Sending {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.answer.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.answer).poll_next(cx)
    }
}
