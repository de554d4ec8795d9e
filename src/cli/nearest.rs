//! The word that was meant, for a slip of the pen.

/// The one that was meant, if there is one that is near.
pub fn nearest<'a>(name: &str, all: &'a [impl AsRef<str>]) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let far = |other: &str| strsim::damerau_levenshtein(&lower, &other.to_lowercase());
    // A long text is no slip of the pen, and comparing it costs.
    let best = all
        .iter()
        .map(AsRef::as_ref)
        .filter(|_| name.len() <= 64)
        .min_by_key(|other| far(other))?;
    (far(best) <= (best.len() / 4).max(1)).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_seen() {
        let all = ["setWeight", "pause", "analysis"];
        assert_eq!(nearest("setWieght", &all), Some("setWeight"));
        assert_eq!(nearest("Pause", &all), Some("pause"));
        assert_eq!(nearest("experiment", &all), None);
        assert_eq!(nearest(&"p".repeat(1000), &all), None);
        assert_eq!(nearest("chekcout", &["checkout", "cart"]), Some("checkout"));
        assert_eq!(nearest("crat", &["checkout", "cart"]), Some("cart"));
    }
}
