//! Presence: when each user was last seen. A module of one's own in one file: kept in replicas, listed over the
//! cluster, checked by the laws, and run as a node. docs/adding-a-vnode.md goes through it.

use actix_web::{HttpResponse, web};
use ringwork::core::prelude::*;
use ringwork::http::Problem;
use ringwork::modules::{Modules, Service};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is kept. Two of one user become one: the later.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) user: String,
    pub(crate) at: HybridTime,
}

/// The layout of its bytes is the first. Other fields will be `const VERSION: u16 = 2;`.
impl Wire for Seen {}

impl Item for Seen {
    fn routing_key(&self) -> &[u8] {
        self.user.as_bytes()
    }
    fn join(self, other: Self) -> Self {
        if other.at > self.at { other } else { self }
    }
}

/// What can be asked: when was that user seen? Writes need no command, they come as finished items.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WhenSeen(pub(crate) String);
impl Wire for WhenSeen {}

/// One partition on one node. `Items` does the keeping.
pub(crate) struct Presence(Items<Seen>);

impl Vnode for Presence {
    const SERVICE: &'static str = "presence";
    type Config = ();
    type Command = WhenSeen;
    type Reply = Option<Seen>;
    type Item = Seen;
    type Question = EveryItem;
    type Error = ItemsError;

    fn init(_: Partition, _: &(), store: Keyspace) -> Result<Self, ItemsError> {
        Ok(Self(Items::over(store)))
    }
    fn handle_command(&mut self, asked: WhenSeen, _: &mut Turn<Self>) -> Result<Outcome<Self>, ItemsError> {
        Ok(Outcome::Reply(self.0.get(asked.0.as_bytes())?))
    }
    fn merge(&mut self, seen: Seen) -> Result<Merged, ItemsError> {
        self.0.merge(seen)
    }
    fn fold(from: &Snapshot, range: &KeyRange, visit: VisitItem<'_, Seen>) -> Result<(), ItemsError> {
        Items::fold(from, range, visit)
    }
    fn is_empty(&self) -> Result<bool, ItemsError> {
        self.0.is_empty()
    }
    fn delete(&mut self) -> Result<(), ItemsError> {
        self.0.clear()
    }
    fn resolve(_: &WhenSeen, replies: &[Option<Seen>]) -> Option<Resolution<Self>> {
        Resolution::joined(replies)
    }
}

type Calls = web::Data<Service<Presence>>;
type Answer = Result<HttpResponse, Problem>;

/// What comes from outside is bounded, and refused with what would be right.
fn checked(user: &str) -> Result<String, Problem> {
    let wrong = || Problem::bad_request("bad-user", "a user's name has 1 to 100 bytes");
    (1..=100).contains(&user.len()).then(|| user.to_owned()).ok_or_else(wrong)
}

async fn seen_now(calls: Calls, user: web::Path<String>) -> Answer {
    let at = calls.core().node.stamp_above(HybridTime::default()).time;
    let written = calls.key(user.as_bytes()).merge(Seen { user: checked(&user)?, at }).await?;
    Problem::unless_done(&written, "Say it again")?;
    Ok(HttpResponse::NoContent().finish())
}

async fn when_seen(calls: Calls, user: web::Path<String>) -> Answer {
    let found = calls.key(user.as_bytes()).read(WhenSeen(checked(&user)?)).await??;
    let seen = found.reply.ok_or(Problem::not_found("unknown-user", "nobody of that name was seen"))?;
    Ok(HttpResponse::Ok().json(json!({ "user": seen.user, "seen_ms": seen.at.milliseconds() })))
}

/// A page of 1000: the next one begins `?after=` its last user.
async fn everybody(calls: Calls, query: web::Query<BTreeMap<String, String>>) -> Answer {
    let after = query.get("after").map(|user| checked(user)).transpose()?.map(String::into_bytes);
    let page = calls.coverage(EveryItem).after(after).rows_max(1000).within(Duration::from_secs(10));
    let users: Vec<_> = page.list()?.rows().await?.into_iter().map(|row| row.into_item().user).collect();
    Ok(HttpResponse::Ok().json(json!({ "users": users })))
}

fn routes(app: &mut web::ServiceConfig) {
    app.route("/presence", web::get().to(everybody));
    app.route("/presence/{user}", web::get().to(when_seen));
    app.route("/presence/{user}", web::put().to(seen_now));
}

fn main() -> std::process::ExitCode {
    ringwork::cli::start::program(Modules::default().with::<Presence>((), routes))
}

#[test]
fn presence_is_lawful() {
    use ringwork::core::testing::{Draw, check_laws, check_listing_laws};
    // Few users and few times, so that they meet.
    let seen = |draw: &mut Draw| Seen { user: draw.below(4).to_string(), at: HybridTime(draw.below(5)) };
    check_laws::<Presence>(&(), seen);
    check_listing_laws::<Presence>(&(), seen, |_| EveryItem);
}
