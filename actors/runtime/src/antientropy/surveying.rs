//! A look at the roots of many pairs at once, carried to both sides. It decides how long it may take; which pairs are
//! looked at, and what follows, is core's to say.

use super::{ANSWER_WITHIN, answering};
use crate::families;
use crate::net::Channel;
use crate::remote::RootsAsked;
use crate::service_core::ServiceCore;
use ringwork_core::antientropy::schedule::{Pair, Survey};
use ringwork_core::antientropy::survey::{Sight, TreeOf, TreeTold, compare, rooted};
use ringwork_core::ids::NodeId;
use ringwork_core::vnode::Vnode;
use ringwork_core::wire::codec;
use std::sync::Arc;

/// Looks at the roots of the survey's pairs, at its partner first: where that one takes no part, this side need not
/// work them out. Nothing where either side does not answer in time, or not about these trees, as a node of an earlier
/// release does not, which knows no such question.
pub(super) async fn look<V: Vnode>(
    service: Arc<ServiceCore<V>>,
    survey: Survey,
) -> (Survey, Option<Vec<Sight>>) {
    let both = async {
        let of = |pair: &Pair| TreeOf { vnode: pair.theirs, group: pair.group };
        let theirs = ask(&service, survey.partner, survey.pairs.iter().map(of).collect()).await?;
        let pairs = rooted(&theirs).filter_map(|at| survey.pairs.get(at));
        let mine = pairs.map(|pair| TreeOf { vnode: pair.mine, group: pair.group }).collect();
        let mine = answering::roots(service.clone(), mine).await;
        let sights = compare(&theirs, &mine).filter(|sights| sights.len() == survey.pairs.len());
        sights.ok_or_else(|| "the answer is about other trees".to_owned())
    };
    let sights = tokio::time::timeout(ANSWER_WITHIN, both).await;
    let sights = sights.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_WITHIN.as_secs())));
    let sights = sights.inspect_err(|why| {
        let partner = service.node.name_of(survey.partner);
        tracing::debug!(service = V::SERVICE, %partner, why, "each pair is compared by itself");
    });
    (survey, sights.ok())
}

async fn ask<V: Vnode>(
    service: &Arc<ServiceCore<V>>,
    at: NodeId,
    trees: Vec<TreeOf>,
) -> Result<Vec<TreeTold>, String> {
    if at == service.node.id {
        return Ok(answering::roots(service.clone(), trees).await);
    }
    let network = service.node.network().ok_or("this node has no network any more")?;
    let asked = RootsAsked { service: V::SERVICE.to_owned(), layout: answering::layout::<V>(), trees };
    let encode = |out: &mut Vec<u8>| codec::encode_into(&asked, out);
    let called =
        network.call(at, Channel::Request, families::ROOTS, families::VERSION, ANSWER_WITHIN, encode);
    let incoming = called.await.map_err(|error| error.to_string())?;
    codec::decode::<Result<Vec<TreeTold>, String>>(&incoming.body)
        .map_err(|error| format!("the answer cannot be read: {error}"))?
}
