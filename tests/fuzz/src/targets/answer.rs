//! What a metric provider answers.

use std::time::Duration;

use jiff::Timestamp;
use serin::{
    adapters::providers::prometheus::understand,
    model::measurement::{Query, Reading},
};

/// A value is finite and fresh; whatever is said of anything else is short.
pub fn target(data: &[u8]) {
    let [code, body @ ..] = data else { return };
    let query = Query {
        metric: 0,
        provider: "default".into(),
        text: "up".into(),
        at: Timestamp::from_second(1_800_000_000).expect("a time"),
        freshness: Duration::from_secs(300),
    };
    let code = [200, 400, 422, 500, 503][usize::from(*code) % 5];
    match understand(code, body, &query) {
        Ok(Reading::Value(value)) => assert!(value.is_finite(), "{value} is a value"),
        Ok(Reading::NoData(why) | Reading::Error(why)) | Err(why) => {
            assert!(why.len() < 2048, "{} bytes are said", why.len());
        }
    }
}
