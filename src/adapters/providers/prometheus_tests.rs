//! Every answer that a server may give, and what it is worth.

use std::time::Duration;

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use jiff::Timestamp;

use crate::model::measurement::{Query, Reading};

use super::*;

const AT: i64 = 1_800_000_000;

/// Serves one answer at a path prefix; returns the address.
async fn serve(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> String {
    let route = post(move || {
        let answer = answer();
        async move { answer }
    });
    let app = Router::new().route("/prom/api/v1/query", route);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://user:secret@{address}/prom")
}

fn query() -> Query {
    Query {
        metric: 0,
        provider: "default".into(),
        text: "up".into(),
        at: Timestamp::from_second(AT).expect("a time"),
        freshness: Duration::from_secs(60),
    }
}

async fn ask(url: &str) -> Reading {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Prometheus::new(url)
        .expect("an address")
        .query(&query())
        .await
}

async fn answer(status: u16, body: String) -> Reading {
    let url = serve(move || {
        let status = StatusCode::from_u16(status).expect("a status");
        let json = [(header::CONTENT_TYPE, "application/json")];
        (status, json, body.clone()).into_response()
    })
    .await;
    ask(&url).await
}

fn success(kind: &str, result: &str) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#)
}

fn series(at: i64, value: &str) -> String {
    format!(r#"{{"metric":{{"a":"b"}},"value":[{at},"{value}"]}}"#)
}

#[tokio::test]
async fn one_fresh_finite_number_is_a_value() {
    assert_eq!(
        answer(200, success("scalar", &format!("[{AT}.5,\"0.25\"]"))).await,
        Reading::Value(0.25)
    );
    assert_eq!(
        answer(200, success("vector", &format!("[{}]", series(AT, "1e-3")))).await,
        Reading::Value(0.001)
    );
    assert_eq!(
        answer(
            200,
            success("vector", &format!("[{}]", series(AT - 60, "1")))
        )
        .await,
        Reading::Value(1.0)
    );
}

#[tokio::test]
async fn nothing_to_judge_is_no_data() {
    let no = |why: &str| Reading::NoData(why.to_owned());
    for (value, name) in [("NaN", "NaN"), ("+Inf", "+Inf"), ("-Inf", "-Inf")] {
        let got = answer(200, success("vector", &format!("[{}]", series(AT, value)))).await;
        assert_eq!(got, no(&format!("not a number: {name}")));
        let got = answer(200, success("scalar", &format!("[{AT},\"{value}\"]"))).await;
        assert_eq!(got, no(&format!("not a number: {name}")));
    }
    assert_eq!(
        answer(200, success("vector", "[]")).await,
        no("the query gives no series")
    );
    let old = answer(
        200,
        success("vector", &format!("[{}]", series(AT - 61, "1"))),
    )
    .await;
    assert_eq!(old, no("stale: the sample is 61 s old, 60 s at most"));
}

#[tokio::test]
async fn what_cannot_be_understood_is_an_error() {
    let two = format!("[{},{}]", series(AT, "1"), series(AT, "2"));
    let matrix = format!(r#"[{{"metric":{{}},"values":[[{AT},"1"]]}}]"#);
    let histogram = format!(r#"[{{"metric":{{}},"histogram":[{AT},{{"count":"1"}}]}}]"#);
    let good = success("vector", &format!("[{}]", series(AT, "1")));
    let with = |field: &str| good.replacen('{', &format!("{{{field},"), 1);
    let bad = r#"{"status":"error","errorType":"bad_data","error":"parse error: unexpected end"}"#;
    let cases = [
        (
            200,
            success("vector", &two),
            "the query gives 2 series, one is wanted: aggregate it",
        ),
        (
            200,
            success("string", &format!("[{AT},\"x\"]")),
            "the query gives a string, a number is wanted",
        ),
        (
            200,
            success("matrix", &matrix),
            "the query gives a matrix, a number is wanted",
        ),
        (
            200,
            success("vector", &histogram),
            "the answer's sample is not a number",
        ),
        (
            200,
            with(r#""warnings":["store eu did not answer"]"#),
            "partial answer: store eu did not answer",
        ),
        (200, with(r#""isPartial":true"#), "partial answer"),
        (
            200,
            r#"{"status":"success"}"#.to_owned(),
            "the answer holds no data",
        ),
        (400, bad.to_owned(), "bad_data: parse error: unexpected end"),
        (200, bad.to_owned(), "bad_data: parse error: unexpected end"),
        (
            502,
            "<html>Bad gateway</html>".to_owned(),
            "HTTP 502: the answer is not that of Prometheus' API",
        ),
        (
            200,
            "<html>Please log in</html>".to_owned(),
            "HTTP 200: the answer is not that of Prometheus' API",
        ),
        (
            200,
            " ".repeat(BODY_MAX + 1),
            "the answer is longer than 1024 KiB",
        ),
    ];
    for (status, body, why) in cases {
        assert_eq!(answer(status, body).await, Reading::Error(why.to_owned()));
    }
    let unknown = r#"{"status":"error","errorType":"too_new","error":"?"}"#.to_owned();
    assert_eq!(
        answer(503, unknown).await,
        Reading::Error("too_new: ?".to_owned())
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_nothing_leaks() {
    let target = serve(|| success("scalar", &format!("[{AT},\"1\"]")).into_response()).await;
    let url = serve(move || {
        let to = [(header::LOCATION, format!("{target}/api/v1/query"))];
        (StatusCode::TEMPORARY_REDIRECT, to).into_response()
    })
    .await;
    let Reading::Error(why) = ask(&url).await else {
        panic!("a redirect is no answer")
    };
    assert!(why.starts_with("HTTP 307: it redirects"), "{why}");

    let closed = {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let Reading::Error(why) = ask(&format!("http://user:secret@127.0.0.1:{closed}")).await else {
        panic!("nobody answers")
    };
    assert_eq!(why, "cannot connect: connection refused");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_an_error() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let provider = Prometheus::new(&format!("http://127.0.0.1:{port}")).expect("an address");
    let ask = async { provider.query(&query()).await };
    let (reading, _accepted) = tokio::join!(ask, async {
        let accepted = listener.accept().await.expect("a connection");
        tokio::time::pause();
        accepted
    });
    assert_eq!(reading, Reading::Error("no answer in time".to_owned()));
}
