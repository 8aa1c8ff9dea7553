//! How deep JSON may be nested: the same in both directions and wherever there is JSON.

use bytes::Bytes;
use transcoder::Transcoder;

use crate::harness::{Upstream, builder, framed, reply, request, send, upstream_invalid};
use crate::wire_client::{exchange, post};

/// JSON of `zoo.v1.Everything` in which so many objects and arrays are open at once, made of each kind of type that nests.
fn nested(levels: usize) -> Vec<String> {
    let inside = levels - 1;
    let objects = |count: usize| format!("{}{{}}{}", "{\"a\":".repeat(count - 1), "}".repeat(count - 1));
    // An object and an array at each level; the innermost is `{}`, or `{"bools":[true]}`.
    let pairs = (levels - 1) / 2;
    let innermost = if levels.is_multiple_of(2) { "{\"bools\":[true]}" } else { "{}" };
    vec![
        format!("{{\"value\":{}{}}}", "[".repeat(inside), "]".repeat(inside)),
        format!("{{\"value\":{}}}", objects(inside)),
        format!("{{\"struct\":{}}}", objects(inside)),
        format!("{}{innermost}{}", "{\"children\":[".repeat(pairs), "]}".repeat(pairs)),
    ]
}

fn transcoders() -> [(Transcoder, Upstream, usize); 3] {
    [(None, 100), (Some(4), 4), (Some(150), 150)].map(|(limit, expected)| {
        let upstream = Upstream::echo();
        let new = builder(&upstream);
        (
            limit.map_or_else(|| builder(&upstream), |limit| new.depth_max(limit)).build().unwrap(),
            upstream,
            expected,
        )
    })
}

const ECHO: &str = "/zoo.v1.Zoo/Echo";
const CHAT: &str = "/zoo.v1.Zoo/Chat";

#[tokio::test]
async fn the_depth_limit_is_100_unless_the_builder_says_otherwise() {
    for (transcoder, upstream, limit) in transcoders() {
        for text in nested(limit) {
            let got = send(&transcoder, request("POST", "/v1/echo", &text)).await;
            assert_eq!((got.status.as_u16(), got.text.as_str()), (200, &*text));
            let got = exchange(&transcoder, post(ECHO, "application/json", text.clone())).await;
            assert_eq!((got.status.as_u16(), &*got.body), (200, text.as_bytes()));
            let got =
                exchange(&transcoder, post(CHAT, "application/connect+json", framed(text.as_bytes()))).await;
            assert_eq!(&*got.frames()[0].1, text.as_bytes());
        }
        let reached = upstream.seen().len();
        for text in nested(limit + 1) {
            let got = send(&transcoder, request("POST", "/v1/echo", &text)).await;
            assert_eq!(got.violation().1, "nested too deep", "{text}");
            let got = exchange(&transcoder, post(ECHO, "application/json", text.clone())).await;
            assert_eq!(
                (got.status.as_u16(), &got.json()["code"]),
                (400, &"invalid_argument".into()),
                "{text}"
            );
        }
        assert_eq!(upstream.seen().len(), reached);
    }
}

#[tokio::test]
async fn the_depth_limit_is_the_same_for_replies() {
    for (_, _, limit) in transcoders() {
        let reader = Upstream::echo();
        let deeper = builder(&reader).depth_max(1000).build().unwrap();
        for (levels, status) in [(limit, 200), (limit + 1, 502)] {
            for text in nested(levels) {
                send(&deeper, request("POST", "/v1/echo", &text)).await;
                let wire: Bytes = framed(&reader.last().message);
                let again = wire.clone();
                let upstream = Upstream::new(move |_| reply(again.clone()));
                let transcoder = builder(&upstream).depth_max(limit).build().unwrap();
                let got = send(&transcoder, request("POST", "/v1/echo", "{}")).await;
                assert_eq!(got.status, status, "{levels}: {text}");
                let connect = exchange(&transcoder, post(ECHO, "application/json", "{}")).await;
                let chat = exchange(&transcoder, post(CHAT, "application/connect+json", framed(b"{}"))).await;
                if status == 200 {
                    assert_eq!((&got.text, &*connect.body), (&text, text.as_bytes()));
                    assert_eq!(&*chat.frames()[0].1, text.as_bytes());
                } else {
                    assert_eq!(got.json(), upstream_invalid());
                    assert_eq!(connect.json()["code"], "internal");
                    assert_eq!(chat.end()["error"]["code"], "internal");
                }
                // What is not turned into JSON is not looked into.
                let raw = exchange(&transcoder, post(ECHO, "application/grpc-web", framed(&[]))).await;
                assert_eq!(raw.frames()[0].1, wire.slice(5..));
            }
        }
    }
}
