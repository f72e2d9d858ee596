//! Riak's routes over a whole node, asked over HTTP as clients ask: what each place answers.

mod degraded;
mod statuses;

use crate::cli::client::{Answer, NodeClient};
use crate::server::{Served, serve};
use crate::settings::{Engine, Settings};
use awc::http::Method;
use serde_json::{Value, json};

const TEXT: (&str, &str) = ("content-type", "text/plain");
const JSON: (&str, &str) = ("content-type", "application/json");
const ANYTHING: (&str, &str) = ("accept", "*/*");
const PYTHON: (&str, &str) = ("accept", "multipart/mixed, application/json, */*;q=0.5");

/// A node that keeps nothing.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.store.engine = Engine::Memory;
    settings.http.address.set_port(0);
    settings.http.workers = 1;
    settings.cluster.address.set_port(0);
    settings.cluster.ring_size = 8;
    settings.kv.object_bytes_max = "8KiB".parse().unwrap();
    settings
}

/// A node of its own, and who asks it.
pub(crate) async fn served() -> (Served, NodeClient) {
    let served = serve(&settings()).await.unwrap();
    let client = NodeClient::new(&format!("http://{}", served.address())).unwrap();
    (served, client)
}

async fn ask(
    client: &NodeClient,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let body = (!body.is_empty()).then(|| body.to_owned().into());
    client.request_with(method, path, headers, body).await.unwrap()
}

async fn put(client: &NodeClient, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    ask(client, Method::PUT, path, &[&[TEXT], headers].concat(), body).await
}

async fn get(client: &NodeClient, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(client, Method::GET, path, &[&[ANYTHING], headers].concat(), "").await
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

fn value(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

fn context(answer: &Answer) -> (&'static str, String) {
    ("x-riak-vclock", answer.header("x-riak-vclock").unwrap().to_owned())
}

#[actix_rt::test]
async fn an_object_is_the_same_in_both_schemes_and_deleted_once() {
    let (served, client) = served().await;
    let (new, old) = ("/buckets/b/keys/a%20key", "/riak/b/a+key");
    assert_eq!(get(&client, new, &[]).await.status, 404);
    let stored = put(&client, new, &[("x-riak-meta-a", "1"), ("x-riak-index-n_int", "2")], "v").await;
    assert_eq!((stored.status, stored.body.len(), stored.header("x-riak-vclock")), (204, 0, None));
    for (path, up) in [(new, "</buckets/b>; rel=\"up\""), (old, "</riak/b>; rel=\"up\"")] {
        let found = get(&client, path, &[]).await;
        assert_eq!((found.status, text(&found).as_str()), (200, "v"));
        assert_eq!(found.header("content-type"), Some("text/plain"));
        assert_eq!(
            (found.header("x-riak-meta-a"), found.header("x-riak-index-n_int")),
            (Some("1"), Some("2"))
        );
        assert_eq!(found.header("link"), Some(up));
        let head = ask(&client, Method::HEAD, path, &[ANYTHING], "").await;
        assert_eq!((head.status, head.body.len(), head.header("etag")), (200, 0, found.header("etag")));
        assert_eq!(head.header("content-length"), Some("1"));
    }
    assert_eq!(get(&client, new, &[("accept", "application/json")]).await.status, 406);
    assert_eq!(ask(&client, Method::DELETE, old, &[], "").await.status, 204);
    let dead = get(&client, new, &[]).await;
    assert_eq!((dead.status, text(&dead).as_str()), (404, "not found\n"));
    assert_eq!(dead.header("x-riak-deleted"), Some("true"));
    assert!(dead.header("x-riak-vclock").is_some());
    assert_eq!(ask(&client, Method::DELETE, new, &[], "").await.status, 404);
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn a_write_shows_what_it_left_when_asked_to() {
    let (served, client) = served().await;
    let path = "/buckets/b/keys/k?returnbody=true";
    let stored = put(&client, path, &[ANYTHING], "v").await;
    assert_eq!((stored.status, text(&stored).as_str()), (200, "v"));
    assert!(stored.header("x-riak-vclock").is_some());
    let empty = put(&client, path, &[ANYTHING], "").await;
    assert_eq!((empty.status, empty.header("content-type")), (204, Some("text/plain")));
    assert_eq!(put(&client, path, &[("accept", "image/png")], "w").await.status, 406);
    assert_eq!(text(&get(&client, path, &[]).await), "", "refused before it was written");
    for (path, stem) in [("/buckets/b/keys", "/buckets/b/keys/"), ("/riak/b", "/riak/b/")] {
        let made = ask(&client, Method::POST, path, &[TEXT], "new").await;
        assert_eq!(made.status, 201);
        let location = made.header("location").unwrap();
        assert!(location.starts_with(stem) && location.len() > stem.len() + 20, "{location}");
        assert_eq!(text(&get(&client, location, &[]).await), "new");
    }
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn siblings_are_shown_and_made_one_under_their_context() {
    let (served, client) = served().await;
    let props = json!({"props": {"allow_mult": true}}).to_string();
    assert_eq!(ask(&client, Method::PUT, "/buckets/s/props", &[JSON], &props).await.status, 204);
    let path = "/buckets/s/keys/k";
    put(&client, path, &[], "one").await;
    let second = put(&client, &format!("{path}?returnbody=true"), &[PYTHON], "two").await;
    assert_eq!(second.status, 300);
    let named = get(&client, path, &[]).await;
    let tags: Vec<String> = text(&named).lines().skip(1).map(str::to_owned).collect();
    assert_eq!((named.status, tags.len()), (300, 2));
    let mut values = Vec::new();
    for tag in &tags {
        values.push(text(&get(&client, &format!("{path}?vtag={tag}"), &[]).await));
    }
    values.sort();
    assert_eq!(values, ["one", "two"]);
    assert_eq!(get(&client, &format!("{path}?vtag=x"), &[]).await.status, 404);
    let parts = ask(&client, Method::GET, path, &[PYTHON], "").await;
    assert!(parts.header("content-type").unwrap().starts_with("multipart/mixed; boundary="));
    assert_eq!(text(&parts).matches("\r\nContent-Type: text/plain\r\n").count(), 2);
    // What was written is no refusal, also where it cannot be shown.
    let markup = [("content-type", "text/html"), ("accept", "text/html")];
    let unseen = ask(&client, Method::PUT, &format!("{path}?returnbody=true"), &markup, "three").await;
    assert_eq!((unseen.status, unseen.body.len()), (204, 0));
    let parts = ask(&client, Method::GET, path, &[PYTHON], "").await;
    assert_eq!(text(&parts).matches("\r\nContent-Type: text/html\r\n").count(), 1);
    let seen = context(&parts);
    put(&client, path, &[(seen.0, &seen.1)], "both").await;
    assert_eq!(text(&get(&client, path, &[]).await), "both");
    let elsewhere = put(&client, "/buckets/s/keys/other", &[(seen.0, &seen.1)], "x").await;
    assert_eq!(elsewhere.status, 400, "the context of another object");
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn conditions_are_kept() {
    let (served, client) = served().await;
    let path = "/buckets/b/keys/k";
    assert_eq!(put(&client, path, &[("if-match", "*")], "v").await.status, 412);
    assert_eq!(put(&client, path, &[("if-none-match", "*")], "v").await.status, 204);
    assert_eq!(put(&client, path, &[("if-none-match", "*")], "w").await.status, 412);
    let found = get(&client, path, &[]).await;
    let (tag, date) = (found.header("etag").unwrap(), found.header("last-modified").unwrap());
    assert_eq!(get(&client, path, &[("if-none-match", tag)]).await.status, 304);
    assert_eq!(get(&client, path, &[("if-modified-since", date)]).await.status, 304);
    assert_eq!(get(&client, path, &[("if-match", "\"x\"")]).await.status, 412);
    assert_eq!(get(&client, path, &[("if-match", tag), ("if-none-match", "\"x\"")]).await.status, 200);
    let seen = context(&found).1;
    assert_eq!(put(&client, path, &[("x-riak-if-not-modified", &seen)], "w").await.status, 204);
    assert_eq!(put(&client, path, &[("x-riak-if-not-modified", &seen)], "x").await.status, 409);
    assert_eq!(text(&get(&client, path, &[]).await), "w");
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn properties_are_shown_changed_and_taken_back() {
    let (served, client) = served().await;
    let props = async |path: &str| value(&get(&client, path, &[]).await)["props"].clone();
    let before = props("/buckets/b/props").await;
    assert_eq!((&before["n_val"], &before["r"], &before["name"]), (&json!(3), &json!("quorum"), &json!("b")));
    let set = async |path: &str, props: Value| {
        ask(&client, Method::PUT, path, &[JSON], &json!({ "props": props }).to_string()).await
    };
    assert_eq!(set("/buckets/b/props", json!({"n_val": 2, "w": "all"})).await.status, 204);
    let after = props("/buckets/b/props").await;
    assert_eq!((&after["n_val"], &after["w"]), (&json!(2), &json!("all")));
    assert_eq!(set("/buckets/b/props", after).await.status, 204, "clients send back all that they have read");
    let wrong = set("/buckets/b/props", json!({"n_val": "two", "w": 1})).await;
    assert_eq!((wrong.status, value(&wrong)), (400, json!({"n_val": "not_integer"})));
    let plain = ask(&client, Method::PUT, "/buckets/b/props", &[TEXT], "{\"props\":{}}").await;
    assert_eq!(plain.status, 415);
    assert_eq!(ask(&client, Method::PUT, "/buckets/b/props", &[JSON], "{").await.status, 400);
    assert_eq!(ask(&client, Method::DELETE, "/buckets/b/props", &[], "").await.status, 204);
    assert_eq!(props("/buckets/b/props").await, before);

    let unknown = get(&client, "/types/t/props", &[]).await;
    assert_eq!((unknown.status, text(&unknown).as_str()), (404, "Unknown bucket type: t\n"));
    assert_eq!(put(&client, "/types/t/buckets/b/keys/k", &[], "v").await.status, 404);
    let created = json!({"props": {"allow_mult": false}});
    client.ask(Method::PUT, "/admin/bucket-types/t", &[], Some(&created)).await.unwrap();
    let activate = async || client.post("/admin/bucket-types/t/activate", None).await;
    while activate().await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let typed = props("/types/t/props").await;
    assert_eq!(
        (&typed["active"], &typed["allow_mult"], &typed["claimant"]),
        (&json!(true), &json!(false), &json!("node1"))
    );
    assert_eq!(set("/types/t/props", json!({"w": 1})).await.status, 204);
    assert_eq!(props("/types/t/buckets/b/props").await["w"], 1);
    assert_eq!(set("/types/t/props", json!({"datatype": "set"})).await.status, 400);
    assert_eq!(put(&client, "/types/t/buckets/b/keys/k", &[], "v").await.status, 204);
    let typed = get(&client, "/types/t/buckets/b/keys/k", &[]).await;
    assert_eq!(typed.header("link"), Some("</types/t/buckets/b>; rel=\"up\""));
    assert_eq!(get(&client, "/buckets/b/keys/k", &[]).await.status, 404, "another bucket");
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn lists_are_whole_or_say_that_they_are_not() {
    let (served, client) = served().await;
    let mut expected: Vec<String> = (0..300).map(|number| format!("key{number:03}")).collect();
    for key in &expected {
        assert_eq!(put(&client, &format!("/buckets/b/keys/{key}"), &[], "v").await.status, 204);
    }
    let keys = |value: &Value| -> Vec<String> { serde_json::from_value(value["keys"].clone()).unwrap() };
    assert_eq!(keys(&value(&get(&client, "/buckets/b/keys?keys=true", &[]).await)), expected);
    let both = value(&get(&client, "/riak/b?keys=true", &[]).await);
    assert_eq!((keys(&both), &both["props"]["name"]), (expected.clone(), &json!("b")));
    let stream = async |path: &str| {
        let answer = get(&client, path, &[]).await;
        assert_eq!(answer.status, 200);
        let objects = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>();
        objects.map(Result::unwrap).collect::<Vec<_>>()
    };
    let pieces = stream("/buckets/b/keys/?keys=stream").await;
    assert!(pieces.iter().all(|piece| !keys(piece).is_empty()));
    assert_eq!(pieces.iter().flat_map(keys).collect::<Vec<_>>(), expected);
    assert_eq!(stream("/buckets/none/keys?keys=stream").await, [json!({"keys": []})]);
    ask(&client, Method::DELETE, "/buckets/b/keys/key000", &[], "").await;
    expected.remove(0);
    assert_eq!(keys(&value(&get(&client, "/buckets/b/keys?keys=true", &[]).await)), expected);
    put(&client, "/buckets/b2/keys/k", &[], "v").await;
    let buckets = value(&get(&client, "/buckets?buckets=true", &[]).await);
    assert_eq!(buckets, json!({"buckets": ["b", "b2"]}));
    assert_eq!(value(&get(&client, "/riak?buckets=true", &[]).await), buckets);
    let pieces = stream("/types/default/buckets?buckets=stream").await;
    let names = pieces.iter().flat_map(|piece| piece["buckets"].as_array().unwrap().clone());
    assert_eq!(names.collect::<Vec<_>>(), [json!("b"), json!("b2")]);
    assert_eq!(get(&client, "/buckets/b/keys", &[]).await.status, 400);
    assert_eq!(get(&client, "/types/t/buckets?buckets=true", &[]).await.status, 404);
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn links_are_walked_step_by_step() {
    let (served, client) = served().await;
    let link = |key: &str, tag: &str| format!("</buckets/b/keys/{key}>; riaktag=\"{tag}\"");
    let to = [link("one", "a"), link("gone", "a"), link("two", "b")].join(", ");
    put(&client, "/buckets/b/keys/start", &[("link", &to)], "start").await;
    put(&client, "/buckets/b/keys/one", &[("link", &link("end%20s", "c"))], "1").await;
    put(&client, "/buckets/b/keys/two", &[("link", &link("end%20s", "c"))], "2").await;
    put(&client, "/buckets/b/keys/end%20s", &[], "the end").await;
    let walked = async |path: &str| {
        let answer = get(&client, path, &[]).await;
        assert_eq!(answer.status, 200, "{path}: {}", text(&answer));
        let kind = answer.header("content-type").unwrap();
        let outer = kind.strip_prefix("multipart/mixed; boundary=").unwrap().to_owned();
        let body = text(&answer);
        let whole = body.strip_suffix(&format!("\r\n--{outer}--\r\n")).unwrap().to_owned();
        let between = format!("\r\n--{outer}\r\n");
        let steps = whole.split(&between).skip(1).map(|step| {
            let (head, body) = step.split_once("\r\n\r\n").unwrap();
            let inner = head.strip_prefix("Content-Type: multipart/mixed; boundary=").unwrap();
            let body = body.strip_suffix(&format!("\r\n--{inner}--\r\n")).unwrap();
            body.split(&format!("\r\n--{inner}\r\n")).skip(1).map(str::to_owned).collect::<Vec<_>>()
        });
        steps.collect::<Vec<_>>()
    };
    let values = |step: &[String]| -> Vec<String> {
        step.iter().map(|part| part.split_once("\r\n\r\n").unwrap().1.to_owned()).collect()
    };
    let one = walked("/buckets/b/keys/start/_,a,_").await;
    assert_eq!(one.len(), 1);
    assert_eq!(values(&one[0]), ["1"], "what is not there is left out");
    for line in
        ["X-Riak-Vclock: ", "Location: /buckets/b/keys/one\r\n", "Content-Type: text/plain\r\n", "Etag: "]
    {
        assert!(one[0][0].contains(line), "{line} in {}", one[0][0]);
    }
    let both = walked("/riak/b/start/b,_,1/_,c,_").await;
    assert_eq!(
        (both.len(), values(&both[0]), values(&both[1])),
        (2, vec!["1".into(), "2".into()], vec!["the end".into()])
    );
    assert!(both[1][0].contains("Location: /riak/b/end%20s\r\n"));
    assert_eq!(walked("/buckets/b/keys/start/_,_,0/_,_,0").await, [[""; 0]; 0]);
    assert_eq!(walked("/buckets/b/keys/start/other,_,_").await, [[""; 0]], "a step that came to nothing");
    let long = format!("/buckets/b/keys/start{}", "/_,_,_".repeat(9));
    assert_eq!(get(&client, &long, &[]).await.status, 400);
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn clients_find_out_what_the_node_has() {
    let (served, client) = served().await;
    let resources = ask(&client, Method::GET, "/", &[("accept", "application/json")], "").await;
    let resources = value(&resources);
    assert_eq!(
        (&resources["riak_kv_wm_buckets"], &resources["riak_kv_wm_raw"]),
        (&json!("/buckets"), &json!("/riak"))
    );
    assert_eq!(resources.get("riak_kv_wm_mapred"), None, "what is not there is not named");
    let page = ask(&client, Method::GET, "/", &[("accept", "text/html,*/*;q=0.8")], "").await;
    assert!(text(&page).starts_with("<!doctype html>"));
    get(&client, "/buckets/b/keys/k", &[]).await;
    let stats = value(&get(&client, "/stats", &[]).await);
    assert_eq!((&stats["riak_kv_version"], &stats["node_gets_total"]), (&json!("3.2.3"), &json!(1)));
    let list = value(&get(&client, "/buckets/b/keys/k/preflist", &[]).await);
    let list = list["preflist"].as_array().unwrap();
    assert_eq!(list.len(), 3);
    assert!(list.iter().all(|entry| entry["node"] == "node1" && entry["primary"] == true));
    assert_eq!(ask(&client, Method::HEAD, "/ping", &[], "").await.status, 200);
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn a_counter_counts_what_is_added_at_the_same_time() {
    let (served, client) = served().await;
    let path = "/buckets/c/counters/k";
    let add = async |path: &str, amount: &str| ask(&client, Method::POST, path, &[TEXT], amount).await;
    let refused = add(path, "1").await;
    assert_eq!(
        (refused.status, text(&refused).as_str()),
        (409, "Counters require bucket property 'allow_mult=true'\n")
    );
    let props = json!({"props": {"allow_mult": true}}).to_string();
    ask(&client, Method::PUT, "/buckets/c/props", &[JSON], &props).await;
    assert_eq!(get(&client, path, &[]).await.status, 404);
    let returning = format!("{path}?returnvalue=true");
    let adding = futures_util::future::join_all((0..20).map(|_| add(path, "5")));
    assert!(adding.await.iter().all(|answer| answer.status == 204));
    assert_eq!(text(&get(&client, path, &[]).await), "100");
    let less = add(&returning, "-30").await;
    assert_eq!((less.status, text(&less).as_str()), (200, "70"));
    assert_eq!(add(path, "five").await.status, 400);
    put(&client, "/buckets/c/keys/text", &[], "v").await;
    assert_eq!(add("/buckets/c/counters/text", "1").await.status, 409);
    assert_eq!(get(&client, "/buckets/c/counters/text", &[]).await.status, 409);
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn a_bucket_without_properties_has_the_quorums_of_the_configuration() {
    let mut settings = settings();
    settings.quorum.w = "all".parse().unwrap();
    settings.quorum.r = "one".parse().unwrap();
    let served = serve(&settings).await.unwrap();
    let client = NodeClient::new(&format!("http://{}", served.address())).unwrap();
    let props = value(&get(&client, "/buckets/b/props", &[]).await)["props"].clone();
    let shown = ["r", "w", "dw", "rw"].map(|name| props[name].clone());
    assert_eq!(shown, ["one", "all", "all", "all"].map(Value::from));
    let fewer = json!({"props": {"n_val": 2}}).to_string();
    assert_eq!(ask(&client, Method::PUT, "/buckets/b/props", &[JSON], &fewer).await.status, 204);
    assert_eq!(put(&client, "/buckets/b/keys/k", &[], "v").await.status, 204);
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn a_write_that_leaves_many_siblings_is_told_so() {
    let mut settings = settings();
    settings.kv.siblings_warn = 2;
    settings.kv.siblings_max = 10;
    let served = serve(&settings).await.unwrap();
    let client = NodeClient::new(&format!("http://{}", served.address())).unwrap();
    let props = json!({"props": {"allow_mult": true}}).to_string();
    ask(&client, Method::PUT, "/buckets/s/props", &[JSON], &props).await;
    for (value, told) in [("a", None), ("b", None), ("c", Some("3")), ("d", Some("4"))] {
        let stored = put(&client, "/buckets/s/keys/k", &[], value).await;
        assert_eq!((stored.status, stored.header("x-ringwork-siblings")), (204, told), "{value}");
    }
    let stats = value(&get(&client, "/stats", &[("accept", "application/json")]).await);
    assert_eq!(stats["ringwork_puts_many_siblings_total"], 2);
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn the_places_of_an_object_are_those_of_its_type_bucket_and_key() {
    let (served, client) = served().await;
    let places = async |path: &str, list: &str| {
        let answer = get(&client, path, &[("accept", "application/json")]).await;
        assert_eq!(answer.status, 200, "{}", text(&answer));
        let places = value(&answer)[list].as_array().unwrap().clone();
        places.iter().map(|place| place["partition"].clone()).collect::<Vec<_>>()
    };
    let riaks = places("/buckets/fruit/keys/apple/preflist", "preflist").await;
    let ours = places("/admin/ring/preflist?service=kv&bucket=fruit&key=apple", "places").await;
    assert_eq!((ours.len(), &ours), (3, &riaks));
    for (path, said) in [
        ("?service=kv&key=apple", "an object of kv has a bucket"),
        ("?service=kv&bucket=fruit&type=none&key=apple", "Unknown bucket type: none"),
        ("?service=chat&bucket=fruit&key=apple", "bucket and type are of kv only"),
    ] {
        let refused = get(&client, &format!("/admin/ring/preflist{path}"), &[]).await;
        assert_eq!(refused.status, 400);
        assert!(text(&refused).contains(said), "{}", text(&refused));
    }
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn what_riak_has_and_this_has_not_is_said_to_be_missing() {
    let (served, client) = served().await;
    for path in ["/mapred", "/search/query/i?q=a", "/search/index/i", "/solr/i/select?q=a"] {
        let missing = get(&client, path, &[]).await;
        assert_eq!(missing.status, 501, "{path}");
        assert!(text(&missing).contains("docs/kv.md"), "{}", text(&missing));
    }
    served.stop().await.unwrap();
}
