//! Values with their unit in them.

use serin::{
    api::units::{Comparison, HumanDuration, short},
    model::command::parse,
};

/// What can be read can be written, and is read as the same again.
pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(duration) = HumanDuration(text.to_owned()).parse() {
        let again = HumanDuration(short(duration)).parse();
        assert_eq!(
            again,
            Ok(duration),
            "{text:?} is written as {:?}",
            short(duration)
        );
    }
    if let Ok(comparison) = Comparison::parse(text) {
        assert_eq!(
            Comparison::parse(&comparison.to_string()),
            Ok(comparison),
            "{text:?}"
        );
        assert!(!comparison.holds(f64::NAN) && !comparison.holds(f64::INFINITY));
    }
    let _ = parse(text);
}
