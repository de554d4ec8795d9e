//! Names: what the Rollout that is played calls its Services and its routes.

use serde_json::{Value, json};

use crate::{
    api::{Rollout, traffic::Manage},
    engine::traffic::gateway_api::{HTTP_ROUTE, named},
    model::{
        object::ObjectRef,
        spec::{RoleServices, Spec},
    },
};

/// The Services and the routes of a Rollout.
#[derive(Clone, Debug)]
pub struct Names {
    /// The Services.
    pub services: RoleServices,
    /// Whether the stable Service's selector is the switch.
    pub switched: bool,
    /// The routes with their rules.
    routes: Vec<(ObjectRef, Vec<Rule>)>,
}

/// A rule of a route: its name where it needs one, and what of it is managed.
type Rule = (Option<String>, Manage);

impl Names {
    /// Those of a Rollout; `app` where it has none.
    pub fn of(rollout: &Rollout) -> Self {
        let spec = Spec::examine(rollout).0;
        let routing = spec.as_ref().and_then(|s| s.course.routing.as_ref());
        let routing = routing.and_then(|r| r.gateway_api.as_ref());
        let mut routes: Vec<(ObjectRef, Vec<Rule>)> = vec![];
        for route in routing.into_iter().flat_map(named) {
            let rule = (route.rule, route.manage);
            match routes
                .iter_mut()
                .find(|(object, _)| *object == route.object)
            {
                Some((_, rules)) => rules.push(rule),
                None => routes.push((route.object, vec![rule])),
            }
        }
        if routes.is_empty() {
            let rule = (None, Manage::Weights);
            routes.push((ObjectRef::new(HTTP_ROUTE, "app"), vec![rule]));
        }
        let switched = spec.as_ref().is_some_and(Spec::switched);
        let services = spec.and_then(|s| s.course.services);
        Self {
            services: services.unwrap_or_else(|| RoleServices {
                user: "app".into(),
                stable: "app-stable".into(),
                canary: "app-canary".into(),
                fields: ("stableService", "canaryService"),
                shared: false,
            }),
            switched,
            routes,
        }
    }

    /// The routes with these weights: stable and canary.
    pub fn routes(&self, weights: (u32, u32)) -> Vec<(ObjectRef, Value)> {
        self.routes_with(|_| self.split(weights))
    }

    /// The routes as they are at the beginning: with these weights, but for those whose backends are managed.
    pub fn given(&self, weights: (u32, u32)) -> Vec<(ObjectRef, Value)> {
        self.routes_with(|manage| match manage {
            Manage::Backends if weights == (100, 0) => {
                json!([{"name": self.services.user, "port": 80}])
            }
            Manage::Backends | Manage::Weights => self.split(weights),
        })
    }

    fn split(&self, weights: (u32, u32)) -> Value {
        json!([
            {"name": self.services.stable, "port": 80, "weight": weights.0},
            {"name": self.services.canary, "port": 80, "weight": weights.1},
        ])
    }

    fn routes_with(&self, refs: impl Fn(Manage) -> Value) -> Vec<(ObjectRef, Value)> {
        let rule = |(name, manage): &Rule| {
            let mut rule = json!({"backendRefs": refs(*manage)});
            if let (Some(name), Some(rule)) = (name, rule.as_object_mut()) {
                rule.insert("name".into(), json!(name));
            }
            rule
        };
        let route = |(object, rules): &(ObjectRef, Vec<Rule>)| {
            let route = json!({
                "apiVersion": object.kind.api_version(), "kind": object.kind.kind,
                "metadata": {"name": object.name, "namespace": "default"},
                "spec": {
                    "parentRefs": [{"name": "gateway"}],
                    "rules": rules.iter().map(rule).collect::<Vec<Value>>(),
                },
            });
            (object.clone(), route)
        };
        self.routes.iter().map(route).collect()
    }
}

/// A pod template with another version of its first image.
pub fn with_version(template: &Value, version: &str) -> Value {
    let mut template = template.clone();
    if let Some(image) = template.pointer_mut("/spec/containers/0/image") {
        let old = image.as_str().unwrap_or_default().to_owned();
        let old = old.split('@').next().unwrap_or_default();
        // A colon before the last slash is a registry's port.
        let (path, name) = old.rsplit_once('/').map_or(("", old), |(p, n)| (p, n));
        let name = name.split(':').next().unwrap_or_default();
        let slash = if path.is_empty() { "" } else { "/" };
        *image = json!(format!("{path}{slash}{name}:{version}"));
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_gets_another_version() {
        for (image, wanted) in [
            ("lab/app:v1", "lab/app:v2"),
            ("localhost:5000/app", "localhost:5000/app:v2"),
            ("app", "app:v2"),
            ("a.b/c/app:1@sha256:00", "a.b/c/app:v2"),
        ] {
            let template = json!({"spec": {"containers": [{"image": image}, {"image": "x:1"}]}});
            let new = with_version(&template, "v2");
            assert_eq!(
                new.pointer("/spec/containers/0/image"),
                Some(&json!(wanted))
            );
            assert_eq!(new.pointer("/spec/containers/1/image"), Some(&json!("x:1")));
        }
    }
}
