//! Metric providers: who answers a question about a metric, by the name the administrator gave.

pub mod prometheus;
pub mod provider;

use std::{collections::BTreeMap, sync::Arc};

use thiserror::Error;

use crate::model::measurement::{Query, Reading};

use prometheus::Prometheus;
use provider::Provider;

/// Why the providers cannot be set up.
#[derive(Debug, Error)]
pub enum ProviderError {
    /// The flag is not NAME=URL.
    #[error(
        "a metric provider is given as NAME=URL, such as default=http://prometheus:9090; found {0:?}"
    )]
    Form(String),
    /// Two providers have one name.
    #[error("two metric providers have the name {0:?}")]
    Twice(String),
    /// The address cannot be used.
    #[error("metric provider {0:?}: its address cannot be used")]
    Address(String, #[source] prometheus::AddressError),
}

impl ProviderError {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Form(_) => "form",
            Self::Twice(_) => "twice",
            Self::Address(..) => "address",
        }
    }
}

/// The providers by name.
#[derive(Clone, Default)]
pub struct Providers(BTreeMap<String, Arc<dyn Provider>>);

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Providers {
    /// From the administrator's NAME=URL.
    pub fn parse(given: &[String]) -> Result<Self, ProviderError> {
        let mut providers = Self::default();
        for one in given {
            let form = || ProviderError::Form(name_in(one));
            let (name, url) = one.split_once('=').ok_or_else(form)?;
            if name.is_empty() || url.is_empty() || name != name_in(one) {
                return Err(form());
            }
            let provider =
                Prometheus::new(url).map_err(|e| ProviderError::Address(name.to_owned(), e))?;
            if providers
                .0
                .insert(name.to_owned(), Arc::new(provider))
                .is_some()
            {
                return Err(ProviderError::Twice(name.to_owned()));
            }
        }
        Ok(providers)
    }

    /// With one more provider.
    #[must_use]
    pub fn with(mut self, name: &str, provider: Arc<dyn Provider>) -> Self {
        self.0.insert(name.to_owned(), provider);
        self
    }

    /// Asks the provider that the question names.
    pub async fn query(&self, query: &Query) -> Reading {
        match self.0.get(&query.provider) {
            Some(provider) => provider.query(query).await,
            None => Reading::Error(self.unknown(&query.provider)),
        }
    }

    fn unknown(&self, name: &str) -> String {
        let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
        if known.is_empty() {
            format!(
                "no metric provider {name:?}: the controller was given none (--metric-provider NAME=URL)"
            )
        } else {
            format!(
                "no metric provider {name:?}: there are {}",
                known.join(", ")
            )
        }
    }
}

/// What may be said of a flag: its name, never an address with a secret in it.
fn name_in(flag: &str) -> String {
    let sound = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    flag.split('=')
        .next()
        .filter(|name| name.chars().all(sound))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_name_and_url_and_its_secret_stays_in_it() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let parse = |given: &[&str]| {
            Providers::parse(&given.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
        };
        let two =
            parse(&["default=http://p:9090", "eu=https://u:s@m/prometheus?x=1"]).expect("parses");
        assert_eq!(
            two.unknown("us"),
            "no metric provider \"us\": there are default, eu"
        );
        for wrong in [
            &["http://u:secret@p"][..],
            &["=http://p"],
            &["a="],
            &["a=not a url"],
            &["a=http://p", "a=http://q"],
        ] {
            let error = parse(wrong).expect_err("is refused");
            assert!(
                !format!("{error} {error:?}").contains("secret"),
                "{error:?}"
            );
        }
        assert!(
            parse(&[])
                .expect("none")
                .unknown("default")
                .contains("--metric-provider")
        );
    }
}
