//! The statuses of Riak's interface as one table over a node's routes: what is asked, what is answered, and that
//! whoever is refused is told why. What needs nodes that are down is in `degraded`; what needs a deadline in `fault`.

use super::*;

/// A request and its answer: method, path, headers, body; status, a part of the text, headers that are there.
type Row<'a> = (Method, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str, &'a [&'a str]);

const GET: Method = Method::GET;
const PUT: Method = Method::PUT;
const POST: Method = Method::POST;
const DELETE: Method = Method::DELETE;
const OBJECT: &str = "/buckets/b/keys/k";
const SIBLINGS: &str = "/buckets/s/keys/k";
const WORDS: &str =
    "query parameter must be an integer or one of the following words: 'one', 'quorum' or 'all'";
const INVALID: &str = "Specified w/dw/pw/node_confirms values invalid for bucket n value of 3";

async fn check(client: &NodeClient, rows: &[Row<'_>]) {
    for (method, path, headers, body, status, expected, there) in rows {
        let says = headers.iter().any(|(name, _)| *name == "accept");
        let headers = if says { headers.to_vec() } else { [&[ANYTHING], *headers].concat() };
        let answer = ask(client, method.clone(), path, &headers, body).await;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        let asked = format!("{method} {path} {headers:?}: {} {said}", answer.status);
        assert_eq!(answer.status, *status, "{asked}");
        assert!(said.contains(expected), "{asked}");
        for name in *there {
            assert!(answer.header(name).is_some(), "{name} is missing in {asked}");
        }
        if answer.status >= 400 {
            assert!(!said.trim().is_empty(), "refused without a word: {asked}");
            let kind = answer.header("content-type").unwrap();
            assert!(kind.starts_with("text/plain") || kind == "application/json", "{kind} in {asked}");
        }
    }
}

/// Tags and context of an object, as somebody else would have them.
struct Seen {
    tag: String,
    vclock: String,
    date: String,
}

async fn seen(client: &NodeClient, path: &str) -> Seen {
    let found = get(client, path, &[]).await;
    let header = |name: &str| found.header(name).unwrap().to_owned();
    Seen { tag: header("etag"), vclock: header("x-riak-vclock"), date: header("last-modified") }
}

#[actix_rt::test]
async fn a_read_is_answered_as_riak_answers_it() {
    let (served, client) = served().await;
    let mult = json!({"props": {"allow_mult": true}}).to_string();
    ask(&client, PUT, "/buckets/s/props", &[JSON], &mult).await;
    for (path, value) in [(OBJECT, "v"), (SIBLINGS, "one"), (SIBLINGS, "two"), ("/buckets/b/keys/gone", "v")]
    {
        assert_eq!(put(&client, path, &[], value).await.status, 204);
    }
    ask(&client, DELETE, "/buckets/b/keys/gone", &[], "").await;
    let object = seen(&client, OBJECT).await;
    let shown: &[&str] = &["x-riak-vclock", "etag", "last-modified", "link", "content-type", "vary"];
    let several: &[&str] = &["x-riak-vclock", "etag", "last-modified"];
    let long_ago = "Thu, 01 Jan 1970 00:00:01 GMT";
    check(
        &client,
        &[
            (GET, OBJECT, &[ANYTHING], "", 200, "v", shown),
            (GET, "/riak/b/k", &[ANYTHING], "", 200, "v", shown),
            (GET, "/types/default/buckets/b/keys/k", &[ANYTHING], "", 200, "v", shown),
            (
                GET,
                "/buckets/b/keys/k?r=all&pr=quorum&basic_quorum=true&notfound_ok=false",
                &[],
                "",
                200,
                "v",
                &[],
            ),
            (GET, "/buckets/b/keys/k?n_val=1&r=1", &[], "", 200, "v", &[]),
            (GET, "/buckets/b/keys/k?whatever=1", &[], "", 200, "v", &[]),
            (GET, SIBLINGS, &[ANYTHING], "", 300, "Siblings:\n", several),
            (GET, SIBLINGS, &[PYTHON], "", 300, "\r\n\r\ntwo", several),
            (GET, OBJECT, &[("if-none-match", &object.tag)], "", 304, "", &["etag", "x-riak-vclock"]),
            (GET, OBJECT, &[("if-none-match", "*")], "", 304, "", &[]),
            (GET, OBJECT, &[("if-modified-since", &object.date)], "", 304, "", &[]),
            (GET, OBJECT, &[("if-modified-since", long_ago)], "", 200, "v", &[]),
            (GET, OBJECT, &[("if-modified-since", "no date")], "", 200, "v", &[]),
            (GET, OBJECT, &[("if-match", "\"other\"")], "", 412, "not the one that", &[]),
            (GET, OBJECT, &[("if-unmodified-since", long_ago)], "", 412, "was written since", &[]),
            (GET, "/buckets/b/keys/k?r=x", &[], "", 400, WORDS, &[]),
            (GET, "/buckets/b/keys/k?pr=-1", &[], "", 400, WORDS, &[]),
            (GET, "/buckets/b/keys/k?r=4", &[], "", 400, INVALID, &[]),
            (GET, "/buckets/b/keys/k?pr=4", &[], "", 400, "pr=4", &[]),
            (GET, "/buckets/b/keys/k?node_confirms=4", &[], "", 400, INVALID, &[]),
            (GET, "/buckets/b/keys/k?n_val=4", &[], "", 400, "from 1 to 3", &[]),
            (GET, "/buckets/b/keys/k?n_val=0", &[], "", 400, "from 1 to 3", &[]),
            (GET, "/buckets/b/keys/k?timeout=abc", &[], "", 400, "Bad timeout value \"abc\"", &[]),
            (GET, "/buckets/b/keys/k?notfound_ok=x", &[], "", 400, "must be true or false", &[]),
            (GET, "/buckets/b/keys/k?r=%4", &[], "", 400, "hexadecimal", &[]),
            (GET, "/buckets/b/keys/none", &[], "", 404, "not found\n", &[]),
            (GET, "/buckets/b/keys/gone", &[], "", 404, "not found\n", &["x-riak-vclock", "x-riak-deleted"]),
            (GET, "/buckets/s/keys/k?vtag=x", &[], "", 404, "not found\n", &[]),
            (GET, "/types/t/buckets/b/keys/k", &[], "", 404, "Unknown bucket type: t\n", &[]),
            (GET, "/types/t/props", &[], "", 404, "Unknown bucket type: t\n", &[]),
            (GET, "/buckets/b", &[], "", 404, "nothing at", &[]),
            (GET, OBJECT, &[("accept", "image/png")], "", 406, "text/plain", &[]),
            (GET, SIBLINGS, &[("accept", "image/png")], "", 406, "multipart/mixed", &[]),
            (GET, "/buckets/b/keys/k?node_confirms=2", &[], "", 503, "unsatisfied: 1/2", &["retry-after"]),
            (GET, "/buckets/b/keys", &[], "", 400, "keys=true or keys=stream", &[]),
            (GET, "/buckets/b/keys/none/_,_,_", &[], "", 404, "not found\n", &[]),
            (GET, "/buckets/b/keys/k/x", &[], "", 400, "no step of a walk", &[]),
            (GET, "/types/default/buckets/b/keys/k/_,_,_", &[], "", 501, "link walking", &[]),
            (GET, "/buckets/b/index/a_int/1", &[], "", 501, "secondary indexes", &[]),
            (GET, "/types/default/buckets/b/datatypes/k", &[], "", 501, "data types", &[]),
        ],
    )
    .await;
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn a_write_is_answered_as_riak_answers_it() {
    let (served, client) = served().await;
    let mult = json!({"props": {"allow_mult": true}}).to_string();
    ask(&client, PUT, "/buckets/s/props", &[JSON], &mult).await;
    put(&client, OBJECT, &[], "before").await;
    let stale = seen(&client, OBJECT).await;
    put(&client, OBJECT, &[], "v").await;
    let object = seen(&client, OBJECT).await;
    let long = "v".repeat(9000);
    let long_name = format!("/buckets/b/keys/{}", "k".repeat(2000));
    let returning = "/buckets/s/keys/k?returnbody=true";
    let shown: &[&str] = &["x-riak-vclock", "etag", "content-type"];
    check(
        &client,
        &[
            (PUT, OBJECT, &[TEXT, ("if-match", &stale.tag)], "w", 412, "not the one that", &[]),
            (PUT, OBJECT, &[TEXT, ("if-none-match", "*")], "w", 412, "such an object already", &[]),
            (PUT, OBJECT, &[TEXT, ("x-riak-if-not-modified", &stale.vclock)], "w", 409, "modified", &[]),
            (PUT, OBJECT, &[TEXT, ("x-riak-if-not-modified", "?")], "w", 400, "base 64", &[]),
            (PUT, OBJECT, &[TEXT, ("x-riak-vclock", "a85hYGBgzGDKBVIcypz")], "w", 400, "X-Riak-Vclock", &[]),
            (
                PUT,
                "/buckets/b/keys/o",
                &[TEXT, ("x-riak-vclock", &object.vclock)],
                "w",
                400,
                "another object",
                &[],
            ),
            (PUT, OBJECT, &[], "w", 400, "Missing Content-Type request header", &[]),
            (PUT, OBJECT, &[TEXT, ("x-riak-index-age", "1")], "w", 400, "_bin or _int", &[]),
            (PUT, OBJECT, &[TEXT, ("x-riak-index-age_int", "x")], "w", 400, "whole numbers", &[]),
            (PUT, OBJECT, &[TEXT, ("link", "x")], "w", 400, "Invalid Link header", &[]),
            (PUT, OBJECT, &[TEXT], &long, 413, "8192 bytes", &[]),
            (PUT, &long_name, &[TEXT], "w", 400, "at most", &[]),
            (PUT, "/buckets//keys/k", &[TEXT], "w", 400, "must not be empty", &[]),
            (PUT, "/buckets/b/keys/%zz", &[TEXT], "w", 400, "hexadecimal", &[]),
            (PUT, "/buckets/b/keys/k?w=4", &[TEXT], "w", 400, INVALID, &[]),
            (PUT, "/buckets/b/keys/k?dw=4", &[TEXT], "w", 400, "dw=4", &[]),
            (PUT, "/buckets/b/keys/k?pw=4", &[TEXT], "w", 400, "pw=4", &[]),
            (PUT, "/buckets/b/keys/k?w=x", &[TEXT], "w", 400, WORDS, &[]),
            (PUT, "/buckets/b/keys/k?w=0&dw=0", &[TEXT], "w", 400, "w=0", &[]),
            (PUT, "/buckets/b/keys/k?n_val=2", &[TEXT], "w", 400, "all 3 replicas", &[]),
            (PUT, "/buckets/b/keys/k?returnbody=x", &[TEXT], "w", 400, "must be true or false", &[]),
            (PUT, "/buckets/b/keys/k?sync_on_write=x", &[TEXT], "w", 400, "'backend'", &[]),
            (PUT, "/buckets/b/keys/k?timeout=-1", &[TEXT], "w", 400, "Bad timeout value", &[]),
            (
                PUT,
                "/buckets/b/keys/k?node_confirms=2",
                &[TEXT],
                "w",
                503,
                "unsatisfied: 1/2",
                &["retry-after"],
            ),
            (PUT, "/types/t/buckets/b/keys/k", &[TEXT], "w", 404, "Unknown bucket type: t\n", &[]),
            (PUT, OBJECT, &[TEXT, ("origin", "http://elsewhere")], "w", 403, "web page", &[]),
            (POST, "/buckets/b/keys", &[TEXT, ("origin", "null")], "w", 403, "web page", &[]),
            (PUT, "/buckets/b/keys", &[TEXT], "w", 405, "GET, HEAD, POST", &["allow"]),
            (Method::PATCH, OBJECT, &[TEXT], "w", 405, "PUT", &["allow"]),
            (DELETE, "/buckets", &[], "", 405, "GET, HEAD", &["allow"]),
            (PUT, "/buckets/b/props", &[TEXT], "{\"props\":{}}", 415, "application/json", &[]),
            (PUT, "/buckets/b/props", &[JSON], "{", 400, "not JSON", &[]),
            (PUT, "/buckets/b/props", &[JSON], "[]", 400, "props", &[]),
            (PUT, "/buckets/b/props", &[JSON], "{\"props\":{\"n_val\":\"x\"}}", 400, "not_integer", &[]),
            (PUT, "/types/t/props", &[JSON], "{\"props\":{}}", 404, "Unknown bucket type: t\n", &[]),
            (POST, "/buckets/b/counters/c", &[TEXT], "1", 409, "allow_mult=true", &[]),
            (POST, "/buckets/s/counters/c", &[TEXT], "one", 400, "whole number", &[]),
            (DELETE, "/buckets/b/keys/none", &[], "", 404, "not found\n", &[]),
            (DELETE, "/buckets/b/keys/k?rw=x", &[], "", 400, WORDS, &[]),
            (DELETE, "/buckets/b/keys/k?rw=4", &[], "", 400, INVALID, &[]),
            (DELETE, "/buckets/b/keys/k?n_val=1", &[], "", 400, "all 3 replicas", &[]),
            (DELETE, OBJECT, &[("if-match", "\"x\"")], "", 412, "not the one that", &[]),
            (DELETE, OBJECT, &[("x-riak-vclock", "?")], "", 400, "base 64", &[]),
        ],
    )
    .await;
    assert_eq!(text(&get(&client, OBJECT, &[]).await), "v", "nothing of that was done");
    let names = value(&get(&client, "/buckets?buckets=true", &[]).await);
    assert_eq!(names, json!({"buckets": ["b"]}));
    check(
        &client,
        &[
            (PUT, OBJECT, &[TEXT, ("if-match", &object.tag)], "w", 204, "", &[]),
            (POST, OBJECT, &[TEXT], "w", 204, "", &[]),
            (POST, "/buckets/b/keys", &[TEXT], "w", 201, "", &["location"]),
            (POST, "/riak/b?returnbody=true", &[TEXT], "w", 201, "w", &["location", "x-riak-vclock"]),
            (PUT, returning, &[TEXT, ANYTHING], "one", 200, "one", shown),
            (PUT, returning, &[TEXT, ANYTHING], "two", 300, "Siblings:", &["x-riak-vclock"]),
            (PUT, returning, &[TEXT, ("accept", "image/png")], "x", 406, "text/plain", &[]),
            (PUT, "/buckets/s/keys/e?returnbody=true", &[TEXT], "", 204, "", &["x-riak-vclock"]),
            (POST, "/buckets/s/counters/c", &[TEXT], "1", 204, "", &[]),
            (POST, "/buckets/s/counters/c?returnvalue=true", &[TEXT], "1", 200, "2", &[]),
            (PUT, "/buckets/b/props", &[JSON], "{\"props\":{\"w\":1}}", 204, "", &[]),
            (DELETE, "/buckets/b/props", &[], "", 204, "", &[]),
            (DELETE, "/buckets/b/keys/k?rw=all", &[], "", 204, "", &[]),
            (DELETE, OBJECT, &[], "", 404, "not found\n", &[]),
        ],
    )
    .await;
    served.stop().await.unwrap();
}
