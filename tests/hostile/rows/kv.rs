//! Wrong requests to Riak's routes: names, headers, contexts, quorums, bodies and properties that cannot be, and some
//! that look as if they could not. Riak's clients expect refusals as text.

use super::{Expected, Head, NotHttp, Refused, Row, Status, ended, row};
use crate::client::{chunked, request};

const KIB: usize = 1024;
const OBJECT: &str = "/buckets/hostile/keys/k";
const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const JSON: (&str, &str) = ("Content-Type", "application/json");

fn bare(method: &str, target: &str, expected: Expected) -> Row {
    let name: String = format!("{method} {target}").chars().take(80).collect();
    row(name, request(method, target, &[], b""), expected)
}

fn put(name: &str, target: &str, headers: &[(&str, &str)], expected: Expected) -> Row {
    let headers = [&[TEXT], headers].concat();
    row(format!("kv: {name}"), request("PUT", target, &headers, b"v"), expected)
}

/// Names of types, buckets and keys.
pub(super) fn names() -> Vec<Row> {
    let escaped = || Refused(400, "hexadecimal");
    let too_long = || Refused(400, "at most 1024 are allowed");
    let unknown = || Refused(404, "Unknown bucket type");
    let no_type = || Refused(400, "is no name: 1 to 64 bytes");
    let long = |bytes: usize| "k".repeat(bytes);
    let mut rows = vec![
        put("a key of 60 000 bytes", &format!("/buckets/b/keys/{}", long(60_000)), &[], too_long()),
        put("a bucket of 60 000 bytes", &format!("/buckets/{}/keys/k", long(60_000)), &[], too_long()),
        put(
            "a key of 20 000 encoded bytes",
            &format!("/buckets/b/keys/{}", "%00".repeat(20_000)),
            &[],
            too_long(),
        ),
        put("the longest name", &format!("/buckets/hostile/keys/{}", long(1007)), &[], Status(204)),
        put("a byte more", &format!("/buckets/hostile/keys/{}", long(1008)), &[], too_long()),
        put("an empty bucket", "/buckets//keys/k", &[], Refused(400, "the bucket must not be empty")),
        put(
            "an empty bucket in the old scheme",
            "/riak//k",
            &[],
            Refused(400, "the bucket must not be empty"),
        ),
        put("no key", "/buckets/hostile/keys/", &[], Refused(405, "allowed: GET, HEAD, POST")),
        put("NUL in names", "/buckets/hostile%00/keys/%00", &[], Status(204)),
        put("a key that is not UTF-8", "/buckets/hostile/keys/%ff%fe", &[], Status(204)),
        put("a key that is a path", "/buckets/hostile/keys/..%2f..%2fetc%2fpasswd", &[], Status(204)),
        put("a key of dots", "/buckets/hostile/keys/..", &[], Status(204)),
        put("a type of 60 000 bytes", &format!("/types/{}/buckets/b/keys/k", long(60_000)), &[], no_type()),
        put("a type that is not UTF-8", "/types/%ff/buckets/b/keys/k", &[], Refused(400, "not UTF-8")),
        put("a type with a line's end", "/types/a%0d%0ab/buckets/b/keys/k", &[], no_type()),
        put("an empty type", "/types//buckets/b/keys/k", &[], no_type()),
        bare("GET", &format!("/types/{}/props", long(60_000)), unknown()),
        bare("GET", &format!("/types/{}/buckets?buckets=true", long(60_000)), unknown()),
        bare("GET", &format!("/buckets/{}/keys?keys=true", long(60_000)), too_long()),
        bare("GET", &format!("/buckets/{}/keys/k/preflist", long(60_000)), too_long()),
        bare("GET", &format!("/buckets/{}", long(60_000)), Refused(404, "docs/kv.md")),
        bare("HEAD", &format!("/buckets/b/keys/{}", long(2000)), Head(400)),
        bare("BREW", OBJECT, Refused(405, "allowed: GET")),
        bare(&long(10_000), OBJECT, Refused(405, "allowed: GET")),
        bare("GET", "/buckets/b/keys/k/a,b", Refused(400, "no step of a walk")),
        bare("GET", &format!("/buckets/b/keys/k/{}", long(60_000)), Refused(400, "no step of a walk")),
        bare(
            "GET",
            &format!("/buckets/b/keys/k{}", "/_,_,_".repeat(10_000)),
            Refused(400, "at most 8 are allowed"),
        ),
        bare("GET", "/riak/b/k/%zz,_,_", escaped()),
        bare("POST", "/riak/b/k/_,_,_", Refused(405, "allowed: GET, HEAD")),
        bare("GET", "/buckets/b/index/x", Refused(501, "secondary indexes")),
        bare("POST", "/types/default/buckets/b/datatypes/k", Refused(501, "data types")),
    ];
    for wrong in ["%", "%4", "%zz", "%%34", "a%", "%u0041"] {
        rows.push(put(wrong, &format!("/buckets/b/keys/{wrong}"), &[], escaped()));
        rows.push(put(wrong, &format!("/buckets/{wrong}/keys/k"), &[], escaped()));
        rows.push(put(wrong, &format!("/types/{wrong}/buckets/b/keys/k"), &[], escaped()));
    }
    rows
}

/// What describes a value, and conditions.
pub(super) fn headers() -> Vec<Row> {
    let text = |of: &str| of.repeat(1001);
    let (links, terms) = (text("</buckets/b/keys/k>; riaktag=\"t\", "), text("1,"));
    let distinct: String = (0..1001).map(|number| format!("{number},")).collect();
    let long = |bytes: usize| "x".repeat(bytes);
    let many: Vec<String> = (0..80).map(|number| format!("X-Riak-Meta-{number}")).collect();
    let kilobyte = long(KIB);
    let bomb: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), kilobyte.as_str())).collect();
    let too_many: Vec<(&str, &str)> = vec![("X-Riak-Meta-A", "1"); 200];
    let link = || Refused(400, "Invalid Link header");
    let twice = || Refused(400, "is given twice");
    let tags = "\"t\",".repeat(101);
    let endless = format!("X-Riak-Meta-{}", long(30_000));
    let mut rows = vec![
        put("80 KiB of metadata", OBJECT, &bomb, Status(204)),
        put("200 headers", OBJECT, &too_many, NotHttp),
        put(
            "metadata's name of 300 bytes",
            OBJECT,
            &[(&format!("X-Riak-Meta-{}", long(300)), "1")],
            Refused(400, "the name of a metadata entry must be at most 256 bytes"),
        ),
        put("metadata's name of 30 000 bytes twice", OBJECT, &[(&endless, "1"), (&endless, "1")], twice()),
        put("metadata beyond ASCII", OBJECT, &[("X-Riak-Meta-A", "grün")], Status(204)),
        put("1001 links", OBJECT, &[("Link", &links)], Refused(400, "1001 links: at most 1000")),
        put(
            "a link's tag of 300 bytes",
            OBJECT,
            &[("Link", &format!("</riak/b/k>; riaktag=\"{}\"", long(300)))],
            Refused(400, "the tag of a link must be at most 256 bytes"),
        ),
        put(
            "1001 index terms",
            OBJECT,
            &[("X-Riak-Index-A_int", &distinct)],
            Refused(400, "1001 index entries"),
        ),
        put("one index term 1001 times", OBJECT, &[("X-Riak-Index-A_int", &terms)], Status(204)),
        put("an index without a type", OBJECT, &[("X-Riak-Index-A", "1")], Refused(400, "_bin or _int")),
        put("an index without a name", OBJECT, &[("X-Riak-Index-", "1")], Refused(400, "_bin or _int")),
        put(
            "an index's name of 300 bytes",
            OBJECT,
            &[(&format!("X-Riak-Index-{}_int", long(300)), "1")],
            Refused(400, "at most 256 bytes"),
        ),
        put("two content types", OBJECT, &[("Content-Type", "text/html")], twice()),
        put("two contexts", OBJECT, &[("X-Riak-Vclock", ""), ("x-riak-vclock", "")], twice()),
        put(
            "two names of metadata that are one",
            OBJECT,
            &[("X-Riak-Meta-A", "1"), ("x-riak-meta-a", "2")],
            twice(),
        ),
        put(
            "an encoding of 300 bytes",
            OBJECT,
            &[("Content-Encoding", &long(300))],
            Refused(400, "at most 256"),
        ),
        row(
            "kv: multipart without parts",
            request("PUT", OBJECT, &[("Content-Type", "multipart/mixed")], b"v"),
            Status(204),
        ),
        put("101 tags", OBJECT, &[("If-Match", &tags)], Refused(400, "at most 100 entity tags")),
        put(
            "a tag of 200 bytes",
            OBJECT,
            &[("If-None-Match", &long(200))],
            Refused(400, "at most 100 entity tags"),
        ),
        put("no tag of anybody's", OBJECT, &[("If-Match", "\"")], Refused(412, "not the one")),
        put(
            "a day that never was",
            OBJECT,
            &[("If-Unmodified-Since", "Mon, 31 Feb 2020 00:00:00 GMT")],
            Status(204),
        ),
        put("ranges without end", OBJECT, &[("Accept", &"a/b;q=1,".repeat(5000))], Status(204)),
        row("kv: no content type", request("PUT", OBJECT, &[], b"v"), Refused(400, "Missing Content-Type")),
        row(
            "kv: a blank content type",
            request("PUT", OBJECT, &[("Content-Type", " ")], b"v"),
            Refused(400, "Missing Content-Type"),
        ),
        row(
            "kv: a content type alone of 300 bytes",
            request("PUT", OBJECT, &[("Content-Type", &long(300))], b"v"),
            Refused(400, "the content type must be at most 256 bytes"),
        ),
        row(
            "kv: a charset of 300 bytes",
            request("PUT", OBJECT, &[("Content-Type", &format!("a/b; charset={}", long(300)))], b"v"),
            Refused(400, "the charset must be at most 256 bytes"),
        ),
        row(
            "kv: multipart whose boundary is missing",
            request("PUT", OBJECT, &[("Content-Type", "multipart/mixed; boundary=")], b"\r\n--x\r\n--x--"),
            Status(204),
        ),
        row(
            "kv: a page of somebody else's",
            request("PUT", OBJECT, &[TEXT, ("Origin", "http://e.org")], b"v"),
            Refused(403, "web page"),
        ),
        row(
            "kv: metadata that is no text",
            [
                b"PUT /buckets/b/keys/k HTTP/1.1\r\nHost: n\r\nContent-Type: a/b\r\n".as_slice(),
                b"X-Riak-Meta-A: \xff\r\nContent-Length: 1\r\n\r\nv",
            ]
            .concat(),
            Refused(400, "neither ASCII nor UTF-8"),
        ),
    ];
    for wrong in [
        "x",
        "<",
        "<>",
        "<>; riaktag",
        "</a>; riaktag=\"x",
        "<//>; riaktag=t",
        "</buckets/b/keys/k>",
        "<a>,,<",
    ] {
        rows.push(put(&format!("the link {wrong}"), OBJECT, &[("Link", wrong)], link()));
    }
    rows.push(put("a link of 60 000 bytes", OBJECT, &[("Link", &long(60_000))], link()));
    for wrong in ["x", "1e5", "0x10", "99999999999999999999", "1,2,x", "--1", "٣"] {
        rows.push(put(
            &format!("the index term {wrong}"),
            OBJECT,
            &[("X-Riak-Index-A_int", wrong)],
            Refused(400, "whole numbers of 64 bits"),
        ));
    }
    let not_base64 = || Refused(400, "not in base 64");
    for (vclock, expected) in [
        ("%%%", not_base64()),
        ("a85hYGBgzGDKBVIcypz", not_base64()),
        ("AA==AA==", not_base64()),
        ("====", not_base64()),
        ("vclöck", not_base64()),
        ("AAAA", Refused(400, "not of this store")),
        ("AQAAAAAA", Refused(400, "another object, or was changed")),
        ("a85hYGBgzGDKBVIcypz/fvrde/U5gymRMY+VwZw35gRfFgA=", Refused(400, "not of this store")),
        (&long(17 * KIB), Refused(400, "at most 16384 are possible")),
        (&"A".repeat(16 * KIB), Refused(400, "not of this store")),
    ] {
        let name: String = format!("the context {vclock}").chars().take(60).collect();
        rows.push(put(&name, OBJECT, &[("X-Riak-Vclock", vclock)], expected.clone()));
        rows.push(put(&name, OBJECT, &[("X-Riak-If-Not-Modified", vclock)], expected.clone()));
        let delete = request("DELETE", OBJECT, &[("X-Riak-Vclock", vclock)], b"");
        rows.push(row(format!("kv: DELETE with {name}"), delete, expected));
    }
    rows
}

/// What stands behind the question mark.
pub(super) fn queries() -> Vec<Row> {
    let words = || Refused(400, "'one', 'quorum' or 'all'");
    let invalid = || Refused(400, "values invalid for bucket n value of 3");
    let mut rows = Vec::new();
    let mut case = |query: &str, expected: Expected| {
        rows.push(put(&format!("?{query}"), &format!("{OBJECT}?{query}"), &[], expected.clone()));
    };
    for name in ["r", "w", "dw", "pw", "pr", "rw"] {
        for wrong in ["-1", "foo", "", "ALL", "2.0", "%00", "all%20", "99999999999999999999", "1e0"] {
            case(&format!("{name}={wrong}"), words());
        }
    }
    for name in ["w", "dw", "pw"] {
        case(&format!("{name}=4"), invalid());
        case(&format!("{name}=1000"), invalid());
    }
    case("w=0&dw=0", invalid());
    case("node_confirms=4", invalid());
    for (wrong, word) in
        [("0", "from 1 to 3"), ("4", "from 1 to 3"), ("1", "all 3 replicas"), ("2", "all 3 replicas")]
    {
        case(&format!("n_val={wrong}"), Refused(400, word));
    }
    for name in ["n_val", "node_confirms"] {
        for wrong in ["-1", "1001", "99999999999999999999", "all", ""] {
            case(&format!("{name}={wrong}"), Refused(400, "must be an integer"));
        }
    }
    for wrong in ["0", "-1", "99999999999999999999", "abc", "", "1s", "0.5"] {
        case(&format!("timeout={wrong}"), Refused(400, "Bad timeout value"));
    }
    for name in ["returnbody", "notfound_ok", "basic_quorum", "sloppy_quorum"] {
        case(&format!("{name}=maybe"), Refused(400, "must be true or false"));
    }
    case("sync_on_write=two", Refused(400, "'backend', 'one' and 'all'"));
    for wrong in ["w=%zz", "%=1", "w=%4"] {
        case(wrong, Refused(400, "hexadecimal"));
    }
    case("w=%ff", Refused(400, "not UTF-8"));
    case(&"a=1&".repeat(65), Refused(400, "more than 64 parameters"));
    case(&format!("timeout={}", "9".repeat(60_000)), Refused(400, "Bad timeout value"));
    case("w=1&w=x", Status(204));
    case("&&w=1&", Status(204));
    case("no_such=parameter", Status(204));
    rows.extend([
        bare("GET", "/buckets/b/keys?keys=maybe", Refused(400, "keys=true or keys=stream")),
        bare("GET", "/buckets/b/keys?keys=stream&timeout=0", Refused(400, "Bad timeout value")),
        bare("GET", "/buckets?buckets=", Refused(400, "buckets=true or buckets=stream")),
        bare("GET", "/buckets?buckets=true&timeout=x", Refused(400, "Bad timeout value")),
        bare("GET", &format!("{OBJECT}?r=4"), invalid()),
        bare("GET", &format!("{OBJECT}?vtag={}", "x".repeat(60_000)), Refused(404, "not found")),
        bare("DELETE", &format!("{OBJECT}?rw=4"), invalid()),
        bare("DELETE", &format!("{OBJECT}?n_val=1"), Refused(400, "all 3 replicas")),
        bare("HEAD", &format!("{OBJECT}?r=4"), Head(400)),
    ]);
    rows
}

/// Bodies of objects, counters and properties.
pub(super) fn bodies() -> Vec<Row> {
    let too_large = || Refused(413, "1048576 bytes");
    let object = |headers: &[(&str, &str)], body: &[u8]| {
        request("PUT", "/buckets/hostile/keys/body", &[&[TEXT], headers].concat(), body)
    };
    let in_chunks = |chunks: Vec<u8>| [object(&[("Transfer-Encoding", "chunked")], b""), chunks].concat();
    let props = |body: &[u8]| request("PUT", "/buckets/hostile/props", &[JSON], body);
    let count = |body: &[u8]| request("POST", "/buckets/hostile/counters/c", &[TEXT], body);
    let named = |count: usize| {
        let names: Vec<String> = (0..count).map(|number| format!("\"x{number}\":1")).collect();
        format!("{{\"props\":{{{}}}}}", names.join(",")).into_bytes()
    };
    let long_name = format!("{{\"props\":{{\"{}\":1}}}}", "x".repeat(15_000)).into_bytes();
    let wrong = |word| Refused(400, word);
    let unread = || wrong("the body could not be read");
    let needs_siblings = || Refused(409, "allow_mult=true");
    let mut rows = vec![
        row("kv: a value of 1 MiB and a byte", object(&[], &vec![b'v'; 1024 * KIB + 1]), too_large()),
        row("kv: a value of 3 MiB", object(&[], &vec![b'v'; 3 * 1024 * KIB]), too_large()),
        row("kv: a value of 1 MiB", object(&[], &vec![b'v'; 1024 * KIB]), Status(204)),
        row("kv: chunks beyond 1 MiB", in_chunks(chunked(&vec![b'v'; 1025 * KIB], 10_000)), too_large()),
        row("kv: a value in chunks", in_chunks(chunked(b"value", 2)), Status(204)),
        ended("kv: a length that never comes", object(&[("Content-Length", "1000000000000")], b""), unread()),
        ended(
            "kv: a value that is cut off",
            [object(&[("Content-Length", "100")], b""), b"half".to_vec()].concat(),
            unread(),
        ),
        row("kv: a chunk that announces no number", in_chunks(b"zz\r\n".to_vec()), unread()),
        ended("kv: a value that ends within a chunk", in_chunks(b"ff\r\nhalf".to_vec()), unread()),
        row("kv: no value", object(&[], b""), Status(204)),
        row("kv: properties of 70 000 bytes", props(&vec![b' '; 70_000]), Refused(413, "65536")),
        row("kv: properties of 20 000 bytes", props(&vec![b' '; 20_000]), wrong("at most 16384")),
        row("kv: properties as text", request("PUT", "/buckets/b/props", &[TEXT], b"{\"props\":{}}"), {
            Refused(415, "application/json")
        }),
        row("kv: a thousand properties", props(&named(1000)), wrong("unknown")),
        row("kv: a property of 15 000 letters", props(&long_name), wrong("unknown")),
        row("kv: properties ten thousand deep", props(&b"[".repeat(10_000)), wrong("not JSON")),
        row(
            "kv: deep properties",
            props(&[b"{\"props\":".repeat(1500), b"1".to_vec()].concat()),
            wrong("not JSON"),
        ),
        row("kv: a count beyond 64 bits", count(b"99999999999999999999"), needs_siblings()),
        row("kv: a count of 1 KiB", count(&vec![b'1'; KIB]), needs_siblings()),
        row("kv: a deleted bucket's type", request("DELETE", "/types/none/buckets/b/props", &[], b""), {
            Refused(404, "Unknown bucket type")
        }),
    ];
    let documents: [(&str, &'static str); 18] = [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "{\"props\": {…}}"),
        ("{}", "{\"props\": {…}}"),
        ("null", "{\"props\": {…}}"),
        ("{\"props\": 1}", "{\"props\": {…}}"),
        ("{\"props\": {\"n_val\": 0}}", "n_val"),
        ("{\"props\": {\"n_val\": 4}}", "n_val"),
        ("{\"props\": {\"n_val\": -1}}", "not_integer"),
        ("{\"props\": {\"n_val\": 1e300}}", "not_integer"),
        ("{\"props\": {\"n_val\": 18446744073709551616}}", "not_integer"),
        ("{\"props\": {\"r\": {}}}", "\"r\""),
        ("{\"props\": {\"r\": 4}}", "\"r\""),
        ("{\"props\": {\"allow_mult\": 7}}", "not_boolean"),
        ("{\"props\": {\"precommit\": [{\"mod\": \"os\", \"fun\": \"cmd\"}]}}", "precommit"),
        ("{\"props\": {\"chash_keyfun\": {\"mod\": \"m\", \"fun\": \"f\"}}}", "chash_keyfun"),
        ("{\"props\": {\"datatype\": \"set\"}}", "datatype"),
        ("{\"props\": {\"least_n_val\": 3}}", "unknown"),
    ];
    for (document, word) in documents {
        rows.push(row(format!("kv: the properties {document}"), props(document.as_bytes()), wrong(word)));
    }
    rows
}
