//! Service switch: without a route, the stable Service's selector sends everything to one revision.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    api::names::POD_TEMPLATE_HASH,
    model::{
        object::{ObjectRef, Objects, SERVICE},
        observed::Observed,
        share::FULL,
        traffic::RouteFault,
    },
};

use super::router::Router;

/// The lens on the selector of the stable Service. Its share is 0 while it selects the stable
/// revision, and everything while it selects another.
pub(super) struct ServiceSwitch {
    /// The stable Service.
    service: String,
    /// Hash of the stable revision; none before the first deploy is finished.
    stable: Option<String>,
    /// Hash of the revision in flight.
    canary: Option<String>,
    /// Ready endpoints of the Service, by the hash of their pods.
    endpoints: BTreeMap<String, u32>,
    /// Available pods by revision.
    available: BTreeMap<String, u32>,
}

impl ServiceSwitch {
    /// The switch as it stands.
    pub(super) fn new(service: &str, observed: &Observed) -> Self {
        let status = observed.rollout.status.as_ref();
        let revisions = observed.revisions.iter();
        Self {
            service: service.to_owned(),
            stable: status.and_then(|s| s.stable_revision.clone()),
            canary: status.and_then(|s| Some(s.attempt.as_ref()?.hash.clone())),
            endpoints: observed.endpoints.get(service).cloned().unwrap_or_default(),
            available: revisions.map(|r| (r.hash.clone(), r.available())).collect(),
        }
    }

    fn selected<'a>(&self, objects: &'a Objects) -> Result<Option<&'a str>, RouteFault> {
        let reference = ObjectRef::new(SERVICE, &self.service);
        let service = objects
            .get(&reference)
            .ok_or_else(|| RouteFault::Missing(format!("Service {:?}", self.service)))?;
        let selector = service.pointer("/spec/selector");
        Ok(selector.and_then(|s| s.get(POD_TEMPLATE_HASH)?.as_str()))
    }
}

impl Router for ServiceSwitch {
    fn references(&self) -> Vec<ObjectRef> {
        vec![ObjectRef::new(SERVICE, &self.service)]
    }

    fn read(&self, objects: &Objects) -> Result<u32, RouteFault> {
        let selected = self.selected(objects)?;
        let stable = self.stable.as_deref();
        Ok(if stable.is_none() || selected == stable {
            0
        } else {
            FULL
        })
    }

    /// None: the Service is ours, and made where it is not there.
    fn faults(&self, _: &Objects) -> Vec<RouteFault> {
        vec![]
    }

    fn write(
        &self,
        objects: &Objects,
        share: u32,
    ) -> Result<Vec<(ObjectRef, Vec<Value>)>, RouteFault> {
        let wanted = if share == 0 {
            &self.stable
        } else {
            &self.canary
        };
        let Some(wanted) = wanted else {
            return Ok(vec![]);
        };
        if self.selected(objects)? == Some(wanted.as_str()) {
            return Ok(vec![]);
        }
        let path = format!("/spec/selector/{POD_TEMPLATE_HASH}");
        Ok(vec![(
            ObjectRef::new(SERVICE, &self.service),
            vec![json!({"op": "add", "path": path, "value": wanted})],
        )])
    }

    /// A selector has no acceptance of its own: its endpoints tell that it was followed.
    fn lacking(&self, objects: &Objects) -> Option<String> {
        let selected = self.selected(objects).ok()?.unwrap_or_default();
        let of_others = self.endpoints.iter().filter(|(hash, _)| *hash != selected);
        let late: u32 = of_others.map(|(_, ready)| ready).sum();
        if late > 0 {
            return Some(format!(
                "Service {:?} still has {late} endpoints of another revision than {selected}",
                self.service
            ));
        }
        let ready = self.endpoints.get(selected).copied().unwrap_or(0);
        let available = self.available.get(selected).copied().unwrap_or(0);
        (ready == 0 && available > 0).then(|| {
            format!(
                "Service {:?} has no ready endpoint of revision {selected} yet",
                self.service
            )
        })
    }

    fn splits(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_it_wrote_and_touches_one_label() {
        let service = json!({"metadata": {"name": "web-active"},
            "spec": {"selector": {"app": "web", "pod-template-hash": "old"}}});
        let reference = ObjectRef::new(SERVICE, "web-active");
        let mut objects = Objects::from([(reference.clone(), service.clone())]);
        let switch = |ready: &[(&str, u32)]| ServiceSwitch {
            service: "web-active".into(),
            stable: Some("old".into()),
            canary: Some("new".into()),
            endpoints: ready.iter().map(|(h, n)| ((*h).to_owned(), *n)).collect(),
            available: [("old".to_owned(), 2), ("new".to_owned(), 2)].into(),
        };
        let before = switch(&[("old", 2)]);
        assert_eq!(before.read(&objects), Ok(0));
        assert_eq!(before.write(&objects, 0), Ok(vec![]));
        let patches = before.write(&objects, FULL).expect("it writes");
        let operations: json_patch::Patch =
            serde_json::from_value(json!(patches[0].1)).expect("a patch");
        let live = objects.get_mut(&reference).expect("the Service");
        json_patch::patch(live, &operations).expect("it applies");
        assert_eq!(
            live.pointer("/spec/selector"),
            Some(&json!({"app": "web", "pod-template-hash": "new"}))
        );
        assert_eq!(before.read(&objects), Ok(FULL));
        let late = before.lacking(&objects).expect("not followed yet");
        assert!(late.contains("2 endpoints of another revision"), "{late}");
        assert!(switch(&[]).lacking(&objects).is_some());
        assert_eq!(switch(&[("new", 1)]).lacking(&objects), None);
    }
}
